//! Cordoned nodes take no new pods, but for those that tolerate it.

use super::{Filter, Plugin, PreFilter, Refusal};
use crate::cluster_event::ClusterEvent;
use crate::node::{Node, NodeFacts};
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::taints::{Taint, tolerated};

pub struct NodeUnschedulable;

fn open(node: &NodeFacts, pod: &Pod) -> bool {
    !node.unschedulable || tolerated(&Taint::UNSCHEDULABLE, &pod.tolerations)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        let filter: Filter<'a> =
            Box::new(move |node: &Node| if open(&node.facts, pod) { Ok(()) } else { Err(Refusal::for_good("node(s) were unschedulable")) });
        PreFilter::Filter(filter)
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        event.makes_a_node(|node| open(node, pod))
    }
}
