//! autoscaling/v2 HorizontalPodAutoscaler, the stored form.

use api::field::{Errors, Path};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{one_of, required_one_of};
use crate::resources::cells::{int, items, text};
use crate::resources::quantities::validate_positive;

/// The share of CPU that is aimed at when nothing is said.
const CPU_PERCENT: i32 = 80;
const METRICS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// An hour: the longest time that a rule looks back.
const MAX_WINDOW: i32 = 3600;
/// How many metrics a cell shows.
const SHOWN: usize = 2;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .short(&["hpa"])
        .in_all()
        .status()
        .columns(columns())
        .rules::<HorizontalPodAutoscaler>(AutoscalerRules)
}

/// The columns of both versions.
pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::compute("Reference", |o, _| {
            format!("{}/{}", text(o, "/spec/scaleTargetRef/kind"), text(o, "/spec/scaleTargetRef/name")).into()
        }),
        Column::compute("Targets", |o, _| targets(o).into()),
        Column::compute("MinPods", |o, _| min_pods(o).into()),
        Column::integer("MaxPods", "/spec/maxReplicas"),
        Column::integer_or_zero("Replicas", "/status/currentReplicas"),
        Column::age(),
    ]
}

fn min_pods(o: &Value) -> String {
    o.pointer("/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), ToString::to_string)
}

/// `cpu: 12%/80%`, of either version's form.
fn targets(o: &Value) -> String {
    if let Some(wanted) = o.pointer("/spec/targetCPUUtilizationPercentage") {
        let now = o.pointer("/status/currentCPUUtilizationPercentage");
        return format!("cpu: {}/{wanted}%", now.map_or_else(|| "<unknown>".to_owned(), |n| format!("{n}%")));
    }
    let metrics = items(o, "/spec/metrics");
    let current = items(o, "/status/currentMetrics");
    let all: Vec<String> = metrics.iter().enumerate().map(|(i, m)| metric(m, current.get(i))).collect();
    match all.len() {
        0 => "<none>".to_owned(),
        n if n <= SHOWN => all.join(", "),
        n => format!("{} + {} more...", all[..SHOWN].join(", "), n - SHOWN),
    }
}

fn metric(m: &Value, now: Option<&Value>) -> String {
    let kind = text(m, "/type");
    let field = kind.chars().next().map(|c| c.to_ascii_lowercase()).into_iter().chain(kind.chars().skip(1)).collect::<String>();
    let target = &m[&field]["target"];
    let unknown = Value::Null;
    let current = now.map_or(&unknown, |n| &n[&field]["current"]);
    let shown = |name: &str, suffix: &str| match &current[name] {
        Value::Null => "<unknown>".to_owned(),
        Value::String(s) => s.clone(),
        other => format!("{other}{suffix}"),
    };
    let amount = match text(target, "/type") {
        "Utilization" => format!("{}/{}%", shown("averageUtilization", "%"), int(target, "/averageUtilization")),
        "AverageValue" => format!("{}/{}", shown("averageValue", ""), text(target, "/averageValue")),
        _ => format!("{}/{}", shown("value", ""), text(target, "/value")),
    };
    let average = if text(target, "/type") == "AverageValue" && matches!(kind, "External" | "Object") { " (avg)" } else { "" };
    match kind {
        "Resource" | "ContainerResource" => format!("{}: {amount}", text(&m[&field], "/name")),
        _ => format!("{amount}{average}"),
    }
}

struct AutoscalerRules;

impl Rules<HorizontalPodAutoscaler> for AutoscalerRules {
    fn default(&self, hpa: &mut HorizontalPodAutoscaler) {
        let Some(spec) = &mut hpa.spec else { return };
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![default_metric()]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            default_rules(up, &[("Pods", 4, 15), ("Percent", 100, 15)]);
            // How long it waits before it scales down is the controller's to say.
            default_rules(behavior.scale_down.get_or_insert_default(), &[("Percent", 100, 15)]);
        }
    }
    fn prepare_create(&self, hpa: &mut HorizontalPodAutoscaler, _: Cx<'_>) {
        hpa.status = Some(HorizontalPodAutoscalerStatus::default());
    }
    fn prepare_update(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, hpa: &HorizontalPodAutoscaler, errors: &mut Errors) {
        match &hpa.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
}

fn default_metric() -> MetricSpec {
    let target = MetricTarget { type_: "Utilization".to_owned(), average_utilization: Some(CPU_PERCENT), ..Default::default() };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..Default::default()
    }
}

fn default_rules(rules: &mut HPAScalingRules, policies: &[(&str, i32, i32)]) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        let policy = |(kind, value, period): &(&str, i32, i32)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: *period,
        };
        rules.policies = Some(policies.iter().map(policy).collect());
    }
}

fn validate_spec(spec: &HorizontalPodAutoscalerSpec, path: &Path, errors: &mut Errors) {
    if let Some(least) = spec.min_replicas.filter(|n| *n < 1) {
        errors.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1");
    }
    if spec.max_replicas < 1 {
        errors.invalid(&path.child("maxReplicas"), spec.max_replicas, "must be greater than 0");
    }
    if spec.min_replicas.is_some_and(|least| spec.max_replicas < least) {
        errors.invalid(&path.child("maxReplicas"), spec.max_replicas, "must be greater than or equal to `minReplicas`");
    }
    let target = path.child("scaleTargetRef");
    for (name, value) in [("kind", &spec.scale_target_ref.kind), ("name", &spec.scale_target_ref.name)] {
        if value.is_empty() {
            errors.required(&target.child(name), "");
        } else {
            crate::resources::bounds::follows(value, api::names::path_segment, &target.child(name), errors);
        }
    }
    for (i, metric) in spec.metrics.iter().flatten().enumerate() {
        validate_metric(metric, &path.child("metrics").index(i), errors);
    }
    let behavior = path.child("behavior");
    for (name, rules) in [
        ("scaleUp", spec.behavior.as_ref().and_then(|b| b.scale_up.as_ref())),
        ("scaleDown", spec.behavior.as_ref().and_then(|b| b.scale_down.as_ref())),
    ] {
        if let Some(rules) = rules {
            validate_rules(rules, &behavior.child(name), errors);
        }
    }
}

fn validate_metric(metric: &MetricSpec, path: &Path, errors: &mut Errors) {
    required_one_of(&metric.type_, METRICS, &path.child("type"), errors);
    let sources = [
        ("Object", "object", metric.object.as_ref().map(|s| (s.metric.name.as_str(), &s.target))),
        ("Pods", "pods", metric.pods.as_ref().map(|s| (s.metric.name.as_str(), &s.target))),
        ("Resource", "resource", metric.resource.as_ref().map(|s| (s.name.as_str(), &s.target))),
        ("ContainerResource", "containerResource", metric.container_resource.as_ref().map(|s| (s.name.as_str(), &s.target))),
        ("External", "external", metric.external.as_ref().map(|s| (s.metric.name.as_str(), &s.target))),
    ];
    for (kind, field, source) in sources {
        let at = path.child(field);
        match source {
            None if kind == metric.type_ => errors.required(&at, "must populate information for the given metric source"),
            Some(_) if kind != metric.type_ => errors.forbidden(&at, "must populate the given metric source only"),
            Some((name, target)) => {
                if name.is_empty() {
                    let named =
                        if matches!(kind, "Resource" | "ContainerResource") { at.child("name") } else { at.child("metric").child("name") };
                    errors.required(&named, "must specify a metric name");
                }
                validate_target(target, &at.child("target"), errors);
            }
            None => {}
        }
    }
}

fn validate_target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    required_one_of(&target.type_, &["AverageValue", "Utilization", "Value"], &path.child("type"), errors);
    for (name, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(value) = value {
            validate_positive(value, &path.child(name), errors);
        }
    }
    if let Some(share) = target.average_utilization.filter(|s| *s < 1) {
        errors.invalid(&path.child("averageUtilization"), share, "must be greater than 0");
    }
    if target.value.is_none() && target.average_value.is_none() && target.average_utilization.is_none() {
        errors.required(path, "must set either a target raw value or a target utilization");
    }
}

fn validate_rules(rules: &HPAScalingRules, path: &Path, errors: &mut Errors) {
    if let Some(window) = rules.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        } else if window > MAX_WINDOW {
            errors.invalid(&at, window, &format!("must be less than or equal to {MAX_WINDOW}"));
        }
    }
    if let Some(select) = &rules.select_policy {
        one_of(select, &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
    }
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(i);
        one_of(&policy.type_, &["Percent", "Pods"], &path.child("type"), errors);
        if policy.value <= 0 {
            errors.invalid(&path.child("value"), policy.value, "must be greater than zero");
        }
        if policy.period_seconds <= 0 {
            errors.invalid(&path.child("periodSeconds"), policy.period_seconds, "must be greater than zero");
        } else if policy.period_seconds > 1800 {
            errors.invalid(&path.child("periodSeconds"), policy.period_seconds, "must be less than or equal to 1800");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, created, errors};
    use expect_test::expect;

    fn hpa(spec: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{scaleTargetRef: {{kind: Deployment, name: d}}, {spec}}}}}")
    }

    #[test]
    fn defaults() {
        expect![[r#"
            apiVersion: autoscaling/v2
            kind: HorizontalPodAutoscaler
            metadata:
              name: a
            spec:
              behavior:
                scaleDown:
                  policies:
                  - periodSeconds: 15
                    type: Percent
                    value: 100
                  selectPolicy: Max
                scaleUp:
                  policies:
                  - periodSeconds: 15
                    type: Pods
                    value: 4
                  - periodSeconds: 15
                    type: Percent
                    value: 100
                  selectPolicy: Max
                  stabilizationWindowSeconds: 5
              maxReplicas: 3
              metrics:
              - resource:
                  name: cpu
                  target:
                    averageUtilization: 80
                    type: Utilization
                type: Resource
              minReplicas: 1
              scaleTargetRef:
                kind: Deployment
                name: d
            status:
              desiredReplicas: 0
        "#]]
        .assert_eq(&created(row(), &hpa("maxReplicas: 3, behavior: {scaleUp: {stabilizationWindowSeconds: 5}}")));
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`
            spec.metrics[0].resource: Required value: must populate information for the given metric source
            spec.metrics[1].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource""#]].assert_eq(&errors(row(), &hpa("maxReplicas: 1, minReplicas: 2, metrics: [{type: Resource}, {type: Odd}]")));
    }

    #[test]
    fn table() {
        let metric = "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]";
        assert_eq!(
            cells(row(), &hpa(&format!("maxReplicas: 3, {metric}"))),
            "a | Deployment/d | cpu: <unknown>/80% | <unset> | 3 | 0 | <unknown>"
        );
    }
}
