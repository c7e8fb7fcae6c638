//! The pods that are stored: small ones, with what the server and a kubelet write into them, owners of fields included. With their
//! status they have about 2.2 KB.

use serde_json::{Value, json};

use crate::world::NAMESPACE;

/// The name of a pod by its number.
pub fn name(number: usize) -> String {
    format!("web-7d4b9c6f5d-{number:05}")
}

/// The path of a pod.
pub fn path(number: usize) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{}", name(number))
}

/// What a client creates.
pub fn created(number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(number),
            "namespace": NAMESPACE,
            "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5d"}
        },
        "spec": {
            "nodeName": format!("node-{:03}", number % 100),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "web",
                "image": "registry.example.com/web:1.27",
                "resources": {"requests": {"cpu": "100m"}}
            }]
        }
    })
}

/// What a kubelet says of a running pod, as a merge patch of its status.
pub fn running(number: usize) -> Value {
    let at = "2026-11-28T12:00:00Z";
    let address = format!("10.244.{}.{}", number / 250, number % 250 + 2);
    json!({"status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}],
        "hostIP": "192.0.2.17",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": at
    }})
}

/// A merge patch that changes one label.
pub fn relabelled(round: usize) -> Value {
    json!({"metadata": {"labels": {"round": round.to_string()}}})
}

/// What a client applies: labels, an annotation and the image, of which something changes with the round.
pub fn applied(number: usize, round: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(number),
            "labels": {"app": "web", "tier": "front", "release": format!("r{round}")},
            "annotations": {"example.com/owner": "team-web"}
        },
        "spec": {"containers": [{"name": "web", "image": format!("registry.example.com/web:1.{round}")}]}
    })
}
