//! What people do with kubectl.

mod changes;
mod describe;
mod guestbook;
mod proxy;
mod questions;
mod update_demo;

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-cli] Kubectl client Update Demo should create and stop a replication controller",
        test!(update_demo::created_and_stopped),
    ),
    Behaviour::new("[sig-cli] Kubectl client Update Demo should scale a replication controller", test!(update_demo::scaled)),
    Behaviour::new("[sig-cli] Kubectl client Guestbook application should create and stop a working application", test!(guestbook::works)),
    Behaviour::new(
        "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions",
        test!(questions::api_versions),
    ),
    Behaviour::new(
        "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments",
        test!(changes::diff),
    ),
    Behaviour::new(
        "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods",
        test!(changes::dry_run),
    ),
    Behaviour::new(
        "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info",
        test!(questions::cluster_info),
    ),
    Behaviour::new(
        "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods",
        test!(describe::relevant),
    ),
    Behaviour::new("[sig-cli] Kubectl client Kubectl expose should create services for rc", test!(changes::expose)),
    Behaviour::new("[sig-cli] Kubectl client Kubectl label should update the label on a resource", test!(changes::label)),
    Behaviour::new("[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc", test!(changes::patch)),
    Behaviour::new("[sig-cli] Kubectl client Kubectl version should check is all data is printed", test!(questions::version)),
    Behaviour::new("[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never", test!(changes::run)),
    Behaviour::new("[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image", test!(changes::replace)),
    Behaviour::new("[sig-cli] Kubectl client Proxy server should support proxy with --port 0", test!(proxy::port_zero)),
    Behaviour::new("[sig-cli] Kubectl client Proxy server should support --unix-socket=/path", test!(proxy::unix_socket)),
];

/// Upstream's controller of one primary that listens on port 6379.
fn primary() -> Value {
    let labels = json!({"app": "agnhost", "role": "primary"});
    json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "agnhost-primary", "labels": labels},
        "spec": {"replicas": 1, "selector": labels, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "agnhost-primary", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent",
                "command": ["httpd", "-f", "-p", "6379"], "ports": [{"name": "agnhost-server", "containerPort": 6379}],
            }]},
        }},
    })
}

/// Creates upstream's controller with kubectl, and gives its pod when that is ready.
async fn create_primary(f: &Framework) -> anyhow::Result<Value> {
    f.kubectl().stdin(primary().to_string()).ok(&["create", "-f", "-"]).await?;
    let pods = f.until_pods("app=agnhost", 1).await;
    Ok(f.until_ready(pods[0]["metadata"]["name"].as_str().expect("a name")).await)
}
