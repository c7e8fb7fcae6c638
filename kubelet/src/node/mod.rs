//! This machine as a Node: registered once, its status kept true, its Lease renewed.

pub mod lease;
pub mod machine;
pub mod register;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::backoff::Backoff;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;
use status::Ready;

/// How often the status is worked out until the node is ready for the first time.
const EAGER: Duration = Duration::from_millis(500);

/// Keeps the Node's status true until `shutdown`: the runtime's state, addresses, capacity, images; tells the runtime the pod range.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut reporter = Reporter { kubelet: kubelet.clone(), pod_cidr: String::new(), sent: None, ready: false };
    let mut backoff = Backoff::new(EAGER, kubelet.flags.node_status_update_frequency);
    loop {
        let pause = match reporter.round().await {
            Ok(()) => {
                backoff.reset();
                if reporter.ready { kubelet.flags.node_status_update_frequency } else { EAGER }
            }
            Err(error) => {
                tracing::warn!(node = kubelet.node_name, error = format!("{error:#}"), "the node's status could not be updated");
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = kubelet.node_bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Reporter {
    kubelet: Arc<Kubelet>,
    pod_cidr: String,
    sent: Option<(jiff::Timestamp, k8s_openapi::api::core::v1::NodeStatus)>,
    ready: bool,
}

impl Reporter {
    async fn round(&mut self) -> anyhow::Result<()> {
        let kubelet = self.kubelet.clone();
        let ready = self.runtime_state().await;
        let node = self.node(&kubelet.client).await?;
        if let Some(cidr) = node.spec.as_ref().and_then(|s| s.pod_cidr.as_ref()).filter(|c| **c != self.pod_cidr) {
            kubelet.runtime.update_runtime_config(cidr).await.context("telling the runtime the pod range")?;
            tracing::info!(node = kubelet.node_name, pod_cidr = cidr, "pod range set");
            self.pod_cidr.clone_from(cidr);
        }
        *kubelet.statuses.node_uid.lock() = node.metadata.uid.clone();
        let now = kubelet.clock.now();
        let images = kubelet.runtime.list_images().await;
        let known = images.as_deref().unwrap_or_default();
        let mut new = status::status(&node, &kubelet.machine, &kubelet.pressure.load(), &ready, known, now);
        if let Err(error) = &images {
            // Images that could not be listed are not gone: what was reported before stays.
            tracing::warn!(node = kubelet.node_name, %error, "listing the images");
            new.images = node.status.as_ref().and_then(|s| s.images.clone());
        }
        let report = SignedDuration::try_from(kubelet.flags.node_status_report_frequency).unwrap_or(SignedDuration::MAX);
        let due = self.sent.as_ref().is_none_or(|(at, sent)| now.duration_since(*at) >= report || status::differs(sent, &new))
            || node.status.as_ref().is_none_or(|stored| status::differs(stored, &new));
        if due {
            let api: Api<Node> = Api::all(kubelet.client.clone());
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": new});
            let stored = api
                .patch_status(&kubelet.node_name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await
                .context("writing the node's status")?;
            self.sent = Some((now, new.clone()));
            kubelet.node.store(Arc::new(slim(stored)));
        } else {
            kubelet.node.store(Arc::new(slim(node)));
        }
        if ready.reasons.is_empty() && !self.ready {
            self.ready = true;
            kubelet.events.node(
                &kubelet.node.load(),
                crate::events::Kind::Normal,
                "NodeReady",
                format!("Node {} status is now: NodeReady", kubelet.node_name),
            );
        }
        Ok(())
    }

    async fn node(&self, client: &Client) -> anyhow::Result<Node> {
        let api: Api<Node> = Api::all(client.clone());
        match api.get(&self.kubelet.node_name).await {
            Err(kube::Error::Api(s)) if s.code == 404 && self.kubelet.flags.register_node => register::register(&self.kubelet).await,
            other => other.context("reading the node"),
        }
    }

    /// Whether the runtime and its network are up; tells the workers.
    async fn runtime_state(&self) -> Ready {
        let mut reasons = vec![];
        let mut network = None;
        match self.kubelet.runtime.status().await {
            Err(error) => reasons.push(format!("container runtime is down: {error}")),
            Ok(answer) => {
                for condition in answer.status.unwrap_or_default().conditions.into_iter().filter(|c| !c.status) {
                    let words = format!("{}=false reason:{} message:{}", condition.r#type, condition.reason, condition.message);
                    if condition.r#type == "NetworkReady" {
                        network = Some(format!("container runtime network not ready: {words}"));
                        reasons.extend(network.clone());
                    } else {
                        reasons.push(format!("container runtime status check may not have completed yet: {words}"));
                    }
                }
            }
        }
        self.kubelet.network.store(Arc::new(network));
        Ready { reasons }
    }
}

fn slim(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
    node
}
