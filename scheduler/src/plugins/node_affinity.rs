//! A pod goes where `nodeSelector` and required node affinity say, and rather where preferred node affinity says.

use super::{Plugin, PreFilter, Refusal, normalize};
use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        let affinity = &pod.node_affinity;
        if affinity.demands_nothing() {
            return PreFilter::Skip;
        }
        let filter = Box::new(move |node: &Node| {
            if affinity.admits(&node.facts) { Ok(()) } else { Err(Refusal::for_good("node(s) didn't match Pod's node affinity/selector")) }
        });
        match affinity.named() {
            Some(names) if names.is_empty() => PreFilter::Refuse(Refusal::for_good("pod affinity terms conflict")),
            Some(names) => PreFilter::Only(names, filter),
            None => PreFilter::Filter(filter),
        }
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let wishes = &pod.node_affinity.preferred;
        if wishes.is_empty() {
            return None;
        }
        let granted = |node: &Node| wishes.iter().filter(|(_, term)| term.matches(&node.facts)).map(|(weight, _)| weight).sum();
        let mut scores: Vec<i64> = nodes.iter().map(|n| granted(n)).collect();
        normalize::most_is_best(&mut scores);
        Some(scores)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        event.makes_a_node(|node| pod.node_affinity.admits(node))
    }
}
