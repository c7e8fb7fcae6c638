//! Pods that have a name, a place in an order, and claims of their own.
//!
//! Ordered sets take one step at a time: the next pod comes when those before it are available, the last goes first. An update
//! goes from the highest ordinal down. Parallel sets take all steps of creating and deleting at once.

mod identity;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};

use super::deployment::resolve;
use crate::cache::Change;
use crate::caches::Caches;
use crate::history::{self, HASH};
use crate::kind::{Key, Object};
use crate::ownership::{claim, controller_key, controller_of, matches, selector};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// What a plan is made from.
pub struct Observed {
    /// The StatefulSet.
    pub set: Arc<StatefulSet>,
    /// The pods it may claim.
    pub pods: Vec<Arc<Pod>>,
    /// The revisions it may claim.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Names of ControllerRevisions of its namespace.
    pub names: Vec<String>,
    /// The claims of its namespace, by name.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// The time.
    pub now: Timestamp,
}

struct Step<'a> {
    seen: &'a Observed,
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    /// By ordinal.
    pods: BTreeMap<i32, Arc<Pod>>,
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    plan: Plan,
}

/// The next step, and the status.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let set = seen.set.as_ref();
    let mut plan = Plan::default();
    let Some(spec) = set.spec.as_ref() else { return plan };
    let wanted = selector(&spec.selector);
    let named = |p: &Pod| identity::ordinal(set, p.name()).is_some();
    let candidates: Vec<Arc<Pod>> = seen.pods.iter().filter(|p| named(p)).cloned().collect();
    let pods = claim(set, &wanted, &candidates, |_| true, &mut plan);
    if set.deleting() {
        return plan;
    }
    let revisions = claim(set, &wanted, &seen.revisions, |_| true, &mut plan);
    let old = set.status.clone().unwrap_or_default();
    let taken = |name: &str| seen.names.iter().any(|n| n == name);
    let latest = history::current(set, &spec.template, &revisions, old.collision_count, taken, &mut plan);
    let update = (latest.revision.name().to_owned(), spec.template.clone());
    let current = revisions.iter().find(|r| Some(r.name()) == old.current_revision.as_deref());
    let current = current.and_then(|r| Some((r.name().to_owned(), history::template(r)?))).unwrap_or_else(|| update.clone());
    let by_ordinal = pods.iter().filter_map(|p| Some((identity::ordinal(set, p.name())?, p.clone()))).collect();
    let mut step = Step { seen, set, spec, pods: by_ordinal, current, update, plan };
    step.fit_claims();
    if step.scale() {
        step.update();
    }
    let status = step.status(&old, latest.collisions);
    let live = |r: &ControllerRevision| {
        [Some(r.name())].contains(&status.current_revision.as_deref())
            || r.name() == latest.revision.name()
            || pods.iter().any(|p| p.label(HASH) == Some(r.name()))
    };
    let mut plan = step.plan;
    history::clean_up(&revisions, live, spec.revision_history_limit.unwrap_or(10), &mut plan);
    plan.update_status(set, &StatefulSet { status: Some(status), ..set.clone() });
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    pods.iter().filter_map(|p| pod_state::available_at(p, min_ready)).filter(|at| *at > seen.now).for_each(|at| plan.recheck(at));
    plan
}

impl Step<'_> {
    fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        self.start()..self.start().saturating_add(self.spec.replicas.unwrap_or(1))
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn rolls(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    /// Ordinals below this keep the current revision in an update.
    fn partition(&self) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        rolling.and_then(|r| r.partition).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod_state::phase(pod) == "Running" && pod_state::is_available(pod, self.spec.min_ready_seconds.unwrap_or(0), self.seen.now)
    }

    /// The revision a new pod of this ordinal gets.
    fn revision(&self, ordinal: i32) -> &(String, PodTemplateSpec) {
        if self.rolls() && ordinal < self.start() + self.partition() { &self.current } else { &self.update }
    }

    /// Claims of pods that stay belong to whom the retention policy says.
    fn fit_claims(&mut self) {
        if identity::retention(self.spec) == (false, false) {
            return;
        }
        for (ordinal, pod) in &self.pods {
            let condemned = (!self.ordinals().contains(ordinal)).then_some(pod.as_ref());
            for claim in identity::claims(self.set, self.spec, *ordinal) {
                if let Some(seen) = self.seen.claims.get(claim.name()) {
                    self.plan.update(seen.as_ref(), &identity::owned_claim(self.set, self.spec, seen, condemned));
                }
            }
        }
    }

    /// Creates what is missing and removes what is too much. Whether everything is in its place, so that an update may go on.
    fn scale(&mut self) -> bool {
        for ordinal in self.ordinals() {
            let Some(pod) = self.pods.get(&ordinal).cloned() else {
                self.create(ordinal);
                if self.is_ordered() {
                    return false;
                }
                continue;
            };
            if pod_state::is_terminal(&pod) {
                if !pod.deleting() {
                    let (reason, what) = if pod_state::phase(&pod) == "Failed" {
                        ("RecreatingFailedPod", "failed")
                    } else {
                        ("RecreatingTerminatedPod", "terminated")
                    };
                    let text = format!("StatefulSet {} is recreating {what} Pod {}", self.set.key(), pod.name());
                    let tell = if reason == "RecreatingFailedPod" { Action::warn } else { Action::tell };
                    self.plan.push(tell(self.set, reason, text));
                    self.delete(&pod);
                }
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            if pod_state::phase(&pod) == "Pending" {
                self.create_claims(ordinal);
            }
            if self.is_ordered() && (pod.deleting() || !self.is_available(&pod)) {
                return false;
            }
        }
        let ordinals = self.ordinals();
        let condemned: Vec<Arc<Pod>> = self.pods.iter().rev().filter(|(o, _)| !ordinals.contains(o)).map(|(_, p)| p.clone()).collect();
        // The lowest that is not well: the only one of those not well that may go, so that all going down together is halted.
        let first_unwell = condemned.iter().rev().find(|p| p.deleting() || !self.is_available(p)).map(|p| p.uid().to_owned());
        for pod in &condemned {
            if pod.deleting() {
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            if self.is_ordered() && !self.is_available(pod) && first_unwell.as_deref() != Some(pod.uid()) {
                return false;
            }
            self.delete(pod);
            if self.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Deletes pods of an old revision, from the highest ordinal down to the partition, as many as may be unavailable.
    fn update(&mut self) {
        if !self.rolls() {
            return;
        }
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let replicas = self.spec.replicas.unwrap_or(1);
        let most = rolling.and_then(|r| r.max_unavailable.as_ref()).map(|v| resolve(Some(v), "", replicas, true).max(1));
        let ordinals = self.ordinals();
        let down = self.ordinals().filter(|o| self.pods.get(o).is_none_or(|p| p.deleting() || !self.is_available(p))).count();
        let mut room = usize::try_from(most.unwrap_or(1)).unwrap_or(1).saturating_sub(down);
        let lowest = self.start() + self.partition();
        let targets: Vec<Arc<Pod>> = self.pods.range(ordinals).rev().filter(|(o, _)| **o >= lowest).map(|(_, p)| p.clone()).collect();
        for pod in targets {
            let old = pod.label(HASH) != Some(self.update.0.as_str());
            let healthy = !pod.deleting() && self.is_available(&pod);
            if most.is_none() {
                // One after the other, and none before the last is well again.
                if old && !pod.deleting() {
                    return self.delete(&pod);
                }
                if !healthy {
                    return;
                }
            } else if old && !pod.deleting() && (room > 0 || !healthy) {
                // One that is unhealthy anyway costs nothing to replace.
                self.delete(&pod);
                room = room.saturating_sub(usize::from(healthy));
            }
        }
    }

    fn create(&mut self, ordinal: i32) {
        self.create_claims(ordinal);
        let (revision, template) = self.revision(ordinal);
        let pod = identity::pod(self.set, self.spec, template, revision, ordinal);
        let (name, set) = (pod.name().to_owned(), self.set.name());
        let done = ("SuccessfulCreate", format!("create Pod {name} in StatefulSet {set} successful"));
        let failed = ("FailedCreate", format!("create Pod {name} in StatefulSet {set} failed error: {{}}"));
        self.plan.push(Action::create(&pod).about(self.set, done, failed));
    }

    fn create_claims(&mut self, ordinal: i32) {
        let pod = format!("{}-{ordinal}", self.set.name());
        for claim in identity::claims(self.set, self.spec, ordinal) {
            if !self.seen.claims.contains_key(claim.name()) {
                let claim = identity::owned_claim(self.set, self.spec, &claim, None);
                let text = |end: &str| format!("create Claim {} Pod {pod} in StatefulSet {} {end}", claim.name(), self.set.name());
                let (done, failed) = (("SuccessfulCreate", text("success")), ("FailedCreate", text("failed error: {}")));
                self.plan.push(Action::create(&claim).about(self.set, done, failed));
            }
        }
    }

    fn delete(&mut self, pod: &Pod) {
        let text = |end: &str| format!("delete Pod {} in StatefulSet {} {end}", pod.name(), self.set.name());
        let (done, failed) = (("SuccessfulDelete", text("successful")), ("FailedDelete", text("failed error: {}")));
        self.plan.push(Action::delete(pod, Propagation::Default).about(self.set, done, failed));
    }

    fn status(&self, old: &StatefulSetStatus, collisions: Option<i32>) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| i32::try_from(self.pods.values().filter(|p| test(p)).count()).unwrap_or(i32::MAX);
        let some = |n: i32| Some(n).filter(|n| *n != 0);
        let of = |revision: &str| count(&|p| !p.deleting() && !pod_state::is_terminal(p) && p.label(HASH) == Some(revision));
        let ready = count(&|p| pod_state::phase(p) == "Running" && pod_state::is_ready(p));
        let replicas = count(&|_| true);
        let (mut current, updated) = (of(&self.current.0), of(&self.update.0));
        let mut current_revision = self.current.0.clone();
        // A rolling update that is through makes the new revision the current one.
        if self.rolls()
            && updated == replicas
            && ready == replicas
            && Some(replicas) == self.spec.replicas.or(Some(1))
            && self.partition() == 0
        {
            (current, current_revision) = (updated, self.update.0.clone());
        }
        StatefulSetStatus {
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|p| self.is_available(p))),
            current_replicas: some(current),
            updated_replicas: some(updated),
            current_revision: Some(current_revision),
            update_revision: Some(self.update.0.clone()),
            collision_count: collisions.or(Some(0)),
            observed_generation: self.set.metadata.generation.max(old.observed_generation),
            conditions: old.conditions.clone(),
        }
    }
}

/// The controller.
pub struct StatefulSets;

impl Controller for StatefulSets {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.stateful_sets.subscribe(move |change: Change<'_, StatefulSet>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            for pod in change.both() {
                if let Some(key) = controller_key::<StatefulSet>(&pod.metadata) {
                    own.add(key);
                } else if controller_of(&pod.metadata).is_none() {
                    let fits = |s: &Arc<StatefulSet>| s.spec.as_ref().is_some_and(|s| matches(&selector(&s.selector), pod));
                    all.stateful_sets.in_namespace(pod.namespace()).iter().filter(|s| fits(s)).for_each(|s| own.add(s.key()));
                }
            }
        });
        let own = queue.clone();
        caches.controller_revisions.subscribe(move |change: Change<'_, ControllerRevision>| {
            change.both().filter_map(|r| controller_key::<StatefulSet>(&r.metadata)).for_each(|key| own.add(key));
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        let Some(set) = caches.stateful_sets.get(key) else { return Plan::default() };
        let has_claims = set.spec.as_ref().is_some_and(|s| s.volume_claim_templates.as_ref().is_some_and(|t| !t.is_empty()));
        let claims = if has_claims { caches.persistent_volume_claims.in_namespace(&key.namespace) } else { Vec::new() };
        plan(&Observed {
            pods: caches.pods.claimable(set.as_ref()),
            revisions: caches.controller_revisions.claimable(set.as_ref()),
            names: caches.controller_revisions.in_namespace(&key.namespace).iter().map(|r| r.name().to_owned()).collect(),
            claims: claims.into_iter().map(|c| (c.name().to_owned(), c)).collect(),
            set,
            now: view.now,
        })
    }
}
