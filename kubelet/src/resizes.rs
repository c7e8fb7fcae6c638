//! Which resizes the node takes, and in what order (KEP-1287, "Priority of Resize Requests").

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Node, Pod, ResourceRequirements};
use serde::Serialize;

use crate::admission;
use crate::allocations::Allocation;
use crate::mirrors::is_static;
use crate::pod::identity;
use crate::pod::qos::{self, QosClass};
use crate::pod::resize::{DEFERRED, INFEASIBLE, Pending};
use crate::resources::{self, milli, pod_milli};

/// A pod that wants other resources than it has.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// As its source names it.
    pub pod: Arc<Pod>,
    /// What it has.
    pub allocation: Allocation,
    /// Since when it waits.
    pub since: Timestamp,
}

/// Sorts those that are judged first to the front: what asks for no more than it has, then by priority, then Guaranteed pods, then those
/// that wait longest.
pub fn order(candidates: &mut [Candidate]) {
    candidates.sort_by_cached_key(|c| {
        let spec = c.pod.spec.as_ref();
        let priority = spec.and_then(|s| s.priority).unwrap_or(0);
        (asks_for_more(c), std::cmp::Reverse(priority), qos::class(&c.pod) != QosClass::Guaranteed, c.since, identity(&c.pod).2.to_owned())
    });
}

fn asks_for_more(candidate: &Candidate) -> bool {
    let has = candidate.allocation.apply(&candidate.pod);
    let of = |pod: &Pod, name: &str| pod.spec.as_ref().map_or(0, |s| pod_milli(s, name, resources::requests));
    ["cpu", "memory"].iter().any(|name| of(&candidate.pod, name) > of(&has, name))
}

/// Why the node does not give `pod` what it wants now, given the other pods as they count; `None` when it does.
#[must_use]
pub fn refusal(pod: &Pod, others: &[Arc<Pod>], node: &Node, unsafe_sysctls: &[String]) -> Option<Pending> {
    let refused = |reason, message| Some(Pending { reason, message, generation: pod.metadata.generation });
    if is_static(pod) {
        return refused(INFEASIBLE, "In-place resize of static-pods is not supported".to_owned());
    }
    let spec = pod.spec.as_ref()?;
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    for (name, unit) in [("memory", 1000), ("cpu", 1)] {
        let (wanted, capacity) = (pod_milli(spec, name, resources::requests), milli(allocatable, name).unwrap_or(0));
        if wanted > capacity {
            let words = format!("Node didn't have enough capacity: {name}, requested: {}, capacity: {}", wanted / unit, capacity / unit);
            return refused(INFEASIBLE, words);
        }
    }
    let (_, message) = admission::refusal(pod, others, node, unsafe_sysctls)?;
    refused(DEFERRED, message)
}

/// The words of an event about a resize: what the pod's containers ask for, and what is wrong.
#[must_use]
pub fn words(what: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let Some(spec) = pod.spec.as_ref() else { return what.to_owned() };
    let of = |c: &Container| Of { name: c.name.clone(), resources: c.resources.clone().unwrap_or_default() };
    let summary = Summary {
        init_containers: spec.init_containers.iter().flatten().map(of).collect(),
        containers: spec.containers.iter().map(of).collect(),
        generation: generation.unwrap_or(0),
        error,
    };
    serde_json::to_string(&summary).map_or_else(|_| what.to_owned(), |text| format!("{what}: {text}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Of>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Of>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Of {
    name: String,
    resources: ResourceRequirements,
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn pod(name: &str, cpu: &str, spec: Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        Arc::new(serde_json::from_value(json!({"metadata": {"uid": name, "generation": 2}, "spec": spec})).expect("a pod"))
    }

    fn candidate(name: &str, (has, wants): (&str, &str), spec: Value, since: i64) -> Candidate {
        let old = pod(name, has, spec.clone());
        let resources = old.spec.as_ref().and_then(|s| s.containers[0].resources.clone()).expect("set");
        let allocation = Allocation { allocated: [("c".to_owned(), resources)].into(), ..Allocation::default() };
        Candidate { pod: pod(name, wants, spec), allocation, since: Timestamp::from_second(since).expect("in range") }
    }

    #[test]
    fn the_order_of_resizes() {
        let mut all = vec![
            candidate("waits-less", ("1", "2"), json!({}), 20),
            candidate("waits-longest", ("1", "2"), json!({}), 10),
            candidate("important", ("1", "2"), json!({"priority": 5}), 30),
            candidate("shrinks", ("2", "1"), json!({}), 40),
        ];
        let mut guaranteed = candidate("guaranteed", ("1", "2"), json!({}), 50);
        let mut changed = Pod::clone(&guaranteed.pod);
        changed.status = Some(serde_json::from_value(json!({"qosClass": "Guaranteed"})).expect("a status"));
        guaranteed.pod = Arc::new(changed);
        all.push(guaranteed);
        order(&mut all);
        let names: Vec<&str> = all.iter().map(|c| identity(&c.pod).2).collect();
        assert_eq!(names, ["shrinks", "important", "guaranteed", "waits-longest", "waits-less"]);
    }

    #[track_caller]
    fn check(cpu: &str, spec: Value, expected: Expect) {
        let status = json!({"allocatable": {"cpu": "4", "memory": "1Gi", "pods": "10"}});
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).expect("a node");
        let refused = refusal(&pod("p", cpu, spec), &[pod("other", "3", json!({}))], &node, &[]);
        expected.assert_eq(&refused.map_or("taken".into(), |p| format!("{} {:?}: {}", p.reason, p.generation, p.message)));
    }

    #[test]
    fn what_does_not_fit_now_is_deferred_and_what_never_will_is_infeasible() {
        check("1", json!({}), expect!["taken"]);
        check(
            "2",
            json!({}),
            expect!["Deferred Some(2): Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"],
        );
        check("5", json!({}), expect!["Infeasible Some(2): Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"]);
    }

    #[test]
    fn words_are_upstreams() {
        let spec = json!({
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}}],
            "containers": [{"name": "c"}],
        });
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        expect![[r#"Pod resize Deferred: {"initContainers":[{"name":"s","resources":{"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}}}],"containers":[{"name":"c","resources":{}}],"generation":2,"error":"no room"}"#]]
            .assert_eq(&words("Pod resize Deferred", &pod, Some(2), "no room"));
    }
}
