//! Rolls a Deployment's template out over ReplicaSets.
//!
//! [`plan`] changes copies of the ReplicaSets as upstream's steps do, and then writes what differs. Start reading there;
//! [`rollout`] has the arithmetic of the strategies, [`revision`] which ReplicaSet is the new one and the history,
//! [`progress`] the status and its conditions.

mod progress;
mod revision;
mod rollout;
#[cfg(test)]
mod tests;

pub use revision::encoded_hash;
pub use rollout::resolve;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::ownership::{claim, controller_key, controller_of, matches, selector};
use crate::plan::{Action, Failure, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// What a plan is made from.
pub struct Observed {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets it may claim.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// A ReplicaSet that has the name a new one would get.
    pub namesake: Option<Arc<ReplicaSet>>,
    /// The pods of its ReplicaSets.
    pub pods: Vec<Arc<Pod>>,
    /// Why the last plan failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// A ReplicaSet as seen and as wanted.
#[derive(Clone)]
struct Wanted {
    seen: Arc<ReplicaSet>,
    want: ReplicaSet,
    /// The size from which it was scaled, for the event.
    from: i32,
}

impl Wanted {
    fn size(&self) -> i32 {
        size(&self.want)
    }

    fn available(&self) -> i32 {
        self.seen.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
    }
}

fn size(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn spec(deployment: &Deployment) -> DeploymentSpec {
    deployment.spec.clone().unwrap_or_default()
}

/// The next step of the rollout, and the status.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let deployment = seen.deployment.as_ref();
    let spec = spec(deployment);
    let mut plan = Plan::default();
    let wanted_pods = selector(&spec.selector);
    if wanted_pods.is_everything() {
        plan.push(Action::warn(
            deployment,
            "SelectingAll",
            "This deployment is selecting all pods. A non-empty selector is required.".to_owned(),
        ));
        let mut told = deployment.clone();
        told.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
        plan.update_status(deployment, &told);
        return plan;
    }
    let owned = claim(deployment, &wanted_pods, &seen.replica_sets, |_| true, &mut plan);
    let mut all: Vec<Wanted> = owned.into_iter().map(|rs| Wanted { want: rs.as_ref().clone(), from: size(&rs), seen: rs }).collect();
    // The oldest first, as every step of upstream's sorts them.
    all.sort_by(|a, b| revision::by_creation(&a.seen, &b.seen));
    let mut status = deployment.status.clone().unwrap_or_default();
    let mut meta = deployment.clone();
    let mut step = rollout::Step { deployment, spec: &spec, new: revision::find_new(&all, &spec.template), all: &mut all };
    if deployment.deleting() {
        progress::summarise(&mut status, &step, seen.now);
        plan.update_status(deployment, &Deployment { status: Some(status), ..deployment.clone() });
        return plan;
    }
    progress::note_pause(&mut status, &spec, seen.now);
    let revision = step.max_old_revision() + 1;
    if let Some(new) = step.new {
        let rs = &mut step.all[new].want;
        revision::annotate(rs, deployment, revision);
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        if let Some(spec) = rs.spec.as_mut().filter(|s| s.min_ready_seconds.unwrap_or(0) != min_ready) {
            spec.min_ready_seconds = Some(min_ready);
        }
        revision::copy_revision(&mut meta, rs);
        progress::found_new(&mut status, &spec, rs, seen.now);
    }
    let paused = spec.paused == Some(true);
    let only_scale = paused || step.was_resized();
    let mut created = None;
    if only_scale {
        step.scale();
    } else if rollout::is_recreate(&spec) && (step.scale_old_to_zero() || step.old_pods_run(&seen.pods)) {
        // The new one starts when nothing old runs any more.
    } else if let Some(new) = step.new {
        if rollout::is_recreate(&spec) {
            step.resize(new, step.replicas());
        } else if !step.scale_up_new(new) {
            step.scale_down_old(new);
        }
    } else {
        let new = revision::new_replica_set(&step, revision, status.collision_count);
        if seen.namesake.as_ref().is_some_and(|n| n.name() == new.name()) {
            // Another template hashed to this name: hash again with a count in it.
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            tracing::info!(namespace = deployment.namespace(), name = deployment.name(), replica_set = new.name(), "the hash collides");
        } else {
            revision::copy_revision(&mut meta, &new);
            progress::created_new(&mut status, &spec, &new, seen.failure.as_ref(), seen.now);
            created = Some(new);
        }
    }
    progress::summarise(&mut status, &step, seen.now);
    if !only_scale {
        progress::judge(&mut status, &step, created.as_ref(), seen.now, &mut plan);
    }
    if paused || (!only_scale && progress::is_complete(&status, &step)) {
        plan.actions.extend(revision::clean_up(&step));
    }
    write(&mut plan, step, created, meta, status);
    plan
}

fn write(plan: &mut Plan, step: rollout::Step<'_>, created: Option<ReplicaSet>, meta: Deployment, status: DeploymentStatus) {
    let deployment = step.deployment;
    if let Some(new) = created {
        let done =
            (size(&new) > 0).then(|| ("ScalingReplicaSet", format!("Scaled up replica set {} from 0 to {}", new.name(), size(&new))));
        let mut create = Action::create(&new).about(deployment, done, None);
        create.failed = Some(("ReplicaSetCreateError", format!("Failed to create new replica set {:?}: {{}}", new.name())));
        plan.push(create);
    }
    for rs in step.all.iter() {
        let (from, to) = (rs.from, rs.size());
        if let Some(action) = Action::update(rs.seen.as_ref(), &rs.want) {
            let way = if to > from { "up" } else { "down" };
            let done =
                (from != to).then(|| ("ScalingReplicaSet", format!("Scaled {way} replica set {} from {from} to {to}", rs.seen.name())));
            plan.push(action.about(deployment, done, None));
        }
    }
    // The revision is written with the status: it is no change of the Deployment, and its generation stays.
    plan.push(Action::update_status_and_annotations(deployment, &Deployment { status: Some(status), ..meta }));
}

/// The controller of Deployments.
pub struct Deployments;

impl Controller for Deployments {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.deployments.subscribe(move |change: Change<'_, Deployment>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.replica_sets.subscribe(move |change: Change<'_, ReplicaSet>| {
            for rs in change.both() {
                if let Some(key) = controller_key::<Deployment>(&rs.metadata) {
                    own.add(key);
                } else if controller_of(&rs.metadata).is_none() {
                    let fits = |d: &Arc<Deployment>| d.spec.as_ref().is_some_and(|s| matches(&selector(&s.selector), rs));
                    all.deployments.in_namespace(rs.namespace()).iter().filter(|d| fits(d)).for_each(|d| own.add(d.key()));
                }
            }
        });
        // A Recreate rollout waits for old pods to be gone.
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            let Change { old: Some(pod), new: None } = change else { return };
            let owner = controller_key::<ReplicaSet>(&pod.metadata).and_then(|key| all.replica_sets.get(&key));
            if let Some(key) = owner.and_then(|rs| controller_key::<Deployment>(&rs.metadata)) {
                own.add(key);
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(deployment) = view.caches.deployments.get(key) else { return Plan::default() };
        let replica_sets = view.caches.replica_sets.claimable(deployment.as_ref());
        let recreate = deployment.spec.as_ref().is_some_and(rollout::is_recreate);
        let pods = match recreate {
            true => replica_sets.iter().flat_map(|rs| view.caches.pods.owned_by(rs.uid())).collect(),
            false => Vec::new(),
        };
        let namesake = view.caches.replica_sets.get(&Key::new(&key.namespace, revision::name(&deployment)));
        plan(&Observed { replica_sets, namesake, pods, deployment, failure: view.failure.cloned(), now: view.now })
    }
}
