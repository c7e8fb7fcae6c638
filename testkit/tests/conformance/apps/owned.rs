//! What the controllers' tests ask of pods and objects.

use serde_json::Value;

use crate::framework::{Framework, POD};

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// The query of a list of what has a label.
pub fn selected(label: &str, value: &str) -> String {
    format!("?labelSelector={label}%3D{value}")
}

/// Whether `owner` controls the object.
pub fn belongs_to(object: &Value, owner: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|all| all.iter().any(|o| o["uid"] == owner["metadata"]["uid"] && o["controller"] == true))
}

/// Waits until the controller has seen the object's newest generation, and its status has these counts.
pub async fn until_status(f: &Framework, path: &str, counts: &[(&str, u64)]) -> Value {
    f.until_it(path, &format!("to have {counts:?}"), POD, |object| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
            && counts.iter().all(|(field, count)| object["status"][field].as_u64().unwrap_or(0) == *count)
    })
    .await
}
