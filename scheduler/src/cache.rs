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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{at, node, pod};
    use std::collections::BTreeMap;

    /// Everything that can happen to the cache, for two nodes and two pods.
    #[derive(Debug, Clone, Copy)]
    enum Op {
        Node(&'static str),
        NodeGone(&'static str),
        Assume(&'static str, &'static str),
        Bound(&'static str),
        Forget(&'static str),
        Seen(&'static str, &'static str),
        Gone(&'static str),
        Later,
    }

    const OPS: [Op; 14] = [
        Op::Node("a"),
        Op::Node("b"),
        Op::NodeGone("a"),
        Op::Assume("p", "a"),
        Op::Assume("p", "b"),
        Op::Assume("q", "a"),
        Op::Bound("p"),
        Op::Forget("p"),
        Op::Forget("q"),
        Op::Seen("p", "a"),
        Op::Seen("p", "b"),
        Op::Seen("q", "b"),
        Op::Gone("p"),
        Op::Later,
    ];

    /// What the cache should believe: the nodes, and where each pod is and why.
    #[derive(Debug, Clone, Default, PartialEq)]
    struct Model {
        nodes: BTreeMap<&'static str, ()>,
        pods: BTreeMap<&'static str, (&'static str, Belief)>,
    }

    const HOUR: i64 = 3_600;

    impl Model {
        fn apply(&mut self, op: Op) {
            match op {
                Op::Node(n) => _ = self.nodes.insert(n, ()),
                Op::NodeGone(n) => _ = self.nodes.remove(n),
                Op::Assume(p, n) => _ = self.pods.insert(p, (n, Belief::Assumed)),
                Op::Bound(p) => {
                    if let Some((_, belief @ Belief::Assumed)) = self.pods.get_mut(p) {
                        *belief = Belief::Bound { confirm_by: at(CONFIRM_WITHIN.as_secs()) };
                    }
                }
                Op::Forget(p) => {
                    if self.pods.get(p).is_some_and(|(_, b)| *b != Belief::Confirmed) {
                        self.pods.remove(p);
                    }
                }
                Op::Seen(p, n) => _ = self.pods.insert(p, (n, Belief::Confirmed)),
                Op::Gone(p) => _ = self.pods.remove(p),
                Op::Later => self.pods.retain(|_, (_, b)| !matches!(b, Belief::Bound { .. })),
            }
        }
    }

    fn line(name: &str, on: &str) -> String {
        format!("pod {name} on={on} cpu={} port=80", if name == "p" { 1 } else { 2 })
    }

    fn apply(cache: &mut Cache, op: Op) {
        match op {
            Op::Node(n) => _ = cache.put_node(node(&format!("node {n}"))),
            Op::NodeGone(n) => _ = cache.remove_node(n),
            Op::Assume(p, n) => cache.assume(&pod(&line(p, n)), &n.into()),
            Op::Bound(p) => cache.bound(&p.into(), at(0)),
            Op::Forget(p) => _ = cache.forget(&p.into()),
            Op::Seen(p, n) => _ = cache.put_pod(pod(&line(p, n))),
            Op::Gone(p) => _ = cache.remove_pod(&p.into()),
            Op::Later => _ = cache.expire(at(HOUR)),
        }
    }

    fn agree(cache: &Cache, model: &Model, history: &[Op]) {
        assert_eq!(cache.snapshot.len(), model.nodes.len(), "{history:?}");
        for name in model.nodes.keys() {
            let node = cache.snapshot.node(name).unwrap_or_else(|| panic!("no node {name}: {history:?}"));
            let mut here: Vec<&str> = node.pods.iter().map(|p| &*p.name).collect();
            here.sort_unstable();
            let expected: Vec<&str> = model.pods.iter().filter(|(_, (n, _))| n == name).map(|(p, _)| *p).collect();
            assert_eq!(here, expected, "on {name}: {history:?}");
            let cpu: i64 = expected.iter().map(|p| if *p == "p" { 1_000 } else { 2_000 }).sum();
            assert_eq!((node.requested.milli_cpu, node.ports.len()), (cpu, expected.len()), "{history:?}");
        }
        let assumed = model.pods.iter().filter(|(_, (_, b))| *b != Belief::Confirmed);
        assert_eq!(cache.sizes(), (model.pods.len(), assumed.count()), "{history:?}");
        for (name, (on, belief)) in &model.pods {
            let placed = &cache.pods[*name];
            assert_eq!((placed.node.as_str(), placed.belief), (*on, *belief), "{history:?}");
        }
    }

    #[test]
    fn every_short_history_agrees_with_the_model() {
        fn explore(history: &mut Vec<Op>, depth: usize) {
            let (mut cache, mut model) = (Cache::default(), Model::default());
            for op in history.iter() {
                apply(&mut cache, *op);
                model.apply(*op);
            }
            agree(&cache, &model, history);
            if depth > 0 {
                for op in OPS {
                    history.push(op);
                    explore(history, depth - 1);
                    history.pop();
                }
            }
        }
        explore(&mut Vec::new(), 3);
        // Deeper where it is interesting: both nodes are there, and a pod is assumed and bound.
        explore(&mut vec![Op::Node("a"), Op::Node("b"), Op::Assume("p", "a"), Op::Bound("p")], 3);
    }

    #[test]
    fn a_confirmation_is_told_from_a_surprise() {
        let mut cache = Cache::default();
        cache.put_node(node("node a"));
        cache.assume(&pod("pod p"), &"a".into());
        assert!(matches!(cache.put_pod(pod("pod p on=a")), Some(Seen::Confirmed)));
        cache.assume(&pod("pod q"), &"a".into());
        assert!(matches!(cache.put_pod(pod("pod q on=b")), Some(Seen::Changed(_))));
        assert!(matches!(cache.put_pod(pod("pod r on=b")), Some(Seen::Added)));
    }
}
