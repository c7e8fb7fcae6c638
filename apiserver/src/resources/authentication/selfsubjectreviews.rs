//! authentication.k8s.io/v1 SelfSubjectReview: who the server thinks the client is.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;

use crate::resource::Resource;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "SelfSubjectReview", "selfsubjectreviews").virtual_kind().rules::<SelfSubjectReview>(())
}
