//! Deletes pods that do not tolerate their node's NoExecute taints, when their time there is over.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use parking_lot::Mutex;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// What a plan is made from.
pub struct Observed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The NoExecute taints of its node.
    pub taints: Vec<Taint>,
    /// Since when the pod is on a node so tainted, for taints that do not say when they were added.
    pub since: Timestamp,
    /// Whether its deletion was foreseen before.
    pub foreseen: bool,
    /// The time.
    pub now: Timestamp,
}

/// When the pod must go; nothing when it may stay.
#[must_use]
pub fn deadline(seen: &Observed) -> Option<Timestamp> {
    let tolerations = seen.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let of_taint = |taint: &Taint| -> Option<Timestamp> {
        let tolerating = tolerations.iter().filter(|t| pod_state::tolerates(t, taint));
        let start = taint.time_added.as_ref().map_or(seen.since, |t| t.0.max(created(&seen.pod)));
        // The shortest of the tolerations counts; one without seconds lets the pod stay for as long as it is the only kind.
        let mut seconds = None;
        let mut tolerated = false;
        for toleration in tolerating {
            tolerated = true;
            if let Some(s) = toleration.toleration_seconds {
                seconds = Some(seconds.map_or(s, |other: i64| other.min(s)));
            }
        }
        match (tolerated, seconds) {
            (false, _) => Some(seen.now),
            (true, None) => None,
            (true, Some(s)) => Some(start.saturating_add(SignedDuration::from_secs(s.max(0))).unwrap_or(Timestamp::MAX)),
        }
    };
    seen.taints.iter().filter_map(of_taint).min()
}

fn created(pod: &Pod) -> Timestamp {
    pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0)
}

/// Deletes the pod when its time is over.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let pod = seen.pod.as_ref();
    if pod.deleting() {
        return plan;
    }
    match deadline(seen) {
        None => {
            if seen.foreseen {
                plan.push(Action::tell(pod, "TaintManagerEviction", format!("Cancelling deletion of Pod {}", pod.key())));
            }
        }
        Some(at) if at > seen.now => plan.recheck(at),
        Some(_) => {
            plan.push(Action::tell(pod, "TaintManagerEviction", format!("Marking for deletion Pod {}", pod.key())));
            let mut marked = pod.clone();
            let message = "Taint manager: deleting due to NoExecute taint";
            pod_state::set_condition(&mut marked, "DisruptionTarget", "True", "DeletionByTaintManager", message, seen.now);
            plan.update_status(pod, &marked);
            plan.push(Action::delete(pod, Propagation::Default));
        }
    }
    plan
}

/// The controller.
#[derive(Default)]
pub struct TaintEviction {
    /// Pods on tainted nodes, by uid: since when, and whether their deletion is foreseen.
    on_tainted: Mutex<HashMap<String, (Timestamp, bool)>>,
}

fn no_execute(node: &Node) -> Vec<Taint> {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| t.effect == "NoExecute").cloned().collect()
}

impl Controller for TaintEviction {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            let spec = |p: Option<&Pod>| p.and_then(|p| p.spec.as_ref()).map(|s| (s.node_name.clone(), s.tolerations.clone()));
            if spec(change.old) != spec(change.new) {
                own.add(change.latest().key());
            }
        });
        let (all, own) = (caches.clone(), queue.clone());
        caches.nodes.subscribe(move |change: Change<'_, Node>| {
            if change.old.map(no_execute).unwrap_or_default() != change.new.map(no_execute).unwrap_or_default() {
                all.pods.indexed(change.latest().name()).iter().for_each(|p| own.add(p.key()));
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let mut memory = self.on_tainted.lock();
        let Some(pod) = view.caches.pods.get(key) else {
            // Which pod it was is not known any more; forget those that are gone once there are many.
            if memory.len() > 1_000 {
                let uids: std::collections::HashSet<String> = view.caches.pods.list().iter().map(|p| p.uid().to_owned()).collect();
                memory.retain(|uid, _| uids.contains(uid));
            }
            return Plan::default();
        };
        let taints = view.caches.nodes.get(&Key::cluster(pod_state::node(&pod))).map(|n| no_execute(&n)).unwrap_or_default();
        let (since, foreseen) = memory.get(pod.uid()).copied().unwrap_or((view.now, false));
        let seen = Observed { taints, since, foreseen, now: view.now, pod };
        let stays = deadline(&seen).is_none();
        if seen.taints.is_empty() {
            memory.remove(seen.pod.uid());
        } else {
            memory.insert(seen.pod.uid().to_owned(), (since, !stays));
        }
        plan(&seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::{Value, json};

    fn world(tolerations: Value, taint: Value) -> World {
        let mut world = World::new();
        world.add::<Node>(json!({"metadata": {"name": "n1"}, "spec": {"taints": [taint]}}));
        world.add::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations}}));
        world
    }

    /// The seconds after which the pod is deleted.
    #[track_caller]
    fn check(tolerations: Value, expected: Option<i64>) {
        let controller = TaintEviction::default();
        let mut world = world(tolerations, json!({"key": "k", "value": "v", "effect": "NoExecute"}));
        let mut deleted = None;
        for second in (0..400).step_by(5) {
            world.settle::<Pod>(&controller);
            if deleted.is_none() && world.list::<Pod>()[0].deleting() {
                deleted = Some(second);
            }
            world.pass(5);
        }
        assert_eq!(deleted, expected);
    }

    #[test]
    fn pods_go_when_their_toleration_ends() {
        check(json!([]), Some(0));
        check(json!([{"key": "other", "operator": "Exists", "effect": "NoExecute"}]), Some(0));
        check(json!([{"operator": "Exists"}]), None);
        check(json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 300}]), Some(300));
        check(
            json!([{"key": "k", "value": "v", "tolerationSeconds": 60}, {"key": "k", "operator": "Exists", "tolerationSeconds": 30}]),
            Some(30),
        );
    }

    #[test]
    fn taking_the_taint_away_cancels_the_deletion() {
        let controller = TaintEviction::default();
        let toleration = json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]);
        let mut world = world(toleration, json!({"key": "k", "effect": "NoExecute"}));
        world.settle::<Pod>(&controller);
        world.edit::<Node>(&Key::cluster("n1"), |n| n.spec = None);
        world.settle::<Pod>(&controller);
        assert_eq!(world.told(), "event Normal TaintManagerEviction Cancelling deletion of Pod default/p\n");
        world.pass(60);
        world.settle::<Pod>(&controller);
        assert!(!world.list::<Pod>()[0].deleting());
    }
}
