//! Upstream's `test/e2e/common`: what every node does for its pods.

pub mod network;
pub mod node;
mod source;
pub mod storage;

use serde_json::Value;

use crate::framework::Framework;

/// [`Framework::script`] with more in its spec and in its container.
pub fn pod(name: &str, script: &str, spec: Value, container: Value) -> Value {
    let mut pod = Framework::script(name, script);
    put(&mut pod["spec"]["containers"][0], container);
    put(&mut pod["spec"], spec);
    pod
}

/// Sets the fields of `more` in `object`.
pub fn put(object: &mut Value, more: Value) {
    for (field, value) in more.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
}

/// The status of a container of a pod, of whichever kind it is.
pub fn container_status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    all.find(|status| status["name"] == name).unwrap_or(&Value::Null)
}

/// A condition of a pod as `Status Reason Message`, without what it does not have.
pub fn condition(pod: &Value, kind: &str) -> String {
    let all = pod["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.clone().find(|c| c["type"] == kind).unwrap_or(&Value::Null);
    ["status", "reason", "message"].iter().filter_map(|field| found[field].as_str()).collect::<Vec<_>>().join(" ")
}
