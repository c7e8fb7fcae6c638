//! The patches of pods' statuses, as data.
//!
//! Each names the pod's uid, so that a pod that took over the name is left alone.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::identity::NodeName;
use crate::pod::Pod;

/// Says in `PodScheduled` why the pod has no node, and sets or clears (`Some(None)`) where room is made for it. `None` when
/// the status says all that already.
#[must_use]
pub fn not_scheduled(pod: &Pod, reason: &str, message: &str, nominate: Option<Option<&NodeName>>, now: Timestamp) -> Option<Value> {
    let mut status = Map::new();
    let old = pod.condition.as_ref();
    if !old.is_some_and(|c| c.status == "False" && c.reason == reason && c.message == message) {
        let since = old.filter(|c| c.status == "False").and_then(|c| c.since).unwrap_or(now);
        status.insert("conditions".to_owned(), json!([condition(pod, ("PodScheduled", "False"), reason, message, since)]));
    }
    if let Some(node) = nominate.filter(|node| *node != pod.nominated.as_ref()) {
        status.insert("nominatedNodeName".to_owned(), json!(node.map(NodeName::as_str)));
    }
    (!status.is_empty()).then(|| patch(pod, status))
}

/// Clears where room is made for the pod.
#[must_use]
pub fn not_nominated(pod: &Pod) -> Value {
    patch(pod, Map::from_iter([("nominatedNodeName".to_owned(), Value::Null)]))
}

/// Says that the pod goes because a more important one needs its room.
#[must_use]
pub fn preempted(victim: &Pod, by: &Arc<Pod>, now: Timestamp) -> Value {
    let message = format!("{}: preempting to accommodate a higher priority pod", by.scheduler_name);
    let condition = condition(victim, ("DisruptionTarget", "True"), "PreemptionByScheduler", &message, now);
    patch(victim, Map::from_iter([("conditions".to_owned(), json!([condition]))]))
}

fn condition(pod: &Pod, (kind, status): (&str, &str), reason: &str, message: &str, since: Timestamp) -> Value {
    let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut out = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
    if let Some(generation) = pod.generation {
        out["observedGeneration"] = json!(generation);
    }
    out
}

fn patch(pod: &Pod, status: Map<String, Value>) -> Value {
    json!({"metadata": {"uid": pod.uid.as_ref().map(crate::identity::Uid::as_str)}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Condition;
    use expect_test::{Expect, expect};

    fn pod(condition: Option<Condition>) -> Pod {
        Pod { uid: Some("u".into()), generation: Some(3), scheduler_name: "default-scheduler".into(), condition, ..Pod::default() }
    }

    fn old(status: &str, message: &str) -> Option<Condition> {
        let since = Some(Timestamp::UNIX_EPOCH);
        Some(Condition { status: status.to_owned(), reason: "Unschedulable".to_owned(), message: message.to_owned(), since })
    }

    fn check(patch: Option<Value>, expect: Expect) {
        expect.assert_eq(&patch.map(|p| p.to_string()).unwrap_or_default());
    }

    fn now() -> Timestamp {
        Timestamp::from_second(86_400).expect("a time")
    }

    #[test]
    fn says_why() {
        check(
            not_scheduled(&pod(None), "Unschedulable", "no", None, now()),
            expect![[
                r#"{"metadata":{"uid":"u"},"status":{"conditions":[{"lastTransitionTime":"1970-01-02T00:00:00Z","message":"no","observedGeneration":3,"reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}"#
            ]],
        );
    }

    #[test]
    fn says_nothing_twice_and_keeps_the_time_of_the_transition() {
        check(not_scheduled(&pod(old("False", "no")), "Unschedulable", "no", None, now()), expect![""]);
        check(
            not_scheduled(&pod(old("False", "no")), "Unschedulable", "still no", None, now()),
            expect![[
                r#"{"metadata":{"uid":"u"},"status":{"conditions":[{"lastTransitionTime":"1970-01-01T00:00:00Z","message":"still no","observedGeneration":3,"reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}"#
            ]],
        );
    }

    #[test]
    fn nominates_and_withdraws() {
        let node = NodeName::from("n1");
        let nominated = Pod { nominated: Some(node.clone()), ..pod(old("False", "no")) };
        check(
            not_scheduled(&pod(old("False", "no")), "Unschedulable", "no", Some(Some(&node)), now()),
            expect![[r#"{"metadata":{"uid":"u"},"status":{"nominatedNodeName":"n1"}}"#]],
        );
        check(not_scheduled(&nominated, "Unschedulable", "no", Some(Some(&node)), now()), expect![""]);
        check(
            not_scheduled(&nominated, "Unschedulable", "no", Some(None), now()),
            expect![[r#"{"metadata":{"uid":"u"},"status":{"nominatedNodeName":null}}"#]],
        );
    }

    #[test]
    fn victims_are_told_why() {
        check(
            Some(preempted(&pod(None), &Arc::new(pod(None)), now())),
            expect![[
                r#"{"metadata":{"uid":"u"},"status":{"conditions":[{"lastTransitionTime":"1970-01-02T00:00:00Z","message":"default-scheduler: preempting to accommodate a higher priority pod","observedGeneration":3,"reason":"PreemptionByScheduler","status":"True","type":"DisruptionTarget"}]}}"#
            ]],
        );
    }
}
