//! `/pods` and `/runningpods/`: the pods of this node, as the kubelet and as the runtime know them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Server;
use crate::cri;

/// Every pod with the kubelet's newest status.
pub async fn known(State(server): State<Server>) -> Response {
    let mut pods: Vec<_> = server.pods.all().iter().map(crate::pods::Known::whole).collect();
    pods.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    let items: Result<Vec<Value>, _> = pods.iter().map(serde_json::to_value).collect();
    match items {
        Ok(items) => list(items),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What runs, asked of the runtime: sandboxes and the containers in them.
pub async fn running(State(server): State<Server>) -> Response {
    let ready = cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() };
    let filter = cri::PodSandboxFilter { state: Some(ready), ..cri::PodSandboxFilter::default() };
    let runs = cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning.into() };
    let running = cri::ContainerFilter { state: Some(runs), ..cri::ContainerFilter::default() };
    match tokio::try_join!(server.runtime.list_pod_sandboxes(Some(filter)), server.runtime.list_containers(Some(running))) {
        Ok((sandboxes, containers)) => list(sandboxes.into_iter().map(|s| pod(s, &containers)).collect()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn pod(sandbox: cri::PodSandbox, containers: &[cri::Container]) -> Value {
    let meta = sandbox.metadata.unwrap_or_default();
    let inside = containers.iter().filter(|c| c.pod_sandbox_id == sandbox.id);
    let containers: Vec<Value> = inside
        .map(|c| {
            let name = c.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
            json!({"name": name, "image": c.image_ref, "resources": {}})
        })
        .collect();
    json!({
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "spec": {"containers": containers},
        "status": {},
    })
}

fn list(items: Vec<Value>) -> Response {
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}
