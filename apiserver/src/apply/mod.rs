//! What a PATCH does to an object, as pure functions: trees in, tree out.
//!
//! [`json_patch`] is RFC 6902, [`merge_patch`] RFC 7386, [`strategic`] Kubernetes' own merge by the schema's merge keys, and
//! [`server_side`] is apply with field ownership. None of them validates or defaults: what comes out is decoded again beside its schema.

pub mod json_patch;
pub mod merge_patch;
pub mod server_side;
pub mod strategic;

use api::status::{Cause, Details, Status};

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is no patch.
    #[error("{0}")]
    Malformed(String),
    /// It has more operations, or copies more, than is allowed.
    #[error("{0}")]
    TooLarge(String),
    /// It does not fit this object.
    #[error("{0}")]
    DoesNotApply(String),
    /// It says what cannot be merged; upstream has no code for these.
    #[error("{0}")]
    CannotMerge(String),
    /// It would change what other managers own (server-side apply).
    #[error(transparent)]
    Conflicts(#[from] server_side::Conflicts),
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(message) => Self::bad_request(message),
            PatchError::TooLarge(message) => Self::new(413, "RequestEntityTooLarge", message),
            PatchError::DoesNotApply(message) => {
                let cause = Cause { reason: "UnexpectedServerResponse".into(), message, field: String::new() };
                let mut status = Self::new(422, "Invalid", "the server rejected our request due to an error in our request");
                status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
                status
            }
            PatchError::CannotMerge(message) => Self::new(500, "", message),
            PatchError::Conflicts(conflicts) => conflicts.into(),
        }
    }
}
