//! The scheduler's mind: what it is told goes in, what is to be done comes out.
//!
//! [`Scheduler::observe`] and [`Scheduler::step`] are synchronous and know neither clock nor network, so whole histories can
//! be played in tests. Doing is `execute.rs`' part; what came of it returns as an observation.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cache::{Cache, Seen};
use crate::cluster_event::ClusterEvent;
use crate::cycle::{Chance, Decision, schedule};
use crate::diagnosis::Diagnosis;
use crate::identity::{NodeName, Uid};
use crate::node::NodeFacts;
use crate::observation::{Binding, Change, Key, Observation};
use crate::plugins::Plugin;
use crate::pod::Pod;
use crate::preempt::{self, Budget, Outcome, Plan};
use crate::queue::{Lengths, Queue, Waiting};

/// Something to be done in the cluster.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Bind the pod to the node; answered by [`Observation::Bound`].
    Bind {
        /// The pod.
        pod: Arc<Pod>,
        /// The node.
        node: NodeName,
    },
    /// Say that the pod was placed.
    Scheduled {
        /// The pod.
        pod: Arc<Pod>,
        /// Its node.
        node: NodeName,
    },
    /// Say in the pod's condition `PodScheduled`, and in an event when there is one for the reason, why it has no node.
    Explain {
        /// The pod.
        pod: Arc<Pod>,
        /// The condition's reason.
        reason: Reason,
        /// The whole story.
        message: String,
        /// What `status.nominatedNodeName` is to be; `None` leaves it alone.
        nominate: Option<Option<NodeName>>,
    },
    /// Room is not made for this pod any more, by a more important one: clear `status.nominatedNodeName`.
    Withdraw(Arc<Pod>),
    /// Evict the victims; answered by [`Observation::Evicted`].
    Evict {
        /// For whom.
        pod: Arc<Pod>,
        /// Whom, and where.
        plan: Plan,
    },
}

/// Why a pod has no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It fits nowhere.
    Unschedulable,
    /// It waits for its scheduling gates.
    SchedulingGated,
    /// Something went wrong.
    SchedulerError,
}

impl Reason {
    /// As in the condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::SchedulingGated => "SchedulingGated",
            Self::SchedulerError => "SchedulerError",
        }
    }
}

/// What came of an attempt, named as in upstream's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// The pod was placed.
    Scheduled,
    /// It fits nowhere.
    Unschedulable,
    /// Something went wrong.
    Error,
}

const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// The scheduler.
pub struct Scheduler {
    name: Arc<str>,
    plugins: &'static [&'static dyn Plugin],
    cache: Cache,
    queue: Queue,
    budgets: HashMap<Key, Budget>,
    /// Pods whose binding is under way.
    binding: HashMap<Uid, Waiting>,
    /// Where the next search for nodes starts.
    start: usize,
}

impl Scheduler {
    /// A scheduler for pods that name `name` as theirs.
    #[must_use]
    pub fn new(name: &str, plugins: &'static [&'static dyn Plugin]) -> Self {
        Self {
            name: name.into(),
            plugins,
            cache: Cache::default(),
            queue: Queue::new(plugins),
            budgets: HashMap::new(),
            binding: HashMap::new(),
            start: 0,
        }
    }

    /// Takes in what happened.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) -> Vec<Effect> {
        match observation {
            Observation::Pod(Change::Put(_, pod)) => return self.pod_seen(pod, now),
            Observation::Pod(Change::Gone(uid)) => self.pod_gone(&uid, now),
            Observation::Pod(Change::Listed(uids)) => {
                let known = self.queue.uids().chain(self.cache.uids());
                let gone: Vec<Uid> = known.filter(|uid| !uids.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.pod_gone(uid, now));
            }
            Observation::Node(Change::Put(_, facts)) => self.node_seen(facts, now),
            Observation::Node(Change::Gone(name)) => self.node_gone(&name, now),
            Observation::Node(Change::Listed(names)) => {
                let known = self.cache.snapshot().nodes().map(|n| n.name().clone());
                let gone: Vec<NodeName> = known.filter(|name| !names.contains(name)).collect();
                gone.iter().for_each(|name| self.node_gone(name, now));
            }
            Observation::Namespace(Change::Put(name, labels)) => {
                if self.cache.snapshot_mut().put_namespace(&name, Some(labels.clone())) {
                    self.queue.on(&ClusterEvent::NamespaceChanged { name: &name, labels: &labels }, now);
                }
            }
            Observation::Namespace(Change::Gone(name)) => _ = self.cache.snapshot_mut().put_namespace(&name, None),
            Observation::Namespace(Change::Listed(names)) => self.cache.snapshot_mut().retain_namespaces(&names),
            Observation::Budget(change) => take_in(&mut self.budgets, change),
            Observation::Service(change) => self.cache.snapshot_mut().groups_mut().service(change),
            Observation::Controller(plural, change) => self.cache.snapshot_mut().groups_mut().controller(plural, change),
            Observation::Bound(uid, outcome) => return self.bound(&uid, outcome, now),
            Observation::Evicted { uid, failed } => self.queue.release(&uid, failed, now),
        }
        Vec::new()
    }

    /// Whether [`Scheduler::step`] has a pod to look at.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.queue.is_ready(now)
    }

    /// Looks at the next pod. `random` settles what is left to chance.
    pub fn step(&mut self, random: u64, now: Timestamp) -> Option<(Attempt, Vec<Effect>)> {
        let waiting = self.queue.pop(now)?;
        let pod = waiting.pod.clone();
        if let Some(why) = &pod.invalid {
            let effects = vec![explain(&pod, Reason::SchedulerError, why.clone(), None)];
            self.queue.fail(waiting, now);
            return Some((Attempt::Error, effects));
        }
        match schedule(self.plugins, &pod, self.cache.snapshot(), Chance { start: self.start, tie: random }) {
            Decision::Place { node, evaluated } => {
                self.start = (self.start + evaluated) % self.cache.snapshot().len().max(1);
                self.cache.nominate(&pod, None);
                self.cache.assume(&pod, &node);
                if let Some(uid) = pod.uid.clone() {
                    self.binding.insert(uid, waiting);
                }
                Some((Attempt::Scheduled, vec![Effect::Bind { pod, node }]))
            }
            Decision::Refuse(diagnosis) => Some((Attempt::Unschedulable, self.refuse(waiting, diagnosis, random, now))),
        }
    }

    /// Moves on what only waited for time to pass.
    pub fn advance(&mut self, now: Timestamp) {
        self.queue.advance(now);
        for pod in self.cache.expire(now) {
            tracing::warn!(namespace = &*pod.namespace, name = &*pod.name, "the watch never confirmed a binding; its room is free again");
            self.queue.on(&ClusterEvent::AssignedPodGone(&pod), now);
        }
    }

    /// When [`Scheduler::advance`] will next have something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.queue.next_wake().into_iter().chain(self.cache.next_expiry()).min()
    }

    /// How many pods wait where.
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        self.queue.lengths()
    }

    /// Nodes, pods on nodes, and how many of these are only assumed.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (pods, assumed) = self.cache.sizes();
        (self.cache.snapshot().len(), pods, assumed)
    }

    /// The pod whose binding is under way, with its history.
    #[must_use]
    pub fn binding(&self, uid: &Uid) -> Option<&Waiting> {
        self.binding.get(uid)
    }

    fn refuse(&mut self, mut waiting: Waiting, diagnosis: Diagnosis, random: u64, now: Timestamp) -> Vec<Effect> {
        let pod = waiting.pod.clone();
        let budgets: Vec<Budget> = self.budgets.values().cloned().collect();
        let outcome = match diagnosis.nodes {
            0 => Outcome::None { message: String::new(), withdraw: true },
            _ => preempt::plan(self.plugins, &pod, self.cache.snapshot(), &diagnosis, &budgets, random),
        };
        let mut effects = Vec::new();
        match outcome {
            Outcome::None { message, withdraw } => {
                let nominate = (withdraw && pod.nominated.is_some()).then_some(None);
                if withdraw {
                    self.cache.nominate(&pod, None);
                    waiting.pod = Arc::new(Pod { nominated: None, ..(*pod).clone() });
                }
                effects.push(explain(&pod, Reason::Unschedulable, diagnosis.message(Some(&message)), nominate));
                self.queue.refuse(waiting, diagnosis.plugins, false, now);
            }
            Outcome::Evict(plan) => {
                let less = |p: &&Arc<Pod>| p.priority < pod.priority;
                for other in self.cache.snapshot().all_nominated(plan.node.as_str()).iter().filter(less).cloned().collect::<Vec<_>>() {
                    self.cache.nominate(&other, None);
                    effects.push(Effect::Withdraw(other));
                }
                let nominated = Arc::new(Pod { nominated: Some(plan.node.clone()), ..(*pod).clone() });
                self.cache.nominate(&nominated, Some(&plan.node));
                waiting.pod = nominated;
                effects.push(explain(&pod, Reason::Unschedulable, diagnosis.message(None), Some(Some(plan.node.clone()))));
                self.queue.refuse(waiting, diagnosis.plugins, true, now);
                effects.push(Effect::Evict { pod, plan });
            }
        }
        effects
    }

    fn bound(&mut self, uid: &Uid, outcome: Binding, now: Timestamp) -> Vec<Effect> {
        // A pod that was deleted meanwhile is not waited for.
        let Some(waiting) = self.binding.remove(uid) else { return Vec::new() };
        if outcome == Binding::Done {
            let node = self.cache.pod(uid).and_then(|p| p.node.clone());
            self.cache.bound(uid, now);
            return node.map(|node| Effect::Scheduled { pod: waiting.pod, node }).into_iter().collect();
        }
        // The watch may have been faster than the answer: then the pod is where the watch says.
        let Some(pod) = self.cache.forget(uid) else { return Vec::new() };
        let effects = match &outcome {
            Binding::Failed(why) => vec![explain(&waiting.pod, Reason::SchedulerError, format!("binding rejected: {why}"), None)],
            _ => Vec::new(),
        };
        if outcome != Binding::Gone {
            self.queue.fail(waiting, now);
        }
        self.queue.on(&ClusterEvent::AssignedPodGone(&pod), now);
        effects
    }

    fn pod_seen(&mut self, pod: Arc<Pod>, now: Timestamp) -> Vec<Effect> {
        let Some(uid) = pod.uid.clone() else { return Vec::new() };
        if pod.finished {
            self.pod_gone(&uid, now);
        } else if pod.node.is_some() {
            self.queue.remove(&uid);
            match self.cache.put_pod(pod.clone()) {
                Some(Seen::Added | Seen::Confirmed) => self.queue.on(&ClusterEvent::PodAssigned(&pod), now),
                Some(Seen::Changed(old)) => self.queue.on(&ClusterEvent::AssignedPodChanged { old: &old, new: &pod }, now),
                None => {}
            }
        } else if self.cache.is_assumed(&uid) {
            if let Some(waiting) = self.binding.get_mut(&uid) {
                waiting.pod = pod;
            }
        } else if pod.scheduler_name != self.name {
            // Another scheduler's.
        } else if pod.deleting {
            self.pod_gone(&uid, now);
        } else {
            self.cache.nominate(&pod, pod.nominated.as_ref());
            self.queue.put(pod.clone(), now);
            if self.queue.is_gated(&uid) {
                return vec![explain(&pod, Reason::SchedulingGated, GATED.to_owned(), None)];
            }
        }
        Vec::new()
    }

    fn pod_gone(&mut self, uid: &Uid, now: Timestamp) {
        self.binding.remove(uid);
        let waiting = self.queue.remove(uid);
        let nominated = waiting.filter(|w| w.pod.nominated.is_some()).map(|w| w.pod);
        if let Some(pod) = self.cache.remove_pod(uid).or(nominated) {
            self.queue.on(&ClusterEvent::AssignedPodGone(&pod), now);
        }
    }

    fn node_seen(&mut self, facts: Arc<NodeFacts>, now: Timestamp) {
        match self.cache.put_node(facts.clone()) {
            None => self.queue.on(&ClusterEvent::NodeAdded(&facts), now),
            Some(old) if old != facts => self.queue.on(&ClusterEvent::NodeChanged { old: &old, new: &facts }, now),
            Some(_) => {}
        }
    }

    fn node_gone(&mut self, name: &NodeName, now: Timestamp) {
        if let Some(facts) = self.cache.remove_node(name.as_str()) {
            self.queue.on(&ClusterEvent::NodeRemoved(&facts), now);
        }
    }
}

fn explain(pod: &Arc<Pod>, reason: Reason, message: String, nominate: Option<Option<NodeName>>) -> Effect {
    Effect::Explain { pod: pod.clone(), reason, message, nominate }
}

fn take_in<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, change: Change<K, V>) {
    match change {
        Change::Put(key, value) => _ = map.insert(key, value),
        Change::Gone(key) => _ = map.remove(&key),
        Change::Listed(keys) => map.retain(|key, _| keys.contains(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::PLUGINS;
    use crate::pod::DEFAULT_SCHEDULER;
    use crate::world::{self, at};
    use expect_test::{Expect, expect};
    use std::collections::HashSet;

    fn show(effect: &Effect) -> String {
        match effect {
            Effect::Bind { pod, node } => format!("bind {} to {node}", pod.name),
            Effect::Scheduled { pod, node } => format!("say that {} is on {node}", pod.name),
            Effect::Explain { pod, reason, message, nominate } => {
                let nominate = match nominate {
                    None => String::new(),
                    Some(None) => " (not nominated any more)".to_owned(),
                    Some(Some(node)) => format!(" (nominated to {node})"),
                };
                format!("{} {}: {message}{nominate}", pod.name, reason.as_str())
            }
            Effect::Withdraw(pod) => format!("{} is not nominated any more", pod.name),
            Effect::Evict { pod, plan } => {
                let victims: Vec<&str> = plan.victims.iter().map(|v| &*v.name).collect();
                format!("evict {} from {} for {}", victims.join(" "), plan.node, pod.name)
            }
        }
    }

    /// Plays a history, line by line: `node ..` and `pod ..` are seen, `gone pod p`, `gone node a`, `pods p q` (a complete list),
    /// `step` (until nothing is ready), `bound p done|gone|conflict|failed`, `evicted p ok|failed`, `after SECONDS`, `lengths`.
    fn check(history: &str, expect: Expect) {
        let mut scheduler = Scheduler::new(DEFAULT_SCHEDULER, PLUGINS);
        let (mut now, mut out) = (at(0), String::new());
        for line in history.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut effects = Vec::new();
            let mut see = |scheduler: &mut Scheduler, o: Observation| effects.extend(scheduler.observe(o, now));
            match words[..] {
                ["node", name, ..] => see(&mut scheduler, Observation::Node(Change::Put(name.into(), world::node(line)))),
                ["pod", name, ..] => see(&mut scheduler, Observation::Pod(Change::Put(name.into(), world::pod(line)))),
                ["gone", "pod", name] => see(&mut scheduler, Observation::Pod(Change::Gone(name.into()))),
                ["gone", "node", name] => see(&mut scheduler, Observation::Node(Change::Gone(name.into()))),
                ["pods", ref names @ ..] => {
                    let names: HashSet<Uid> = names.iter().map(|n| Uid::from(*n)).collect();
                    see(&mut scheduler, Observation::Pod(Change::Listed(names)));
                }
                ["step"] => {
                    while let Some((_, more)) = scheduler.step(0, now) {
                        effects.extend(more);
                    }
                }
                ["bound", name, outcome] => {
                    let outcome = match outcome {
                        "done" => Binding::Done,
                        "gone" => Binding::Gone,
                        "conflict" => Binding::Conflict,
                        why => Binding::Failed(why.to_owned()),
                    };
                    see(&mut scheduler, Observation::Bound(name.into(), outcome));
                }
                ["evicted", name, how] => see(&mut scheduler, Observation::Evicted { uid: name.into(), failed: how != "ok" }),
                ["after", seconds] => {
                    now = at(now.as_second() + seconds.parse::<i64>().expect("seconds"));
                    scheduler.advance(now);
                }
                ["lengths"] => {
                    let l = scheduler.lengths();
                    let (nodes, pods, assumed) = scheduler.sizes();
                    out.push_str(&format!(
                        "active {} backoff {} unschedulable {} gated {}; {nodes} nodes, {pods} pods, {assumed} assumed\n",
                        l.active, l.backoff, l.unschedulable, l.gated
                    ));
                }
                _ => panic!("what is {line:?}?"),
            }
            effects.iter().for_each(|e| out.push_str(&format!("{}\n", show(e))));
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn a_pod_is_bound_and_confirmed() {
        check(
            "
            node a cpu=1
            pod p cpu=1
            step
            lengths
            bound p done
            pod p on=a cpu=1
            lengths",
            expect![[r#"
                bind p to a
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 1 assumed
                say that p is on a
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn room_is_taken_from_the_moment_of_the_decision() {
        check(
            "
            node a cpu=1
            pod p cpu=1
            pod q cpu=1
            step",
            expect![[r#"
                bind p to a
                q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            "#]],
        );
    }

    #[test]
    fn the_important_go_first_then_who_waits_longer() {
        check(
            "
            pod p priority=1
            pod q priority=5
            pod r priority=1
            pod s priority=5
            node a
            step",
            expect![[r#"
                bind q to a
                bind s to a
                bind p to a
                bind r to a
            "#]],
        );
    }

    #[test]
    fn without_nodes_pods_wait_for_one() {
        check(
            "
            pod p
            step
            after 1
            node a
            step",
            expect![[r#"
                p Unschedulable: no nodes available to schedule pods
                bind p to a
            "#]],
        );
    }

    #[test]
    fn a_failed_binding_frees_the_room_and_is_tried_again_after_a_while() {
        check(
            "
            node a cpu=1
            pod p cpu=1
            step
            bound p denied
            lengths
            step
            after 1
            step",
            expect![[r#"
                bind p to a
                p SchedulerError: binding rejected: denied
                active 0 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
                bind p to a
            "#]],
        );
    }

    #[test]
    fn a_pod_bound_or_deleted_meanwhile_is_no_error() {
        check(
            "
            node a
            pod p
            pod q
            pod r
            step
            bound p gone
            bound q conflict
            pod q on=a
            gone pod r
            bound r gone
            after 10
            step
            lengths",
            expect![[r#"
                bind p to a
                bind q to a
                bind r to a
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn the_watch_may_be_faster_than_the_answer() {
        check(
            "
            node a
            pod p
            step
            pod p on=a
            bound p done
            lengths",
            expect![[r#"
                bind p to a
                say that p is on a
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn only_what_could_cure_a_refusal_wakes_the_pod() {
        check(
            r#"
            node a cpu=1 label:x=1
            pod x on=a cpu=1
            pod p cpu=1
            pod q cpu=1 spec:{"nodeSelector": {"x": "2"}}
            step
            after 20
            node a cpu=1 label:x=1 label:y=1
            lengths
            node a cpu=1 label:x=2 label:y=1
            lengths
            step
            gone pod x
            lengths
            step"#,
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
                q Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
                active 0 backoff 0 unschedulable 2 gated 0; 1 nodes, 1 pods, 0 assumed
                active 1 backoff 0 unschedulable 1 gated 0; 1 nodes, 1 pods, 0 assumed
                q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
                active 1 backoff 1 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
                bind p to a
                q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            "#]],
        );
    }

    #[test]
    fn what_nothing_wakes_is_tried_again_after_five_minutes() {
        check(
            "
            node a cpu=1
            pod p cpu=2
            step
            after 299
            lengths
            after 1
            lengths",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
                active 0 backoff 0 unschedulable 1 gated 0; 1 nodes, 0 pods, 0 assumed
                active 1 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn gated_pods_wait_for_their_gates() {
        check(
            "
            node a
            pod p gate=example.com/wait
            step
            lengths
            pod p
            step",
            expect![[r#"
                p SchedulingGated: Scheduling is blocked due to non-empty scheduling gates
                active 0 backoff 0 unschedulable 0 gated 1; 1 nodes, 0 pods, 0 assumed
                bind p to a
            "#]],
        );
    }

    #[test]
    fn room_is_made_and_kept() {
        check(
            "
            node a cpu=1
            pod low on=a cpu=1
            pod p cpu=1 priority=5
            step
            pod p cpu=1 priority=5 nominated=a
            pod low on=a cpu=1 deleting preempted
            evicted p ok
            pod q cpu=1 priority=1
            gone pod low
            after 1
            step
            bound p done",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for p
                bind p to a
                q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
                say that p is on a
            "#]],
        );
    }

    #[test]
    fn while_evictions_are_under_way_the_pod_is_not_tried() {
        check(
            "
            node a cpu=1
            pod low on=a cpu=1
            pod p cpu=1 priority=5
            step
            gone pod low
            after 5
            step
            lengths
            evicted p ok
            step",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for p
                active 0 backoff 0 unschedulable 1 gated 0; 1 nodes, 0 pods, 0 assumed
                bind p to a
            "#]],
        );
    }

    #[test]
    fn evictions_that_failed_are_tried_again() {
        check(
            "
            node a cpu=1
            pod low on=a cpu=1
            pod p cpu=1 priority=5
            step
            evicted p failed
            after 1
            step",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for p
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for p
            "#]],
        );
    }

    #[test]
    fn a_more_important_pod_takes_over_the_room_that_is_made() {
        check(
            "
            node a cpu=1
            pod low on=a cpu=1
            pod p cpu=1 priority=5
            step
            evicted p ok
            pod low on=a cpu=1 deleting preempted
            pod vip cpu=1 priority=9
            step",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for p
                p is not nominated any more
                vip Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. (nominated to a)
                evict low from a for vip
            "#]],
        );
    }

    #[test]
    fn a_nomination_is_withdrawn_when_it_became_useless() {
        check(
            "
            node a cpu=1
            pod p cpu=2 priority=5 nominated=a
            step",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling. (not nominated any more)
            "#]],
        );
    }

    #[test]
    fn pods_of_other_schedulers_and_finished_or_deleted_ones_are_left_alone() {
        check(
            "
            node a cpu=1
            pod p scheduler=mine
            pod q deleting
            pod r on=a cpu=1 phase=Succeeded
            pod s on=a cpu=1 phase=Running
            pod s on=a cpu=1 phase=Failed
            step
            lengths",
            expect![[r#"
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn after_a_new_list_what_is_missing_is_gone() {
        check(
            "
            node a
            pod p on=a
            pod q
            pod r on=a
            pods r
            step
            lengths",
            expect![[r#"
                active 0 backoff 0 unschedulable 0 gated 0; 1 nodes, 1 pods, 0 assumed
            "#]],
        );
    }

    #[test]
    fn a_binding_that_is_never_confirmed_frees_the_room_in_the_end() {
        check(
            "
            node a cpu=1
            pod p cpu=1
            step
            bound p done
            pod q cpu=1
            step
            after 900
            lengths
            step",
            expect![[r#"
                bind p to a
                say that p is on a
                q Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
                active 1 backoff 0 unschedulable 0 gated 0; 1 nodes, 0 pods, 0 assumed
                bind q to a
            "#]],
        );
    }

    #[test]
    fn pods_of_a_node_that_left_count_again_when_it_returns() {
        check(
            "
            node a cpu=1
            pod x on=a cpu=1
            gone node a
            node a cpu=1
            pod p cpu=1
            step",
            expect![[r#"
                p Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            "#]],
        );
    }

    #[test]
    fn a_spec_that_makes_no_sense_is_explained() {
        check(
            r#"
            node a
            pod p cpu=lots
            step"#,
            expect![[r#"
                p SchedulerError: quantity "lots" of cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            "#]],
        );
    }
}
