//! A pod rather goes where CPU and memory will be used in the same proportion, so that neither is left over alone.

use super::{MAX_SCORE, Plugin};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a score of 0 to 100 needs no more
    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
            return None;
        }
        let fraction = |capacity: i64, used: i64| (used as f64 / capacity as f64).min(1.0);
        let score = |node: &Node| {
            let offer = &node.facts.allocatable;
            if offer.milli_cpu <= 0 || offer.memory <= 0 {
                return MAX_SCORE;
            }
            let cpu = fraction(offer.milli_cpu, node.requested.milli_cpu.saturating_add(pod.requests.milli_cpu));
            let memory = fraction(offer.memory, node.requested.memory.saturating_add(pod.requests.memory));
            // The standard deviation of two values is half their distance.
            ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
        };
        Some(nodes.iter().map(|n| score(n)).collect())
    }
}
