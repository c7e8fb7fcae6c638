//! Between the two forms of a HorizontalPodAutoscaler. What v1 has no field for travels in annotations, so nothing is lost on the way.

use api::object::Meta as _;
use serde_json::{Map, Value, json};

use crate::resources::cells::items;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const SHARE: &str = "targetCPUUtilizationPercentage";
const CURRENT_SHARE: &str = "currentCPUUtilizationPercentage";

fn take_annotation(o: &mut Value, name: &str) -> Option<Value> {
    let mut annotations = o.annotations();
    let value = serde_json::from_str(&annotations.remove(name)?).ok()?;
    o.set_meta("annotations", if annotations.is_empty() { Value::Null } else { json!(annotations) });
    Some(value)
}

fn annotate(o: &mut Value, name: &str, value: &Value) {
    let mut annotations = o.annotations();
    annotations.insert(name.to_owned(), value.to_string());
    o.set_meta("annotations", json!(annotations));
}

fn field<'a>(o: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    o.get_mut(name).and_then(Value::as_object_mut)
}

fn is_cpu_share(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && metric["resource"]["target"]["type"] == "Utilization"
}

fn cpu_share(share: &Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
}

/// From v1 to v2.
pub(super) fn to_v2(mut o: Value) -> Value {
    o["apiVersion"] = "autoscaling/v2".into();
    let others = take_annotation(&mut o, METRICS).and_then(|m| m.as_array().cloned()).unwrap_or_default();
    let behavior = take_annotation(&mut o, BEHAVIOR);
    let (current, conditions) = (take_annotation(&mut o, CURRENT), take_annotation(&mut o, CONDITIONS));
    if let Some(spec) = field(&mut o, "spec") {
        let share = spec.remove(SHARE).map(|s| cpu_share(&s));
        let all: Vec<Value> = others.into_iter().chain(share).collect();
        if !all.is_empty() {
            spec.insert("metrics".to_owned(), all.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = field(&mut o, "status") {
        let share = status.remove(CURRENT_SHARE);
        let share = share.map(|s| json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": s}}}));
        let all: Vec<Value> = current.and_then(|c| c.as_array().cloned()).into_iter().flatten().chain(share).collect();
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), all.into());
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
    o
}

/// From v2 to v1.
pub(super) fn to_v1(mut o: Value) -> Value {
    o["apiVersion"] = "autoscaling/v1".into();
    let metrics = items(&o, "/spec/metrics").to_vec();
    let share = metrics.iter().position(is_cpu_share);
    let others: Vec<&Value> = metrics.iter().enumerate().filter(|(i, _)| Some(*i) != share).map(|(_, m)| m).collect();
    if !others.is_empty() {
        annotate(&mut o, METRICS, &json!(others));
    }
    let mut behavior = None;
    if let Some(spec) = field(&mut o, "spec") {
        spec.remove("metrics");
        behavior = spec.remove("behavior");
        if let Some(i) = share {
            spec.insert(SHARE.to_owned(), metrics[i]["resource"]["target"]["averageUtilization"].clone());
        }
    }
    if let Some(behavior) = behavior {
        annotate(&mut o, BEHAVIOR, &behavior);
    }
    let current = items(&o, "/status/currentMetrics").to_vec();
    let is_cpu = |m: &&Value| m["resource"]["name"] == "cpu" && !m["resource"]["current"]["averageUtilization"].is_null();
    let now = current.iter().find(is_cpu).map(|m| m["resource"]["current"]["averageUtilization"].clone());
    let rest: Vec<&Value> = current.iter().filter(|m| !is_cpu(m)).collect();
    if !rest.is_empty() {
        annotate(&mut o, CURRENT, &json!(rest));
    }
    let mut conditions = None;
    if let Some(status) = field(&mut o, "status") {
        status.remove("currentMetrics");
        conditions = status.remove("conditions");
        if let Some(now) = now {
            status.insert(CURRENT_SHARE.to_owned(), now);
        }
    }
    if let Some(conditions) = conditions {
        annotate(&mut o, CONDITIONS, &conditions);
    }
    o
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way() {
        let metrics = json!([{"type": "Pods", "pods": {"metric": {"name": "m"}}}, cpu_share(&json!(50))]);
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": metrics, "behavior": {"scaleUp": {}}},
            "status": {"conditions": [{"type": "AbleToScale"}], "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}]},
        });
        let v1 = to_v1(v2.clone());
        assert_eq!((&v1["spec"][SHARE], &v1["status"][CURRENT_SHARE]), (&json!(50), &json!(7)));
        assert_eq!(to_v2(v1), v2);
    }
}
