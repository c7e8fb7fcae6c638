//! The node's Lease: a small object renewed often, by which the control plane knows that the kubelet lives.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::backoff::Backoff;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;

/// Where nodes' Leases are.
const NAMESPACE: &str = "kube-node-lease";
/// A renewal that failed is tried again soon, then less often: several may fail before the Lease is over. As upstream.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(7));

/// Renews the Lease until `shutdown`.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let seconds = kubelet.flags.node_lease_duration_seconds.max(4);
    let every = Duration::from_secs(u64::try_from(seconds / 4).unwrap_or(10));
    let mut backoff = Backoff::new(RETRY.0, RETRY.1.min(every));
    loop {
        let renewed = tokio::time::timeout(every, renew(&kubelet, seconds)).await;
        let pause = match renewed.map_err(anyhow::Error::from).and_then(|r| r) {
            Ok(()) => {
                backoff.reset();
                every
            }
            Err(error) => {
                tracing::warn!(node = kubelet.node_name, error = daemon::describe_any(&error), "the node's Lease could not be renewed");
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(kubelet: &Kubelet, seconds: i32) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::namespaced(kubelet.client.clone(), NAMESPACE);
    let now = kubelet.clock.now();
    let patch = json!({"spec": {"holderIdentity": kubelet.node_name, "leaseDurationSeconds": seconds, "renewTime": MicroTime(now)}});
    match api.patch(&kubelet.node_name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(s)) if s.code == 404 => {
            let lease = lease(&kubelet.node_name, &kubelet.node.load(), seconds, now);
            api.create(&PostParams::default(), &lease).await.context("creating the node's Lease").map(|_| ())
        }
        other => other.context("renewing the node's Lease").map(|_| ()),
    }
}

/// A new Lease, owned by the Node so that it goes with it.
fn lease(name: &str, node: &Node, seconds: i32, now: Timestamp) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.name = Some(name.to_owned());
    lease.metadata.namespace = Some(NAMESPACE.to_owned());
    lease.metadata.owner_references = node.metadata.uid.as_ref().map(|uid| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.to_owned(),
            uid: uid.clone(),
            ..OwnerReference::default()
        }]
    });
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(seconds),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    });
    lease
}
