//! One worker a pod: observe, plan, do, report; again when something happens.
//!
//! `Sync`: the pod is to run. `Terminating`: its containers are being ended. `Terminated`: nothing of it runs; what it used is given back.
//! It only ever moves forward. The worker owns what must be remembered between two looks: back-offs and failures.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::{Kind, container_path};
use crate::kubelet::Kubelet;
use crate::pod::backoff::Backoff;
use crate::pod::resize::{Pending, Resize};
use crate::pod::{self, Ending, Observed, PodAction, Verdict, Waiting, grace_seconds, identity, is_terminal};
use crate::pods::Known;
use crate::{execute, observe, resizes, volumes};

/// What its source and the kubelet want of a pod.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The newest form of the pod.
    pub pod: Arc<Pod>,
    /// Its source names it no more.
    pub gone: bool,
    /// The kubelet ends it: why, and within how many seconds.
    pub verdict: Option<(Verdict, i64)>,
    /// The node has not allocated what it wants: why.
    pub pending: Option<Pending>,
}

/// How far a pod is.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// It is to run.
    Sync,
    /// Its containers are being ended.
    Terminating(Ending),
    /// Nothing of it runs, and its volumes and cgroup are gone.
    Terminated(Ending),
}

/// Looks at a pod after a failure of the runtime itself.
const RUNTIME_RETRY: Duration = Duration::from_secs(2);
/// When a step of a resize that failed is tried again.
const RESIZE_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Rounds of plan and execution before the worker takes a break: a plan that never settles must not burn CPU.
const ROUNDS: usize = 64;

/// The worker of one pod.
pub struct Worker {
    kubelet: Arc<Kubelet>,
    desired: watch::Receiver<Desired>,
    bell: Arc<Notify>,
    phase: Phase,
    status: PodStatus,
    waiting: BTreeMap<String, Waiting>,
    sandbox_failure: Option<Waiting>,
    backoff: BTreeMap<String, Backoff>,
    /// The back-offs that people were told of: once each.
    told: BTreeMap<String, Timestamp>,
    kills: HashMap<String, (Timestamp, AbortHandle)>,
    /// Containers, by id, that are ended for others to take their place.
    replacing: BTreeSet<String>,
    /// The generation whose resize is under way.
    resizing: Option<i64>,
    /// Why it does not go on.
    resize_failure: Option<Waiting>,
    tasks: TaskTracker,
    volumes_at: Timestamp,
    shown: Arc<Pod>,
    deleted: bool,
    silent: bool,
}

impl Worker {
    /// A worker for the pod that `desired` shows.
    #[must_use]
    pub fn new(kubelet: Arc<Kubelet>, desired: watch::Receiver<Desired>, bell: Arc<Notify>) -> Self {
        let pod = desired.borrow().pod.clone();
        kubelet.prober.recall(&pod);
        let status = pod.status.clone().unwrap_or_default();
        Self {
            kubelet,
            desired,
            bell,
            phase: Phase::Sync,
            status,
            waiting: BTreeMap::new(),
            sandbox_failure: None,
            backoff: BTreeMap::new(),
            told: BTreeMap::new(),
            kills: HashMap::new(),
            replacing: BTreeSet::new(),
            resizing: None,
            resize_failure: None,
            tasks: TaskTracker::new(),
            volumes_at: Timestamp::MIN,
            shown: pod,
            deleted: false,
            silent: false,
        }
    }

    /// A worker that tells nobody: for what is left of a pod that no source names any more.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Runs until the pod is gone from its source and from the node, or `shutdown`; says which: true when it is gone.
    pub async fn run(mut self, shutdown: CancellationToken) -> bool {
        loop {
            let again = tokio::select! {
                () = shutdown.cancelled() => return false,
                again = self.settle() => again,
            };
            let desired = self.desired.borrow().clone();
            if self.deleted && desired.gone {
                return true;
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                // The sender lives as long as the agent; when it ends so does shutdown.
                changed = self.desired.changed() => if changed.is_err() { return false },
                () = self.bell.notified() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Observes, plans and executes until nothing is left to do now; gives when to look again at the latest.
    async fn settle(&mut self) -> Duration {
        for _ in 0..ROUNDS {
            match self.round().await {
                Ok(None) => {}
                Ok(Some(again)) => return again,
                Err(error) => {
                    let desired = self.desired.borrow().clone();
                    let (namespace, name, _) = identity(&desired.pod);
                    tracing::warn!(namespace, name, %error, "the runtime could not be asked about the pod");
                    return RUNTIME_RETRY;
                }
            }
        }
        RUNTIME_RETRY
    }

    /// One look. `None` when something was done, so that it pays to look again at once.
    async fn round(&mut self) -> Result<Option<Duration>, crate::runtime::Error> {
        let desired = self.desired.borrow_and_update().clone();
        let allocation = self.kubelet.allocations.get(identity(&desired.pod).2);
        // The pod as it is to run here: with what is allocated to it.
        let pod = allocation.as_ref().map_or_else(|| desired.pod.clone(), |a| a.apply(&desired.pod));
        let (namespace, name, uid) = identity(&pod);
        let spec = pod.spec.clone().unwrap_or_default();
        let (sandboxes, containers) = observe::pod(&*self.kubelet.runtime, uid).await?;
        let now = self.kubelet.clock.now();
        let probes = containers.iter().map(|c| (c.id.clone(), self.kubelet.prober.results().get(&c.id))).collect();
        let mut seen = Observed {
            sandboxes,
            containers,
            probes,
            sandbox_failure: self.sandbox_failure.clone(),
            waiting: self.waiting.clone(),
            backoff: self.backoff.clone(),
            previous: self.status.clone(),
            host_ips: self.kubelet.facts.host_ips.clone(),
            ending: None,
            replacing: self.replacing.clone(),
            resize: Resize {
                under_way: allocation.as_ref().and_then(|a| a.under_way),
                failure: None,
                pending: desired.pending.clone(),
                actuated: allocation.map(|a| a.actuated).unwrap_or_default(),
                ..Resize::default()
            },
        };
        self.observe_resize(&pod, &mut seen, now).await;
        self.advance(&desired, &seen, now);
        let terminated = matches!(self.phase, Phase::Terminated(_));
        if let Phase::Terminating(ending) | Phase::Terminated(ending) = &self.phase {
            seen.ending = Some(ending.clone());
        }
        self.report(&pod, &seen, now);
        if terminated {
            return Ok(Some(self.after_end(&desired).await));
        }
        let actions = pod::plan(&pod, &seen, now);
        if actions.is_empty() && seen.ending.is_some() {
            self.give_back(&pod).await;
            let terminated = matches!(self.phase, Phase::Terminated(_));
            return Ok((!terminated).then_some(RUNTIME_RETRY));
        }
        tracing::debug!(namespace, name, ?actions, "plan");
        self.refresh_volumes(&pod, &seen, now).await;
        let mut desired = self.desired.clone();
        let ending = seen.ending.is_some();
        tokio::select! {
            biased;
            // A pod that is to end does not wait for an image.
            () = told_to_end(&mut desired, ending) => Ok(None),
            again = self.execute(&pod, &spec, &seen, actions, now) => Ok(again),
        }
    }

    /// Looks at what a resize that is under way depends on; one of which nothing is left to do is over.
    async fn observe_resize(&mut self, pod: &Arc<Pod>, seen: &mut Observed, now: Timestamp) {
        if self.resizing != seen.resize.under_way {
            (self.resizing, self.resize_failure) = (seen.resize.under_way, None);
        }
        let Some(generation) = self.resizing.filter(|_| self.phase == Phase::Sync) else { return };
        let spec = pod.spec.clone().unwrap_or_default();
        match observe::resize(&self.kubelet, pod, seen).await {
            Err(error) => self.fail_resize(pod, format!("{error:#}"), now),
            Ok(()) if pod::resize::is_in_progress(&spec, seen) => {}
            Ok(()) => self.complete_resize(pod, seen, generation),
        }
        seen.resize.failure.clone_from(&self.resize_failure);
    }

    fn complete_resize(&mut self, pod: &Pod, seen: &mut Observed, generation: i64) {
        let (namespace, name, uid) = identity(pod);
        if let Err(error) = self.kubelet.allocations.complete(uid, generation) {
            tracing::error!(namespace, name, error = format!("{error:#}"), "the end of a resize could not be written down; trying again");
            return;
        }
        let words = resizes::words("Pod resize completed", pod, Some(generation), "");
        self.kubelet.events.pod(pod, None, Kind::Normal, "ResizeCompleted", words);
        self.kubelet.room.notify_one();
        (self.resizing, self.resize_failure, seen.resize.under_way) = (None, None, None);
    }

    /// A resize does not go on for now. People are told of the first failure.
    fn fail_resize(&mut self, pod: &Pod, message: String, now: Timestamp) {
        if self.resize_failure.is_none() {
            let words = resizes::words("Pod resize error", pod, self.resizing, &message);
            self.kubelet.events.pod(pod, None, Kind::Warning, "ResizeError", words);
        }
        let retry_at = now.saturating_add(RESIZE_RETRY).unwrap_or(Timestamp::MAX);
        self.resize_failure = Some(Waiting { reason: "Error".into(), message, retry_at });
    }

    /// What came of a step of a resize.
    fn resized(&mut self, pod: &Pod, step: Result<(), String>, now: Timestamp) {
        match step {
            Ok(()) => self.resize_failure = None,
            Err(message) => self.fail_resize(pod, message, now),
        }
    }

    /// Moves the state machine.
    fn advance(&mut self, desired: &Desired, seen: &Observed, now: Timestamp) {
        let pod = &desired.pod;
        let Some(spec) = pod.spec.as_ref() else { return };
        let overdue = pod::plan::deadline(spec, seen).is_some_and(|d| d <= now);
        let verdict = match (&desired.verdict, overdue) {
            (Some(verdict), _) => Some(verdict.clone()),
            (None, true) => Some((deadline_exceeded(), grace_seconds(pod))),
            (None, false) => None,
        };
        let asked = desired.gone || pod.metadata.deletion_timestamp.is_some();
        let done = pod::phase::finished(spec, seen) || is_terminal(self.status.phase.as_deref());
        let grace = match (&verdict, asked) {
            (Some((_, grace)), false) => *grace,
            (Some((_, grace)), true) => (*grace).min(grace_seconds(pod)),
            (None, _) => grace_seconds(pod),
        };
        let deadline = now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
        match &mut self.phase {
            Phase::Sync if verdict.is_some() || asked || done => {
                if let Some((verdict, _)) = verdict.as_ref().filter(|(v, _)| v.reason == "DeadlineExceeded") {
                    self.kubelet.events.pod(pod, None, Kind::Normal, "DeadlineExceeded", &verdict.message);
                }
                self.kubelet.prober.terminating(identity(pod).2);
                self.phase = Phase::Terminating(Ending { deadline, verdict: verdict.map(|(v, _)| v) });
            }
            // A second request can only shorten the time.
            Phase::Terminating(ending) if deadline < ending.deadline => ending.deadline = deadline,
            _ => {}
        }
    }

    /// Works the status out, and tells everybody who wants to know.
    fn report(&mut self, pod: &Arc<Pod>, seen: &Observed, now: Timestamp) {
        let (_, _, uid) = identity(pod);
        self.status = pod::status(pod, seen, now);
        if self.silent {
            return;
        }
        let status = Arc::new(self.status.clone());
        self.kubelet.pods.put(uid, Known { pod: pod.clone(), status: status.clone() });
        self.kubelet.prober.observe(pod, &status);
        if !self.deleted {
            self.kubelet.statuses.set(pod, self.status.clone(), false);
        }
        // A failure to start is forgotten when the container runs.
        self.waiting.retain(|name, _| !seen.newest(name).is_some_and(|c| c.state == pod::State::Running));
    }

    /// Takes the actions. Kills run beside the worker; of the rest the first is taken, then the world is looked at again.
    async fn execute(
        &mut self,
        pod: &Arc<Pod>,
        spec: &PodSpec,
        seen: &Observed,
        actions: Vec<PodAction>,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut again = self.kubelet.flags.sync_frequency;
        let mut until = |at: Timestamp| {
            again = again.min(Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(50)))
        };
        let ips = self.status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect::<Vec<_>>();
        for action in actions {
            match action {
                PodAction::WaitUntil(at) => until(at),
                PodAction::BackOff { name, until: at } => {
                    until(at);
                    if self.told.insert(name.clone(), at) != Some(at) {
                        self.say_back_off(pod, &name);
                    }
                }
                PodAction::KillContainer { id, name, grace, why, replaced } => {
                    if replaced {
                        self.replacing.insert(id.clone());
                    }
                    self.kill(pod, id, name, grace, why, &ips, now);
                }
                PodAction::ResizePod { limits } => {
                    let done = execute::resize_pod(&self.kubelet, pod, limits);
                    self.resized(pod, done, now);
                    return None;
                }
                PodAction::ResizeContainer { id, name, resource } => {
                    let given = seen.resize.actuated.get(&name);
                    let done = execute::resize_container(&self.kubelet, pod, (&id, &name), resource, given).await;
                    self.resized(pod, done, now);
                    return None;
                }
                PodAction::FailResize { message } => {
                    self.fail_resize(pod, message, now);
                    return None;
                }
                PodAction::StopSandbox { id } => {
                    if let Err(error) = self.kubelet.runtime.stop_pod_sandbox(&id).await
                        && !error.is_not_found()
                    {
                        let words = format!(
                            "error killing pod: failed to \"KillPodSandbox\" for {:?} with KillPodSandboxError: {error}",
                            identity(pod).2
                        );
                        self.kubelet.events.pod(pod, None, Kind::Warning, "FailedKillPod", words);
                        return Some(RUNTIME_RETRY);
                    }
                    return None;
                }
                PodAction::CreateSandbox { attempt } => {
                    if attempt > 0 && self.sandbox_failure.is_none() {
                        let words = "Pod sandbox changed, it will be killed and re-created.";
                        self.kubelet.events.pod(pod, None, Kind::Normal, "SandboxChanged", words);
                    }
                    self.sandbox_failure = execute::create_sandbox(&self.kubelet, pod, attempt).await.err();
                    return None;
                }
                PodAction::StartContainer { name, attempt, after } => {
                    let sandbox = seen.usable_sandbox(spec)?;
                    let failed = execute::start_container(&self.kubelet, pod, &name, attempt, sandbox).await.err();
                    for replaced in seen.containers.iter().filter(|c| c.name == name) {
                        self.replacing.remove(&replaced.id);
                    }
                    // What never came to a container (no image, no environment) has its own time to wait.
                    let made = failed.as_ref().is_none_or(|f| matches!(f.reason.as_str(), "RunContainerError" | "PostStartHookError"));
                    if let Some(ended) = after.filter(|_| made) {
                        let next = Backoff::after(self.backoff.get(&name), ended, now);
                        self.backoff.insert(name.clone(), next);
                    }
                    match failed {
                        None => drop(self.waiting.remove(&name)),
                        Some(why) => drop(self.waiting.insert(name, why)),
                    }
                    return None;
                }
            }
        }
        Some(again)
    }

    fn say_back_off(&self, pod: &Pod, name: &str) {
        let (namespace, pod_name, uid) = identity(pod);
        let words = format!("Back-off restarting failed container {name} in pod {pod_name}_{namespace}({uid})");
        self.kubelet.events.pod(pod, container_path(pod, name), Kind::Warning, "BackOff", words);
    }

    /// Ends a container beside the worker, unless that is under way and will be done as soon.
    #[allow(clippy::too_many_arguments)]
    fn kill(&mut self, pod: &Arc<Pod>, id: String, name: String, grace: i64, why: String, ips: &[String], now: Timestamp) {
        let deadline = now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
        let slack = SignedDuration::from_secs(1);
        if let Some((under_way, task)) = self.kills.get(&id)
            && !task.is_finished()
        {
            if under_way.duration_since(deadline) <= slack {
                return;
            }
            task.abort();
        }
        let (kubelet, pod, bell, ips) = (self.kubelet.clone(), pod.clone(), self.bell.clone(), ips.to_vec());
        let container = id.clone();
        let task = self.tasks.spawn(async move {
            execute::kill_container(&kubelet, &pod, &name, &container, grace, &why, &ips).await;
            bell.notify_one();
        });
        self.kills.retain(|_, (_, task)| !task.is_finished());
        self.kills.insert(id, (deadline, task.abort_handle()));
    }

    /// Nothing runs any more: volumes and cgroup are given back.
    async fn give_back(&mut self, pod: &Arc<Pod>) {
        let (namespace, name, uid) = identity(pod);
        self.kubelet.prober.forget(uid);
        if let Err(error) = volumes::unmount(&self.kubelet.volumes, uid).await {
            tracing::warn!(namespace, name, %error, "the pod's volumes could not be unmounted; trying again");
            return;
        }
        if let Err(error) = self.kubelet.cgroups.remove(uid) {
            tracing::warn!(namespace, name, error = format!("{error:#}"), "the pod's cgroup could not be removed; trying again");
            return;
        }
        if let Phase::Terminating(ending) = &self.phase {
            self.phase = Phase::Terminated(ending.clone());
            self.kubelet.room.notify_one();
        }
    }

    /// What is left to do for a pod of which nothing runs: when it is to be deleted, its sandboxes, logs and the API object go.
    async fn after_end(&mut self, desired: &Desired) -> Duration {
        let pod = &desired.pod;
        let (namespace, name, uid) = identity(pod);
        let idle = self.kubelet.flags.sync_frequency;
        if self.deleted || !(desired.gone || pod.metadata.deletion_timestamp.is_some()) {
            return idle;
        }
        if let Err(error) = crate::gc::remove_pod(&self.kubelet, pod).await {
            tracing::warn!(namespace, name, error = daemon::describe_any(&error), "the pod's remains could not be removed; trying again");
            return RUNTIME_RETRY;
        }
        self.deleted = true;
        if desired.gone || self.silent {
            self.kubelet.statuses.forget(uid);
        } else {
            self.kubelet.statuses.set(pod, self.status.clone(), true);
        }
        idle
    }

    /// Volumes show what ConfigMaps, Secrets and tokens say now, about once a minute, and the pod's own labels and annotations at once.
    async fn refresh_volumes(&mut self, pod: &Arc<Pod>, seen: &Observed, now: Timestamp) {
        let (namespace, name, _) = identity(pod);
        let running = seen.ending.is_none() && seen.containers.iter().any(|c| c.state == pod::State::Running);
        let due = SignedDuration::try_from(self.kubelet.flags.sync_frequency).unwrap_or(SignedDuration::MAX);
        let notes = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let same = notes(&self.shown) == notes(pod);
        if !running || same && self.volumes_at.saturating_add(due).is_ok_and(|at| at > now) {
            return;
        }
        (self.volumes_at, self.shown) = (now, pod.clone());
        if let Err(error) = volumes::mount(&self.kubelet.volumes, pod).await {
            tracing::warn!(namespace, name, %error, "the pod's volumes could not be refreshed");
        }
    }
}

/// Comes back when the pod is to end and was not before.
async fn told_to_end(desired: &mut watch::Receiver<Desired>, ending: bool) {
    if ending {
        return std::future::pending().await;
    }
    let ends = |d: &Desired| d.gone || d.verdict.is_some() || d.pod.metadata.deletion_timestamp.is_some();
    if desired.wait_for(ends).await.is_err() {
        std::future::pending().await
    }
}

fn deadline_exceeded() -> Verdict {
    Verdict {
        reason: "DeadlineExceeded".into(),
        message: "Pod was active on the node longer than the specified deadline".into(),
        disruption: false,
        rejected: false,
    }
}
