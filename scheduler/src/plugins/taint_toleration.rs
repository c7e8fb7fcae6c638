//! Nodes with taints take only pods that tolerate them; `PreferNoSchedule` is a wish.

use super::{Plugin, PreFilter, Refusal, normalize};
use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::taints::{Effect, admitted, tolerated};

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(move |node: &Node| {
            if admitted(&node.facts.taints, &pod.tolerations) { Ok(()) } else { Err(Refusal::for_good("node(s) had untolerated taint(s)")) }
        }))
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let unwelcome = |node: &&Node| {
            let taints = node.facts.taints.iter().filter(|t| t.effect == Effect::PreferNoSchedule);
            taints.filter(|taint| !tolerated(taint, &pod.tolerations)).count()
        };
        let mut scores: Vec<i64> = nodes.iter().map(|n| i64::try_from(unwelcome(n)).unwrap_or(i64::MAX)).collect();
        scores.iter().any(|&s| s > 0).then(|| {
            normalize::least_is_best(&mut scores);
            scores
        })
    }

    fn weight(&self) -> i64 {
        3
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        event.makes_a_node(|node| admitted(&node.taints, &pod.tolerations))
    }
}
