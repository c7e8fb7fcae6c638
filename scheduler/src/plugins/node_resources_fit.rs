//! A pod goes where what it requests is free; rather where much is free (upstream's `LeastAllocated`).

use std::borrow::Cow;

use super::{MAX_SCORE, Plugin, PreFilter, Refusal};
use crate::cluster_event::ClusterEvent;
use crate::node::{Node, NodeFacts};
use crate::pod::Pod;
use crate::resources::Resources;
use crate::snapshot::Snapshot;

pub struct NodeResourcesFit;

/// What is missing on a node with this much in use, and whether emptying the node would help.
fn missing(request: &Resources, used: &Resources, pods: usize, node: &NodeFacts) -> Option<Refusal> {
    let mut reasons = Vec::<Cow<'static, str>>::new();
    let mut resolvable = true;
    if i64::try_from(pods).unwrap_or(i64::MAX) >= node.max_pods {
        reasons.push("Too many pods".into());
    }
    let mut compare = |reason: Cow<'static, str>, request: i64, used: i64, allocatable: i64| {
        if request > 0 && request > allocatable.saturating_sub(used) {
            reasons.push(reason);
            resolvable &= request <= allocatable;
        }
    };
    let offer = &node.allocatable;
    compare("Insufficient cpu".into(), request.milli_cpu, used.milli_cpu, offer.milli_cpu);
    compare("Insufficient memory".into(), request.memory, used.memory, offer.memory);
    compare("Insufficient ephemeral-storage".into(), request.ephemeral_storage, used.ephemeral_storage, offer.ephemeral_storage);
    for (name, amount) in &request.scalar {
        compare(format!("Insufficient {name}").into(), *amount, used.scalar(name), offer.scalar(name));
    }
    (!reasons.is_empty()).then_some(Refusal { reasons, resolvable })
}

/// Whether the pod would fit on the node if it were empty.
fn fits_when_empty(pod: &Pod, node: &NodeFacts) -> bool {
    missing(&pod.requests, &Resources::default(), 0, node).is_none()
}

/// Whether less of something that `pod` needs is requested by `new` than by `old`.
fn frees(pod: &Pod, old: &Resources, new: &Resources) -> bool {
    let less = |needed: i64, old: i64, new: i64| needed > 0 && new < old;
    let needs = &pod.requests;
    less(needs.milli_cpu, old.milli_cpu, new.milli_cpu)
        || less(needs.memory, old.memory, new.memory)
        || less(needs.ephemeral_storage, old.ephemeral_storage, new.ephemeral_storage)
        || needs.scalar.iter().any(|(name, amount)| less(*amount, old.scalar(name), new.scalar(name)))
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(move |node: &Node| {
            missing(&pod.requests, &node.requested, node.pods.len(), &node.facts).map_or(Ok(()), Err)
        }))
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let free = |capacity: i64, used: i64| -> i64 { if used > capacity { 0 } else { (capacity - used) * MAX_SCORE / capacity } };
        let score = |node: &Node| {
            let offer = &node.facts.allocatable;
            let parts = [
                (offer.milli_cpu, node.scored.milli_cpu.saturating_add(pod.scored.milli_cpu)),
                (offer.memory, node.scored.memory.saturating_add(pod.scored.memory)),
            ];
            let scores = parts.into_iter().filter(|(capacity, _)| *capacity > 0).map(|(capacity, used)| free(capacity, used));
            let (sum, count) = scores.fold((0, 0), |(sum, count), s| (sum + s, count + 1));
            if count == 0 { 0 } else { sum / count }
        };
        Some(nodes.iter().map(|n| score(n)).collect())
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            // Any pod that goes makes room for one more pod, if for nothing else.
            ClusterEvent::AssignedPodGone(_) => true,
            ClusterEvent::AssignedPodChanged { old, new } => frees(pod, &old.requests, &new.requests),
            ClusterEvent::NodeAdded(node) => fits_when_empty(pod, node),
            ClusterEvent::NodeChanged { old, new } => {
                fits_when_empty(pod, new) && (old.allocatable != new.allocatable || old.max_pods != new.max_pods)
            }
            _ => false,
        }
    }
}
