//! Gives each pod its worker, and notices what changes in the runtime.
//!
//! Reads one enum of events; keeps no state of pods but the handles of their workers. Containers of pods that no source names are ended, but
//! only once every source has named all its pods: a kubelet that starts while the apiserver is away kills nothing.

mod resizing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cri;
use crate::kubelet::Kubelet;
use crate::pod::{Verdict, identity};
use crate::spec::{GRACE, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::worker::{Desired, Worker};

/// Everything that can wake the agent.
#[derive(Debug)]
pub enum Event {
    /// A source names this pod, in this form.
    Applied(Source, Box<Pod>),
    /// A source names it no more.
    Gone(Source, Box<Pod>),
    /// A source has named all its pods: these uids.
    Synced(Source, BTreeSet<String>),
    /// The kubelet ends a pod: uid, why, seconds.
    End(String, Verdict, i64),
    /// Look at the runtime now.
    Relist,
}

/// Where pods come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The apiserver.
    Api,
    /// Manifest files of this node.
    File,
}

/// How often the runtime is asked what there is while it does not tell of itself when a container ends.
const RELIST: Duration = Duration::from_secs(1);
/// And while it does.
const RELIST_HEARING: u32 = 10;
/// Events that may wait.
pub const QUEUE: usize = 1_024;
/// A Node that is not read within this time stays as it was.
const NODE_WITHIN: Duration = Duration::from_secs(2);
/// How often dead containers are collected (upstream's ContainerGCPeriod).
const GC: Duration = Duration::from_secs(60);
/// After how many looks at the clock resizes that wait are judged again, whatever happened (upstream: 3 minutes).
const RESIZE_RETRY: u32 = 180;

struct Handle {
    source: Source,
    desired: watch::Sender<Desired>,
}

/// What the runtime has of one pod: ids and states. Two of these differ when something happened.
type Record = Vec<(String, i32)>;

/// The agent.
pub struct Agent {
    kubelet: Arc<Kubelet>,
    handles: HashMap<String, Handle>,
    workers: JoinSet<(String, bool)>,
    synced: BTreeSet<Source>,
    wanted: BTreeSet<Source>,
    records: BTreeMap<String, Record>,
    orphans: BTreeSet<String>,
    /// The pods that want other resources than they have, and since when.
    resizes: BTreeMap<String, Timestamp>,
}

impl Agent {
    /// An agent whose pods come from `sources`.
    #[must_use]
    pub fn new(kubelet: Arc<Kubelet>, sources: impl IntoIterator<Item = Source>) -> Self {
        Self {
            kubelet,
            handles: HashMap::new(),
            workers: JoinSet::new(),
            synced: BTreeSet::new(),
            wanted: sources.into_iter().collect(),
            records: BTreeMap::new(),
            orphans: BTreeSet::new(),
            resizes: BTreeMap::new(),
        }
    }

    /// Runs until `shutdown`. Containers are left running.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) {
        let mut ticks = 0_u32;
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gc = tokio::time::interval(GC);
        gc.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = events.recv() => match event {
                    Some(Event::Relist) => self.relist().await,
                    Some(event) => self.handle(event, &shutdown).await,
                    None => break,
                },
                Some(ended) = self.workers.join_next() => self.ended(ended, &shutdown).await,
                _ = relist.tick() => {
                    ticks = ticks.wrapping_add(1);
                    let orphans = self.handles.keys().any(|u| !self.records.contains_key(u)) || !self.orphans.is_empty();
                    if orphans || ticks.is_multiple_of(RELIST_HEARING) || !self.kubelet.hears_exits.load(Ordering::Relaxed) {
                        self.relist().await;
                    }
                    if ticks.is_multiple_of(RESIZE_RETRY) {
                        self.resize(None);
                    }
                }
                () = self.kubelet.room.notified() => self.resize(None),
                _ = gc.tick() => {
                    if self.synced == self.wanted {
                        let known = self.handles.keys().chain(self.records.keys()).cloned().collect();
                        crate::gc::round(&self.kubelet, &known).await;
                    }
                }
            }
        }
        while self.workers.join_next().await.is_some() {}
    }

    async fn handle(&mut self, event: Event, shutdown: &CancellationToken) {
        match event {
            Event::Applied(source, pod) => self.apply(source, Arc::new(*pod), shutdown).await,
            Event::Gone(source, pod) => {
                let (_, _, uid) = identity(&pod);
                if let Some(handle) = self.handles.get(uid).filter(|h| h.source == source) {
                    handle.desired.send_modify(|d| {
                        d.gone = true;
                        d.pod = Arc::new(*pod);
                    });
                    self.resize(None);
                }
            }
            Event::Synced(source, uids) => {
                self.synced.insert(source);
                for (_, handle) in self.handles.iter().filter(|(uid, h)| h.source == source && !uids.contains(*uid)) {
                    handle.desired.send_modify(|d| d.gone = true);
                }
                self.resize(None);
            }
            Event::End(uid, verdict, grace) => {
                if let Some(handle) = self.handles.get(&uid) {
                    handle.desired.send_modify(|d| d.verdict = Some((verdict, grace)));
                }
            }
            Event::Relist => {}
        }
    }

    async fn apply(&mut self, source: Source, pod: Arc<Pod>, shutdown: &CancellationToken) {
        let (namespace, name, uid) = identity(&pod);
        let uid = uid.to_owned();
        if self.handles.contains_key(&uid) {
            return self.update(pod);
        }
        let verdict = self.judged(&pod).await.map(|v| (v, 0));
        if let Some((refused, _)) = &verdict {
            tracing::info!(namespace, name, reason = refused.reason, "pod refused");
            self.kubelet.events.pod(&pod, None, crate::events::Kind::Warning, &refused.reason, &refused.message);
        } else {
            self.take_in(&pod);
        }
        let pending = resizing::reported(&pod).filter(|_| self.resizes.contains_key(&uid));
        let (desired, receiver) = watch::channel(Desired { pod, gone: false, verdict, pending });
        let bell = self.kubelet.wakers.add(&uid);
        let worker = Worker::new(self.kubelet.clone(), receiver, bell).run(shutdown.clone());
        self.handles.insert(uid.clone(), Handle { source, desired });
        self.workers.spawn(async move { (uid, worker.await) });
        if !self.resizes.is_empty() {
            self.resize(None);
        }
    }

    /// Why the node does not take a pod. What it was refused for may be no more: the scheduler may have seen a label, a taint or an amount of
    /// the Node that this kubelet has not read yet, so that it is read again before a pod fails for good.
    async fn judged(&self, pod: &Arc<Pod>) -> Option<Verdict> {
        let pod = &self.kubelet.allocations.remembered(pod);
        let refused = self.admit(pod)?;
        match tokio::time::timeout(NODE_WITHIN, crate::node::reread(&self.kubelet)).await {
            Ok(Ok(())) => self.admit(pod),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a pod is judged by what the node was");
                Some(refused)
            }
            Err(_) => Some(refused),
        }
    }

    /// Whether the node takes a pod it does not run yet.
    fn admit(&self, pod: &Pod) -> Option<Verdict> {
        let (_, _, uid) = identity(pod);
        let status = pod.status.as_ref();
        let settled = crate::pod::is_terminal(status.and_then(|s| s.phase.as_deref())) || pod.metadata.deletion_timestamp.is_some();
        // What runs here already was taken before.
        if settled || self.records.contains_key(uid) || status.is_some_and(|s| s.start_time.is_some()) {
            return None;
        }
        crate::admission::admit(pod, &self.others(uid), &self.kubelet.node.load(), &self.kubelet.flags.allowed_unsafe_sysctls)
    }

    /// The pods that the node has taken beside this one, with what they have of it.
    fn others(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.handles
            .iter()
            .filter(|(other, _)| *other != uid)
            .map(|(_, h)| h.desired.borrow())
            // One that its source names no more has given its place away, though its containers may still be ending.
            .filter(|d| d.verdict.is_none() && !d.gone)
            .map(|d| d.pod.clone())
            .filter(|p| !self.kubelet.pods.get(identity(p).2).is_some_and(|k| crate::pod::is_terminal(k.status.phase.as_deref())))
            .map(|p| self.kubelet.allocations.get(identity(&p).2).map_or_else(|| p.clone(), |a| a.counted(&p)))
            .collect()
    }

    async fn ended(&mut self, ended: Result<(String, bool), tokio::task::JoinError>, shutdown: &CancellationToken) {
        match ended {
            Ok((uid, true)) => {
                self.handles.remove(&uid);
                self.kubelet.wakers.remove(&uid);
                self.kubelet.pods.remove(&uid);
                self.kubelet.prober.forget(&uid);
                self.kubelet.statuses.forget(&uid);
                self.kubelet.allocations.forget(&uid);
                self.resizes.remove(&uid);
                self.resize(None);
            }
            Ok((_, false)) => {}
            Err(error) => {
                // One pod that panics does not stop the others; it gets a new worker.
                tracing::error!(%error, "a pod's worker failed");
                let alive: BTreeSet<String> = self.kubelet.wakers.alive();
                let lost: Vec<String> =
                    self.handles.iter().filter(|(u, h)| alive.contains(*u) && h.desired.is_closed()).map(|(u, _)| u.clone()).collect();
                for uid in lost {
                    if let Some(handle) = self.handles.remove(&uid) {
                        let pod = handle.desired.borrow().pod.clone();
                        self.apply(handle.source, pod, shutdown).await;
                    }
                }
            }
        }
    }

    /// Asks the runtime what there is, wakes the workers of pods of which something changed, ends what nobody wants.
    async fn relist(&mut self) {
        let listed = async {
            let sandboxes = self.kubelet.runtime.list_pod_sandboxes(None).await?;
            let containers = self.kubelet.runtime.list_containers(None).await?;
            Ok::<_, crate::runtime::Error>((sandboxes, containers))
        };
        let (sandboxes, containers) = match listed.await {
            Ok(listed) => listed,
            Err(error) => return tracing::debug!(%error, "the runtime could not be asked what there is"),
        };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let ready = sandboxes.iter().filter(|s| s.state == i32::from(cri::PodSandboxState::SandboxReady));
        let running = containers.iter().filter(|c| c.state == i32::from(cri::ContainerState::ContainerRunning));
        self.kubelet.running_pods.set(count(ready.count()));
        self.kubelet.running_containers.set(count(running.count()));
        let records = records(&sandboxes, &containers);
        for uid in records.keys().chain(self.records.keys()) {
            if records.get(uid) != self.records.get(uid) {
                self.kubelet.wakers.wake(uid);
            }
        }
        self.records = records;
        if self.synced == self.wanted {
            self.end_orphans(&sandboxes, &containers);
        }
    }

    /// Ends pods that the runtime has and no source names, by a worker as for any other: from labels alone.
    fn end_orphans(&mut self, sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) {
        let orphans: BTreeSet<String> = self.records.keys().filter(|uid| !self.handles.contains_key(*uid)).cloned().collect();
        // A pod is an orphan when two looks in a row say so: its name may just be on its way.
        for uid in orphans.intersection(&self.orphans) {
            let labels = sandboxes.iter().map(|s| &s.labels).chain(containers.iter().map(|c| &c.labels));
            let Some(labels) = labels.into_iter().find(|l| l.get(POD_UID) == Some(uid)) else { continue };
            let label = |key: &str| labels.get(key).cloned();
            let grace =
                containers.iter().filter(|c| c.labels.get(POD_UID) == Some(uid)).find_map(|c| c.annotations.get(GRACE)?.parse().ok());
            let mut pod = Pod { spec: Some(k8s_openapi::api::core::v1::PodSpec::default()), ..Pod::default() };
            pod.metadata.uid = Some(uid.clone());
            pod.metadata.name = label(POD_NAME);
            pod.metadata.namespace = label(POD_NAMESPACE);
            pod.metadata.deletion_grace_period_seconds = grace;
            tracing::info!(namespace = label(POD_NAMESPACE), name = label(POD_NAME), uid, "ending a pod that nobody names any more");
            let (desired, receiver) = watch::channel(Desired { pod: Arc::new(pod), gone: true, verdict: None, pending: None });
            let bell = self.kubelet.wakers.add(uid);
            let worker = Worker::new(self.kubelet.clone(), receiver, bell).silent().run(self.kubelet.shutdown.clone());
            self.handles.insert(uid.clone(), Handle { source: Source::File, desired });
            let uid = uid.clone();
            self.workers.spawn(async move { (uid, worker.await) });
        }
        self.orphans = orphans;
    }
}

fn records(sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) -> BTreeMap<String, Record> {
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    let all = sandboxes.iter().map(|s| (&s.labels, &s.id, s.state)).chain(containers.iter().map(|c| (&c.labels, &c.id, c.state)));
    for (labels, id, state) in all {
        if let Some(uid) = labels.get(POD_UID) {
            records.entry(uid.clone()).or_default().push((id.clone(), state));
        }
    }
    for record in records.values_mut() {
        record.sort();
    }
    records
}

#[cfg(test)]
mod tests;
