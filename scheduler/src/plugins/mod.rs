//! The plugins: each knows one reason for or against a node.
//!
//! A plugin is a file here and a line in [`PLUGINS`]. It looks at the pod and the snapshot once ([`Plugin::pre_filter`]) and
//! gives back a function that judges a node by nothing but that and the node it is handed; so pre-emption can ask about a
//! world that does not exist. Plugins keep no state.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod normalize;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

/// All plugins. Filters are asked in this order and the first that refuses a node is the one that is reported.
pub static PLUGINS: &[&dyn Plugin] = &[
    &scheduling_gates::SchedulingGates,
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &volume_restrictions::VolumeRestrictions,
    &node_volume_limits::NodeVolumeLimits,
    &volume_binding::VolumeBinding,
    &volume_zone::VolumeZone,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
    &node_resources_balanced_allocation::NodeResourcesBalancedAllocation,
    &image_locality::ImageLocality,
];

/// The best score that a plugin gives to a node; the worst is 0.
pub const MAX_SCORE: i64 = 100;

/// Why a node is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In the words that people read in events.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether the node might be fine once pods are gone from it.
    pub resolvable: bool,
}

impl Refusal {
    /// Refused, and no eviction would change that.
    #[must_use]
    pub fn for_good(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }

    /// Refused as long as the pods are where they are.
    #[must_use]
    pub fn for_now(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }
}

/// Judges a node.
pub type Filter<'a> = Box<dyn Fn(&Node) -> Result<(), Refusal> + 'a>;

/// What a plugin has to say about a pod before any node is looked at.
pub enum PreFilter<'a> {
    /// Nothing: every node is fine.
    Skip,
    /// Each node is to be judged by this.
    Filter(Filter<'a>),
    /// Only nodes of these names need to be judged.
    Only(BTreeSet<&'a str>, Filter<'a>),
    /// No node will do.
    Refuse(Refusal),
}

/// One reason for or against a node.
pub trait Plugin: Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// Whether the pod may be looked at; the error says what it waits for.
    ///
    /// # Errors
    /// What the pod waits for.
    fn pre_enqueue(&self, _: &Pod) -> Result<(), String> {
        Ok(())
    }

    /// Looks at the pod and the world and says how nodes are to be judged.
    fn pre_filter<'a>(&self, _: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// A score from 0 to [`MAX_SCORE`] for each of `nodes`; `None` when all are equal to this plugin.
    fn score(&self, _: &Pod, _: &Snapshot, _nodes: &[&Node]) -> Option<Vec<i64>> {
        None
    }

    /// How much its score counts.
    fn weight(&self) -> i64 {
        1
    }

    /// Whether `event` may have made a node fit for a pod that this plugin refused. When in doubt, yes.
    fn cured_by(&self, _: &Pod, _: &ClusterEvent<'_>) -> bool {
        false
    }
}

/// The plugin of this name.
#[must_use]
pub fn by_name(plugins: &'static [&'static dyn Plugin], name: &str) -> Option<&'static dyn Plugin> {
    plugins.iter().copied().find(|p| p.name() == name)
}

/// What the plugin alone says of each node of the cluster, for the pod: `a fits 100` or `a: why not (for now)`.
#[cfg(test)]
pub fn verdicts(plugin: &dyn Plugin, cluster: &str, pod: &str) -> String {
    let (world, pod) = (crate::world::world(cluster), crate::world::pod(pod));
    assert_eq!(pod.invalid, None);
    let mut nodes: Vec<&Node> = world.snapshot().nodes().collect();
    nodes.sort_by_key(|n| n.name().clone());
    let scores = plugin.score(&pod, world.snapshot(), &nodes);
    let filter = match plugin.pre_filter(&pod, world.snapshot()) {
        PreFilter::Skip => None,
        PreFilter::Filter(filter) | PreFilter::Only(_, filter) => Some(filter),
        PreFilter::Refuse(refusal) => return refusal.reasons.join(", "),
    };
    let line = |(i, node): (usize, &&Node)| match filter.as_ref().map_or(Ok(()), |filter| filter(node)) {
        Ok(()) => format!("{} fits{}\n", node.name(), scores.as_ref().map_or(String::new(), |s| format!(" {}", s[i]))),
        Err(refusal) => {
            format!("{}: {}{}\n", node.name(), refusal.reasons.join(", "), if refusal.resolvable { " (for now)" } else { "" })
        }
    };
    nodes.iter().enumerate().map(line).collect()
}
