//! Keeps as many pods as a ReplicaSet, or a ReplicationController, asks for.
//!
//! [`plan`] is written once over [`Replicated`]. Which pods go first when there are too many is [`rank`].

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use api::labels::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::ownership::{claim, controller_key, controller_of, matches, selector};
use crate::plan::{Action, Failure, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// At most this many pods are created or deleted in one plan (upstream's `BurstReplicas`).
const BURST: usize = 500;
/// Overrides the order of deletion; the lowest goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A kind that asks for a number of equal pods.
pub trait Replicated: Object {
    /// The number asked for.
    fn replicas(&self) -> i32;
    /// For how long a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// Which pods are meant.
    fn selector(&self) -> Selector;
    /// What a new pod is made from.
    fn template(&self) -> Option<PodTemplateSpec>;
    /// The status, in the words of a ReplicaSet.
    fn status(&self) -> ReplicaSetStatus;
    /// The same object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Selector {
        self.spec.as_ref().map_or_else(Selector::nothing, |s| selector(&s.selector))
    }

    fn template(&self) -> Option<PodTemplateSpec> {
        self.spec.as_ref()?.template.clone()
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

/// What a plan is made from.
pub struct Observed<O> {
    /// The object that asks.
    pub owner: Arc<O>,
    /// The pods it may claim.
    pub pods: Vec<Arc<Pod>>,
    /// For each node, the active pods of the owner's siblings (the other ReplicaSets of its Deployment) and its own.
    pub on_node: HashMap<String, usize>,
    /// Why the last plan failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// Creates or deletes what is missing or too many, and writes the status.
#[must_use]
pub fn plan<O: Replicated>(seen: &Observed<O>) -> Plan {
    let owner = seen.owner.as_ref();
    let mut plan = Plan::default();
    let pods = claim(owner, &owner.selector(), &seen.pods, pod_state::is_active, &mut plan);
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|p| pod_state::is_active(p)).collect();
    if !owner.deleting() {
        let wanted = usize::try_from(owner.replicas()).unwrap_or(0);
        match active.len().cmp(&wanted) {
            Ordering::Equal => {}
            Ordering::Less => {
                let missing = (wanted - active.len()).min(BURST);
                plan.actions
                    .extend(new_pod(owner).into_iter().flat_map(|pod| std::iter::repeat_n(pod, missing)).map(|pod| create(owner, &pod)));
            }
            Ordering::Greater => {
                let mut ranked = active.clone();
                ranked.sort_by(|a, b| rank(a, b, &seen.on_node, seen.now));
                plan.actions.extend(ranked.iter().take((active.len() - wanted).min(BURST)).map(|pod| {
                    Action::delete(pod.as_ref(), Propagation::Default).about(
                        owner,
                        ("SuccessfulDelete", "Deleted pod: {}".to_owned()),
                        ("FailedDelete", "Error deleting: {}".to_owned()),
                    )
                }));
            }
        }
    }
    let status = status(seen, &active, pods.iter().filter(|p| p.deleting() && !pod_state::is_terminal(p)).count());
    plan.update_status(owner, &owner.with_status(status));
    let min_ready = owner.min_ready_seconds();
    for at in active.iter().filter_map(|p| pod_state::available_at(p, min_ready)).filter(|at| *at > seen.now) {
        plan.recheck(at);
    }
    plan
}

/// The creation of a pod for `owner`, told as upstream tells it.
pub fn create<O: Object>(owner: &O, pod: &Pod) -> Action {
    Action::create(pod).about(owner, ("SuccessfulCreate", "Created pod: {}".to_owned()), ("FailedCreate", "Error creating: {}".to_owned()))
}

fn new_pod<O: Replicated>(owner: &O) -> Option<Pod> {
    Some(pod_from(owner, &owner.template()?))
}

/// A pod after `template`, controlled by `owner`, with a name generated from the owner's.
pub fn pod_from<O: Object>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    pod.metadata.generate_name = Some(format!("{}-", owner.name()));
    pod.metadata.namespace = owner.meta().namespace.clone();
    pod.metadata.labels = from.labels;
    pod.metadata.annotations = from.annotations;
    pod.metadata.finalizers = from.finalizers;
    pod.metadata.owner_references = Some(vec![owner.controller_ref()]);
    pod
}

fn status<O: Replicated>(seen: &Observed<O>, active: &[&Arc<Pod>], terminating: usize) -> ReplicaSetStatus {
    let owner = seen.owner.as_ref();
    let old = owner.status();
    let labels = owner.template().and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let labelled = |pod: &Pod| labels.iter().all(|(k, v)| pod.label(k) == Some(v));
    let count = |filter: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|p| filter(p)).count()).unwrap_or(i32::MAX);
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    let mut conditions = old.conditions.unwrap_or_default();
    match &seen.failure {
        // The pods that exist are as many as asked for: whatever failed is over.
        Some(failure) if matches!(failure.reason, "FailedCreate" | "FailedDelete") => {
            if !conditions.iter().any(|c| c.type_ == "ReplicaFailure") {
                conditions.push(ReplicaSetCondition {
                    type_: "ReplicaFailure".to_owned(),
                    status: "True".to_owned(),
                    reason: Some(failure.reason.to_owned()),
                    message: Some(failure.message.clone()),
                    last_transition_time: Some(Time(seen.now)),
                });
            }
        }
        _ => conditions.retain(|c| c.type_ != "ReplicaFailure"),
    }
    let min_ready = owner.min_ready_seconds();
    ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: some(count(&labelled)),
        ready_replicas: some(count(&pod_state::is_ready)),
        available_replicas: some(count(&|p| pod_state::is_available(p, min_ready, seen.now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: owner.meta().generation.max(old.observed_generation),
        conditions: Some(conditions).filter(|c| !c.is_empty()),
    }
}

/// Which of two pods goes first, by upstream's `ActivePodsWithRanks`: not yet bound, then pending, then not ready, then the
/// cheaper to delete, then from the node with more of them, then the one ready for less time, restarted more often, or newer.
#[must_use]
pub fn rank(a: &Pod, b: &Pod, on_node: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let bound = |p: &Pod| !pod_state::node(p).is_empty();
    let phase = |p: &Pod| match pod_state::phase(p) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |p: &Pod| p.annotation(DELETION_COST).and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
    let crowd = |p: &Pod| on_node.get(pod_state::node(p)).copied().unwrap_or(0);
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
    bound(a)
        .cmp(&bound(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pod_state::is_ready(a).cmp(&pod_state::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| younger_first(pod_state::ready_since(a), pod_state::ready_since(b), now))
        .then_with(|| pod_state::restarts(b).cmp(&pod_state::restarts(a)))
        .then_with(|| younger_first(created(a), created(b), now))
        .then_with(|| a.uid().cmp(b.uid()))
}

/// By the order of magnitude of their ages (KEP-2185), so that pods of about the same age are chosen between without regard to it.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |at: Timestamp| now.duration_since(at).as_nanos().max(0).checked_ilog10().map_or(-1, i64::from);
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a).cmp(&magnitude(b)),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Wakes the owners of kind `O` that a pod belongs to or could belong to.
pub fn wake_for_pods<O: Replicated>(
    caches: &Arc<Caches>,
    queue: &Arc<Queue>,
    owners: impl Fn(&Caches) -> &crate::cache::Cache<O> + Send + Sync + 'static,
) {
    let (all, queue) = (caches.clone(), queue.clone());
    caches.pods.subscribe(move |change: Change<'_, Pod>| {
        for pod in change.both() {
            if let Some(key) = controller_key::<O>(&pod.metadata) {
                queue.add(key);
            } else if controller_of(&pod.metadata).is_none() {
                for owner in owners(&all).in_namespace(pod.namespace()) {
                    if matches(&owner.selector(), pod) {
                        queue.add(owner.key());
                    }
                }
            }
        }
    });
}

/// The controller of ReplicaSets.
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.replica_sets.subscribe(move |change: Change<'_, ReplicaSet>| own.add(change.latest().key()));
        wake_for_pods::<ReplicaSet>(caches, queue, |caches| &caches.replica_sets);
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(owner) = view.caches.replica_sets.get(key) else { return Plan::default() };
        let siblings = match controller_of(&owner.metadata) {
            Some(controller) => view.caches.replica_sets.owned_by(&controller.uid),
            None => vec![owner.clone()],
        };
        let mut on_node = HashMap::new();
        for pod in siblings.iter().flat_map(|s| view.caches.pods.owned_by(s.uid())).filter(|p| pod_state::is_active(p)) {
            *on_node.entry(pod_state::node(&pod).to_owned()).or_default() += 1;
        }
        let pods = view.caches.pods.claimable(owner.as_ref());
        plan(&Observed { pods, on_node, owner, failure: view.failure.cloned(), now: view.now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn world(replicas: i32) -> (World, Key) {
        let mut world = World::new();
        world.add::<ReplicaSet>(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
        }));
        (world, Key::new("default", "web"))
    }

    fn settle(world: &mut World) {
        world.settle_with(|w| {
            let busy = w.step(&ReplicaSets, &Key::new("default", "web"));
            busy | kubelet(w)
        });
    }

    #[track_caller]
    fn told(world: &mut World, expected: Expect) {
        expected.assert_eq(&world.told());
    }

    #[test]
    fn creates_what_is_missing_and_tells() {
        let (mut world, key) = world(2);
        world.step(&ReplicaSets, &key);
        told(
            &mut world,
            expect![[r#"
                create Pod web-1
                event Normal SuccessfulCreate Created pod: web-1
                create Pod web-2
                event Normal SuccessfulCreate Created pod: web-2
                patch ReplicaSet web/status {"status":{"observedGeneration":1,"replicas":0,"terminatingReplicas":0}}
            "#]],
        );
        settle(&mut world);
        told(
            &mut world,
            expect![[r#"
                patch ReplicaSet web/status {"status":{"fullyLabeledReplicas":2,"replicas":2}}
                patch ReplicaSet web/status {"status":{"availableReplicas":2,"readyReplicas":2}}
            "#]],
        );
    }

    #[test]
    fn a_failed_creation_shows_as_a_condition_and_leaves_when_it_is_over() {
        let (mut world, key) = world(1);
        world.refuse = Some(("Pod", "pods \"web-\" is forbidden: exceeded quota"));
        world.step(&ReplicaSets, &key);
        world.told();
        world.step(&ReplicaSets, &key);
        told(
            &mut world,
            expect![[r#"
                event Warning FailedCreate Error creating: pods "web-" is forbidden: exceeded quota
                patch ReplicaSet web/status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"pods \"web-\" is forbidden: exceeded quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}]}}
            "#]],
        );
        world.refuse = None;
        settle(&mut world);
        assert_eq!(world.get::<ReplicaSet>(&key).and_then(|rs| rs.status).and_then(|s| s.conditions), None);
    }

    #[test]
    fn adopts_matching_orphans_and_releases_what_no_longer_matches() {
        let (mut world, key) = world(1);
        world.add::<Pod>(
            json!({"metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}}, "spec": {"containers": []}}),
        );
        settle(&mut world);
        expect![[r#"
            patch Pod orphan {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"uid-1"}]}}
        "#]]
        .assert_eq(&world.did());
        world.edit::<Pod>(&Key::new("default", "orphan"), |p| p.metadata.labels = None);
        world.step(&ReplicaSets, &key);
        expect![[r#"
            patch Pod orphan {"metadata":{"ownerReferences":null}}
            create Pod web-1
        "#]]
        .assert_eq(&world.did());
    }

    /// `pods` is one a line: name, node or `-`, `r`eady or not, seconds of age, and a deletion cost.
    #[track_caller]
    fn check_rank(pods: &str, expected: Expect) {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut pods: Vec<Pod> = pods
            .lines()
            .map(|line| {
                let w: Vec<&str> = line.split_whitespace().collect();
                let since = now - jiff::SignedDuration::from_secs(w[3].parse().expect("seconds"));
                let mut pod = Pod::default();
                pod.metadata.name = Some(w[0].into());
                pod.metadata.uid = Some(w[0].into());
                pod.metadata.creation_timestamp = Some(Time(since));
                pod.metadata.annotations = w.get(4).map(|cost| [(DELETION_COST.to_owned(), (*cost).to_owned())].into());
                pod.spec.get_or_insert_default().node_name = (w[1] != "-").then(|| w[1].into());
                pod.status.get_or_insert_default().phase = Some("Running".into());
                pod_state::set_condition(&mut pod, "Ready", if w[2] == "r" { "True" } else { "False" }, "", "", since);
                pod
            })
            .collect();
        let mut on_node = HashMap::new();
        pods.iter().for_each(|p| *on_node.entry(pod_state::node(p).to_owned()).or_default() += 1);
        pods.sort_by(|a, b| rank(a, b, &on_node, now));
        expected.assert_eq(&pods.iter().map(Object::name).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn unbound_then_unready_then_cheap_then_crowded_then_young_go_first() {
        check_rank(
            "old n1 r 9000\nyoung n1 r 9\ncrowd n2 r 9000\ncrowd2 n2 r 9000\ncrowd3 n2 r 9000\ncheap n3 r 9000 -5\nunready n3 - 9000\nunbound - - 9",
            expect!["unbound unready cheap crowd crowd2 crowd3 young old"],
        );
    }

    #[test]
    fn min_ready_seconds_delay_availability() {
        let (mut world, key) = world(1);
        world.edit::<ReplicaSet>(&key, |rs| rs.spec.get_or_insert_default().min_ready_seconds = Some(10));
        settle(&mut world);
        let available = |w: &World| w.get::<ReplicaSet>(&key).and_then(|rs| rs.status).and_then(|s| s.available_replicas);
        assert_eq!(available(&world), None);
        world.pass(10);
        settle(&mut world);
        assert_eq!(available(&world), Some(1));
    }

    #[test]
    fn always_settles_at_the_number_asked_for() {
        for wanted in 0..4 {
            for have in 0..5 {
                let (mut world, key) = world(have);
                settle(&mut world);
                world.edit::<ReplicaSet>(&key, |rs| rs.spec.get_or_insert_default().replicas = Some(wanted));
                settle(&mut world);
                assert_eq!(world.list::<Pod>().len(), usize::try_from(wanted).expect("small"));
            }
        }
    }
}
