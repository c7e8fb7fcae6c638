//! Clients that nobody here wrote, against the same cluster: kubectl of several versions, the `kube` crate, the Python and JavaScript
//! clients, kopf, Helm. What they are made of is under `testkit/clients/`, with every version pinned.

pub mod kube_crate;
pub mod kubectl_connections;
pub mod kubectl_logs;
pub mod kubectl_objects;
pub mod kubectl_words;
pub mod node;
mod programs;
pub mod python;
pub mod versions;

use serde_json::Value;

use super::framework::{Framework, POD};

/// A pod that serves a page on port 8080 and logs what it was asked, and its container.
const SERVED: &str = "mkdir -p /www; echo served by busybox >/www/index.html; echo started; exec httpd -f -v -p 8080 -h /www";

impl Framework {
    /// Runs the pod `served`, and waits until it is ready.
    async fn served(&self) -> Value {
        let mut pod = Self::script("served", SERVED);
        pod["spec"]["containers"][0]["ports"] = serde_json::json!([{"name": "web", "containerPort": 8080}]);
        self.create_pod(&pod).await;
        let pod = self.until_ready("served").await;
        self.until("the pod to have begun", POD, || async { self.logs("served", "main").await.contains("started").then_some(()) }).await;
        pod
    }
}
