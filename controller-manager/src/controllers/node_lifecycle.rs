//! Notices nodes that fell silent: their conditions become Unknown, taints keep pods away and drive them out.
//!
//! A node is silent when neither its Lease nor its Ready condition moved for the grace period, by this program's clock from the
//! moment it saw them move: the node's own clock does not matter. How fast a zone's nodes are given up depends on how
//! many of it are not ready: when all nodes of all zones seem dead, it is we who are cut off, and nobody is evicted.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::cache::Change;
use crate::caches::Caches;
use crate::flags::Flags;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away, with the status in which they do and the taint's key.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
/// The conditions that a silent node's kubelet would be reporting.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Whether a node that is not ready may get the taint that evicts its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evict {
    /// It may.
    Now,
    /// Others of its zone come first: ask again then.
    Later(Timestamp),
    /// Everything seems dead: nobody is evicted, and who is being evicted is not any more.
    Never,
}

/// What a plan is made from.
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// When it last gave a sign of life.
    pub alive_at: Timestamp,
    /// For how long it may be silent.
    pub grace: SignedDuration,
    /// Whether its pods may be evicted, should it not be ready.
    pub evict: Evict,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// The time.
    pub now: Timestamp,
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// The status of the Ready condition; empty for a node that has yet to report for the first time.
fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("", |c| c.status.as_str())
}

/// Whether it was ready, or never known to be, and is not.
fn is_unwell(node: &Node) -> bool {
    matches!(ready(node), "False" | "Unknown")
}

/// Conditions, taints and the readiness of pods, as the node's signs of life are.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let node = seen.node.as_ref();
    let mut plan = Plan::default();
    let mut shown = node.clone();
    let deadline = seen.alive_at.saturating_add(seen.grace).unwrap_or(Timestamp::MAX);
    if seen.now >= deadline {
        forget(&mut shown, seen.now);
        if ready(&shown) != ready(node) {
            plan.push(Action::tell(node, "NodeNotReady", format!("Node {} status is now: NodeNotReady", node.name())));
        }
    } else {
        plan.recheck(deadline);
    }
    plan.update_status(node, &shown);
    let mut tainted = node.clone();
    let taints = taints(seen, &shown, &mut plan);
    tainted.spec.get_or_insert_default().taints = Some(taints).filter(|t| !t.is_empty());
    if tainted.spec.as_ref().and_then(|s| s.taints.as_ref()) != node.spec.as_ref().and_then(|s| s.taints.as_ref()) {
        plan.update(node, &tainted);
    }
    if is_unwell(&shown) {
        let since = condition(&shown, "Ready").and_then(|c| c.last_transition_time.as_ref()).map_or(seen.now, |t| t.0);
        let silent = ready(&shown) == "Unknown";
        for pod in &seen.pods {
            // A kubelet that still reports may have found its pods well after the node was not: its word counts.
            if pod_state::ready_since(pod).is_some_and(|at| silent || at <= since) {
                let mut unready = pod.as_ref().clone();
                let conditions = unready.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten());
                for c in conditions.filter(|c| c.type_ == "Ready") {
                    c.status = "False".to_owned();
                    c.last_transition_time = Some(Time(seen.now));
                }
                plan.update_status(pod.as_ref(), &unready);
                plan.push(Action::warn(pod.as_ref(), "NodeNotReady", "Node is not ready".to_owned()));
            }
        }
    }
    plan
}

/// What a silent node said last is not known to be true any more.
fn forget(node: &mut Node, now: Timestamp) {
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for type_ in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                c.status = "Unknown".to_owned();
                c.reason = Some("NodeStatusUnknown".to_owned());
                c.message = Some("Kubelet stopped posting node status.".to_owned());
                c.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
}

/// The node's taints: those of others untouched, ours as the conditions ask.
fn taints(seen: &Observed, shown: &Node, plan: &mut Plan) -> Vec<Taint> {
    let old = seen.node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = BY_CONDITION
        .iter()
        .filter(|(t, status, _)| condition(shown, t).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if seen.node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let has = |key: &str, effect: &str| old.iter().any(|t| t.key == key && t.effect == effect);
    let evicting = match ready(shown) {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    };
    match (evicting, seen.evict) {
        (None, _) | (_, Evict::Never) => {}
        (Some(key), Evict::Later(at)) => {
            tracing::debug!(node = seen.node.name(), key, "eviction waits for its turn");
            plan.recheck(at);
        }
        (Some(key), Evict::Now) => wanted.push((key, "NoExecute")),
    }
    let ours = |t: &Taint| match t.effect.as_str() {
        "NoExecute" => t.key == NOT_READY || t.key == UNREACHABLE,
        "NoSchedule" => t.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == t.key),
        _ => false,
    };
    let mut taints: Vec<Taint> =
        old.iter().filter(|t| !ours(t) || wanted.contains(&(t.key.as_str(), t.effect.as_str()))).cloned().collect();
    for (key, effect) in wanted.into_iter().filter(|(key, effect)| !has(key, effect)) {
        taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), time_added: Some(Time(seen.now)), value: None });
    }
    taints
}

/// Signs of life of a node.
struct Health {
    uid: String,
    heartbeat: Option<Timestamp>,
    lease: Option<Timestamp>,
    alive_at: Timestamp,
}

#[derive(Default)]
struct Memory {
    nodes: HashMap<String, Health>,
    /// For each zone, when it may next give up a node.
    next_eviction: HashMap<String, Timestamp>,
}

/// The controller.
pub struct NodeLifecycle {
    grace: SignedDuration,
    startup_grace: SignedDuration,
    period: SignedDuration,
    rate: f64,
    secondary_rate: f64,
    large: usize,
    unhealthy: f64,
    memory: Mutex<Memory>,
}

impl NodeLifecycle {
    /// As the flags say.
    #[must_use]
    pub fn new(flags: &Flags) -> Self {
        let signed = |d| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        Self {
            grace: signed(flags.node_monitor_grace_period),
            startup_grace: signed(flags.node_startup_grace_period),
            period: signed(flags.node_monitor_period),
            rate: flags.node_eviction_rate,
            secondary_rate: flags.secondary_node_eviction_rate,
            large: flags.large_cluster_size_threshold,
            unhealthy: flags.unhealthy_zone_threshold,
            memory: Mutex::default(),
        }
    }

    /// When the node was last seen alive, and whether it is new here.
    fn alive_at(&self, node: &Node, lease: Option<&Lease>, now: Timestamp) -> (Timestamp, bool) {
        let heartbeat = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref()).map(|t| t.0);
        let mut memory = self.memory.lock();
        match memory.nodes.get_mut(node.name()).filter(|h| h.uid == node.uid()) {
            Some(health) => {
                // What we ourselves wrote is no sign of life, and it leaves the heartbeat as it was.
                if heartbeat > health.heartbeat || renewed > health.lease {
                    health.alive_at = now;
                    health.heartbeat = heartbeat;
                    health.lease = renewed;
                }
                (health.alive_at, false)
            }
            None => {
                // One that never reported is measured from its creation.
                let created = node.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
                let alive_at = if heartbeat.is_none() && renewed.is_none() { created } else { now };
                memory.nodes.insert(node.name().to_owned(), Health { uid: node.uid().to_owned(), heartbeat, lease: renewed, alive_at });
                (alive_at, true)
            }
        }
    }

    /// Whether a node of this zone may be given up now; counts it, if so. One that was given up already stays so.
    fn may_evict(&self, zone: &str, nodes: &[Arc<Node>], already: bool, now: Timestamp) -> Evict {
        let mut zones: HashMap<String, (usize, usize)> = HashMap::new();
        for node in nodes {
            let (all, bad) = zones.entry(zone_of(node)).or_default();
            *all += 1;
            *bad += usize::from(ready(node) != "True");
        }
        let full = |(all, bad): &(usize, usize)| bad >= all;
        if zones.values().all(full) {
            return Evict::Never;
        }
        if already {
            return Evict::Now;
        }
        let (all, bad) = zones.get(zone).copied().unwrap_or((1, 1));
        #[allow(clippy::cast_precision_loss)] // numbers of nodes
        let partial = !full(&(all, bad)) && bad > 2 && bad as f64 / all as f64 >= self.unhealthy;
        let rate = match partial {
            true if all > self.large => self.secondary_rate,
            true => 0.0,
            false => self.rate,
        };
        let soon = now.saturating_add(self.period).unwrap_or(Timestamp::MAX);
        if rate <= 0.0 {
            return Evict::Later(soon);
        }
        let mut memory = self.memory.lock();
        let next = memory.next_eviction.entry(zone.to_owned()).or_insert(now);
        if *next > now {
            return Evict::Later((*next).min(soon));
        }
        let wait = SignedDuration::try_from_secs_f64(1.0 / rate).unwrap_or(SignedDuration::MAX);
        *next = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        Evict::Now
    }
}

fn zone_of(node: &Node) -> String {
    let label = |name: &str| node.label(name).unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Controller for NodeLifecycle {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.nodes.subscribe(move |change: Change<'_, Node>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.leases.subscribe(move |change: Change<'_, Lease>| own.add(Key::cluster(change.latest().name())));
        let (all, own) = (caches.clone(), queue.clone());
        // A pod that is bound to, or found ready on, a node that is not ready.
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            if let Some(pod) = change.new.filter(|p| pod_state::is_ready(p)) {
                let key = Key::cluster(pod_state::node(pod));
                if all.nodes.get(&key).is_some_and(|n| is_unwell(&n)) {
                    own.add(key);
                }
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(node) = view.caches.nodes.get(key) else {
            self.memory.lock().nodes.remove(&key.name);
            return Plan::default();
        };
        let lease = view.caches.leases.get(&Key::new("kube-node-lease", &key.name));
        let (alive_at, new) = self.alive_at(&node, lease.as_deref(), view.now);
        let never_reported = condition(&node, "Ready").is_none();
        let grace = if never_reported { self.startup_grace } else { self.grace };
        let silent = alive_at.saturating_add(grace).is_ok_and(|end| end <= view.now);
        let evicted = node
            .spec
            .iter()
            .flat_map(|s| s.taints.iter().flatten())
            .any(|t| t.effect == "NoExecute" && (t.key == NOT_READY || t.key == UNREACHABLE));
        let evict = match silent || is_unwell(&node) {
            true => {
                // The zone as it will be with this node's fate known.
                let mut nodes = view.caches.nodes.list();
                for other in nodes.iter_mut().filter(|n| silent && n.name() == node.name()) {
                    forget(Arc::make_mut(other), view.now);
                }
                self.may_evict(&zone_of(&node), &nodes, evicted, view.now)
            }
            false => Evict::Now,
        };
        let pods = if silent || is_unwell(&node) { view.caches.pods.indexed(&key.name) } else { Vec::new() };
        let mut plan = plan(&Observed { node: node.clone(), alive_at, grace, evict, pods, now: view.now });
        if evict == Evict::Never {
            plan.recheck(view.now.saturating_add(self.period).unwrap_or(Timestamp::MAX)); // until somebody is back
        }
        if new {
            let text = format!("Node {0} event: Registered Node {0} in Controller", node.name());
            plan.push(Action::tell(node.as_ref(), "RegisteredNode", text));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use clap::Parser as _;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn world(nodes: &[&str]) -> (World, NodeLifecycle) {
        let mut world = World::new();
        for name in nodes {
            world.add::<Node>(json!({
                "metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}
            }));
            renew(&mut world, name);
            world.add::<Pod>(json!({
                "metadata": {"name": format!("on-{name}"), "namespace": "default"},
                "spec": {"nodeName": name, "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
            }));
        }
        (world, NodeLifecycle::new(&Flags::parse_from(["x"])))
    }

    fn renew(world: &mut World, name: &str) {
        let key = Key::new("kube-node-lease", name);
        if world.get::<Lease>(&key).is_none() {
            world.add::<Lease>(json!({"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {}}));
        }
        let now = world.now;
        world.edit::<Lease>(&key, |l| {
            l.spec.get_or_insert_default().renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now))
        });
    }

    /// A node a line: its Ready status and reason, its taints, and whether its pod is ready.
    fn nodes(world: &World) -> String {
        let line = |n: &Node| {
            let ready = condition(n, "Ready").expect("Ready");
            let taints: Vec<String> =
                n.spec.iter().flat_map(|s| s.taints.iter().flatten()).map(|t| format!("{}:{}", t.key, t.effect)).collect();
            let pod = world.get::<Pod>(&Key::new("default", format!("on-{}", n.name()))).expect("its pod");
            format!(
                "{} {} {} [{}] pod ready: {}\n",
                n.name(),
                ready.status,
                ready.reason.as_deref().unwrap_or("-"),
                taints.join(" "),
                pod_state::is_ready(&pod)
            )
        };
        world.list::<Node>().iter().map(line).collect()
    }

    /// Lets time pass in steps of 10 s in which the nodes of `alive` renew their leases.
    fn pass(world: &mut World, controller: &NodeLifecycle, seconds: i64, alive: &[&str]) {
        for _ in 0..seconds / 10 {
            world.pass(10);
            alive.iter().for_each(|name| renew(world, name));
            world.settle::<Node>(controller);
        }
    }

    #[track_caller]
    fn is(world: &World, expected: Expect) {
        expected.assert_eq(&nodes(world));
    }

    #[test]
    fn a_silent_node_becomes_unknown_after_the_grace_period_and_comes_back() {
        let (mut world, controller) = world(&["a", "b"]);
        world.settle::<Node>(&controller);
        pass(&mut world, &controller, 30, &["a"]);
        is(
            &world,
            expect![[r#"
            a True KubeletReady [] pod ready: true
            b True KubeletReady [] pod ready: true
        "#]],
        );
        pass(&mut world, &controller, 10, &["a"]);
        is(
            &world,
            expect![[r#"
            a True KubeletReady [] pod ready: true
            b Unknown NodeStatusUnknown [node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute] pod ready: false
        "#]],
        );
        world.edit::<Node>(&Key::cluster("b"), |n| {
            for c in n.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
                c.status = if c.type_ == "Ready" { "True" } else { "False" }.into();
                c.reason = Some("KubeletReady".into());
            }
        });
        pass(&mut world, &controller, 10, &["a", "b"]);
        is(
            &world,
            expect![[r#"
            a True KubeletReady [] pod ready: true
            b True KubeletReady [] pod ready: false
        "#]],
        );
    }

    #[test]
    fn when_all_seem_dead_nobody_is_evicted() {
        let (mut world, controller) = world(&["a", "b"]);
        world.settle::<Node>(&controller);
        pass(&mut world, &controller, 100, &[]);
        is(
            &world,
            expect![[r#"
            a Unknown NodeStatusUnknown [node.kubernetes.io/unreachable:NoSchedule] pod ready: false
            b Unknown NodeStatusUnknown [node.kubernetes.io/unreachable:NoSchedule] pod ready: false
        "#]],
        );
    }

    #[test]
    fn nodes_are_given_up_one_in_ten_seconds() {
        let (mut world, controller) = world(&["a", "b", "c", "d", "e"]);
        world.settle::<Node>(&controller);
        let evicted = |w: &World| nodes(w).matches("NoExecute").count();
        pass(&mut world, &controller, 40, &["a", "b", "c"]);
        assert_eq!(evicted(&world), 1);
        pass(&mut world, &controller, 10, &["a", "b", "c"]);
        assert_eq!(evicted(&world), 2);
    }

    #[test]
    fn a_node_that_never_reports_has_the_startup_grace_period() {
        let (mut world, controller) = world(&["a", "b"]);
        world.edit::<Node>(&Key::cluster("b"), |n| n.status = None);
        world.remove::<Lease>(&Key::new("kube-node-lease", "b"));
        world.settle::<Node>(&controller);
        pass(&mut world, &controller, 50, &["a"]);
        assert!(world.get::<Node>(&Key::cluster("b")).expect("b").status.is_none());
        pass(&mut world, &controller, 10, &["a"]);
        assert!(nodes(&world).contains("b Unknown NodeStatusNeverUpdated"));
    }

    #[test]
    fn cordoned_nodes_and_pressure_are_tainted() {
        let (mut world, controller) = world(&["a"]);
        world.edit::<Node>(&Key::cluster("a"), |n| {
            n.spec.get_or_insert_default().unschedulable = Some(true);
            n.status.iter_mut().flat_map(|s| &mut s.conditions).for_each(|c| {
                c.push(NodeCondition { type_: "DiskPressure".into(), status: "True".into(), ..NodeCondition::default() });
            });
        });
        world.settle::<Node>(&controller);
        is(
            &world,
            expect![[r#"
            a True KubeletReady [node.kubernetes.io/disk-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule] pod ready: true
        "#]],
        );
    }
}
