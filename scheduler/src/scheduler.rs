//! The scheduler's mind: what it is told goes in, what is to be done comes out.
//!
//! [`Scheduler::observe`] and [`Scheduler::step`] are synchronous and know neither clock nor network, so whole histories can
//! be played in tests. Doing is `execute.rs`' part; what came of it returns as an observation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cache::{Cache, Seen};
use crate::cluster_event::{ClusterEvent, StorageEvent};
use crate::cycle::{Chance, Decision, schedule};
use crate::diagnosis::Diagnosis;
use crate::identity::{NodeName, Uid};
use crate::node::NodeFacts;
use crate::observation::{Binding, Change, Key, Observation};
use crate::plugins::Plugin;
use crate::pod::Pod;
use crate::preempt::{self, Budget, Outcome, Plan};
use crate::queue::{Lengths, Queue, Waiting};
use crate::volumes::VolumePlan;

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
    /// Ask for the volumes of a pod that has got a node; answered by [`Observation::VolumesAsked`].
    AskForVolumes {
        /// The pod.
        pod: Arc<Pod>,
        /// Its node.
        node: NodeName,
        /// What to ask for.
        plan: VolumePlan,
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

/// How long the claims of a placed pod may take to be bound; upstream's `bindTimeoutSeconds`.
const VOLUMES_WITHIN: SignedDuration = SignedDuration::from_secs(600);

/// A pod that has a node, and waits there for its claims to be bound.
#[derive(Debug)]
struct AwaitsVolumes {
    pod: Arc<Pod>,
    node: NodeName,
    claims: Vec<Key>,
    until: Timestamp,
    /// Whether everything has been asked for.
    asked: bool,
    /// Claims that have been seen with the node on them.
    selected: HashSet<Key>,
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
    /// Those of them that wait for their volumes.
    volumes: HashMap<Uid, AwaitsVolumes>,
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
            volumes: HashMap::new(),
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
            Observation::Volume(change) => {
                self.cache.snapshot_mut().volumes_mut().on_volume(change);
                self.queue.on(&ClusterEvent::Storage(StorageEvent::Volume), now);
            }
            Observation::Claim(change) => {
                let key = match &change {
                    Change::Put(key, _) | Change::Gone(key) => Some(key.clone()),
                    Change::Listed(_) => None,
                };
                self.cache.snapshot_mut().volumes_mut().on_claim(change);
                if let Some(key) = &key {
                    self.queue.on(&ClusterEvent::Storage(StorageEvent::Claim(key)), now);
                }
                return self.volumes_seen(key.as_ref(), now);
            }
            Observation::Class(change) => {
                self.cache.snapshot_mut().volumes_mut().on_class(change);
                self.queue.on(&ClusterEvent::Storage(StorageEvent::Class), now);
            }
            Observation::Limits(change) => {
                self.cache.snapshot_mut().volumes_mut().on_limits(change);
                self.queue.on(&ClusterEvent::Storage(StorageEvent::Limits), now);
            }
            Observation::VolumesAsked(uid, asked) => return self.volumes_asked(&uid, asked, now),
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
                let plan = self.cache.snapshot().node(node.as_str()).map(|n| self.cache.snapshot().volumes().choose(&pod, &n.facts));
                // The node was found fit by the same question.
                let plan = plan.and_then(Result::ok).unwrap_or_default();
                self.cache.nominate(&pod, None);
                self.cache.assume(&pod, &node);
                if let Some(uid) = pod.uid.clone() {
                    self.binding.insert(uid, waiting);
                }
                Some((Attempt::Scheduled, vec![self.place(pod, node, plan, now)]))
            }
            Decision::Refuse(diagnosis) => Some((Attempt::Unschedulable, self.refuse(waiting, diagnosis, random, now))),
        }
    }

    /// Moves on what only waited for time to pass.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        let late: Vec<Uid> = self.volumes.iter().filter(|(_, w)| w.until <= now).map(|(uid, _)| uid.clone()).collect();
        let why = "running PreBind plugin \"VolumeBinding\": binding volumes: timed out waiting for the condition";
        let effects = late.iter().flat_map(|uid| self.no_volumes(uid, why.to_owned(), now)).collect();
        self.queue.advance(now);
        for pod in self.cache.expire(now) {
            tracing::warn!(namespace = &*pod.namespace, name = &*pod.name, "the watch never confirmed a binding; its room is free again");
            self.queue.on(&ClusterEvent::AssignedPodGone(&pod), now);
        }
        effects
    }

    /// When [`Scheduler::advance`] will next have something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let volumes = self.volumes.values().map(|w| w.until).min();
        self.queue.next_wake().into_iter().chain(self.cache.next_expiry()).chain(volumes).min()
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

    /// What is done first for a pod that has got a node.
    fn place(&mut self, pod: Arc<Pod>, node: NodeName, plan: VolumePlan, now: Timestamp) -> Effect {
        let Some(uid) = pod.uid.clone().filter(|_| !plan.is_empty()) else { return Effect::Bind { pod, node } };
        self.cache.snapshot_mut().volumes_mut().give(&plan, &uid);
        let claims = plan.take.iter().map(|(_, claim)| claim).chain(&plan.provision).map(|c| c.key.clone()).collect();
        let until = now.saturating_add(VOLUMES_WITHIN).unwrap_or(Timestamp::MAX);
        self.volumes
            .insert(uid, AwaitsVolumes { pod: pod.clone(), node: node.clone(), claims, until, asked: false, selected: HashSet::new() });
        Effect::AskForVolumes { pod, node, plan }
    }

    fn volumes_asked(&mut self, uid: &Uid, asked: Result<(), String>, now: Timestamp) -> Vec<Effect> {
        let Some(waits) = self.volumes.get_mut(uid) else { return Vec::new() };
        waits.asked = true;
        match asked {
            Ok(()) => self.look_at_volumes(uid, now),
            Err(why) => self.no_volumes(uid, format!("running PreBind plugin \"VolumeBinding\": {why}"), now),
        }
    }

    /// A claim changed, or with `None` any may have.
    fn volumes_seen(&mut self, key: Option<&Key>, now: Timestamp) -> Vec<Effect> {
        let concerned = |w: &AwaitsVolumes| w.asked && key.is_none_or(|key| w.claims.contains(key));
        let uids: Vec<Uid> = self.volumes.iter().filter(|(_, w)| concerned(w)).map(|(uid, _)| uid.clone()).collect();
        uids.iter().flat_map(|uid| self.look_at_volumes(uid, now)).collect()
    }

    /// Binds a pod whose claims are all bound; gives up when one will not be, on this node.
    fn look_at_volumes(&mut self, uid: &Uid, now: Timestamp) -> Vec<Effect> {
        let Some(waits) = self.volumes.get_mut(uid) else { return Vec::new() };
        let volumes = self.cache.snapshot().volumes();
        let mut all = true;
        for key in &waits.claims {
            let claim = volumes.claim_of(key);
            all &= claim.is_some_and(|c| c.bound);
            let here = claim.is_some_and(|c| c.selected_node.as_ref() == Some(&waits.node));
            if here {
                waits.selected.insert(key.clone());
            }
            // A provisioner that cannot make the volume there takes the node off the claim again.
            let taken_off = !here && waits.selected.contains(key);
            let lost = claim.is_none_or(|c| !c.bound && (taken_off || c.selected_node.as_ref().is_some_and(|n| *n != waits.node)));
            if lost {
                let why = format!("running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC {:?}", key.1);
                return self.no_volumes(uid, why, now);
            }
        }
        if !all {
            return Vec::new();
        }
        let Some(AwaitsVolumes { pod, node, .. }) = self.volumes.remove(uid) else { return Vec::new() };
        vec![Effect::Bind { pod, node }]
    }

    /// The pod's volumes are not to be had on its node: it is tried again.
    fn no_volumes(&mut self, uid: &Uid, why: String, now: Timestamp) -> Vec<Effect> {
        self.volumes.remove(uid);
        self.cache.snapshot_mut().volumes_mut().take_back(uid);
        let Some(waiting) = self.binding.remove(uid) else { return Vec::new() };
        let Some(pod) = self.cache.forget(uid) else { return Vec::new() };
        let effects = vec![explain(&waiting.pod, Reason::SchedulerError, why, None)];
        self.queue.fail(waiting, now);
        self.queue.on(&ClusterEvent::AssignedPodGone(&pod), now);
        effects
    }

    fn bound(&mut self, uid: &Uid, outcome: Binding, now: Timestamp) -> Vec<Effect> {
        self.cache.snapshot_mut().volumes_mut().take_back(uid);
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
        if self.volumes.remove(uid).is_some() {
            self.cache.snapshot_mut().volumes_mut().take_back(uid);
        }
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
