//! What upstream's test image (agnhost webhook) answers to admission reviews.

use serde_json::{Value, json};
use testkit::reviewer::patched;

fn allow() -> Value {
    json!({"allowed": true})
}

fn deny(reason: &str) -> Value {
    json!({"allowed": false, "status": {"reason": reason}})
}

/// The answer to a review's `request` at a path.
pub fn answer(path: &str, request: &Value) -> Value {
    let object = if request["object"].is_null() { &request["oldObject"] } else { &request["object"] };
    let (data, labels) = (&object["data"], &object["metadata"]["labels"]);
    match path {
        "/always-deny" => deny("this webhook denies all requests"),
        "/always-allow-delay-5s" => json!({"wait": 5}),
        "/add-label" => patched(&json!([{"op": "add", "path": "/metadata/labels/added-label", "value": "yes"}])),
        "/pods" => pod(object),
        "/pods/attach" => {
            assert_eq!(request["kind"]["kind"], "PodAttachOptions", "{request}");
            deny(&format!("attaching to pod '{}' is not allowed", request["name"].as_str().unwrap_or("")))
        }
        "/configmaps" if data["webhook-e2e-test"] == "webhook-disallow" => deny("the configmap contains unwanted key and value"),
        "/custom-resource" => {
            let unwanted = if request["operation"] == "DELETE" { "webhook-nondeletable" } else { "webhook-disallow" };
            if data["webhook-e2e-test"] == unwanted { deny("the custom resource contains unwanted data") } else { allow() }
        }
        "/crd" if labels["webhook-e2e-test"] == "webhook-disallow" => deny("the crd contains unwanted label"),
        "/mutating-configmaps" | "/mutating-custom-resource" => {
            let mut patch = vec![];
            for (has, adds) in [("mutation-start", "mutation-stage-1"), ("mutation-stage-1", "mutation-stage-2")] {
                if data[has] == "yes" {
                    patch.push(json!({"op": "add", "path": format!("/data/{adds}"), "value": "yes"}));
                }
            }
            if patch.is_empty() { allow() } else { patched(&patch.into()) }
        }
        "/mutating-pods" => {
            let container = json!({"image": "webhook-added-image", "name": "webhook-added-init-container", "resources": {}});
            patched(&json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]))
        }
        _ => allow(),
    }
}

fn pod(pod: &Value) -> Value {
    let mut reasons = vec![];
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    if containers.into_iter().any(|c| c["name"].as_str().is_some_and(|n| n.contains("webhook-disallow"))) {
        reasons.push("the pod contains unwanted container name");
    }
    match pod["metadata"]["labels"]["webhook-e2e-test"].as_str() {
        Some("webhook-disallow") => reasons.push("the pod contains unwanted label"),
        // Longer than any webhook may take.
        Some("wait-forever") => return json!({"wait": 60}),
        _ => {}
    }
    if reasons.is_empty() { allow() } else { deny(&reasons.join("; ")) }
}
