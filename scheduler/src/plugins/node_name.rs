//! A pod that names its node goes there or nowhere.
//!
//! Such a pod counts as placed and does not come to a scheduler; the filter matters to those that ask "would it fit there?".

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        let Some(name) = &pod.node else { return PreFilter::Skip };
        PreFilter::Filter(Box::new(move |node: &Node| {
            if node.name() == name { Ok(()) } else { Err(Refusal::for_good("node(s) didn't match the requested node name")) }
        }))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        event.makes_a_node(|node| pod.node.as_ref() == Some(&node.name))
    }
}
