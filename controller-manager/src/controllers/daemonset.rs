//! One pod of a DaemonSet on each node that it fits.
//!
//! [`plan`] compares what is on each node with what should be; [`update`] replaces old pods by the update strategy.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};

use super::deployment::resolve;
use super::replicaset::{create, pod_from};
use crate::cache::Change;
use crate::caches::Caches;
use crate::history::{self, HASH};
use crate::kind::{Key, Object};
use crate::node_affinity;
use crate::ownership::{claim, controller_key, controller_of, matches, selector};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// At most this many pods are created or deleted in one plan.
const BURST: usize = 250;
/// A failed pod is replaced this long after it started, so that one that always fails does not spin.
const FAILED_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const GENERATION: &str = "pod-template-generation";

/// What a plan is made from.
pub struct Observed {
    /// The DaemonSet.
    pub set: Arc<DaemonSet>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// The pods it may claim.
    pub pods: Vec<Arc<Pod>>,
    /// The revisions it may claim.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Names of ControllerRevisions of its namespace.
    pub names: Vec<String>,
    /// The time.
    pub now: Timestamp,
}

/// What a node means to the set.
struct Place<'a> {
    node: &'a Node,
    should_run: bool,
    may_stay: bool,
    /// Its pods, oldest first.
    pods: Vec<Arc<Pod>>,
}

/// Creates, replaces and removes pods, and writes the status.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let set = seen.set.as_ref();
    let mut plan = Plan::default();
    let Some(spec) = set.spec.as_ref() else { return plan };
    let wanted = selector(&spec.selector);
    if wanted.is_everything() {
        plan.push(Action::warn(set, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.".to_owned()));
        return plan;
    }
    if set.deleting() {
        return plan;
    }
    let pods = claim(set, &wanted, &seen.pods, |_| true, &mut plan);
    let revisions = claim(set, &wanted, &seen.revisions, |_| true, &mut plan);
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let taken = |name: &str| seen.names.iter().any(|n| n == name);
    let current = history::current(set, &spec.template, &revisions, collisions, taken, &mut plan);
    let mut by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &pods {
        by_node.entry(target_node(pod)).or_default().push(pod.clone());
    }
    let mut places: Vec<Place<'_>> =
        seen.nodes.iter().map(|node| place(spec, node, by_node.remove(node.name()).unwrap_or_default())).collect();
    // What waits for a node that is gone will never be bound.
    let lost = by_node.values().flatten().filter(|p| pod_state::node(p).is_empty() && !p.deleting());
    plan.actions.extend(lost.map(|p| delete(set, p)));
    let mut new_on: Vec<&Node> = Vec::new();
    let mut gone: Vec<Arc<Pod>> = Vec::new();
    let (surge, unavailable) = rolling(spec, places.iter().filter(|p| p.should_run).count());
    for place in &mut places {
        tidy(seen, place, &current.hash, surge > 0, &mut new_on, &mut gone, &mut plan);
    }
    if spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete") {
        update(seen, spec, &places, &current.hash, (surge, unavailable), &mut new_on, &mut gone);
    }
    let created = new_on.iter().take(BURST).map(|node| create(set, &new_pod(set, spec, &current.hash, node.name())));
    plan.actions.extend(created);
    plan.actions.extend(gone.iter().take(BURST).map(|pod| delete(set, pod)));
    let mut status = status(seen, spec, &places, &current.hash);
    status.collision_count = current.collisions;
    plan.update_status(set, &DaemonSet { status: Some(status), ..set.clone() });
    let live =
        |r: &ControllerRevision| r.name() == current.revision.name() || pods.iter().any(|p| p.label(HASH) == Some(&history::hash_of(r)));
    history::clean_up(&revisions, live, spec.revision_history_limit.unwrap_or(10), &mut plan);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    pods.iter().filter_map(|p| pod_state::available_at(p, min_ready)).filter(|at| *at > seen.now).for_each(|at| plan.recheck(at));
    plan
}

fn delete(set: &DaemonSet, pod: &Pod) -> Action {
    let done = ("SuccessfulDelete", "Deleted pod: {}".to_owned());
    Action::delete(pod, Propagation::Default).about(set, done, ("FailedDelete", "Error deleting: {}".to_owned()))
}

/// The node a pod is bound to, or made for.
fn target_node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    let affinity =
        spec.and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    let fields = affinity.into_iter().flat_map(|a| &a.node_selector_terms).flat_map(|t| t.match_fields.iter().flatten());
    let named = fields.filter(|f| f.key == "metadata.name").flat_map(|f| f.values.iter().flatten()).next();
    match pod_state::node(pod) {
        "" => named.map_or("", String::as_str),
        bound => bound,
    }
}

fn place<'a>(spec: &DaemonSetSpec, node: &'a Node, mut pods: Vec<Arc<Pod>>) -> Place<'a> {
    pods.sort_by_key(|p| (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name().to_owned()));
    let template = spec.template.spec.clone().unwrap_or_default();
    let named = template.node_name.as_deref().is_none_or(|n| n.is_empty() || n == node.name());
    if !named || !node_affinity::allows(&template, node) {
        return Place { node, should_run: false, may_stay: false, pods };
    }
    let mut tolerations = template.tolerations.clone().unwrap_or_default();
    tolerations.extend(daemon_tolerations(&template));
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let untolerated: Vec<&str> =
        taints.filter(|t| !tolerations.iter().any(|tol| pod_state::tolerates(tol, t))).map(|t| t.effect.as_str()).collect();
    let should_run = !untolerated.iter().any(|e| matches!(*e, "NoSchedule" | "NoExecute"));
    Place { node, should_run, may_stay: !untolerated.contains(&"NoExecute"), pods }
}

/// What every daemon pod tolerates: it is there for the node, well or not.
fn daemon_tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let toleration = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut all = vec![
        toleration("not-ready", "NoExecute"),
        toleration("unreachable", "NoExecute"),
        toleration("disk-pressure", "NoSchedule"),
        toleration("memory-pressure", "NoSchedule"),
        toleration("pid-pressure", "NoSchedule"),
        toleration("unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        all.push(toleration("network-unavailable", "NoSchedule"));
    }
    all
}

fn new_pod(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, node: &str) -> Pod {
    let mut template: PodTemplateSpec = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.to_owned());
    let generation = set.annotation("deprecated.daemonset.template.generation").map(str::to_owned);
    labels.insert(GENERATION.to_owned(), generation.unwrap_or_else(|| set.metadata.generation.unwrap_or(0).to_string()));
    let pod = template.spec.get_or_insert_default();
    let added = daemon_tolerations(pod);
    let tolerations = pod.tolerations.get_or_insert_default();
    tolerations
        .extend(added.into_iter().filter(|t| !spec.template.spec.iter().flat_map(|s| s.tolerations.iter().flatten()).any(|o| o == t)));
    let here = NodeSelectorRequirement { key: "metadata.name".to_owned(), operator: "In".to_owned(), values: Some(vec![node.to_owned()]) };
    // In place of the template's own node affinity, which was judged already.
    let affinity: &mut Affinity = pod.affinity.get_or_insert_default();
    let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    node_affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![here]) }] });
    pod_from(set, &template)
}

/// `maxSurge` and `maxUnavailable` as numbers, of so many nodes.
fn rolling(spec: &DaemonSetSpec, nodes: usize) -> (usize, usize) {
    let rolling = spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let total = i32::try_from(nodes).unwrap_or(i32::MAX);
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    let surge = count(resolve(rolling.and_then(|r| r.max_surge.as_ref()), "0%", total, true));
    match rolling.and_then(|r| r.max_unavailable.as_ref()) {
        Some(value) => (surge, count(resolve(Some(value), "", total, true)).max(usize::from(surge == 0))),
        None => (surge, usize::from(surge == 0)),
    }
}

/// Leaves on a node what may be there: one pod, or with surge an old and a new one; none where none should be.
fn tidy<'a>(
    seen: &Observed,
    place: &mut Place<'a>,
    hash: &str,
    surge: bool,
    new_on: &mut Vec<&'a Node>,
    gone: &mut Vec<Arc<Pod>>,
    plan: &mut Plan,
) {
    let set = seen.set.as_ref();
    if !place.may_stay {
        gone.extend(place.pods.iter().filter(|p| !p.deleting()).cloned());
        return;
    }
    if place.pods.is_empty() && place.should_run {
        new_on.push(place.node);
        return;
    }
    let mut running: Vec<Arc<Pod>> = Vec::new();
    for pod in place.pods.iter().filter(|p| !p.deleting()) {
        let (phase, at) = (pod_state::phase(pod), format!("{} on node {}", pod.key(), place.node.name()));
        match phase {
            "Failed" => {
                let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).or(pod.metadata.creation_timestamp.as_ref());
                let due = started.and_then(|t| t.0.checked_add(FAILED_BACKOFF).ok()).unwrap_or(seen.now);
                if due > seen.now {
                    plan.recheck(due);
                } else {
                    plan.push(Action::warn(set, "FailedDaemonPod", format!("Found failed daemon pod {at}, will try to kill it")));
                    gone.push(pod.clone());
                }
            }
            "Succeeded" => {
                plan.push(Action::tell(set, "SucceededDaemonPod", format!("Found succeeded daemon pod {at}, will try to delete it")));
                gone.push(pod.clone());
            }
            _ => running.push(pod.clone()),
        }
    }
    let is_new = |p: &Arc<Pod>| p.label(HASH) == Some(hash);
    let (new, old): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = running.into_iter().partition(is_new);
    let keep_both = surge && !new.is_empty() && !old.is_empty();
    let surplus: Vec<Arc<Pod>> = match keep_both {
        true => new.into_iter().skip(1).chain(old.into_iter().skip(1)).collect(),
        false => {
            let mut all: Vec<Arc<Pod>> = new.into_iter().chain(old).collect();
            all.sort_by_key(|p| (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name().to_owned()));
            all.into_iter().skip(1).collect()
        }
    };
    gone.extend(surplus);
}

/// Replaces old pods: without surge it deletes them, as many as may be unavailable; with surge it adds new ones beside them.
fn update<'a>(
    seen: &Observed,
    spec: &DaemonSetSpec,
    places: &[Place<'a>],
    hash: &str,
    (surge, unavailable): (usize, usize),
    new_on: &mut Vec<&'a Node>,
    gone: &mut Vec<Arc<Pod>>,
) {
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let available = |p: &Pod| pod_state::is_available(p, min_ready, seen.now);
    let (mut down, mut surged) = (0, 0);
    let (mut free, mut candidates) = (Vec::new(), Vec::new());
    let (mut free_nodes, mut candidate_nodes) = (Vec::new(), Vec::new());
    for place in places.iter().filter(|p| p.should_run) {
        let pods: Vec<&Arc<Pod>> =
            place.pods.iter().filter(|p| pod_state::is_active(p) && !gone.iter().any(|g| g.uid() == p.uid())).collect();
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = pods.into_iter().partition(|p| p.label(HASH) == Some(hash));
        match (new.first(), old.first()) {
            (None, None) => down += 1,
            (Some(new), None) => down += usize::from(!available(new)),
            (Some(new), Some(old)) if surge > 0 => {
                if available(new) || !available(old) {
                    gone.push((*old).clone());
                } else {
                    surged += 1;
                }
            }
            (Some(_), Some(_)) => down += 1,
            (None, Some(old)) if surge > 0 => if available(old) { &mut candidate_nodes } else { &mut free_nodes }.push(place.node),
            (None, Some(old)) => if available(old) { &mut candidates } else { &mut free }.push((*old).clone()),
        }
    }
    if surge > 0 {
        new_on.extend(free_nodes);
        new_on.extend(candidate_nodes.into_iter().take(surge.saturating_sub(surged)));
    } else {
        gone.extend(free);
        gone.extend(candidates.into_iter().take(unavailable.saturating_sub(down)));
    }
}

fn status(seen: &Observed, spec: &DaemonSetSpec, places: &[Place<'_>], hash: &str) -> DaemonSetStatus {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let some = |n: usize| Some(count(n)).filter(|n| *n != 0);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let wanted: Vec<&Place<'_>> = places.iter().filter(|p| p.should_run).collect();
    let on = |test: &dyn Fn(&Arc<Pod>) -> bool| wanted.iter().filter(|place| place.pods.iter().any(test)).count();
    let available = on(&|p| pod_state::is_available(p, min_ready, seen.now));
    let old = seen.set.status.clone().unwrap_or_default();
    DaemonSetStatus {
        desired_number_scheduled: count(wanted.len()),
        current_number_scheduled: count(on(&|_| true)),
        number_misscheduled: count(places.iter().filter(|p| !p.should_run && !p.pods.is_empty()).count()),
        number_ready: count(on(&|p| pod_state::is_ready(p))),
        number_available: some(available),
        number_unavailable: some(wanted.len() - available),
        updated_number_scheduled: some(on(&|p| p.label(HASH) == Some(hash))),
        observed_generation: seen.set.metadata.generation.max(old.observed_generation),
        ..old
    }
}

/// The controller.
pub struct DaemonSets;

impl Controller for DaemonSets {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.daemon_sets.subscribe(move |change: Change<'_, DaemonSet>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            for pod in change.both() {
                if let Some(key) = controller_key::<DaemonSet>(&pod.metadata) {
                    own.add(key);
                } else if controller_of(&pod.metadata).is_none() {
                    let fits = |d: &Arc<DaemonSet>| d.spec.as_ref().is_some_and(|s| matches(&selector(&s.selector), pod));
                    all.daemon_sets.in_namespace(pod.namespace()).iter().filter(|d| fits(d)).for_each(|d| own.add(d.key()));
                }
            }
        });
        let own = queue.clone();
        caches.controller_revisions.subscribe(move |change: Change<'_, ControllerRevision>| {
            change.both().filter_map(|r| controller_key::<DaemonSet>(&r.metadata)).for_each(|key| own.add(key));
        });
        let (all, own) = (caches.clone(), queue.clone());
        caches.nodes.subscribe(move |change: Change<'_, Node>| {
            // What a pod's place depends on; heartbeats do not matter.
            let facts = |n: Option<&Node>| n.map(|n| (n.metadata.labels.clone(), n.spec.as_ref().and_then(|s| s.taints.clone())));
            if facts(change.old) != facts(change.new) {
                all.daemon_sets.list().iter().for_each(|d| own.add(d.key()));
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        let Some(set) = caches.daemon_sets.get(key) else { return Plan::default() };
        let pods = caches.pods.claimable(set.as_ref());
        let revisions = caches.controller_revisions.claimable(set.as_ref());
        let names = caches.controller_revisions.in_namespace(&key.namespace).iter().map(|r| r.name().to_owned()).collect();
        plan(&Observed { set, nodes: caches.nodes.list(), pods, revisions, names, now: view.now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn key() -> Key {
        Key::new("default", "ds")
    }

    fn world(nodes: &[&str], strategy: Value) -> World {
        let mut world = World::new();
        for name in nodes {
            world.add::<Node>(json!({"metadata": {"name": name, "labels": {"name": name}}}));
        }
        world.add::<DaemonSet>(json!({
            "metadata": {"name": "ds", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "ds"}}, "updateStrategy": strategy, "revisionHistoryLimit": 1,
                     "template": {"metadata": {"labels": {"app": "ds"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}
        }));
        world
    }

    /// As a scheduler does for daemon pods.
    fn bind(world: &mut World) -> bool {
        let unbound: Vec<Pod> = world.list::<Pod>().into_iter().filter(|p| pod_state::node(p).is_empty()).collect();
        for pod in &unbound {
            let node = target_node(pod).to_owned();
            world.edit::<Pod>(&pod.key(), |p| p.spec.get_or_insert_default().node_name = Some(node));
        }
        !unbound.is_empty()
    }

    fn settle(world: &mut World) {
        world.settle_with(|w| w.step(&DaemonSets, &key()) | bind(w) | kubelet(w));
    }

    /// Node and revision number of each pod.
    fn pods(world: &World) -> String {
        let revisions = world.list::<ControllerRevision>();
        let number = |p: &Pod| revisions.iter().find(|r| r.label(HASH) == p.label(HASH)).map_or(0, |r| r.revision);
        let mut lines: Vec<String> = world.list::<Pod>().iter().map(|p| format!("{}#{}", pod_state::node(p), number(p))).collect();
        lines.sort();
        lines.join(" ")
    }

    #[track_caller]
    fn is(world: &World, expected: Expect) {
        expected.assert_eq(&pods(world));
    }

    fn image(world: &mut World, image: &str) {
        world.edit::<DaemonSet>(&key(), |d| {
            let spec = d.spec.as_mut().and_then(|s| s.template.spec.as_mut()).expect("a spec");
            spec.containers[0].image = Some(image.to_owned());
        });
    }

    #[test]
    fn every_node_gets_one_and_new_nodes_too() {
        let mut world = world(&["a", "b"], Value::Null);
        settle(&mut world);
        is(&world, expect!["a#1 b#1"]);
        world.add::<Node>(json!({"metadata": {"name": "c"}}));
        settle(&mut world);
        is(&world, expect!["a#1 b#1 c#1"]);
        let status = world.get::<DaemonSet>(&key()).and_then(|d| d.status).expect("a status");
        assert_eq!((status.desired_number_scheduled, status.number_ready, status.number_available), (3, 3, Some(3)));
    }

    #[test]
    fn selectors_and_taints_choose_the_nodes() {
        let mut world = world(&["a", "b", "c"], Value::Null);
        world.edit::<DaemonSet>(&key(), |d| {
            let spec = d.spec.as_mut().and_then(|s| s.template.spec.as_mut()).expect("a spec");
            spec.affinity = serde_json::from_value(json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "name", "operator": "NotIn", "values": ["b"]}]}]}}}))
            .expect("affinity");
        });
        settle(&mut world);
        is(&world, expect!["a#1 c#1"]);
        let taint = |effect: &str| json!({"taints": [{"key": "k", "effect": effect}]});
        world.edit::<Node>(&Key::cluster("a"), |n| n.spec = serde_json::from_value(taint("NoSchedule")).ok());
        world.edit::<Node>(&Key::cluster("c"), |n| n.spec = serde_json::from_value(taint("NoExecute")).ok());
        settle(&mut world);
        is(&world, expect!["a#1"]);
    }

    #[test]
    fn an_update_replaces_pods_within_its_bounds() {
        for strategy in [json!({"rollingUpdate": {"maxUnavailable": 1}}), json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})] {
            let surge = strategy["rollingUpdate"]["maxSurge"] == 1;
            let mut world = world(&["a", "b", "c"], strategy);
            settle(&mut world);
            image(&mut world, "v2");
            world.settle_with(|w| {
                let busy = w.step(&DaemonSets, &key()) | bind(w) | kubelet(w);
                let ready = w.list::<Pod>().iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p)).count();
                assert!(ready >= if surge { 3 } else { 2 }, "{ready} ready");
                busy
            });
            is(&world, expect!["a#2 b#2 c#2"]);
        }
    }

    #[test]
    fn on_delete_waits_and_history_is_kept_short() {
        let mut world = world(&["a"], json!({"type": "OnDelete"}));
        settle(&mut world);
        image(&mut world, "v2");
        settle(&mut world);
        is(&world, expect!["a#1"]);
        for v in ["v3", "v4", "v1"] {
            image(&mut world, v);
            settle(&mut world);
        }
        is(&world, expect!["a#5"]);
        assert_eq!(world.list::<ControllerRevision>().len(), 2);
    }

    #[test]
    fn a_failed_pod_is_replaced() {
        let mut world = world(&["a"], Value::Null);
        settle(&mut world);
        let pod = world.list::<Pod>()[0].key();
        world.edit::<Pod>(&pod, |p| p.status.get_or_insert_default().phase = Some("Failed".into()));
        world.pass(5);
        settle(&mut world);
        is(&world, expect!["a#1"]);
        assert_ne!(world.list::<Pod>()[0].key(), pod);
    }
}
