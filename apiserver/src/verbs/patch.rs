//! PATCH: an update whose new object is worked out from the old one. Apply is a patch with another merge.

use api::field::{Errors, Path};
use api::schema::{check, go};
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;

use super::options::{Validation, WriteOptions};
use super::projection::{self, Part};
use super::update::{Absent, update};
use super::{Body, Call, Reply};
use crate::apply;
use crate::resource::Subresource;

/// The kinds of patches, by their media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own merge, which knows lists of maps.
    Strategic,
}

/// The media types in the words of a 415.
pub const ACCEPTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Kind {
    /// The kind that a content type names.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// Applies a configuration to the object of the call, or a part of it; creates it when it is not there (KEP-555).
///
/// # Errors
/// A configuration that cannot be parsed, fields that others own, and what an update may find.
pub async fn apply(call: &Call, part: Part<'_>, body: &Bytes, options: &WriteOptions) -> Result<Reply, Status> {
    let node = call.schema().ok_or_else(|| Status::unsupported_media_type(&ACCEPTED[..2]))?;
    if call.query.get("fieldManager").is_none_or(str::is_empty) {
        let mut errors = Errors::new();
        errors.required(&Path::new("fieldManager"), "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &errors));
    }
    let document =
        crate::yaml::parse(body).map_err(|e| Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {e}")))?;
    let duplicates = document.strict_error();
    let applied = document.value;
    if let Part::Sub(Subresource::Scale { spec, status, selector }) = part {
        let through = |old: &Value| {
            let scale = projection::scale(old, spec, status, selector.as_deref())?;
            apply::merge_patch::apply(&scale, &applied).map_err(Status::from)
        };
        return scale(call, part, options, &through).await;
    }
    let options = WriteOptions { apply: true, ..options.clone() };
    let api_version = call.row.api_version();
    let compute = |old: Option<&Value>| -> Result<Value, Status> {
        let live = old.map(|o| call.seen(o)).transpose()?;
        let how = super::ownership::options(call, &part, &options, &api_version);
        // Unknown fields are refused here, whatever is asked for: nobody could own them.
        let new = apply::server_side::apply(live.as_deref(), &applied, &how, node)?;
        if let (Validation::Strict, Some(error)) = (options.validation, &duplicates) {
            return Err(Status::bad_request(format!("error strict decoding YAML: error converting YAML to JSON: {error}")));
        }
        check::conform(new, node).map(|decoded| decoded.value).map_err(|e| call.unfit(&e))
    };
    let absent = if part.name().is_empty() { Absent::Create } else { Absent::NotFound };
    let warnings = if options.validation == Validation::Warn { document.duplicates } else { vec![] };
    update(call, part, absent, &options, warnings, &compute).await
}

/// Patches the object of the call, or a part of it.
///
/// # Errors
/// A patch that cannot be parsed or applied, and what an update may find.
pub async fn patch(call: &Call, part: Part<'_>, kind: Kind, body: &Bytes, options: &WriteOptions) -> Result<Reply, Status> {
    if options.force.is_some() {
        let mut errors = Errors::new();
        errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &errors));
    }
    let (patch, duplicates) = api::json::parse_strict(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    let merge = |old: &Value| -> Result<Value, Status> {
        match kind {
            Kind::Json => apply::json_patch::apply(old, &patch),
            Kind::Merge => apply::merge_patch::apply(old, &patch),
            Kind::Strategic => {
                // A custom schema does not say how lists merge.
                let node = call.schema().filter(|_| call.row.schema.is_none());
                let node = node.ok_or_else(|| Status::unsupported_media_type(&[ACCEPTED[0], ACCEPTED[1], ACCEPTED[3]]))?;
                apply::strategic::apply(old, &patch, node)
            }
        }
        .map_err(Status::from)
    };
    if let Part::Sub(Subresource::Scale { spec, status, selector }) = part {
        let through = |old: &Value| merge(&projection::scale(old, spec, status, selector.as_deref())?);
        return scale(call, part, options, &through).await;
    }
    let warnings = parking_lot::Mutex::new(vec![]);
    let compute = |old: Option<&Value>| -> Result<Value, Status> {
        let old = old.ok_or_else(|| call.not_found())?;
        let old = call.seen(old)?;
        let new = merge(&old)?;
        let Some(node) = call.schema() else { return Ok(new) };
        // What is refused is worked out once more, to be shown: most are not.
        let refused = |error: &str| -> Status {
            let shown = if kind == Kind::Strategic { Ok(go::show(&patch)) } else { merge(&old).map(|new| new.to_string()) };
            shown.map_or_else(|status| status, |shown| invalid(&shown, error))
        };
        let mut decoded = check::conform(new, node).map_err(|e| refused(&e))?;
        decoded.strict.splice(0..0, duplicates.iter().cloned());
        match (options.validation, decoded.strict_error()) {
            (Validation::Strict, Some(error)) => return Err(refused(&error)),
            (Validation::Warn, _) => *warnings.lock() = decoded.strict,
            _ => {}
        }
        Ok(decoded.value)
    };
    let mut reply = update(call, part, Absent::NotFound, options, vec![], &compute).await?;
    reply.warnings.append(&mut warnings.lock());
    Ok(reply)
}

/// 422 for a patch after which the object does not fit its kind; `shown` is what upstream shows of it.
fn invalid(shown: &str, error: &str) -> Status {
    let mut errors = Errors::new();
    errors.invalid(&Path::new("patch"), shown, error);
    Status::invalid("", "", "", &errors)
}

/// Changes the number of replicas by way of a Scale, which `submitted` works out from the object as it is.
///
/// # Errors
/// What is no Scale, and what an update may find.
pub async fn scale(
    call: &Call,
    part: Part<'_>,
    options: &WriteOptions,
    submitted: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<Reply, Status> {
    let compute = |old: Option<&Value>| submitted(old.ok_or_else(|| call.not_found())?);
    let reply = update(call, part, Absent::NotFound, options, vec![], &compute).await?;
    let (Body::Object(object) | Body::Written { tree: object, .. }) = &reply.body else { return Ok(reply) };
    let shown = projection::scale_of(part, object)?.ok_or_else(|| Status::internal("not a scale"))?;
    Ok(Reply { body: Body::Tree(shown), ..reply })
}
