//! Pods: from their making to their end, and what can be asked of them meanwhile.

mod life;
mod services;
mod streams;

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Pods should get a host IP [NodeConformance]", test!(life::host_ip)),
    Behaviour::new("[sig-node] Pods should be submitted and removed [NodeConformance]", test!(life::removed)),
    Behaviour::new("[sig-node] Pods should be updated [NodeConformance]", test!(life::updated)),
    Behaviour::new("[sig-node] Pods should allow activeDeadlineSeconds to be updated [NodeConformance]", test!(life::deadline)),
    Behaviour::new("[sig-node] Pods should contain environment variables for services [NodeConformance]", test!(services::variables)),
    Behaviour::new("[sig-node] Pods should support remote command execution over websockets [NodeConformance]", test!(streams::command)),
    Behaviour::new(
        "[sig-node] Pods should support retrieving logs from the container over websockets [NodeConformance]",
        test!(streams::logs),
    ),
    Behaviour::new("[sig-node] Pods should delete a collection of pods", test!(life::collection)),
    Behaviour::new("[sig-node] Pods should run through the lifecycle of Pods and PodStatus", test!(life::lifecycle)),
    Behaviour::new("[sig-node] Pods should patch a pod status", test!(life::status)),
];

/// A pod that does nothing until it is told to end, as even a namespace of the level `restricted` takes it.
fn idle(name: &str, labels: &Value) -> Value {
    let context = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let mut pod = pod(name, script, json!({"restartPolicy": "Always"}), json!({"securityContext": context}));
    pod["metadata"]["labels"] = labels.clone();
    pod
}

/// Has the namespace take no other pods than such.
async fn restrict(f: &Framework) {
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    f.wire.patch("merge", &format!("/api/v1/namespaces/{}", f.namespace), &level).await.expect(200);
}

/// The path of the namespace's pods with `time=MARK`.
fn selected(f: &Framework, mark: &str) -> String {
    f.core(&format!("pods?labelSelector=time%3D{mark}"))
}
