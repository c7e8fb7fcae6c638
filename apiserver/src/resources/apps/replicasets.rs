//! apps/v1 ReplicaSet

use api::field::{Errors, Path};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::not_negative;
use crate::resources::equality::immutable;
use crate::resources::{label_selector, pod_template};

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut columns = vec![
        Column::name(),
        Column::integer("Desired", "/spec/replicas"),
        Column::integer("Current", "/status/replicas"),
        Column::integer_or_zero("Ready", "/status/readyReplicas"),
        Column::age(),
    ];
    columns.extend(pod_template::wide_columns());
    Resource::namespaced("apps", "v1", "ReplicaSet", "replicasets")
        .short(&["rs"])
        .in_all()
        .status()
        .generation()
        .scale("/spec/replicas", "/status/replicas", "/spec/selector")
        .columns(columns)
        .selectable(&[("status.replicas", "0")])
        .rules::<ReplicaSet>(ReplicaSetRules)
}

struct ReplicaSetRules;

impl Rules<ReplicaSet> for ReplicaSetRules {
    fn default(&self, rs: &mut ReplicaSet) {
        let Some(spec) = &mut rs.spec else { return };
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            pod_template::default(template);
        }
    }
    fn prepare_create(&self, rs: &mut ReplicaSet, _: Cx<'_>) {
        rs.status = Some(ReplicaSetStatus::default());
    }
    fn prepare_update(&self, new: &mut ReplicaSet, old: &ReplicaSet, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut ReplicaSet, old: &ReplicaSet, _: Cx<'_>) {
        if part == "status" {
            new.spec.clone_from(&old.spec);
        }
    }
    fn validate(&self, rs: &ReplicaSet, errors: &mut Errors) {
        let path = Path::new("spec");
        let Some(spec) = &rs.spec else { return errors.required(&path, "") };
        not_negative(spec.replicas, &path.child("replicas"), errors);
        not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        let labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
        label_selector::validate_for_template(&spec.selector, labels, "replicaset", &path, errors);
        match &spec.template {
            Some(template) => pod_template::validate_long_running(template, "ReplicaSet", &path.child("template"), errors),
            None => errors.required(&path.child("template"), ""),
        }
    }
    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet, errors: &mut Errors) {
        let (new, old) = (new.spec.as_ref().map(|s| &s.selector), old.spec.as_ref().map(|s| &s.selector));
        immutable(&Path::new("spec").child("selector"), &new, &old, errors);
    }
    fn warnings(&self, workload: &ReplicaSet) -> Vec<String> {
        workload
            .spec
            .iter()
            .flat_map(|s| {
                s.template.iter().flat_map(|t| pod_template::warnings(t, &Path::new("spec").child("template"))).collect::<Vec<_>>()
            })
            .collect()
    }
    fn validate_part(&self, part: &str, new: &ReplicaSet, _: &ReplicaSet, errors: &mut Errors) {
        if let (Some(status), "status") = (&new.status, part) {
            validate_status(status, errors);
        }
    }
}

fn validate_status(status: &ReplicaSetStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let (labelled, ready, available) =
        (status.fully_labeled_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    not_negative(Some(status.replicas), &path.child("replicas"), errors);
    for (name, n) in [("fullyLabeledReplicas", labelled), ("readyReplicas", ready), ("availableReplicas", available)] {
        not_negative(Some(n), &path.child(name), errors);
        if n > status.replicas {
            errors.invalid(&path.child(name), n, "cannot be greater than status.replicas");
        }
    }
    not_negative(status.observed_generation, &path.child("observedGeneration"), errors);
    if available > ready {
        errors.invalid(&path.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors, part_errors, update_errors};
    use expect_test::expect;

    const POD: &str = "spec: {containers: [{name: c, image: i}]}";

    #[test]
    fn table() {
        let rs = format!(
            "{{metadata: {{name: a}}, spec: {{replicas: 3, selector: {{matchLabels: {{a: b}}}}, template: {{{POD}}}}}, status: {{replicas: 2}}}}"
        );
        assert_eq!(cells(super::row(), &rs), "a | 3 | 2 | 0 | <unknown> | c | i | a=b");
    }

    #[test]
    fn rules() {
        let labelled = |selector: &str| {
            format!("{{metadata: {{name: a}}, spec: {{selector: {selector}, template: {{metadata: {{labels: {{a: b}}}}, {POD}}}}}}}")
        };
        expect![[r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#]]
            .assert_eq(&errors(super::row(), &labelled("{matchLabels: {a: c}}")));
        expect!["spec.selector: Invalid value: {}: empty selector is invalid for replicaset"]
            .assert_eq(&errors(super::row(), &labelled("{}")));
        expect![[r#"spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Exists"}]}: field is immutable"#]].assert_eq(
            &update_errors(super::row(), &labelled("{matchLabels: {a: b}}"), &labelled("{matchExpressions: [{key: a, operator: Exists}]}")),
        );
        expect!["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"].assert_eq(&part_errors(
            super::row(),
            "status",
            "{metadata: {name: a}}",
            "{metadata: {name: a}, status: {replicas: 1, readyReplicas: 2}}",
        ));
    }
}
