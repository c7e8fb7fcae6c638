//! This machine as a Node: registered once, its status kept true, its Lease renewed.

pub mod lease;
pub mod machine;
pub mod register;
pub mod status;
pub mod transitions;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::backoff::Backoff;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, NodeFeatures};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;
use status::Ready;

/// How often the status is worked out until the node is ready for the first time.
const EAGER: Duration = Duration::from_millis(500);
/// For how long a runtime may be silent before the node is not ready: a restart of containerd is not an outage. As upstream.
const RUNTIME_SILENCE: Duration = Duration::from_secs(30);
/// How soon a silent runtime is asked again.
const RUNTIME_RETRY: Duration = Duration::from_secs(5);

/// Keeps the Node's status true until `shutdown`: the runtime's state, addresses, capacity, images; tells the runtime the pod range.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut reporter = Reporter {
        kubelet: kubelet.clone(),
        pod_cidr: String::new(),
        sent: None,
        ready: false,
        closed: None,
        runtime: LastWord::default(),
        features: None,
    };
    let mut backoff = Backoff::new(EAGER, kubelet.flags.node_status_update_frequency);
    loop {
        let pause = match reporter.round().await {
            Ok(()) => {
                backoff.reset();
                match reporter.ready {
                    true if reporter.runtime.silent => kubelet.flags.node_status_update_frequency.min(RUNTIME_RETRY),
                    true => kubelet.flags.node_status_update_frequency,
                    false => EAGER,
                }
            }
            Err(error) => {
                tracing::warn!(node = kubelet.node_name, error = daemon::describe_any(&error), "the node's status could not be updated");
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
    closed: Option<bool>,
    runtime: LastWord,
    features: Option<NodeFeatures>,
}

/// What the runtime said last, and when.
#[derive(Default)]
struct LastWord {
    at: Option<Instant>,
    reasons: Vec<String>,
    silent: bool,
}

impl LastWord {
    /// What keeps the node from being ready, when the runtime just now gave these reasons or no answer.
    fn after<E: std::fmt::Display>(&mut self, said: Result<Vec<String>, E>, now: Instant) -> Vec<String> {
        self.silent = said.is_err();
        match said {
            Ok(reasons) => {
                self.at = Some(now);
                self.reasons.clone_from(&reasons);
                reasons
            }
            Err(error) => match self.at {
                Some(at) if now.duration_since(at) < RUNTIME_SILENCE => self.reasons.clone(),
                Some(_) => vec![format!("container runtime is down: {error}")],
                None => vec![format!("container runtime status check may not have completed yet: {error}")],
            },
        }
    }
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
            let patch = status::patch(&node, &new);
            let stored = api
                .patch_status(&kubelet.node_name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await
                .context("writing the node's status")?;
            let told = transitions::told(&kubelet.node_name, &node, &new);
            self.tell(told);
            self.sent = Some((now, new.clone()));
            kubelet.node.store(Arc::new(slim(stored)));
        } else {
            kubelet.node.store(Arc::new(slim(node)));
        }
        let node = kubelet.node.load();
        self.tell(transitions::schedulable(&kubelet.node_name, self.closed, &node));
        self.closed = Some(transitions::is_closed(&node));
        self.ready |= ready.reasons.is_empty();
        Ok(())
    }

    fn tell(&self, events: impl IntoIterator<Item = transitions::Told>) {
        for (kind, reason, message) in events {
            self.kubelet.events.node(&self.kubelet.node.load(), kind, &reason, message);
        }
    }

    async fn node(&self, client: &Client) -> anyhow::Result<Node> {
        let api: Api<Node> = Api::all(client.clone());
        match api.get(&self.kubelet.node_name).await {
            Err(kube::Error::Api(s)) if s.code == 404 && self.kubelet.flags.register_node => register::register(&self.kubelet).await,
            other => other.context("reading the node"),
        }
    }

    /// Whether the runtime and its network are up; tells the workers.
    async fn runtime_state(&mut self) -> Ready {
        let said = self.kubelet.runtime.status().await.map(|answer| {
            let mut network = None;
            let mut reasons = vec![];
            for condition in answer.status.unwrap_or_default().conditions.into_iter().filter(|c| !c.status) {
                let words = format!("{}=false reason:{} message:{}", condition.r#type, condition.reason, condition.message);
                if condition.r#type == "NetworkReady" {
                    network = Some(format!("container runtime network not ready: {words}"));
                    reasons.extend(network.clone());
                } else {
                    reasons.push(format!("container runtime status check may not have completed yet: {words}"));
                }
            }
            self.kubelet.network.store(Arc::new(network));
            // Left unsaid, as older runtimes do, it cannot.
            self.features = answer.features.map(|f| NodeFeatures { supplemental_groups_policy: Some(f.supplemental_groups_policy) });
            reasons
        });
        if let Err(error) = &said {
            tracing::warn!(node = self.kubelet.node_name, %error, "the container runtime does not answer");
        }
        Ready { reasons: self.runtime.after(said, Instant::now()), features: self.features.clone() }
    }
}

/// Reads the Node now, between two reports.
///
/// # Errors
/// The apiserver does not give it.
pub async fn reread(kubelet: &Kubelet) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let node = api.get(&kubelet.node_name).await.context("reading the node")?;
    kubelet.node.store(Arc::new(slim(node)));
    Ok(())
}

fn slim(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_restarts_leaves_the_node_ready() {
        let began = Instant::now();
        let mut word = LastWord::default();
        let mut ask = |said: Result<&[&str], &str>, seconds: u64| {
            let said = said.map(|r| r.iter().map(ToString::to_string).collect());
            word.after(said, began + Duration::from_secs(seconds))
        };
        let never = ask(Err("connection refused"), 0);
        assert_eq!(never, ["container runtime status check may not have completed yet: connection refused"]);
        assert!(ask(Ok(&[]), 1).is_empty());
        assert!(ask(Err("connection refused"), 30).is_empty(), "silent for less than thirty seconds");
        assert_eq!(ask(Err("connection refused"), 31), ["container runtime is down: connection refused"]);
        assert_eq!(ask(Ok(&["no network"]), 32), ["no network"]);
        assert_eq!(ask(Err("connection refused"), 33), ["no network"], "what it said last still holds");
    }
}
