//! Runs pods until enough of them succeeded.
//!
//! A pod's end is counted exactly once (KEP-2307): the finalizer on it keeps it until its uid is in the stored status, the uid
//! leaves the status for a counter when the finalizer is gone. [`plan`] is one step of that, and of the job.

mod failure_policy;
mod indexes;
mod success_policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::failure_policy::{Verdict, judge};
use super::replicaset::{create, pod_from, rank};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::ownership::{claim_held, controller_key, controller_of, matches, selector};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// Keeps a pod until its end is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The label with the job's name, which the apiserver puts into templates.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Most pods whose end is in the status but not yet in a counter (upstream's `MaxUncountedPods`).
const UNCOUNTED: usize = 500;
/// Most pods created in one plan.
const BURST: usize = 500;
/// The longest prefix of which a whole name can be generated: 63 characters, five of them random.
const GENERATED_FROM: usize = 58;
/// After a failure the next pod waits this long, doubling with each failure in a row, up to the most.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const MOST_BACKOFF: SignedDuration = SignedDuration::from_secs(600);

/// What a plan is made from.
pub struct Observed {
    /// The Job.
    pub job: Arc<Job>,
    /// The pods it may claim.
    pub pods: Vec<Arc<Pod>>,
    /// The time.
    pub now: Timestamp,
}

/// Whether the job is over.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    finished_at(job).is_some()
}

/// When the job ended, if it did.
#[must_use]
pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let ended = |c: &&JobCondition| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True";
    let condition = job.status.as_ref()?.conditions.as_ref()?.iter().find(ended)?;
    condition.last_transition_time.as_ref().map(|t| t.0)
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

fn without_finalizer(pod: &Pod) -> Option<Action> {
    let mut free = pod.clone();
    free.metadata.finalizers.iter_mut().for_each(|f| f.retain(|f| f != FINALIZER));
    free.metadata.finalizers = free.metadata.finalizers.take().filter(|f| !f.is_empty());
    Action::update(pod, &free)
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotation(INDEX)?.parse().ok()
}

/// What the name of the pod of an index starts with; the index is never cut off.
fn generate_name(job: &str, index: i32) -> String {
    let end = format!("-{index}-");
    let room = GENERATED_FROM.saturating_sub(end.len());
    format!("{}{end}", &job[..job.floor_char_boundary(room)])
}

fn condition<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

fn is_true(status: &JobStatus, type_: &str) -> bool {
    condition(status, type_).is_some_and(|c| c.status == "True")
}

fn set(status: &mut JobStatus, type_: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    if condition(status, type_).is_some_and(|c| c.status == value && c.reason.as_deref() == Some(reason)) {
        return;
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != type_);
    conditions.push(JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

/// A job in the making.
struct Step<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    now: Timestamp,
    pods: Vec<Arc<Pod>>,
    status: JobStatus,
    /// Indexes that succeeded and, with a limit per index, that failed for good.
    completed: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
    /// Ends in the status or about to be: totals to decide by.
    succeeded: i32,
    failed: i32,
    /// What the failure policy says about the whole.
    fatal: Option<String>,
    plan: Plan,
}

/// One step of the job.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let job = seen.job.as_ref();
    let mut plan = Plan::default();
    let Some(spec) = &job.spec else { return plan };
    if spec.managed_by.as_deref().is_some_and(|m| m != "kubernetes.io/job-controller") {
        return plan;
    }
    let wanted = spec.selector.as_ref().map_or_else(api::labels::Selector::nothing, selector);
    let pods = claim_held(job, &wanted, &seen.pods, pod_state::is_active, Some(FINALIZER), &mut plan);
    if is_finished(job) || job.deleting() {
        plan.actions.extend(pods.iter().filter(|p| has_finalizer(p)).filter_map(|p| without_finalizer(p)));
        return plan;
    }
    let status = job.status.clone().unwrap_or_default();
    // A job that was made smaller has no use for the indexes beyond.
    let most = spec.completions.unwrap_or(i32::MAX);
    let parse = |text: &Option<String>| {
        let mut all = indexes::parse(text.as_deref().unwrap_or_default());
        all.retain(|index| *index < most);
        all
    };
    let (completed, failed_indexes) = (parse(&status.completed_indexes), parse(&status.failed_indexes));
    let mut step = Step { job, spec, now: seen.now, pods, status, completed, failed_indexes, succeeded: 0, failed: 0, fatal: None, plan };
    step.count();
    step.decide();
    step.write()
}

impl Step<'_> {
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn completions(&self) -> Option<i32> {
        self.spec.completions
    }

    /// Whether the pod has ended badly, or is counted so because it is being deleted.
    fn has_failed(&self, pod: &Pod) -> bool {
        let waits = self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some();
        match pod_state::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pod.deleting() && !waits,
        }
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|p| pod_state::is_active(p)).cloned().collect()
    }

    /// Moves the ends of pods along: seen, in the status, without finalizer, in a counter.
    fn count(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let (mut good, mut bad) = (uncounted.succeeded.unwrap_or_default(), uncounted.failed.unwrap_or_default());
        let held: BTreeSet<String> = self.pods.iter().filter(|p| has_finalizer(p)).map(|p| p.uid().to_owned()).collect();
        let settle = |uids: &mut Vec<String>| {
            let before = uids.len();
            uids.retain(|uid| held.contains(uid));
            i32::try_from(before - uids.len()).unwrap_or(i32::MAX)
        };
        let (more_good, more_bad) = (settle(&mut good), settle(&mut bad));
        let (mut counted_good, counted_bad) = (self.status.succeeded.unwrap_or(0) + more_good, self.status.failed.unwrap_or(0) + more_bad);
        let stored = self.completed.clone();
        for pod in self.pods.clone().iter().filter(|p| has_finalizer(p)) {
            let uid = pod.uid().to_owned();
            if good.contains(&uid) || bad.contains(&uid) {
                self.plan.push(without_finalizer(pod));
            } else if pod_state::phase(pod) == "Succeeded" {
                match index_of(pod) {
                    Some(index) if self.is_indexed() => {
                        let beyond = self.completions().is_some_and(|most| index >= most);
                        if beyond || stored.contains(&index) {
                            self.plan.push(without_finalizer(pod));
                        }
                        if !beyond {
                            self.completed.insert(index);
                        }
                    }
                    _ if good.len() < UNCOUNTED => good.push(uid),
                    _ => {}
                }
            } else if self.has_failed(pod) {
                match judge(self.spec, pod) {
                    Verdict::Ignore => {
                        self.plan.push(without_finalizer(pod));
                        continue;
                    }
                    Verdict::FailJob(why) => self.fatal = self.fatal.take().or(Some(why)),
                    Verdict::FailIndex => self.failed_indexes.extend(index_of(pod)),
                    Verdict::Count => self.count_index_failure(pod),
                }
                if bad.len() < UNCOUNTED {
                    bad.push(uid);
                }
            }
        }
        self.failed = counted_bad + i32::try_from(bad.len()).unwrap_or(0);
        if self.is_indexed() {
            counted_good = i32::try_from(self.completed.len()).unwrap_or(i32::MAX);
            self.succeeded = counted_good;
        } else {
            self.succeeded = counted_good + i32::try_from(good.len()).unwrap_or(0);
        }
        self.status.succeeded = Some(counted_good).filter(|n| *n != 0);
        self.status.failed = Some(counted_bad).filter(|n| *n != 0);
        let some = |uids: Vec<String>| Some(uids).filter(|u| !u.is_empty());
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods { succeeded: some(good), failed: some(bad) });
    }

    fn count_index_failure(&mut self, pod: &Pod) {
        if let (Some(limit), Some(index)) = (self.spec.backoff_limit_per_index, index_of(pod)) {
            let failures = pod.annotation(INDEX_FAILURES).and_then(|n| n.parse::<i32>().ok()).unwrap_or(0) + 1;
            if failures > limit {
                self.failed_indexes.insert(index);
            }
        }
    }

    /// Whether the job has failed, and why.
    fn failure(&self) -> Option<(&'static str, String)> {
        if let Some(why) = &self.fatal {
            return Some(("PodFailurePolicy", why.clone()));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let on_failure = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
        let restarts: i32 = match on_failure {
            true => {
                let running = self.pods.iter().filter(|p| matches!(pod_state::phase(p), "Running" | "Pending"));
                let of = |p: &Arc<Pod>| {
                    let s = p.status.as_ref();
                    s.into_iter()
                        .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()))
                        .map(|c| c.restart_count)
                        .sum::<i32>()
                };
                running.map(of).sum()
            }
            false => 0,
        };
        if self.failed > limit || (restarts > 0 && restarts >= limit.max(1)) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned()));
        }
        let deadline = self.deadline();
        if deadline.is_some_and(|at| at <= self.now) {
            return Some(("DeadlineExceeded", "Job was active longer than specified deadline".to_owned()));
        }
        if self.spec.backoff_limit_per_index.is_some() {
            let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
            if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
                return Some(("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes".to_owned()));
            }
            if failed > 0 && Some(failed + self.succeeded) >= self.completions() {
                return Some(("FailedIndexes", "Job has failed indexes".to_owned()));
            }
        }
        None
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| self.spec.suspend != Some(true))?;
        self.status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Whether the job has succeeded, and by what.
    fn success(&self) -> Option<(&'static str, String)> {
        if self.is_indexed()
            && let Some(rule) = success_policy::met(self.spec, &self.completed)
        {
            return Some(("SuccessPolicy", rule));
        }
        let reached = match self.completions() {
            None => self.succeeded > 0 && self.active().is_empty(),
            Some(wanted) => self.succeeded >= wanted,
        };
        reached.then(|| ("CompletionsReached", "Reached expected number of succeeded pods".to_owned()))
    }

    fn decide(&mut self) {
        let suspended = self.spec.suspend == Some(true);
        if !suspended && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
        let known = |type_: &str| {
            let condition = condition(&self.status, type_).filter(|c| c.status == "True")?;
            Some((condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default()))
        };
        let text = |(reason, message): (&str, String)| (reason.to_owned(), message);
        // What is decided stays decided, whatever happens to the rest of the pods.
        let succeeded = known("SuccessCriteriaMet");
        let failed = if succeeded.is_some() { None } else { known("FailureTarget").or_else(|| self.failure().map(text)) };
        let succeeded = succeeded.or_else(|| if failed.is_none() { self.success().map(text) } else { None });
        if let Some((reason, message)) = failed {
            self.end("FailureTarget", "Failed", &reason, &message);
        } else if let Some((reason, message)) = succeeded {
            self.end("SuccessCriteriaMet", "Complete", &reason, &message);
        } else if suspended {
            self.suspend();
        } else {
            if is_true(&self.status, "Suspended") {
                set(&mut self.status, "Suspended", "False", "JobResumed", "Job resumed", self.now);
                self.status.start_time = Some(Time(self.now));
                self.plan.push(Action::tell(self.job, "Resumed", "Job resumed".to_owned()));
            }
            self.manage();
            if let Some(at) = self.deadline() {
                self.plan.recheck(at);
            }
        }
    }

    /// The outcome is known: what still runs goes, and when all is gone the job is over.
    fn end(&mut self, target: &str, end: &str, reason: &str, message: &str) {
        set(&mut self.status, target, "True", reason, message, self.now);
        let active = self.active();
        self.remove(&active);
        let terminating = self.pods.iter().any(|p| p.deleting() && !pod_state::is_terminal(p));
        let uncounted = self.status.uncounted_terminated_pods.as_ref().is_some_and(|u| u.succeeded.is_some() || u.failed.is_some());
        if !active.is_empty() || terminating || uncounted {
            return;
        }
        set(&mut self.status, end, "True", reason, message, self.now);
        self.status.uncounted_terminated_pods = None;
        if end == "Complete" {
            self.status.completion_time = Some(Time(self.now));
            self.plan.push(Action::tell(self.job, "Completed", "Job completed".to_owned()));
        } else {
            let reason = ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"]
                .into_iter()
                .find(|r| *r == reason);
            self.plan.push(Action::warn(self.job, reason.unwrap_or("Failed"), message.to_owned()));
        }
    }

    fn suspend(&mut self) {
        let active = self.active();
        self.remove(&active);
        if !is_true(&self.status, "Suspended") {
            set(&mut self.status, "Suspended", "True", "JobSuspended", "Job suspended", self.now);
            self.plan.push(Action::tell(self.job, "Suspended", "Job suspended".to_owned()));
        }
        self.status.start_time = None;
    }

    /// Deletes pods of which the job has no need; without the finalizer, so that they count as nothing.
    fn remove(&mut self, pods: &[Arc<Pod>]) {
        for pod in pods {
            self.plan.push(without_finalizer(pod));
        }
        let delete = |pod: &Arc<Pod>| {
            let done = ("SuccessfulDelete", "Deleted pod: {}".to_owned());
            Action::delete(pod.as_ref(), Propagation::Default).about(self.job, done, ("FailedDelete", "Error deleting: {}".to_owned()))
        };
        let deletes: Vec<Action> = pods.iter().map(delete).collect();
        self.plan.actions.extend(deletes);
    }

    fn manage(&mut self) {
        let mut active = self.active();
        if self.is_indexed() {
            // Two pods of an index, or one of an index that is done or too high: the later goes.
            let mut seen = self.completed.clone();
            let most = self.completions().unwrap_or(0);
            active.sort_by_key(|p| (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name().to_owned()));
            let (keep, surplus): (Vec<_>, Vec<_>) =
                active.into_iter().partition(|p| index_of(p).is_some_and(|i| i < most && seen.insert(i)));
            self.remove(&surplus);
            active = keep;
        }
        let have = i32::try_from(active.len()).unwrap_or(i32::MAX);
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.completions() {
            None if self.succeeded > 0 => have,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism),
        };
        if have > wanted {
            active.sort_by(|a, b| rank(a, b, &std::collections::HashMap::new(), self.now));
            let surplus: Vec<_> = active.into_iter().take(usize::try_from(have - wanted.max(0)).unwrap_or(0)).collect();
            return self.remove(&surplus);
        }
        let waits = self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some();
        let terminating = self.pods.iter().filter(|p| waits && p.deleting() && !pod_state::is_terminal(p)).count();
        let missing = usize::try_from(wanted - have).unwrap_or(0).saturating_sub(terminating).min(BURST);
        if missing == 0 {
            return;
        }
        // With a limit for each index, each also waits by itself.
        let alone = self.is_indexed() && self.spec.backoff_limit_per_index.is_some();
        let waits = if alone { None } else { self.backoff_until(|_| true) };
        if let Some(at) = waits.filter(|at| *at > self.now) {
            return self.plan.recheck(at);
        }
        let pods: Vec<Pod> = if self.is_indexed() { self.indexed_pods(&active, missing, alone) } else { vec![self.pod(None); missing] };
        self.plan.actions.extend(pods.iter().map(|pod| create(self.job, pod)));
    }

    /// After failures in a row the next pod waits, from the end of the last.
    fn backoff_until(&self, counts: impl Fn(&Pod) -> bool) -> Option<Timestamp> {
        let pods: Vec<&Arc<Pod>> = self.pods.iter().filter(|p| counts(p)).collect();
        let ended = |p: &&Arc<Pod>| {
            let statuses = p.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
            let ends = statuses.iter().filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|t| t.0).max();
            ends.or_else(|| p.metadata.deletion_timestamp.as_ref().map(|t| t.0))
                .or_else(|| p.metadata.creation_timestamp.as_ref().map(|t| t.0))
        };
        let in_phase = |phase: &'static str| pods.iter().copied().filter(move |p| pod_state::phase(p) == phase);
        let last_success = in_phase("Succeeded").filter_map(|p| ended(&p)).max();
        let failures: Vec<Timestamp> = in_phase("Failed").filter_map(|p| ended(&p)).filter(|at| Some(*at) >= last_success).collect();
        let last = failures.iter().max()?;
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(6);
        last.checked_add((FIRST_BACKOFF * 2_i32.pow(doublings)).min(MOST_BACKOFF)).ok()
    }

    fn indexed_pods(&mut self, active: &[Arc<Pod>], missing: usize, alone: bool) -> Vec<Pod> {
        let running: BTreeSet<i32> = active.iter().filter_map(|p| index_of(p)).collect();
        let (completed, failed) = (self.completed.clone(), self.failed_indexes.clone());
        let free = |i: &i32| !running.contains(i) && !completed.contains(i) && !failed.contains(i);
        let mut wanted: Vec<i32> = Vec::new();
        for index in (0..self.completions().unwrap_or(0)).filter(free) {
            let waits = if alone { self.backoff_until(|p| index_of(p) == Some(index)) } else { None };
            match waits.filter(|at| *at > self.now) {
                Some(at) => self.plan.recheck(at),
                None => wanted.push(index),
            }
            if wanted.len() == missing {
                break;
            }
        }
        wanted.into_iter().map(|i| self.pod(Some(i))).collect()
    }

    fn pod(&self, index: Option<i32>) -> Pod {
        let mut pod = pod_from(self.job, &self.spec.template);
        pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
        let Some(index) = index else { return pod };
        pod.metadata.generate_name = Some(generate_name(self.job.name(), index));
        let marks = |map: &mut Option<BTreeMap<String, String>>| map.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        marks(&mut pod.metadata.labels);
        marks(&mut pod.metadata.annotations);
        if self.spec.backoff_limit_per_index.is_some() {
            // The last of them tells, in case those before it are gone.
            let told = |p: &Pod| p.annotation(INDEX_FAILURES).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) + 1;
            let failed = self.pods.iter().filter(|p| index_of(p) == Some(index) && pod_state::phase(p) == "Failed");
            let failed: Vec<usize> = failed.map(|p| told(p)).collect();
            let failures = failed.iter().copied().max().unwrap_or(0).max(failed.len());
            pod.metadata.annotations.get_or_insert_default().insert(INDEX_FAILURES.to_owned(), failures.to_string());
        }
        let spec = pod.spec.get_or_insert_default();
        spec.hostname.get_or_insert_with(|| format!("{}-{index}", self.job.name()));
        let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
        let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
        let env = EnvVar { name: "JOB_COMPLETION_INDEX".to_owned(), value: None, value_from: Some(from) };
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let vars = container.env.get_or_insert_default();
            if !vars.iter().any(|v| v.name == env.name) {
                vars.push(env.clone());
            }
        }
        pod
    }

    fn write(mut self) -> Plan {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let active = self.active();
        let over = is_true(&self.status, "Complete") || is_true(&self.status, "Failed");
        self.status.active = Some(count(active.len())).filter(|n| *n != 0);
        self.status.ready = Some(count(active.iter().filter(|p| pod_state::is_ready(p)).count()));
        self.status.terminating = Some(count(self.pods.iter().filter(|p| p.deleting() && !pod_state::is_terminal(p)).count()));
        if over {
            (self.status.active, self.status.ready, self.status.terminating) = (None, Some(0), Some(0));
        }
        if self.is_indexed() {
            self.status.completed_indexes = Some(indexes::format(&self.completed)).filter(|t| !t.is_empty());
            if self.spec.backoff_limit_per_index.is_some() {
                self.status.failed_indexes = Some(indexes::format(&self.failed_indexes));
            }
        }
        let shown = Job { status: Some(self.status), ..self.job.clone() };
        self.plan.update_status(self.job, &shown);
        self.plan
    }
}

/// The controller.
pub struct Jobs;

impl Controller for Jobs {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.jobs.subscribe(move |change: Change<'_, Job>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            for pod in change.both() {
                if let Some(key) = controller_key::<Job>(&pod.metadata) {
                    own.add(key);
                } else if controller_of(&pod.metadata).is_none() {
                    if let Some(job) = pod.label(JOB_NAME).filter(|_| has_finalizer(pod)) {
                        own.add(Key::new(pod.namespace(), job));
                    }
                    let fits = |j: &Arc<Job>| j.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| matches(&selector(s), pod));
                    all.jobs.in_namespace(pod.namespace()).iter().filter(|j| fits(j)).for_each(|j| own.add(j.key()));
                }
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        let Some(job) = caches.jobs.get(key) else {
            // The job went and left its finalizers: nobody is to count these pods any more.
            let mut plan = Plan::default();
            let of_it = |p: &Arc<Pod>| match controller_of(&p.metadata) {
                Some(_) => controller_key::<Job>(&p.metadata).as_ref() == Some(key),
                None => p.label(JOB_NAME) == Some(&key.name),
            };
            let left = caches.pods.in_namespace(&key.namespace);
            plan.actions.extend(left.iter().filter(|p| of_it(p) && has_finalizer(p)).filter_map(|p| without_finalizer(p)));
            return plan;
        };
        let pods = caches.pods.claimable(job.as_ref());
        plan(&Observed { job, pods, now: view.now })
    }
}
