//! apps/v1 DaemonSet

use api::field::{Errors, Path};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{at_most_100_percent, int_or_percent, is_zero, not_negative};
use crate::resources::cells::labels;
use crate::resources::equality::immutable;
use crate::resources::{label_selector, pod_template};

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut columns = vec![
        Column::name(),
        Column::integer_or_zero("Desired", "/status/desiredNumberScheduled"),
        Column::integer_or_zero("Current", "/status/currentNumberScheduled"),
        Column::integer_or_zero("Ready", "/status/numberReady"),
        Column::integer_or_zero("Up-to-date", "/status/updatedNumberScheduled"),
        Column::integer_or_zero("Available", "/status/numberAvailable"),
        Column::compute("Node Selector", |o, _| labels(o, "/spec/template/spec/nodeSelector").into()),
        Column::age(),
    ];
    columns.extend(pod_template::wide_columns());
    Resource::namespaced("apps", "v1", "DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .status()
        .generation()
        .columns(columns)
        .rules::<DaemonSet>(DaemonSetRules)
}

struct DaemonSetRules;

impl Rules<DaemonSet> for DaemonSetRules {
    fn default(&self, set: &mut DaemonSet) {
        let Some(spec) = &mut set.spec else { return };
        pod_template::default(&mut spec.template);
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_ref().is_none_or(String::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
    }
    fn prepare_create(&self, set: &mut DaemonSet, _: Cx<'_>) {
        set.status = Some(DaemonSetStatus::default());
    }
    fn prepare_update(&self, new: &mut DaemonSet, old: &DaemonSet, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut DaemonSet, old: &DaemonSet, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, set: &DaemonSet, errors: &mut Errors) {
        match &set.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
    fn validate_update(&self, new: &DaemonSet, old: &DaemonSet, errors: &mut Errors) {
        let (new, old) = (new.spec.as_ref().map(|s| &s.selector), old.spec.as_ref().map(|s| &s.selector));
        immutable(&Path::new("spec").child("selector"), &new, &old, errors);
    }
    fn warnings(&self, workload: &DaemonSet) -> Vec<String> {
        workload.spec.iter().flat_map(|s| pod_template::warnings(&s.template, &Path::new("spec").child("template"))).collect()
    }
    fn validate_part(&self, _: &str, new: &DaemonSet, _: &DaemonSet, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, Path::new("status")) else { return };
        for (name, n) in [
            ("currentNumberScheduled", Some(status.current_number_scheduled)),
            ("numberMisscheduled", Some(status.number_misscheduled)),
            ("desiredNumberScheduled", Some(status.desired_number_scheduled)),
            ("numberReady", Some(status.number_ready)),
            ("updatedNumberScheduled", status.updated_number_scheduled),
            ("numberAvailable", status.number_available),
            ("numberUnavailable", status.number_unavailable),
        ] {
            not_negative(n, &path.child(name), errors);
        }
    }
}

fn validate_spec(spec: &DaemonSetSpec, path: &Path, errors: &mut Errors) {
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    label_selector::validate_for_template(&spec.selector, labels, "daemonset", path, errors);
    pod_template::validate_long_running(&spec.template, "DaemonSet", &path.child("template"), errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    not_negative(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    if let Some(strategy) = &spec.update_strategy {
        validate_strategy(strategy, &path.child("updateStrategy"), errors);
    }
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, path: &Path, errors: &mut Errors) {
    match (strategy.type_.as_deref().unwrap_or(""), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&path.child("rollingUpdate"), ""),
        ("RollingUpdate", Some(update)) => validate_rolling_update(update, &path.child("rollingUpdate"), errors),
        (other, _) => errors.not_supported(&path.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}

fn validate_rolling_update(update: &RollingUpdateDaemonSet, path: &Path, errors: &mut Errors) {
    let (Some(unavailable), Some(surge)) = (&update.max_unavailable, &update.max_surge) else { return };
    for (name, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
        int_or_percent(value, &path.child(name), errors);
        at_most_100_percent(value, &path.child(name), errors);
    }
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => {
            errors.invalid(&path.child("maxSurge"), &serde_json::json!(surge), "may not be set when maxUnavailable is non-zero");
        }
        (true, true) => errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let set = |spec: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{nodeSelector: {{x: z}}, containers: [{{name: c, image: i}}]}}}}, {spec}}}, status: {{numberReady: 2}}}}"
            )
        };
        assert_eq!(cells(row(), &set("")), "a | 0 | 0 | 2 | 0 | 0 | x=z | <unknown> | c | i | a=b");
        assert_eq!(errors(row(), &set("")), "");
        expect!["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
            .assert_eq(&errors(row(), &set("updateStrategy: {rollingUpdate: {maxUnavailable: 0}}")));
    }
}
