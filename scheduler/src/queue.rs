//! Pods that wait for a node: each is in exactly one place, and something brings it back from every place.
//!
//! ```text
//!  add ──► active ──pop──► (with the caller) ──refuse──► unschedulable ──event that could cure it, or 5 min──► back-off or active
//!    └──► gated            └──fail (an error)──► back-off ──its time has come──► active
//! ```
//! Higher priority goes first, then who waits longer. The queue knows no clock: time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cluster_event::ClusterEvent;
use crate::identity::Uid;
use crate::plugins::{Plugin, by_name};
use crate::pod::Pod;

/// The first back-off after a failed attempt; it doubles with each.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
/// The longest back-off.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// A pod that was refused is tried again after this long, whatever happened meanwhile.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// A pod with the history of its attempts.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The pod.
    pub pod: Arc<Pod>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it first came.
    pub since: Timestamp,
    /// The plugins that refused it the last time; empty after an error.
    pub refused_by: BTreeSet<&'static str>,
    /// When it was last tried.
    pub tried: Timestamp,
    turn: u64,
    place: Place,
}

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To be tried next.
    Active,
    /// To be tried when its time has come; `early` also when nothing else is to be done.
    Backoff { until: Timestamp, early: bool },
    /// Refused; to be tried when something happens that may cure that.
    Unschedulable { until: Timestamp },
    /// As before, but what would cure it is under way by our own hand: it is kept until that is done. `missed` is whether
    /// something happened meanwhile.
    Held { missed: bool },
    /// Not to be tried before somebody changes the pod.
    Gated,
}

/// How many pods wait where, named as in upstream's metric `scheduler_pending_pods`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    /// To be tried next.
    pub active: usize,
    /// Backing off.
    pub backoff: usize,
    /// Refused.
    pub unschedulable: usize,
    /// Behind scheduling gates.
    pub gated: usize,
}

/// The queue.
pub struct Queue {
    plugins: &'static [&'static dyn Plugin],
    pods: HashMap<Uid, Waiting>,
    active: BTreeSet<(Reverse<i32>, u64, Uid)>,
    backoff: BTreeSet<(Timestamp, u64, Uid)>,
    unschedulable: BTreeSet<(Timestamp, u64, Uid)>,
    held: BTreeSet<Uid>,
    gated: BTreeSet<Uid>,
    turn: u64,
}

impl Queue {
    /// An empty queue. `plugins` say which pods may be tried and what cures a refusal.
    #[must_use]
    pub fn new(plugins: &'static [&'static dyn Plugin]) -> Self {
        Self {
            plugins,
            pods: HashMap::new(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            held: BTreeSet::new(),
            gated: BTreeSet::new(),
            turn: 0,
        }
    }

    /// A pod came, or changed. A change that may matter brings a refused pod back.
    pub fn put(&mut self, pod: Arc<Pod>, now: Timestamp) {
        let Some(uid) = pod.uid.clone() else { return };
        let Some(mut old) = self.take(&uid) else {
            let place = self.first_place(&pod);
            let (since, refused_by) = (now, BTreeSet::new());
            let waiting = Waiting { pod, attempts: 0, since, refused_by, tried: now, turn: self.next_turn(), place };
            return self.insert(waiting);
        };
        let changed = old.pod.shape != pod.shape;
        old.pod = pod;
        old.place = match old.place {
            Place::Gated => self.first_place(&old.pod),
            Place::Unschedulable { .. } | Place::Held { .. } if changed => self.retry_place(&old, now),
            place => place,
        };
        self.insert(old);
    }

    /// The pod needs no node any more.
    pub fn remove(&mut self, uid: &Uid) -> Option<Waiting> {
        self.take(uid)
    }

    /// The pod to be tried now.
    pub fn pop(&mut self, now: Timestamp) -> Option<Waiting> {
        self.advance(now);
        let early = || self.backoff.iter().map(|(.., uid)| uid).find(|uid| self.may_go_early(uid)).cloned();
        let uid = self.active.first().map(|(.., uid)| uid.clone()).or_else(early)?;
        let mut waiting = self.take(&uid)?;
        waiting.attempts = waiting.attempts.saturating_add(1);
        waiting.tried = now;
        Some(waiting)
    }

    /// Whether [`Queue::pop`] would give a pod.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        !self.active.is_empty() || self.backoff.iter().any(|(until, _, uid)| *until <= now || self.may_go_early(uid))
    }

    /// Gives back a popped pod that these plugins refused. `hold` keeps it until [`Queue::release`].
    pub fn refuse(&mut self, mut waiting: Waiting, plugins: BTreeSet<&'static str>, hold: bool, now: Timestamp) {
        waiting.refused_by = plugins;
        waiting.turn = self.next_turn();
        waiting.place = if hold { Place::Held { missed: false } } else { Place::Unschedulable { until: later(now, LONGEST_WAIT) } };
        self.insert(waiting);
    }

    /// Gives back a popped pod whose attempt ended in an error.
    pub fn fail(&mut self, mut waiting: Waiting, now: Timestamp) {
        waiting.refused_by = BTreeSet::new();
        waiting.turn = self.next_turn();
        waiting.place = Place::Backoff { until: later(now, backoff(waiting.attempts)), early: false };
        self.insert(waiting);
    }

    /// What a held pod was held for is done; `again` tries it at once.
    pub fn release(&mut self, uid: &Uid, again: bool, now: Timestamp) {
        let Some(mut waiting) = self.take(uid) else { return };
        waiting.place = match waiting.place {
            Place::Held { missed } if missed || again => self.retry_place(&waiting, now),
            Place::Held { .. } => Place::Unschedulable { until: later(now, LONGEST_WAIT) },
            place => place,
        };
        self.insert(waiting);
    }

    /// Brings back the pods whose refusal `event` may cure.
    pub fn on(&mut self, event: &ClusterEvent<'_>, now: Timestamp) {
        let cured = |uid: &&Uid| {
            let waiting = &self.pods[*uid];
            waiting.refused_by.is_empty() || self.plugins_of(waiting).any(|p| p.cured_by(&waiting.pod, event))
        };
        let refused = self.unschedulable.iter().map(|(.., uid)| uid).chain(&self.held);
        let cured: Vec<Uid> = refused.filter(cured).cloned().collect();
        for uid in cured {
            let Some(mut waiting) = self.take(&uid) else { continue };
            waiting.place = match waiting.place {
                Place::Held { .. } => Place::Held { missed: true },
                _ => self.retry_place(&waiting, now),
            };
            self.insert(waiting);
        }
    }

    /// Moves on what only waited for time to pass.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some((until, _, uid)) = self.backoff.first().cloned()
            && until <= now
        {
            self.replace(&uid, |_, _| Place::Active);
        }
        while let Some((until, _, uid)) = self.unschedulable.first().cloned()
            && until <= now
        {
            self.replace(&uid, |queue, waiting| queue.retry_place(waiting, now));
        }
    }

    /// When [`Queue::advance`] will next have something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, u64, Uid)>| set.first().map(|(at, ..)| *at);
        first(&self.backoff).into_iter().chain(first(&self.unschedulable)).min()
    }

    /// How many pods wait where.
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        Lengths {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len() + self.held.len(),
            gated: self.gated.len(),
        }
    }

    /// Whether the pod waits behind a gate.
    #[must_use]
    pub fn is_gated(&self, uid: &Uid) -> bool {
        self.gated.contains(uid)
    }

    /// The uids of all pods that wait here.
    pub fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.pods.keys()
    }

    fn plugins_of(&self, waiting: &Waiting) -> impl Iterator<Item = &'static dyn Plugin> {
        waiting.refused_by.iter().filter_map(|name| by_name(self.plugins, name))
    }

    fn may_go_early(&self, uid: &Uid) -> bool {
        self.pods.get(uid).is_some_and(|w| matches!(w.place, Place::Backoff { early: true, .. }))
    }

    fn first_place(&self, pod: &Pod) -> Place {
        if self.plugins.iter().any(|p| p.pre_enqueue(pod).is_err()) { Place::Gated } else { Place::Active }
    }

    /// Where a pod goes that is to be tried again: it keeps its distance from the last attempt.
    fn retry_place(&self, waiting: &Waiting, now: Timestamp) -> Place {
        match self.first_place(&waiting.pod) {
            Place::Active if waiting.attempts > 0 => {
                let until = later(waiting.tried, backoff(waiting.attempts));
                if until > now { Place::Backoff { until, early: true } } else { Place::Active }
            }
            place => place,
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn replace(&mut self, uid: &Uid, place: impl FnOnce(&Self, &Waiting) -> Place) {
        if let Some(mut waiting) = self.take(uid) {
            waiting.place = place(self, &waiting);
            self.insert(waiting);
        }
    }

    fn insert(&mut self, waiting: Waiting) {
        let Some(uid) = waiting.pod.uid.clone() else { return };
        match waiting.place {
            Place::Active => _ = self.active.insert((Reverse(waiting.pod.priority), waiting.turn, uid.clone())),
            Place::Backoff { until, .. } => _ = self.backoff.insert((until, waiting.turn, uid.clone())),
            Place::Unschedulable { until } => _ = self.unschedulable.insert((until, waiting.turn, uid.clone())),
            Place::Held { .. } => _ = self.held.insert(uid.clone()),
            Place::Gated => _ = self.gated.insert(uid.clone()),
        }
        self.pods.insert(uid, waiting);
    }

    fn take(&mut self, uid: &Uid) -> Option<Waiting> {
        let waiting = self.pods.remove(uid)?;
        match waiting.place {
            Place::Active => _ = self.active.remove(&(Reverse(waiting.pod.priority), waiting.turn, uid.clone())),
            Place::Backoff { until, .. } => _ = self.backoff.remove(&(until, waiting.turn, uid.clone())),
            Place::Unschedulable { until } => _ = self.unschedulable.remove(&(until, waiting.turn, uid.clone())),
            Place::Held { .. } => _ = self.held.remove(uid),
            Place::Gated => _ = self.gated.remove(uid),
        }
        Some(waiting)
    }
}

fn backoff(attempts: u32) -> SignedDuration {
    let doublings = attempts.saturating_sub(1).min(8);
    (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF)
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::PLUGINS;
    use crate::world::{at, node, pod};

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Put(&'static str),
        Remove(&'static str),
        PopAndRefuse,
        PopAndHold,
        PopAndFail,
        Release(&'static str),
        NodeAdded,
        After(i64),
    }

    const OPS: [Op; 11] = [
        Op::Put("pod p"),
        Op::Put("pod p label:x=y"),
        Op::Put("pod q priority=5"),
        Op::Put("pod g gate=x"),
        Op::Remove("p"),
        Op::PopAndRefuse,
        Op::PopAndHold,
        Op::PopAndFail,
        Op::Release("q"),
        Op::NodeAdded,
        Op::After(5),
    ];

    const REFUSED_BY: &str = "NodeResourcesFit";

    fn apply(queue: &mut Queue, now: &mut Timestamp, op: Op) {
        match op {
            Op::Put(line) => queue.put(pod(line), *now),
            Op::Remove(name) => _ = queue.remove(&name.into()),
            Op::PopAndRefuse | Op::PopAndHold | Op::PopAndFail => {
                let most = queue.active.first().map(|(Reverse(priority), ..)| *priority);
                let Some(waiting) = queue.pop(*now) else { return };
                assert!(most.is_none_or(|most| waiting.pod.priority >= most));
                assert!(waiting.pod.gates.is_empty(), "a gated pod was tried");
                match op {
                    Op::PopAndFail => queue.fail(waiting, *now),
                    _ => queue.refuse(waiting, BTreeSet::from([REFUSED_BY]), matches!(op, Op::PopAndHold), *now),
                }
            }
            Op::Release(name) => queue.release(&name.into(), false, *now),
            Op::NodeAdded => queue.on(&ClusterEvent::NodeAdded(&node("node n")), *now),
            Op::After(seconds) => {
                *now = later(*now, SignedDuration::from_secs(seconds));
                queue.advance(*now);
            }
        }
    }

    /// Each pod is in exactly one place, and nothing is forgotten: what is not gated or held can be popped in the end.
    fn check(queue: &mut Queue, now: Timestamp, history: &[Op]) {
        let l = queue.lengths();
        assert_eq!(l.active + l.backoff + l.unschedulable + l.gated, queue.pods.len(), "{history:?}");
        let waiting: BTreeSet<Uid> =
            queue.pods.keys().filter(|uid| !queue.gated.contains(*uid) && !queue.held.contains(*uid)).cloned().collect();
        assert_eq!(waiting.is_empty(), queue.next_wake().is_none() && !queue.is_ready(now), "{history:?}");
        let in_the_end = later(now, LONGEST_WAIT + LONGEST_BACKOFF);
        queue.advance(later(now, LONGEST_WAIT));
        let mut popped = BTreeSet::new();
        while let Some(waiting) = queue.pop(in_the_end) {
            popped.extend(waiting.pod.uid.clone());
        }
        assert_eq!(popped, waiting, "{history:?}");
    }

    #[test]
    fn no_short_history_loses_a_pod() {
        fn explore(history: &mut Vec<Op>, depth: usize) {
            let (mut queue, mut now) = (Queue::new(PLUGINS), at(0));
            history.iter().for_each(|op| apply(&mut queue, &mut now, *op));
            check(&mut queue, now, history);
            if depth > 0 {
                for op in OPS {
                    history.push(op);
                    explore(history, depth - 1);
                    history.pop();
                }
            }
        }
        explore(&mut Vec::new(), 3);
        explore(&mut vec![Op::Put("pod p"), Op::Put("pod q priority=5")], 3);
    }

    /// When the pod is tried, if every attempt fails and `op` happens each second.
    fn attempts(line: &str, end: Op, each_second: Option<Op>) -> Vec<i64> {
        let (mut queue, mut now) = (Queue::new(PLUGINS), at(0));
        queue.put(pod(line), now);
        let mut tried = Vec::new();
        for second in 0..60 {
            now = at(second);
            queue.advance(now);
            if !queue.active.is_empty() {
                tried.push(second);
                apply(&mut queue, &mut now, end);
            }
            if let Some(op) = each_second {
                apply(&mut queue, &mut now, op);
            }
        }
        tried
    }

    #[test]
    fn the_back_off_doubles_from_one_second_to_ten() {
        let expected = [0, 1, 3, 7, 15, 25, 35, 45, 55];
        assert_eq!(attempts("pod p", Op::PopAndFail, None), expected);
        assert_eq!(attempts("pod p", Op::PopAndRefuse, Some(Op::NodeAdded)), expected);
        assert_eq!(attempts("pod p", Op::PopAndRefuse, None), [0]);
    }

    #[test]
    fn a_refused_pod_goes_early_when_nothing_else_waits_but_a_failed_one_does_not() {
        let mut queue = Queue::new(PLUGINS);
        let mut now = at(0);
        queue.put(pod("pod p"), now);
        apply(&mut queue, &mut now, Op::PopAndRefuse);
        assert!(!queue.is_ready(now));
        apply(&mut queue, &mut now, Op::NodeAdded);
        assert_eq!((queue.lengths().backoff, queue.is_ready(now)), (1, true));
        apply(&mut queue, &mut now, Op::PopAndFail);
        assert_eq!((queue.lengths().backoff, queue.is_ready(now)), (1, false));
    }

    #[test]
    fn a_status_change_does_not_bring_a_refused_pod_back_but_a_change_of_the_pod_does() {
        let mut queue = Queue::new(PLUGINS);
        let mut now = at(0);
        queue.put(pod("pod p cpu=1"), now);
        apply(&mut queue, &mut now, Op::PopAndRefuse);
        queue.put(pod("pod p cpu=1 nominated=a"), now);
        assert_eq!(queue.lengths().unschedulable, 1);
        queue.put(pod("pod p cpu=1 label:a=b"), now);
        assert_eq!(queue.lengths().unschedulable, 0);
    }
}
