//! How many pods of a PodDisruptionBudget may be evicted now.
//!
//! The eviction API takes from `disruptionsAllowed` and notes the pod in `disruptedPods`; here the number is made anew from what
//! is there, with pods noted there counted as gone for a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::resolve;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object as _};
use crate::ownership::{controller_of, matches, selector};
use crate::plan::{Action, Plan};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// An eviction that was granted and not carried out within this time was not.
const GRANTED_FOR: SignedDuration = SignedDuration::from_secs(120);

/// What a plan is made from.
pub struct Observed {
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods it selects.
    pub pods: Vec<Arc<Pod>>,
    /// For the pods' controllers, how many pods all of them together want; or why that is not known.
    pub expected: Result<i32, String>,
    /// Whether some of the pods have no controller, so that nobody knows how many of them there should be.
    pub unmanaged: bool,
    /// The time.
    pub now: Timestamp,
}

/// Writes the status.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let budget = seen.budget.as_ref();
    let mut plan = Plan::default();
    let spec = budget.spec.clone().unwrap_or_default();
    let old = budget.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let numbers = match (&spec.max_unavailable, &spec.min_available) {
        (Some(value), _) => seen.expected.clone().map(|total| (total, (total - resolve(Some(value), "", total, true)).max(0))),
        (None, Some(IntOrString::Int(n))) => Ok((i32::try_from(seen.pods.len()).unwrap_or(i32::MAX), *n)),
        (None, Some(value)) => seen.expected.clone().map(|total| (total, resolve(Some(value), "", total, true))),
        (None, None) => Ok((i32::try_from(seen.pods.len()).unwrap_or(i32::MAX), 0)),
    };
    if seen.pods.is_empty() {
        plan.push(Action::tell(budget, "NoPods", "No matching pods found".to_owned()));
    }
    let needs_controllers = spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)));
    if seen.unmanaged && needs_controllers {
        let selector = spec.selector.as_ref().map(|s| selector(s).to_string()).unwrap_or_default();
        let text = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value."
        );
        plan.push(Action::warn(budget, "UnmanagedPods", text));
    }
    let (reason, message) = match numbers {
        Ok((expected, desired)) => {
            let granted = granted(&old, seen, &mut plan);
            let healthy = seen.pods.iter().filter(|p| !p.deleting() && pod_state::is_ready(p) && !granted.contains_key(p.name())).count();
            status.expected_pods = expected;
            status.desired_healthy = desired;
            status.current_healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
            status.disruptions_allowed = if expected > 0 { (status.current_healthy - desired).max(0) } else { 0 };
            status.disrupted_pods = Some(granted).filter(|g| !g.is_empty());
            (if status.disruptions_allowed > 0 { "SufficientPods" } else { "InsufficientPods" }, String::new())
        }
        Err(why) => {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            plan.push(Action::warn(budget, "CalculateExpectedPodCountFailed", text));
            status.disruptions_allowed = 0;
            ("SyncFailed", why)
        }
    };
    status.observed_generation = budget.metadata.generation;
    show(&mut status, reason, &message, budget.metadata.generation, seen.now);
    plan.update_status(budget, &PodDisruptionBudget { status: Some(status), ..budget.clone() });
    plan
}

/// Evictions granted and neither carried out nor lapsed.
fn granted(old: &PodDisruptionBudgetStatus, seen: &Observed, plan: &mut Plan) -> BTreeMap<String, Time> {
    let mut out = BTreeMap::new();
    for (name, at) in old.disrupted_pods.iter().flatten() {
        let there = seen.pods.iter().any(|p| p.name() == name && !p.deleting());
        let lapses = at.0.saturating_add(GRANTED_FOR).unwrap_or(Timestamp::MAX);
        if there && lapses > seen.now {
            plan.recheck(lapses);
            out.insert(name.clone(), at.clone());
        }
    }
    out
}

fn show(status: &mut PodDisruptionBudgetStatus, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
    const TYPE: &str = "DisruptionAllowed";
    let value = if reason == "SufficientPods" { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let since = conditions.iter().find(|c| c.type_ == TYPE && c.status == value).map(|c| c.last_transition_time.clone());
    conditions.retain(|c| c.type_ != TYPE);
    conditions.push(Condition {
        type_: TYPE.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: generation,
    });
}

/// How many pods the controllers of these pods want; each counts once.
fn expected(caches: &Caches, pods: &[Arc<Pod>]) -> Result<i32, String> {
    let mut by_owner: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        if by_owner.contains_key(&owner.uid) {
            continue;
        }
        let key = Key::new(pod.namespace(), &owner.name);
        let scale = match owner.kind.as_str() {
            "ReplicaSet" => caches.replica_sets.get(&key).map(|rs| {
                // What its Deployment wants is what counts while it rolls out.
                let deployment = controller_of(&rs.metadata).and_then(|o| caches.deployments.get(&Key::new(pod.namespace(), &o.name)));
                match deployment {
                    Some(d) => (d.uid().to_owned(), d.spec.as_ref().and_then(|s| s.replicas)),
                    None => (rs.uid().to_owned(), rs.spec.as_ref().and_then(|s| s.replicas)),
                }
            }),
            "StatefulSet" => caches.stateful_sets.get(&key).map(|s| (s.uid().to_owned(), s.spec.as_ref().and_then(|s| s.replicas))),
            "ReplicationController" => {
                caches.replication_controllers.get(&key).map(|r| (r.uid().to_owned(), r.spec.as_ref().and_then(|s| s.replicas)))
            }
            kind => return Err(format!("{}s do not implement the scale subresource", kind.to_lowercase())),
        };
        match scale {
            Some((uid, replicas)) => by_owner.insert(uid, replicas.unwrap_or(1)),
            None => continue, // the controller is gone; its pods will be
        };
    }
    Ok(by_owner.values().sum())
}

/// The controller.
pub struct Disruption;

impl Controller for Disruption {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.pod_disruption_budgets.subscribe(move |change: Change<'_, PodDisruptionBudget>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            for budget in all.pod_disruption_budgets.in_namespace(change.latest().namespace()) {
                if change.both().any(|pod| selects(&budget, pod)) {
                    own.add(budget.key());
                }
            }
        });
        let wake = |caches: &Arc<Caches>, queue: &Arc<Queue>| {
            let (all, own) = (caches.clone(), queue.clone());
            move |namespace: &str| all.pod_disruption_budgets.in_namespace(namespace).iter().for_each(|b| own.add(b.key()))
        };
        // A scale that changes changes what is expected.
        let (on_deployment, on_set) = (wake(caches, queue), wake(caches, queue));
        caches.deployments.subscribe(move |change| {
            if change.old.map(|d| d.metadata.generation) != change.new.map(|d| d.metadata.generation) {
                on_deployment(change.latest().namespace());
            }
        });
        let (on_replica_set, on_controller) = (wake(caches, queue), wake(caches, queue));
        caches.replica_sets.subscribe(move |change| {
            if change.old.map(|r| r.metadata.generation) != change.new.map(|r| r.metadata.generation) {
                on_replica_set(change.latest().namespace());
            }
        });
        caches.replication_controllers.subscribe(move |change| {
            if change.old.map(|r| r.metadata.generation) != change.new.map(|r| r.metadata.generation) {
                on_controller(change.latest().namespace());
            }
        });
        caches.stateful_sets.subscribe(move |change| {
            if change.old.map(|s| s.metadata.generation) != change.new.map(|s| s.metadata.generation) {
                on_set(change.latest().namespace());
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        let Some(budget) = caches.pod_disruption_budgets.get(key).filter(|b| !b.deleting()) else { return Plan::default() };
        let mut pods = caches.pods.in_namespace(&key.namespace);
        pods.retain(|p| selects(&budget, p) && !pod_state::is_terminal(p));
        let expected = expected(caches, &pods);
        let unmanaged = pods.iter().any(|p| controller_of(&p.metadata).is_none());
        plan(&Observed { budget, pods, expected, unmanaged, now: view.now })
    }
}

/// An empty selector selects all of the namespace; none selects nothing.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    budget.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| matches(&selector(s), pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use expect_test::{Expect, expect};
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, ready: usize, more: impl FnOnce(&mut World), expected: Expect) {
        let mut world = World::new();
        let rs: ReplicaSet =
            world.add(json!({"metadata": {"name": "rs", "namespace": "default"}, "spec": {"replicas": 4, "selector": {}}}));
        for i in 0..4 {
            world.add::<Pod>(json!({
                "metadata": {"name": format!("p{i}"), "namespace": "default", "labels": {"app": "x"}, "ownerReferences": [rs.controller_ref()]},
                "spec": {"nodeName": "n", "containers": []}, "status": {"phase": if i < ready { "Pending" } else { "Running" }}
            }));
        }
        kubelet(&mut world);
        let mut full = json!({"selector": {"matchLabels": {"app": "x"}}});
        spec.as_object().into_iter().flatten().for_each(|(k, v)| full[k] = v.clone());
        world.add::<PodDisruptionBudget>(json!({"metadata": {"name": "b", "namespace": "default"}, "spec": full}));
        more(&mut world);
        world.settle::<PodDisruptionBudget>(&Disruption);
        let s = world.list::<PodDisruptionBudget>()[0].status.clone().expect("a status");
        let reason = s.conditions.iter().flatten().map(|c| c.reason.as_str()).collect::<String>();
        expected.assert_eq(&format!(
            "expected {} desired {} healthy {} allowed {} {reason}",
            s.expected_pods, s.desired_healthy, s.current_healthy, s.disruptions_allowed
        ));
    }

    #[test]
    fn numbers_and_percentages() {
        check(json!({"minAvailable": 3}), 4, |_| {}, expect!["expected 4 desired 3 healthy 4 allowed 1 SufficientPods"]);
        check(json!({"minAvailable": "50%"}), 4, |_| {}, expect!["expected 4 desired 2 healthy 4 allowed 2 SufficientPods"]);
        check(json!({"maxUnavailable": 1}), 4, |_| {}, expect!["expected 4 desired 3 healthy 4 allowed 1 SufficientPods"]);
        check(json!({"maxUnavailable": "25%"}), 3, |_| {}, expect!["expected 4 desired 3 healthy 3 allowed 0 InsufficientPods"]);
    }

    #[test]
    fn a_granted_eviction_counts_until_it_lapses() {
        let note = |w: &mut World| {
            let at = Time(w.now);
            w.edit::<PodDisruptionBudget>(&Key::new("default", "b"), |b| {
                b.status.get_or_insert_default().disrupted_pods = Some([("p0".to_owned(), at)].into())
            });
        };
        check(json!({"maxUnavailable": 1}), 4, note, expect!["expected 4 desired 3 healthy 3 allowed 0 InsufficientPods"]);
        let lapse = |w: &mut World| {
            note(w);
            w.pass(121);
        };
        check(json!({"maxUnavailable": 1}), 4, lapse, expect!["expected 4 desired 3 healthy 4 allowed 1 SufficientPods"]);
    }

    #[test]
    fn pods_without_a_controller_are_not_expected() {
        let orphan = |w: &mut World| w.edit::<Pod>(&Key::new("default", "p0"), |p| p.metadata.owner_references = None);
        check(json!({"minAvailable": "50%"}), 4, orphan, expect!["expected 4 desired 2 healthy 4 allowed 2 SufficientPods"]);
    }
}
