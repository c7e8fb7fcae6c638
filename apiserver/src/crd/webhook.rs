//! ConversionReview: what a conversion webhook is asked, and what of its answer is believed. Pure.
//!
//! A webhook may change what is in an object but not which object it is: of the metadata it answers with, labels and annotations alone are
//! taken. Errors are upstream's (`webhook_converter.go`).

use api::field::{Errors, Path};
use api::object::{Meta as _, split_api_version};
use serde_json::{Map, Value, json};

use crate::outbound::ClientConfig;
use crate::resources::cells::{items, text};
use crate::resources::metadata;

/// The group of reviews.
const GROUP: &str = "apiextensions.k8s.io";

/// A conversion webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Whom to ask.
    pub client: Result<ClientConfig, String>,
    /// The review version it understands.
    pub review: Result<String, String>,
}

impl Webhook {
    /// Reads `spec.conversion.webhook` of a definition.
    #[must_use]
    pub fn parse(webhook: &Value) -> Self {
        let versions = items(webhook, "/conversionReviewVersions").iter().filter_map(Value::as_str);
        let known = versions.map(str::to_owned).find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
        let review = known.ok_or_else(|| "no supported conversion review versions".to_owned());
        Self { client: ClientConfig::parse(&webhook["clientConfig"]), review }
    }
}

/// The question, as it is sent.
#[must_use]
pub fn question(review: &str, uid: &str, objects: &[&Value], desired: &str) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": format!("{GROUP}/{review}"),
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// The converted objects of an answer, in the order of the question's.
///
/// # Errors
/// What is wrong with the answer; upstream puts `conversion webhook for ... failed: ` before it.
pub fn answered(review: &str, uid: &str, answer: &Value) -> Result<Vec<Value>, String> {
    let response = answer.get("response").filter(|r| r.is_object()).ok_or("no response provided")?;
    if review == "v1" {
        let (version, kind) = (text(answer, "/apiVersion"), text(answer, "/kind"));
        if (version, kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
            return Err(format!(
                "expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {}, Kind={kind}",
                group_version(version)
            ));
        }
        let given = text(response, "/uid");
        if given != uid {
            return Err(format!("expected response.uid={uid:?}, got {given:?}"));
        }
    }
    let status = text(response, "/result/status");
    if status != "Success" {
        let message = text(response, "/result/message");
        return Err(if message.is_empty() { format!("response.result.status was '{status}', not 'Success'") } else { message.to_owned() });
    }
    Ok(items(response, "/convertedObjects").to_vec())
}

/// `/v1` for the core group, as Go prints a group version.
fn group_version(version: &str) -> String {
    if version.contains('/') { version.to_owned() } else { format!("/{version}") }
}

/// A converted object with the metadata that it may have.
///
/// # Errors
/// An object that is another one than `original`, or in another version than `desired`. With `what` upstream begins the sentence, such as
/// `conversion webhook for x.io/v1, Kind=Foo`.
pub fn believed(what: &str, original: &Value, mut converted: Value, desired: &str) -> Result<Value, String> {
    let (group, version) = split_api_version(text(&converted, "/apiVersion"));
    if text(&converted, "/apiVersion") != desired {
        let received = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        return Err(format!("{what} returned invalid object at index 0: invalid groupVersion (expected {desired}, received {received})"));
    }
    let kinds = (text(original, "/kind"), text(&converted, "/kind"));
    if kinds.0 != kinds.1 {
        return Err(format!("{what} returned invalid object at index 0: invalid kind (expected {}, received {})", kinds.0, kinds.1));
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (before, after) = (original.meta_str(field), converted.meta_str(field));
        if before != after {
            return Err(format!("{what} returned invalid object: must have the same {name}: {before} != {after}"));
        }
    }
    let restored = restored(original.meta(), converted.get("metadata")).map_err(|e| format!("{what} returned invalid metadata: {e}"))?;
    converted["metadata"] = restored.into();
    Ok(converted)
}

/// The original metadata with the converted labels and annotations.
fn restored(original: Option<&Map<String, Value>>, converted: Option<&Value>) -> Result<Map<String, Value>, String> {
    let converted = converted.and_then(Value::as_object).ok_or("missing metadata in converted object")?;
    let mut out = original.cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let Some(given) = converted.get(field).filter(|g| !g.is_null()) else {
            out.remove(field);
            continue;
        };
        let map = given
            .as_object()
            .filter(|m| m.values().all(Value::is_string))
            .ok_or_else(|| format!("metadata.{field} is not a map of strings"))?;
        let strings = api::object::string_map(Some(given));
        let (mut errors, path) = (Errors::new(), Path::new("metadata").child(field));
        if field == "labels" {
            metadata::validate_labels(Some(&strings), &path, &mut errors);
        } else {
            metadata::validate_annotations(Some(&strings), &path, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        }
        out.insert(field.to_owned(), map.clone().into());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})
    }

    #[track_caller]
    fn refused(answer: Value, expected: &str) {
        assert_eq!(answered("v1", "u", &answer).unwrap_err(), expected);
    }

    #[test]
    fn answers_that_are_none() {
        refused(json!({}), "no response provided");
        refused(
            json!({"apiVersion": "v1", "kind": "Pod", "response": {}}),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /v1, Kind=Pod",
        );
        refused(answer(json!({"uid": "x"})), r#"expected response.uid="u", got "x""#);
        refused(answer(json!({"uid": "u"})), "response.result.status was '', not 'Success'");
        refused(answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), "no");
        let good = answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"a": 1}]}));
        assert_eq!(answered("v1", "u", &good), Ok(vec![json!({"a": 1})]));
        assert_eq!(answered("v1beta1", "u", &json!({"response": {"result": {"status": "Success"}}})), Ok(vec![]));
    }

    fn object(version: &str, metadata: Value) -> Value {
        json!({"apiVersion": version, "kind": "Foo", "metadata": metadata})
    }

    #[test]
    fn metadata_is_the_originals_but_for_labels_and_annotations() {
        let original =
            object("x.io/v1", json!({"name": "a", "uid": "u", "labels": {"old": "1"}, "finalizers": ["f"], "resourceVersion": "7"}));
        let converted =
            object("x.io/v2", json!({"name": "a", "uid": "u", "labels": {"new": "2"}, "finalizers": ["g"], "resourceVersion": "8"}));
        let expected = json!({"name": "a", "uid": "u", "labels": {"new": "2"}, "finalizers": ["f"], "resourceVersion": "7"});
        assert_eq!(believed("w", &original, converted, "x.io/v2").unwrap()["metadata"], expected);
    }

    #[track_caller]
    fn disbelieved(converted: Value, expected: &str) {
        let original = object("x.io/v1", json!({"name": "a"}));
        assert_eq!(believed("w", &original, converted, "x.io/v2").unwrap_err(), expected);
    }

    #[test]
    fn another_object_is_not_believed() {
        disbelieved(
            object("x.io/v1", json!({})),
            "w returned invalid object at index 0: invalid groupVersion (expected x.io/v2, received x.io/v1)",
        );
        disbelieved(object("x.io/v2", json!({"name": "b"})), "w returned invalid object: must have the same name: a != b");
        disbelieved(
            json!({"apiVersion": "x.io/v2", "kind": "Bar"}),
            "w returned invalid object at index 0: invalid kind (expected Foo, received Bar)",
        );
        let labelled = object("x.io/v2", json!({"name": "a", "labels": {"x": 1}}));
        disbelieved(labelled, "w returned invalid metadata: metadata.labels is not a map of strings");
    }
}
