//! What the scheduler is told: the one list of everything that can wake it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::labels::Selector;

use crate::identity::{Labels, NodeName, Uid};
use crate::node::NodeFacts;
use crate::pod::Pod;
use crate::preempt::Budget;
use crate::volumes::{Claim, Class, Volume};

/// A change in a watched collection.
#[derive(Debug)]
pub enum Change<K, V> {
    /// It is there, and like this.
    Put(K, V),
    /// It is gone.
    Gone(K),
    /// The whole collection has been listed: what is not among these is gone.
    Listed(HashSet<K>),
}

/// Namespace and name.
pub type Key = (String, String);

/// Everything that the scheduler is told.
#[derive(Debug)]
pub enum Observation {
    /// Pods.
    Pod(Change<Uid, Arc<Pod>>),
    /// Nodes.
    Node(Change<NodeName, Arc<NodeFacts>>),
    /// Namespaces and their labels.
    Namespace(Change<String, Labels>),
    /// PodDisruptionBudgets.
    Budget(Change<Key, Budget>),
    /// Services and their selectors.
    Service(Change<Key, Selector>),
    /// Controllers of one resource (by plural) and their selectors.
    Controller(&'static str, Change<Uid, Selector>),
    /// PersistentVolumes.
    Volume(Change<String, Arc<Volume>>),
    /// PersistentVolumeClaims.
    Claim(Change<Key, Arc<Claim>>),
    /// StorageClasses.
    Class(Change<String, Arc<Class>>),
    /// CSINodes: how many volumes of each driver a node can have.
    Limits(Change<NodeName, BTreeMap<String, i64>>),
    /// The volumes of this pod have been asked for; an error says why they could not be.
    VolumesAsked(Uid, Result<(), String>),
    /// What came of a binding.
    Bound(Uid, Binding),
    /// The evictions for this pod have been asked for; `failed` when not all could be.
    Evicted {
        /// The pod for which room is made.
        uid: Uid,
        /// Whether something went wrong.
        failed: bool,
    },
}

/// What came of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The pod is bound.
    Done,
    /// The pod was bound by somebody else, or is another one by now: look again.
    Conflict,
    /// There is no such pod any more.
    Gone,
    /// The apiserver refused, or could not be asked.
    Failed(String),
}
