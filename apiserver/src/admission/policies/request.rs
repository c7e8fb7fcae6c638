//! What a policy sees of a request: the AdmissionRequest, and the objects in the version that it wants.

use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use crate::admission::matching::{Seen, operation};
use crate::admission::{Attributes, View};
use crate::resource::{Conversion, Resource, Subresource};
use crate::verbs::projection::scale;

/// The AdmissionRequest without its objects.
#[must_use]
pub fn describe(at: &Attributes<'_>, seen: &Seen) -> Value {
    let own = Seen::of(at.row, at.subresource).unwrap_or_else(|| seen.clone());
    let kind = |s: &Seen| json!({"group": s.kind.0, "version": s.kind.1, "kind": s.kind.2});
    let resource = |s: &Seen| json!({"group": s.group, "version": s.version, "resource": s.resource});
    let mut user = json!({"username": at.user.name, "groups": at.user.groups});
    if !at.user.uid.is_empty() {
        user["uid"] = at.user.uid.as_str().into();
    }
    if !at.user.extra.is_empty() {
        user["extra"] = json!(at.user.extra);
    }
    let mut request = json!({
        "kind": kind(seen), "resource": resource(seen), "requestKind": kind(&own), "requestResource": resource(&own),
        "operation": operation(at.operation), "userInfo": user, "dryRun": at.dry_run,
    });
    for (field, value) in
        [("name", at.name), ("namespace", at.namespace), ("subResource", at.subresource), ("requestSubResource", at.subresource)]
    {
        if !value.is_empty() {
            request[field] = value.into();
        }
    }
    request
}

/// An object in the worked form as it is to be seen: in the wanted version. A Scale is seen as it is.
///
/// # Errors
/// What cannot be converted.
pub fn shown(object: &Value, at: &Attributes<'_>, seen: &Seen, view: &dyn View) -> Result<Value, Status> {
    if !object.is_object() {
        return Ok(object.clone());
    }
    if let Some(Subresource::Scale { spec, status, selector }) = at.row.subresource(at.subresource) {
        let is_scale = object.get("kind").and_then(Value::as_str) == Some("Scale");
        return if is_scale { Ok(object.clone()) } else { scale(object, spec, status, selector.as_deref()) };
    }
    let wanted = api::object::api_version(&seen.group, &seen.version);
    if object.get("apiVersion").and_then(Value::as_str) == Some(wanted.as_str()) {
        return Ok(object.clone());
    }
    let catalog = view.catalog();
    let row = catalog.find(&seen.group, &seen.version, &seen.resource);
    match row.map(|r| (r, &r.conversion)) {
        Some((_, Some(Conversion::Fixed { from_stored, .. }))) => from_stored(object.clone()),
        Some((row, _)) => between(object.clone(), at.row, row),
        None => Ok(object.clone()),
    }
}

/// An object in the version that a row has in the worked form again.
///
/// # Errors
/// What cannot be converted.
pub fn worked(object: Value, at: &Attributes<'_>, row: Option<&Resource>) -> Result<Value, Status> {
    match row.map(|r| (r, &r.conversion)) {
        Some((_, Some(Conversion::Fixed { to_stored, .. }))) => to_stored(object),
        Some((row, _)) => between(object, row, at.row),
        None => Ok(object),
    }
}

/// An object from one version of a custom kind to another, as far as that needs no webhook. Of other kinds these are one form.
fn between(mut object: Value, from: &Resource, to: &Resource) -> Result<Value, Status> {
    let wanted = to.api_version();
    if to.schema.is_none() || object.get("apiVersion").and_then(Value::as_str) == Some(wanted.as_str()) {
        return Ok(object);
    }
    match (from.versions(), to.versions()) {
        (_, Some(to)) => to.settle_now(object),
        (Some(from), None) => {
            from.settle_now(json!({"apiVersion": wanted}))?;
            object["apiVersion"] = wanted.into();
            Ok(object)
        }
        (None, None) => {
            object["apiVersion"] = wanted.into();
            Ok(object)
        }
    }
}

/// The name by which an object is refused.
#[must_use]
pub fn name<'v>(at: &Attributes<'v>, obj: &'v Value) -> &'v str {
    if at.name.is_empty() { obj.name() } else { at.name }
}
