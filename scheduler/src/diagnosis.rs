//! Why a pod fits nowhere, and the sentence that says so.
//!
//! People, tests and autoscalers read the sentence; it is upstream's to the letter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::identity::NodeName;
use crate::plugins::Refusal;

/// The reasons found for a pod that fits on no node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// What was refused, node by node.
    pub refused: Vec<(NodeName, Refusal)>,
    /// Why the nodes that are not among `refused` were not looked at.
    pub others: Option<String>,
    /// Why no node was looked at.
    pub pod: Option<Refusal>,
    /// The plugins that refused something.
    pub plugins: BTreeSet<&'static str>,
}

/// What is said when there is no node at all.
pub const NO_NODES: &str = "no nodes available to schedule pods";

impl Diagnosis {
    /// The whole sentence; `preemption` says what came of the attempt to make room.
    #[must_use]
    pub fn message(&self, preemption: Option<&str>) -> String {
        if self.nodes == 0 {
            return NO_NODES.to_owned();
        }
        let mut out = match &self.pod {
            Some(refusal) => format!("0/{} nodes are available: {}.", self.nodes, refusal.reasons.join(", ")),
            None => {
                let refusals = self.refused.iter().map(|(_, r)| r);
                unavailable(self.nodes, refusals, self.others.as_deref().map(|why| (self.nodes - self.refused.len(), why)))
            }
        };
        if let Some(preemption) = preemption {
            let _ = write!(out, " preemption: {preemption}"); // writing to a String cannot fail
        }
        out
    }

    /// The nodes that might do once pods are gone from them.
    pub fn resolvable(&self) -> impl Iterator<Item = &NodeName> {
        self.refused.iter().filter(|(_, r)| r.resolvable).map(|(name, _)| name)
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub fn unavailable<'a>(nodes: usize, refusals: impl Iterator<Item = &'a Refusal>, others: Option<(usize, &str)>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for refusal in refusals {
        for reason in &refusal.reasons {
            *counts.entry(reason).or_default() += 1;
        }
    }
    if let Some((count, reason)) = others.filter(|(count, _)| *count > 0) {
        *counts.entry(reason).or_default() += count;
    }
    // Sorted as text, number first, as upstream does.
    let mut reasons: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let list = if reasons.is_empty() { String::new() } else { format!(" {}.", reasons.join(", ")) };
    format!("0/{nodes} nodes are available:{list}")
}
