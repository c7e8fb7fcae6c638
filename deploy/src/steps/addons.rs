//! What a cluster needs in its own API: the `kube-dns` Service, and coredns-lite's rights. The EndpointSlices behind the Service
//! are coredns-lite's to keep.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use serde_json::json;

use super::{Outcome, access};
use crate::cluster::DNS_SERVICE;
use crate::up::Up;

/// etcd and the apiserver take a second or two; a slow disk takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// # Errors
/// The apiserver does not become ready, or refuses.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let client = access::client().await?;
    up.wait("the apiserver", READY_WITHIN, || async {
        let request = http::Request::get("/readyz").body(Vec::new()).context("a request")?;
        client.request_text(request).await.context("asking the apiserver whether it is ready")?;
        Ok(Some(()))
    })
    .await?;
    let created = up.wait("the cluster's own objects", READY_WITHIN, || async { install(&client).await.map(Some) }).await?;
    Ok(Outcome::of(created, "kube-dns"))
}

async fn install(client: &kube::Client) -> anyhow::Result<bool> {
    let labels = json!({ "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true" });
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": labels },
        "spec": { "clusterIP": DNS_SERVICE.to_string(), "ports": [
            { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
            { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
        ]},
    }))?;
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": { "name": "system:coredns" },
        "rules": [
            { "apiGroups": [""], "resources": ["services", "namespaces", "pods", "nodes"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
        ],
    }))?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "system:coredns" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns" }],
    }))?;
    let mut created = access::ensure(&Api::all(client.clone()), &role).await?;
    created |= access::ensure(&Api::all(client.clone()), &binding).await?;
    created |= access::ensure(&Api::namespaced(client.clone(), "kube-system"), &service).await?;
    Ok(created)
}
