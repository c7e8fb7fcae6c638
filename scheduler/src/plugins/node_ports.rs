//! Two pods on one node cannot have the same host port.

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::{HostPort, Pod};
use crate::snapshot::Snapshot;

pub struct NodePorts;

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|w| taken.iter().any(|t| w.conflicts(t)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        if pod.ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(move |node: &Node| {
            if conflict(&pod.ports, &node.ports) {
                Err(Refusal::for_now("node(s) didn't have free ports for the requested pod ports"))
            } else {
                Ok(())
            }
        }))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::AssignedPodGone(gone) => conflict(&pod.ports, &gone.ports),
            _ => false,
        }
    }
}
