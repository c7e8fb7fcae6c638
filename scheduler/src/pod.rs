//! A pod as the scheduler sees it: what matters for placing it, parsed once when it arrives.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::identity::{Labels, NodeName, Uid};
use crate::node_selector::NodeAffinity;
use crate::pod_terms::{PodAffinity, SpreadConstraint};
use crate::resources::{self, Resources};
use crate::taints::Toleration;
use crate::volumes::{PodClaim, claims_of};

/// A pod, parsed. Immutable; a change is a new value.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Uid.
    pub uid: Option<Uid>,
    /// `metadata.generation`, repeated in conditions.
    pub generation: Option<i64>,
    /// Labels.
    pub labels: Labels,
    /// When it was created.
    pub created: Timestamp,
    /// When a kubelet took it up.
    pub started: Option<Timestamp>,
    /// The higher, the more important.
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// Which scheduler is to place it.
    pub scheduler_name: Arc<str>,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// The node on which room is being made for it (`status.nominatedNodeName`).
    pub nominated: Option<NodeName>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is being deleted because a scheduler wants its room.
    pub preempted: bool,
    /// Whether all its containers have ended for good: it takes no room.
    pub finished: bool,
    /// What it requests.
    pub requests: Resources,
    /// The same, with defaults for containers that request nothing; for scores.
    pub scored: Resources,
    /// Ports of the node that it takes.
    pub ports: Vec<HostPort>,
    /// Taints that it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Nodes that it asks for.
    pub node_affinity: NodeAffinity,
    /// Pods that it wants near or far; `None` when it says nothing.
    pub affinity: Option<Box<PodAffinity>>,
    /// How it is to be spread.
    pub spread: Vec<SpreadConstraint>,
    /// The claims for storage that it uses.
    pub claims: Vec<PodClaim>,
    /// Images of its containers, with tag.
    pub images: Vec<String>,
    /// Uid of its controller.
    pub controller: Option<Uid>,
    /// Names of scheduling gates that are still closed.
    pub gates: Vec<String>,
    /// The condition `PodScheduled` as it stands.
    pub condition: Option<Condition>,
    /// Differs when something differs that could make it schedulable. Zero for pods on a node.
    pub shape: u64,
    /// Why the spec cannot be understood.
    pub invalid: Option<String>,
}

/// The condition `PodScheduled`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `True` or `False`.
    pub status: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// Since when the status is what it is.
    pub since: Option<Timestamp>,
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `None` for every address of the node.
    pub ip: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port number.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods cannot have these on the same node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let same_ip = self.ip.is_none() || other.ip.is_none() || self.ip == other.ip;
        self.port == other.port && self.protocol == other.protocol && same_ip
    }
}

impl Pod {
    /// Parses what the apiserver sent. Never fails: what cannot be understood is told in [`Pod::invalid`].
    #[must_use]
    pub fn parse(pod: &core::Pod) -> Self {
        let meta = &pod.metadata;
        let (no_spec, no_status) = (core::PodSpec::default(), core::PodStatus::default());
        let (spec, status) = (pod.spec.as_ref().unwrap_or(&no_spec), pod.status.as_ref().unwrap_or(&no_status));
        let labels = meta.labels.clone().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let node = spec.node_name.as_deref().filter(|n| !n.is_empty()).map(NodeName::from);
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let mut out = Self {
            namespace: namespace.into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            uid: meta.uid.as_deref().map(Uid::from),
            generation: meta.generation,
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            started: status.start_time.as_ref().map(|t| t.0),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            scheduler_name: spec.scheduler_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(DEFAULT_SCHEDULER).into(),
            nominated: status.nominated_node_name.as_deref().filter(|n| !n.is_empty()).map(NodeName::from),
            deleting: meta.deletion_timestamp.is_some(),
            preempted: conditions.iter().any(|c| c.type_ == "DisruptionTarget" && c.reason.as_deref() == Some("PreemptionByScheduler")),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            ports: ports(spec),
            tolerations: spec.tolerations.iter().flatten().filter_map(Toleration::parse).collect(),
            claims: claims_of(meta.name.as_deref().unwrap_or_default(), spec),
            images: images(spec),
            controller: meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)).map(|o| Uid::from(o.uid.as_str())),
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.clone()).collect(),
            condition: conditions.iter().find(|c| c.type_ == "PodScheduled").map(|c| Condition {
                status: c.status.clone(),
                reason: c.reason.clone().unwrap_or_default(),
                message: c.message.clone().unwrap_or_default(),
                since: c.last_transition_time.as_ref().map(|t| t.0),
            }),
            shape: if node.is_none() { shape(spec, &labels) } else { 0 },
            node,
            labels,
            ..Self::default()
        };
        if let Err(why) = out.parse_demands(pod, spec) {
            out.invalid = Some(why);
        }
        out
    }

    fn parse_demands(&mut self, pod: &core::Pod, spec: &core::PodSpec) -> Result<(), String> {
        (self.requests, self.scored) = resources::of_pod(pod)?;
        self.node_affinity = NodeAffinity::parse(spec)?;
        self.affinity = PodAffinity::parse(spec, &self.namespace)?;
        self.spread = SpreadConstraint::parse(spec, &self.labels)?;
        Ok(())
    }

    /// The same pod on `node`.
    #[must_use]
    pub fn on(&self, node: NodeName) -> Self {
        Self { node: Some(node), ..self.clone() }
    }

    /// Whether it uses this claim.
    #[must_use]
    pub fn uses_claim(&self, (namespace, name): &(String, String)) -> bool {
        *self.namespace == **namespace && self.claims.iter().any(|c| *c.name == **name)
    }

    /// Whether this is the same pod: same uid.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.uid == other.uid
    }

    /// Since when it counts as running, for the choice of victims.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.started.unwrap_or(self.created)
    }
}

/// The name of the scheduler that places pods which name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

fn ports(spec: &core::PodSpec) -> Vec<HostPort> {
    // Init containers are gone when the others run, bar sidecars.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            Some(HostPort {
                ip: p.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "0.0.0.0"),
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: p.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

fn images(spec: &core::PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.filter_map(|c| c.image.as_deref()).map(with_tag).collect()
}

/// Nodes report images with their tags; a pod may leave `:latest` out.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn shape(spec: &core::PodSpec, labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    // A spec that cannot be written down cannot have been read; its hash is then that of nothing, which is as good.
    serde_json::to_string(spec).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
