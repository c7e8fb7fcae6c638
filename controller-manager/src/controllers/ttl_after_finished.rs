//! Deletes Jobs that ended, when the time they asked to be kept is over.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

use super::job::finished_at;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Propagation};
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// Deletes the job when its time is over; its pods go first.
#[must_use]
pub fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let (Some(ttl), Some(ended), false) = (ttl, finished_at(job), job.deleting()) else { return plan };
    match ended.checked_add(SignedDuration::from_secs(ttl.into())) {
        Ok(at) if at > now => plan.recheck(at),
        Ok(_) => plan.push(Action::delete(job, Propagation::Foreground)),
        Err(_) => {} // later than time itself
    }
    plan
}

/// The controller.
pub struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.jobs.subscribe(move |change: Change<'_, Job>| {
            if change.new.is_some_and(|j| finished_at(j).is_some()) {
                own.add(change.latest().key());
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        view.caches.jobs.get(key).map(|job| plan(&job, view.now)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::json;

    #[test]
    fn an_ended_job_goes_when_its_time_is_over() {
        let mut world = World::new();
        world.add::<Job>(json!({
            "metadata": {"name": "j", "namespace": "default"},
            "spec": {"ttlSecondsAfterFinished": 60, "template": {}},
            "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }));
        world.pass(59);
        world.settle::<Job>(&TtlAfterFinished);
        assert_eq!(world.list::<Job>().len(), 1);
        world.pass(1);
        world.settle::<Job>(&TtlAfterFinished);
        assert_eq!(world.list::<Job>().len(), 0);
    }
}
