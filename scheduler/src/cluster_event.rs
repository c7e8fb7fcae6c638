//! What happens in the cluster that may make a rejected pod fit.

use crate::identity::Labels;
use crate::node::NodeFacts;
use crate::observation::Key;
use crate::pod::Pod;

/// A change, as plugins are asked about it: "could this cure your rejection of that pod?".
#[derive(Debug, Clone, Copy)]
pub enum ClusterEvent<'a> {
    /// A node appeared.
    NodeAdded(&'a NodeFacts),
    /// Something that matters changed about a node.
    NodeChanged {
        /// Before.
        old: &'a NodeFacts,
        /// After.
        new: &'a NodeFacts,
    },
    /// A node is gone.
    NodeRemoved(&'a NodeFacts),
    /// A pod came to a node.
    PodAssigned(&'a Pod),
    /// A pod on a node changed.
    AssignedPodChanged {
        /// Before.
        old: &'a Pod,
        /// After.
        new: &'a Pod,
    },
    /// A pod is gone from its node, or has ended.
    AssignedPodGone(&'a Pod),
    /// A namespace has other labels now.
    NamespaceChanged {
        /// Its name.
        name: &'a str,
        /// Its labels.
        labels: &'a Labels,
    },
    /// Something about storage changed.
    Storage(StorageEvent<'a>),
}

/// What about storage changed.
#[derive(Debug, Clone, Copy)]
pub enum StorageEvent<'a> {
    /// This claim.
    Claim(&'a Key),
    /// A volume.
    Volume,
    /// A class.
    Class,
    /// How many volumes a node can have.
    Limits,
}

impl ClusterEvent<'_> {
    /// Whether a node now satisfies `fits` and did not before.
    #[must_use]
    pub fn makes_a_node(&self, fits: impl Fn(&NodeFacts) -> bool) -> bool {
        match self {
            Self::NodeAdded(node) => fits(node),
            Self::NodeChanged { old, new } => fits(new) && !fits(old),
            _ => false,
        }
    }
}
