//! Subresources as projections: which part of an object a write through them may change.

use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use crate::resource::Subresource;

/// What a write is about: the whole object, or the part behind a subresource.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Everything but `status`, where the kind separates it.
    Whole,
    /// One subresource.
    Sub(&'a Subresource),
}

impl Part<'_> {
    /// The subresource's name; empty for the whole.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Whole => "",
            Self::Sub(sub) => sub.name(),
        }
    }
}

/// The object as `submitted` through a part leaves it, given what it was.
#[must_use]
pub fn project(part: Part<'_>, mut submitted: Value, old: &Value, separates_status: bool) -> Value {
    match part {
        Part::Whole => {
            if separates_status {
                copy(old, &mut submitted, "/status");
            }
            submitted
        }
        Part::Sub(Subresource::Part { pointers, .. }) => {
            let mut out = old.clone();
            for pointer in *pointers {
                copy(&submitted, &mut out, pointer);
            }
            keep_version(&submitted, out)
        }
        Part::Sub(_) => {
            let mut out = old.clone();
            copy(&submitted, &mut out, "/status");
            for field in ["labels", "annotations", "finalizers", "managedFields"] {
                out.set_meta(field, submitted.meta().and_then(|m| m.get(field)).cloned().unwrap_or_default());
            }
            keep_version(&submitted, out)
        }
    }
}

/// The submitted identity counts as the precondition of the write.
fn keep_version(submitted: &Value, mut out: Value) -> Value {
    for field in ["resourceVersion", "uid"] {
        let given = submitted.meta_str(field);
        out.set_meta(field, if given.is_empty() { Value::Null } else { given.into() });
    }
    out
}

/// Makes what stands at `pointer` the same in `to` as in `from`. Pointers have one or two segments.
fn copy(from: &Value, to: &mut Value, pointer: &str) {
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if to.pointer(parent).is_none() && !parent.is_empty() {
        copy_empty(to, parent);
    }
    let Some(object) = to.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    match from.pointer(pointer) {
        Some(value) if object.get(field) == Some(value) => {}
        Some(value) => {
            object.insert(field.to_owned(), value.clone());
        }
        None => {
            object.remove(field);
        }
    }
}

fn copy_empty(to: &mut Value, pointer: &str) {
    if let Some(object) = to.as_object_mut() {
        object.insert(pointer.trim_start_matches('/').to_owned(), json!({}));
    }
}

/// An object's `autoscaling/v1` Scale.
///
/// # Errors
/// A selector that cannot be shown as text.
pub fn scale(object: &Value, spec: &str, status: &str, selector: Option<&str>) -> Result<Value, Status> {
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.meta().and_then(|m| m.get(field)) {
            metadata[field] = value.clone();
        }
    }
    let mut out = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": count(spec)}, "status": {"replicas": count(status)},
    });
    if let Some(text) = selector.and_then(|p| object.pointer(p)).map(selector_text).transpose()? {
        out["status"]["selector"] = text.into();
    }
    Ok(out)
}

/// The Scale that is seen through a part; nothing through one that shows the object itself.
///
/// # Errors
/// As [`scale`].
pub fn scale_of(part: Part<'_>, object: &Value) -> Result<Option<Value>, Status> {
    match part {
        Part::Sub(Subresource::Scale { spec, status, selector }) => scale(object, spec, status, selector.as_deref()).map(Some),
        _ => Ok(None),
    }
}

/// The object as a submitted Scale leaves it. The Scale's identity counts as the precondition of the write.
///
/// # Errors
/// As [`replicas`].
pub fn rescaled(object: &Value, scale: &Value, pointer: &str, name: &str) -> Result<Value, Status> {
    let mut new = object.clone();
    set_replicas(&mut new, pointer, replicas(scale, name)?);
    Ok(keep_version(scale, new))
}

/// A selector as text, from its text, a plain map, or the structured form.
fn selector_text(selector: &Value) -> Result<String, Status> {
    if let Some(text) = selector.as_str() {
        return Ok(text.to_owned());
    }
    api::labels::Selector::from_object(selector).map(|s| s.to_string()).map_err(Status::internal)
}

/// Checks a submitted Scale, and gives the replicas it asks for.
///
/// # Errors
/// 400 for what is no Scale, 422 for a negative number.
pub fn replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    if scale.get("kind").and_then(Value::as_str) != Some("Scale") {
        return Err(Status::bad_request("expected a Scale"));
    }
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let mut errors = api::field::Errors::new();
        errors.invalid(&api::field::Path::new("spec").child("replicas"), replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, &errors));
    }
    Ok(replicas)
}

/// Sets the integer at a pointer whose parent exists.
fn set_replicas(object: &mut Value, pointer: &str, replicas: i64) {
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(field.to_owned(), replicas.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_write_leaves_the_spec_alone() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"x": 1}, "status": {"y": 1}});
        let new = json!({"metadata": {"name": "a", "labels": {"l": "v"}}, "spec": {"x": 2}, "status": {"y": 2}});
        let out = project(Part::Sub(&Subresource::Status), new.clone(), &old, true);
        assert_eq!(out, json!({"metadata": {"name": "a", "labels": {"l": "v"}}, "spec": {"x": 1}, "status": {"y": 2}}));
        assert_eq!(project(Part::Whole, new, &old, true)["status"], json!({"y": 1}));
        let part = Subresource::Part { name: "finalize".into(), pointers: &["/spec/finalizers"], replaced_only: true };
        let out = project(Part::Sub(&part), json!({"metadata": {}, "spec": {"finalizers": []}}), &old, true);
        assert_eq!(out["spec"], json!({"x": 1, "finalizers": []}));
    }

    #[test]
    fn a_scale_shows_the_selector_as_text() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}}});
        let scale = scale(&object, "/spec/replicas", "/status/replicas", Some("/spec/selector")).unwrap();
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]), (&json!(3), &json!({"replicas": 0, "selector": "a=b,c"})));
        assert!(replicas(&json!({"kind": "Scale", "spec": {"replicas": -1}}), "a").is_err());
    }
}
