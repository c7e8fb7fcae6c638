//! Makes a Job of a CronJob whenever its schedule says so.
//!
//! A Job's name is made from the time it stands for, so that no time gets two.

mod schedule;

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::schedule::Schedule;
use super::job::{finished_at, is_finished};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object as _};
use crate::ownership::controller_key;
use crate::plan::{Action, Plan, Propagation};
use crate::queue::Queue;
use crate::runner::{Controller, View};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told of: they are not made up for one by one anyway.
const MANY_MISSED: usize = 100;

/// What a plan is made from.
pub struct Observed {
    /// The CronJob.
    pub cron: Arc<CronJob>,
    /// The Jobs it made.
    pub jobs: Vec<Arc<Job>>,
    /// The time.
    pub now: Timestamp,
}

/// Starts what is due, forgets what ended, keeps as much history as asked for.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let cron = seen.cron.as_ref();
    let mut plan = Plan::default();
    let Some(spec) = cron.spec.as_ref() else { return plan };
    let mut shown = cron.clone();
    let status = shown.status.get_or_insert_default();
    let ended = |job: &Arc<Job>| seen.jobs.iter().any(|j| j.uid() == job.uid()) && is_finished(job);
    let listed = status.active.clone().unwrap_or_default();
    for reference in &listed {
        match seen.jobs.iter().find(|j| Some(j.uid()) == reference.uid.as_deref()) {
            Some(job) if ended(job) => {
                let outcome = if succeeded(job) { "Complete" } else { "Failed" };
                plan.push(Action::tell(cron, "SawCompletedJob", format!("Saw completed job: {}, condition: {outcome}", job.name())));
            }
            Some(_) => {}
            None => plan.push(Action::tell(
                cron,
                "MissingJob",
                format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default()),
            )),
        }
    }
    let last_success = seen.jobs.iter().filter(|j| succeeded(j)).filter_map(|j| finished_at(j)).max();
    status.last_successful_time = last_success.map(Time).max(status.last_successful_time.take());
    let active: Vec<&Arc<Job>> = seen.jobs.iter().filter(|j| !is_finished(j)).collect();
    let mut references: Vec<ObjectReference> = active.iter().map(|j| reference(j)).collect();
    history(spec, seen, cron, &mut plan);
    if !cron.deleting()
        && spec.suspend != Some(true)
        && let Some(due) = due(cron, spec, seen.now, &mut plan)
    {
        start(spec, seen, due, &active, &mut references, status, &mut plan);
    }
    references.sort_by(|a, b| a.name.cmp(&b.name));
    status.active = Some(references).filter(|r| !r.is_empty());
    // The order in which they are listed does not matter.
    let same = |a: &[ObjectReference], b: &[ObjectReference]| a.len() == b.len() && a.iter().all(|r| b.iter().any(|o| o.uid == r.uid));
    if same(&listed, status.active.as_deref().unwrap_or_default()) {
        status.active = cron.status.as_ref().and_then(|s| s.active.clone());
    }
    plan.update_status(cron, &shown);
    plan
}

fn succeeded(job: &Job) -> bool {
    job.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == "Complete" && c.status == "True")
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference { resource_version: None, ..job.reference() }
}

/// The last time that is due and not yet served; the next one is when to look again.
fn due(cron: &CronJob, spec: &CronJobSpec, now: Timestamp, plan: &mut Plan) -> Option<Timestamp> {
    let zone = match spec.time_zone.as_deref() {
        None | Some("") => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                plan.push(Action::warn(cron, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}")));
                return None;
            }
        },
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            plan.push(Action::warn(cron, "UnparseableSchedule", format!("unparseable schedule: {:?} : {error}", spec.schedule)));
            return None;
        }
    };
    let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).or(cron.metadata.creation_timestamp.as_ref());
    let mut from = last.map_or(now, |t| t.0);
    if let Some(earliest) = spec.starting_deadline_seconds.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok()) {
        from = from.max(earliest);
    }
    let (mut latest, mut missed) = (None, 0);
    let mut at = schedule.next(from, &zone);
    while let Some(time) = at.filter(|t| *t <= now) {
        latest = Some(time);
        missed += 1;
        if missed > MANY_MISSED {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.push(Action::warn(cron, "TooManyMissedTimes", text.to_owned()));
            // Step over the rest at once: only the last one counts.
            let period = schedule.next(time, &zone).map_or(SignedDuration::ZERO, |next| next.duration_since(time));
            let near = now.checked_sub(period * 2).unwrap_or(time).max(time);
            at = schedule.next(near, &zone);
            missed = 0;
            if at.is_some_and(|t| t > now) {
                break;
            }
            continue;
        }
        at = schedule.next(time, &zone);
    }
    if let Some(next) = schedule.next(now, &zone) {
        plan.recheck(next);
    }
    latest
}

fn start(
    spec: &CronJobSpec,
    seen: &Observed,
    due: Timestamp,
    active: &[&Arc<Job>],
    references: &mut Vec<ObjectReference>,
    status: &mut k8s_openapi::api::batch::v1::CronJobStatus,
    plan: &mut Plan,
) {
    let cron = seen.cron.as_ref();
    let name = format!("{}-{}", cron.name(), due.as_second().div_euclid(60));
    if let Some(made) = seen.jobs.iter().find(|j| j.name() == name) {
        // Made before the status could say so.
        status.last_schedule_time = Some(Time(due));
        if !is_finished(made) && !references.iter().any(|r| r.uid.as_deref() == Some(made.uid())) {
            references.push(reference(made));
        }
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.push(Action::tell(cron, "JobAlreadyActive", text.to_owned()));
        }
        Some("Replace") => {
            for job in active {
                let done = ("SuccessfulDelete", format!("Deleted job {}", job.name()));
                plan.push(Action::delete(job.as_ref(), Propagation::Background).about(
                    cron,
                    done,
                    ("FailedDelete", "Deleted job: {}".to_owned()),
                ));
            }
        }
        _ => {}
    }
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut job = Job { spec: spec.job_template.spec.clone(), ..Job::default() };
    job.metadata.name = Some(name);
    job.metadata.namespace = cron.metadata.namespace.clone();
    job.metadata.labels = template.labels;
    job.metadata.annotations = template.annotations;
    job.metadata.annotations.get_or_insert_default().insert(SCHEDULED_AT.to_owned(), due.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    job.metadata.owner_references = Some(vec![cron.controller_ref()]);
    let (done, failed) = (("SuccessfulCreate", "Created job {}".to_owned()), ("FailedCreate", "Error creating job: {}".to_owned()));
    plan.push(Action::create(&job).about(cron, done, failed));
    // The status says so when the job is seen: see above.
}

/// Deletes the oldest ended jobs beyond what is to be kept of each outcome.
fn history(spec: &CronJobSpec, seen: &Observed, cron: &CronJob, plan: &mut Plan) {
    for (good, limit) in [(true, spec.successful_jobs_history_limit.unwrap_or(3)), (false, spec.failed_jobs_history_limit.unwrap_or(1))] {
        let mut ended: Vec<&Arc<Job>> = seen.jobs.iter().filter(|j| is_finished(j) && succeeded(j) == good && !j.deleting()).collect();
        ended.sort_by_key(|j| (j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0), j.name().to_owned()));
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for job in ended.into_iter().take(surplus) {
            let done = ("SuccessfulDelete", format!("Deleted job {}", job.name()));
            plan.push(Action::delete(job.as_ref(), Propagation::Background).about(
                cron,
                done,
                ("FailedDelete", "Deleted job: {}".to_owned()),
            ));
        }
    }
}

/// The controller.
pub struct CronJobs;

impl Controller for CronJobs {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.cron_jobs.subscribe(move |change: Change<'_, CronJob>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.jobs.subscribe(move |change: Change<'_, Job>| {
            change.both().filter_map(|j| controller_key::<CronJob>(&j.metadata)).for_each(|key| own.add(key));
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(cron) = view.caches.cron_jobs.get(key) else { return Plan::default() };
        let mut jobs = view.caches.jobs.owned_by(cron.uid());
        jobs.retain(|j| crate::ownership::controls(cron.as_ref(), j.as_ref()));
        plan(&Observed { jobs, cron, now: view.now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn key() -> Key {
        Key::new("default", "c")
    }

    fn world(more: Value) -> World {
        let mut world = World::new();
        let mut spec = json!({"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"from": "c"}}, "spec": {"template": {}}}});
        for (k, v) in more.as_object().expect("a map") {
            spec[k] = v.clone();
        }
        world.add::<CronJob>(json!({"metadata": {"name": "c", "namespace": "default"}, "spec": spec}));
        world
    }

    /// Lets minutes pass; jobs end, well, when `ends`.
    fn pass(world: &mut World, minutes: i64, ends: bool) {
        for _ in 0..minutes {
            world.pass(60);
            world.settle::<CronJob>(&CronJobs);
            if ends {
                let now = Time(world.now);
                for job in world.list::<Job>().iter().filter(|j| !is_finished(j)) {
                    let done = json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": now}], "startTime": now});
                    world.edit::<Job>(&job.key(), |j| j.status = serde_json::from_value(done).ok());
                }
                world.settle::<CronJob>(&CronJobs);
            }
        }
    }

    #[track_caller]
    fn is(world: &World, expected: Expect) {
        let jobs: Vec<String> = world.list::<Job>().iter().map(|j| j.annotation(SCHEDULED_AT).unwrap_or("-")[11..16].to_owned()).collect();
        let status = world.get::<CronJob>(&key()).and_then(|c| c.status).unwrap_or_default();
        expected.assert_eq(&format!("{} | active {}", jobs.join(" "), status.active.map_or(0, |a| a.len())));
    }

    #[test]
    fn jobs_are_made_on_time_and_three_that_ended_are_kept() {
        let mut world = world(json!({}));
        pass(&mut world, 6, true);
        is(&world, expect!["00:05 | active 0"]);
        pass(&mut world, 24, true);
        is(&world, expect!["00:20 00:25 00:30 | active 0"]);
    }

    #[test]
    fn the_concurrency_policy_counts() {
        let mut allow = world(json!({}));
        pass(&mut allow, 11, false);
        is(&allow, expect!["00:05 00:10 | active 2"]);
        let mut forbid = world(json!({"concurrencyPolicy": "Forbid"}));
        pass(&mut forbid, 11, false);
        is(&forbid, expect!["00:05 | active 1"]);
        let mut replace = world(json!({"concurrencyPolicy": "Replace"}));
        pass(&mut replace, 11, false);
        is(&replace, expect!["00:10 | active 1"]);
    }

    #[test]
    fn after_a_long_pause_only_the_last_time_is_made_up_for() {
        let mut world = world(json!({"schedule": "* * * * *"}));
        world.pass(86_400 * 30);
        world.settle::<CronJob>(&CronJobs);
        is(&world, expect!["00:00 | active 1"]);
        assert!(world.told().contains("TooManyMissedTimes"));
    }

    #[test]
    fn suspended_and_too_late_ones_do_not_start() {
        let mut suspended = world(json!({"suspend": true}));
        pass(&mut suspended, 6, false);
        is(&suspended, expect![" | active 0"]);
        let mut late = world(json!({"startingDeadlineSeconds": 30}));
        late.pass(400);
        late.settle::<CronJob>(&CronJobs);
        is(&late, expect![" | active 0"]);
    }
}
