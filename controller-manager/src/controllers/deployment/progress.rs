//! The status of a Deployment and its conditions, with upstream's reasons and messages.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Wanted;
use super::rollout::Step;
use crate::kind::Object as _;
use crate::plan::{Failure, Plan};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn deadline(spec: &DeploymentSpec) -> Option<SignedDuration> {
    spec.progress_deadline_seconds.filter(|s| *s != i32::MAX).map(|s| SignedDuration::from_secs(s.into()))
}

fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != type_);
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
}

/// Sets a condition, unless it has this status and reason already; the transition time moves only with the status.
fn set(status: &mut DeploymentStatus, type_: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let old = get(status, type_);
    if old.is_some_and(|c| c.status == value && c.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = old.filter(|c| c.status == value).and_then(|c| c.last_transition_time.clone());
    remove(status, type_);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    });
}

/// Shows that the rollout is paused, or was resumed: the deadline starts anew then.
pub fn note_pause(status: &mut DeploymentStatus, spec: &DeploymentSpec, now: Timestamp) {
    if deadline(spec).is_none() {
        return;
    }
    let reason = get(status, PROGRESSING).and_then(|c| c.reason.clone());
    match (spec.paused == Some(true), reason.as_deref()) {
        (_, Some(TIMED_OUT)) => {}
        (true, reason) if reason != Some(PAUSED) => set(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned(), now),
        (false, Some(PAUSED)) => set(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned(), now),
        _ => {}
    }
}

/// The new ReplicaSet was there already, as after a rollback.
pub fn found_new(status: &mut DeploymentStatus, spec: &DeploymentSpec, new: &ReplicaSet, now: Timestamp) {
    if deadline(spec).is_some() && get(status, PROGRESSING).is_none() {
        set(status, PROGRESSING, "True", "FoundNewReplicaSet", format!("Found new replica set {:?}", new.name()), now);
    }
}

/// The new ReplicaSet is being created, or could not be the last time.
pub fn created_new(status: &mut DeploymentStatus, spec: &DeploymentSpec, new: &ReplicaSet, failure: Option<&Failure>, now: Timestamp) {
    if deadline(spec).is_none() {
        return;
    }
    match failure.filter(|f| f.reason == "ReplicaSetCreateError") {
        Some(failure) => {
            let message = format!("Failed to create new replica set {:?}: {}", new.name(), failure.message);
            set(status, PROGRESSING, "False", failure.reason, message, now);
        }
        None => set(status, PROGRESSING, "True", "NewReplicaSetCreated", format!("Created new replica set {:?}", new.name()), now),
    }
}

/// The numbers, and whether enough pods are available.
pub fn summarise(status: &mut DeploymentStatus, step: &Step<'_>, now: Timestamp) {
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    let of = |rs: &Wanted| rs.seen.status.clone().unwrap_or_default();
    let sum = |f: &dyn Fn(&Wanted) -> i32| step.all.iter().map(f).sum::<i32>();
    let available = sum(&Wanted::available);
    status.observed_generation = step.deployment.metadata.generation;
    status.replicas = some(sum(&|rs| of(rs).replicas));
    status.updated_replicas = some(step.new.map_or(0, |new| of(&step.all[new]).replicas));
    status.ready_replicas = some(sum(&|rs| of(rs).ready_replicas.unwrap_or(0)));
    status.available_replicas = some(available);
    status.unavailable_replicas = some((sum(&Wanted::size) - available).max(0));
    status.terminating_replicas = step.all.iter().map(|rs| of(rs).terminating_replicas).sum();
    if available >= step.replicas() - step.max_unavailable() {
        set(status, AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned(), now);
    } else {
        set(status, AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".to_owned(), now);
    }
}

/// Whether all pods are of the new template, and available.
pub fn is_complete(status: &DeploymentStatus, step: &Step<'_>) -> bool {
    let wanted = step.replicas();
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= step.deployment.metadata.generation
}

/// Whether the rollout moves, has arrived, or is stuck for longer than `progressDeadlineSeconds`.
pub fn judge(status: &mut DeploymentStatus, step: &Step<'_>, created: Option<&ReplicaSet>, now: Timestamp, plan: &mut Plan) {
    let before = step.deployment.status.clone().unwrap_or_default();
    let new = created.or(step.new.map(|new| &step.all[new].want));
    let what = new.map_or_else(|| format!("Deployment {:?}", step.deployment.name()), |rs| format!("ReplicaSet {:?}", rs.name()));
    let current = get(status, PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|c| c.reason.clone()).unwrap_or_default();
    match deadline(step.spec) {
        None => remove(status, PROGRESSING),
        // Arrived earlier, and no new template since.
        Some(_) if status.replicas == status.updated_replicas && reason == NEW_AVAILABLE => {}
        Some(_) if is_complete(status, step) => {
            set(status, PROGRESSING, "True", NEW_AVAILABLE, format!("{what} has successfully progressed."), now);
        }
        Some(_) if moved(&before, status) => {
            let since = current.filter(|c| c.status == "True").and_then(|c| c.last_transition_time);
            // Even when the reason is the same: each step forward moves lastUpdateTime, from which the deadline counts.
            remove(status, PROGRESSING);
            set(status, PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
            if let (Some(since), Some(c)) = (since, status.conditions.as_mut().and_then(|c| c.iter_mut().find(|c| c.type_ == PROGRESSING)))
            {
                c.last_transition_time = Some(since);
            }
        }
        Some(limit) => {
            let updated = current.and_then(|c| c.last_update_time).and_then(|t| t.0.checked_add(limit).ok());
            match updated {
                _ if reason == NEW_AVAILABLE || reason == TIMED_OUT => {}
                Some(end) if end < now => set(status, PROGRESSING, "False", TIMED_OUT, format!("{what} has timed out progressing."), now),
                Some(end) => plan.recheck(end.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)),
                None => {}
            }
        }
    }
    show_failures(status, step);
    // After a step forward the deadline counts from now.
    if let (Some(limit), Some(c)) = (deadline(step.spec), get(status, PROGRESSING))
        && !matches!(c.reason.as_deref(), Some(NEW_AVAILABLE | TIMED_OUT))
        && let Some(end) = c.last_update_time.as_ref().and_then(|t| t.0.checked_add(limit + SignedDuration::from_secs(1)).ok())
    {
        plan.recheck(end.max(now));
    }
}

fn moved(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    now.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(now) < old(before)
        || now.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || now.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

/// Shows why a ReplicaSet cannot make its pods; the new one's reason first.
fn show_failures(status: &mut DeploymentStatus, step: &Step<'_>) {
    let new_first = step.new.into_iter().map(|i| &step.all[i]).chain(step.old());
    let mut failures = new_first.filter_map(|rs| rs.seen.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == REPLICA_FAILURE));
    match failures.next() {
        Some(c) => {
            let message = c.message.clone().unwrap_or_default();
            let since = c.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
            set(status, REPLICA_FAILURE, &c.status, c.reason.as_deref().unwrap_or_default(), message, since);
        }
        None => remove(status, REPLICA_FAILURE),
    }
}
