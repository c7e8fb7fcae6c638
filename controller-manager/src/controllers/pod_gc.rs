//! Deletes pods that nobody else will: on nodes that are gone, terminating without a node, on nodes declared out of service,
//! and ended ones beyond a number.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use crate::apply::{Outcome, message};
use crate::caches::Caches;
use crate::flags::Flags;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Failure, Plan};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// How often everything is looked at.
const PERIOD: SignedDuration = SignedDuration::from_secs(20);
/// A node must be missing for this long before its pods are.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What a plan is made from.
pub struct Observed {
    /// All pods.
    pub pods: Vec<Arc<Pod>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Nodes that are gone by a fresh read.
    pub gone: HashSet<String>,
    /// How many ended pods are kept; 0 for all.
    pub threshold: usize,
    /// The time.
    pub now: Timestamp,
}

/// Deletes, at once, what is nobody's.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let out_of_service: HashSet<&str> = seen
        .nodes
        .iter()
        .filter(|n| n.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == OUT_OF_SERVICE))
        .filter(|n| !n.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == "Ready" && c.status == "True"))
        .map(|n| n.name())
        .collect();
    for pod in &seen.pods {
        let node = pod_state::node(pod);
        let why = if !node.is_empty() && seen.gone.contains(node) {
            "PodGC: node no longer exists"
        } else if pod.deleting() && out_of_service.contains(node) {
            "PodGC: node out-of-service"
        } else if pod.deleting() && node.is_empty() && pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            "" // no condition: it never ran anywhere
        } else {
            continue;
        };
        fail_and_delete(pod, why, seen.now, &mut plan);
    }
    let mut ended: Vec<&Arc<Pod>> = seen.pods.iter().filter(|p| pod_state::is_terminal(p) && !p.deleting()).collect();
    if seen.threshold > 0 && ended.len() > seen.threshold {
        ended.sort_by_key(|p| (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.key()));
        plan.actions.extend(ended.iter().take(ended.len() - seen.threshold).map(|p| Action::delete_now(p.as_ref())));
    }
    plan
}

/// A pod that nobody will report on any more has failed (KEP-3329).
fn fail_and_delete(pod: &Pod, why: &str, now: Timestamp, plan: &mut Plan) {
    if !pod_state::is_terminal(pod) {
        let mut failed = pod.clone();
        failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
        if !why.is_empty() {
            pod_state::set_condition(&mut failed, "DisruptionTarget", "True", "DeletionByPodGC", why, now);
        }
        plan.update_status(pod, &failed);
    }
    plan.push(Action::delete_now(pod));
}

/// The controller. It has one key, which stands for everything.
pub struct PodGc {
    threshold: usize,
    missing_since: Mutex<HashMap<String, Timestamp>>,
}

impl PodGc {
    /// As the flags say.
    #[must_use]
    pub fn new(flags: &Flags) -> Self {
        Self { threshold: flags.terminated_pod_gc_threshold, missing_since: Mutex::default() }
    }

    /// The nodes that pods are bound to and that are missing for the quarantine.
    fn missing(&self, caches: &Caches, now: Timestamp) -> Vec<String> {
        let pods = caches.pods.list();
        let bound: HashSet<&str> = pods.iter().map(|p| pod_state::node(p)).filter(|n| !n.is_empty()).collect();
        let mut since = self.missing_since.lock();
        since.retain(|name, _| bound.contains(name.as_str()) && caches.nodes.get(&Key::cluster(name)).is_none());
        for name in bound.into_iter().filter(|n| caches.nodes.get(&Key::cluster(*n)).is_none()) {
            since.entry(name.to_owned()).or_insert(now);
        }
        since.iter().filter(|(_, at)| now.duration_since(**at) >= QUARANTINE).map(|(name, _)| name.clone()).collect()
    }

    fn observe(&self, view: &View<'_>, gone: HashSet<String>) -> Observed {
        Observed { pods: view.caches.pods.list(), nodes: view.caches.nodes.list(), gone, threshold: self.threshold, now: view.now }
    }
}

impl Controller for PodGc {
    fn subscribe(&self, _caches: &Arc<Caches>, queue: &Arc<Queue>) {
        queue.add(Key::cluster("pods"));
    }

    fn plan(&self, view: &View<'_>, _key: &Key) -> Plan {
        plan(&self.observe(view, HashSet::new()))
    }

    /// A node that the cache misses is asked for: deleting pods by force for want of an event would be dire.
    fn act<'a>(&'a self, run: &'a Run, _key: &'a Key, failure: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let now = run.clock.now();
            let next = now.checked_add(PERIOD).ok();
            let mut gone = HashSet::new();
            for name in self.missing(&run.caches, now) {
                match run.executor.get::<Node>(&Key::cluster(&name)).await {
                    Ok(None) => drop(gone.insert(name)),
                    Ok(Some(_)) => {}
                    Err(error) => {
                        let failure = Failure { reason: "", message: format!("looking for node {name}: {}", message(&error)) };
                        return (Outcome { failure: Some(failure), stale: false }, next);
                    }
                }
            }
            let seen = self.observe(&View { caches: &run.caches, now, failure }, gone);
            (run.executor.apply(plan(&seen)).await, next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    /// `pods` is one a line: name, node or `-`, phase, and `deleting` or nothing.
    #[track_caller]
    fn check(pods: &str, threshold: usize, expected: Expect) {
        let now = Timestamp::UNIX_EPOCH;
        let pod = |line: &str| {
            let w: Vec<&str> = line.split_whitespace().collect();
            let mut pod = Pod::default();
            pod.metadata.name = Some(w[0].into());
            pod.metadata.namespace = Some("ns".into());
            pod.spec.get_or_insert_default().node_name = (w[1] != "-").then(|| w[1].into());
            pod.status.get_or_insert_default().phase = Some(w[2].into());
            pod.metadata.deletion_timestamp = w.get(3).map(|_| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            Arc::new(pod)
        };
        let out: Node = serde_json::from_value(
            json!({"metadata": {"name": "out"}, "spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}}),
        )
        .expect("a node");
        let seen = Observed {
            pods: pods.lines().map(pod).collect(),
            nodes: vec![Arc::new(out)],
            gone: ["gone".to_owned()].into(),
            threshold,
            now,
        };
        let line = |action: &Action| match &action.op {
            crate::plan::Op::Patch { target, patch, .. } => {
                format!("fail {} {}\n", target.key, patch["status"]["conditions"][0]["message"])
            }
            crate::plan::Op::Delete { target, grace, .. } => format!("delete {} {grace:?}\n", target.key),
            other => format!("{other:?}\n"),
        };
        expected.assert_eq(&plan(&seen).actions.iter().map(line).collect::<String>());
    }

    #[test]
    fn deletes_what_is_nobody_s_and_nothing_else() {
        check(
            "lost gone Running\nfine there Running\nnever-bound - Pending deleting\nout out Running deleting\nstill-there there Running deleting",
            0,
            expect![[r#"
                fail ns/lost "PodGC: node no longer exists"
                delete ns/lost Some(0)
                fail ns/never-bound null
                delete ns/never-bound Some(0)
                fail ns/out "PodGC: node out-of-service"
                delete ns/out Some(0)
            "#]],
        );
    }

    #[test]
    fn ended_pods_beyond_the_threshold_go() {
        check(
            "a there Succeeded\nb there Failed\nc there Running",
            1,
            expect![[r#"
            delete ns/a Some(0)
        "#]],
        );
    }
}
