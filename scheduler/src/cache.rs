//! What the scheduler believes about nodes and the pods on them.
//!
//! A pod that was just placed is *assumed* on its node until the watch confirms it, so that the next cycle does not give its
//! room away. An assumption ends by confirmation, by [`Cache::forget`] when binding failed, by the pod's removal, or by
//! expiry when the watch never tells. The snapshot always shows exactly the confirmed and the assumed pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::identity::{NodeName, Uid};
use crate::node::NodeFacts;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

/// How long after a successful binding the watch may take to show it.
const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: Snapshot,
    pods: HashMap<Uid, Placed>,
    /// Pods on nodes that are not known, or not any more.
    homeless: HashMap<NodeName, HashSet<Uid>>,
    /// Pods whose belief is not `Confirmed`.
    assumed: HashSet<Uid>,
    nominations: HashMap<Uid, NodeName>,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    node: NodeName,
    belief: Belief,
}

/// Why a pod is believed to be on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// The watch said so.
    Confirmed,
    /// We are about to bind it.
    Assumed,
    /// We have bound it; the watch is to say so before this time.
    Bound { confirm_by: Timestamp },
}

/// What a pod that the watch shows on a node is to the cache.
#[derive(Debug)]
pub enum Seen {
    /// New.
    Added,
    /// Known, and now different; this is how it was.
    Changed(Arc<Pod>),
    /// Assumed until now, and on the node that was assumed.
    Confirmed,
}

impl Cache {
    /// The world for a scheduling cycle.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The world, to change what is not nodes and pods.
    pub fn snapshot_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    /// Whether the pod is assumed somewhere.
    #[must_use]
    pub fn is_assumed(&self, uid: &Uid) -> bool {
        self.assumed.contains(uid)
    }

    /// The pod as it is believed to be on a node.
    #[must_use]
    pub fn pod(&self, uid: &Uid) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|p| &p.pod)
    }

    /// The uids of all pods that are believed to be on a node.
    pub fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.pods.keys()
    }

    /// How many pods are on nodes, and how many of these are assumed only.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.pods.len(), self.assumed.len())
    }

    /// Believes from now on that `pod` is on `node`.
    pub fn assume(&mut self, pod: &Pod, node: &NodeName) {
        let Some(uid) = pod.uid.clone() else { return };
        self.take(&uid);
        self.place(uid, Arc::new(pod.on(node.clone())), node.clone(), Belief::Assumed);
    }

    /// The binding succeeded: the watch is to confirm it.
    pub fn bound(&mut self, uid: &Uid, now: Timestamp) {
        if let Some(placed) = self.pods.get_mut(uid)
            && placed.belief == Belief::Assumed
        {
            placed.belief = Belief::Bound { confirm_by: now.saturating_add(CONFIRM_WITHIN).unwrap_or(Timestamp::MAX) };
        }
    }

    /// The binding failed: the pod is not there. Gives the pod back; `None` when it was not merely assumed.
    pub fn forget(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        if self.is_assumed(uid) { self.take(uid) } else { None }
    }

    /// Ends assumptions that the watch did not confirm in time. Gives back their pods.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Arc<Pod>> {
        let late = |uid: &&Uid| self.confirm_by(uid).is_some_and(|by| by <= now);
        let late: Vec<Uid> = self.assumed.iter().filter(late).cloned().collect();
        late.iter().filter_map(|uid| self.take(uid)).collect()
    }

    /// When [`Cache::expire`] will next have something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.assumed.iter().filter_map(|uid| self.confirm_by(uid)).min()
    }

    fn confirm_by(&self, uid: &Uid) -> Option<Timestamp> {
        match self.pods.get(uid)?.belief {
            Belief::Bound { confirm_by } => Some(confirm_by),
            Belief::Assumed | Belief::Confirmed => None,
        }
    }

    /// The watch shows `pod` on its node.
    pub fn put_pod(&mut self, pod: Arc<Pod>) -> Option<Seen> {
        let (uid, node) = (pod.uid.clone()?, pod.node.clone()?);
        self.nominate(&pod, None);
        let assumed = self.is_assumed(&uid);
        let old = self.take(&uid);
        let seen = match old {
            None => Seen::Added,
            Some(old) if assumed && old.node == pod.node => Seen::Confirmed,
            Some(old) => Seen::Changed(old),
        };
        self.place(uid, pod, node, Belief::Confirmed);
        Some(seen)
    }

    /// The pod is gone, or takes no room any more. Gives back what was believed of it.
    pub fn remove_pod(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        self.withdraw(uid);
        self.take(uid)
    }

    /// The watch shows a node. Gives back what was known of it before.
    pub fn put_node(&mut self, facts: Arc<NodeFacts>) -> Option<Arc<NodeFacts>> {
        let name = facts.name.clone();
        let old = self.snapshot.put_node(facts);
        for uid in self.homeless.remove(&name).into_iter().flatten() {
            if let Some(placed) = self.pods.get(&uid) {
                self.snapshot.add_pod(&name, placed.pod.clone());
            }
        }
        old
    }

    /// A node is gone; pods on it are remembered until they are gone too. Gives back what was known of it.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<NodeFacts>> {
        let node = self.snapshot.remove_node(name)?;
        if !node.pods.is_empty() {
            self.homeless.insert(node.name().clone(), node.pods.iter().filter_map(|p| p.uid.clone()).collect());
        }
        Some(node.facts.clone())
    }

    /// Room on `node` is kept for `pod`, which is not there yet; `None` ends that.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: Option<&NodeName>) {
        let Some(uid) = &pod.uid else { return };
        self.withdraw(uid);
        if let Some(node) = node {
            self.nominations.insert(uid.clone(), node.clone());
            self.snapshot.nominated_mut().entry(node.clone()).or_default().push(pod.clone());
        }
    }

    fn withdraw(&mut self, uid: &Uid) {
        let Some(node) = self.nominations.remove(uid) else { return };
        let nominated = self.snapshot.nominated_mut();
        if let Some(pods) = nominated.get_mut(&node) {
            pods.retain(|p| p.uid.as_ref() != Some(uid));
            if pods.is_empty() {
                nominated.remove(&node);
            }
        }
    }

    fn place(&mut self, uid: Uid, pod: Arc<Pod>, node: NodeName, belief: Belief) {
        if !self.snapshot.add_pod(&node, pod.clone()) {
            self.homeless.entry(node.clone()).or_default().insert(uid.clone());
        }
        if belief != Belief::Confirmed {
            self.assumed.insert(uid.clone());
        }
        self.pods.insert(uid, Placed { pod, node, belief });
    }

    fn take(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        let placed = self.pods.remove(uid)?;
        self.assumed.remove(uid);
        if self.snapshot.remove_pod(&placed.node, &placed.pod).is_none()
            && let Some(pods) = self.homeless.get_mut(&placed.node)
        {
            pods.remove(uid);
            if pods.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
        Some(placed.pod)
    }
}
