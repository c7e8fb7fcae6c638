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
mod histories;
