//! v1 ReplicationController

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};
use serde_json::json;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::not_negative;
use crate::resources::cells::{joined, labels};
use crate::resources::metadata::validate_labels;
use crate::resources::pod_template;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .in_all()
        .status()
        .generation()
        .scale("/spec/replicas", "/status/replicas", "/spec/selector")
        .columns(vec![
            Column::name(),
            Column::integer("Desired", "/spec/replicas"),
            Column::integer_or_zero("Current", "/status/replicas"),
            Column::integer_or_zero("Ready", "/status/readyReplicas"),
            Column::age(),
            Column::compute("Containers", |o, _| joined(o, "/spec/template/spec/containers", "/name").into()).wide(),
            Column::compute("Images", |o, _| joined(o, "/spec/template/spec/containers", "/image").into()).wide(),
            Column::compute("Selector", |o, _| labels(o, "/spec/selector").into()).wide(),
        ])
        .selectable(&[("status.replicas", "0")])
        .rules::<ReplicationController>(ControllerRules)
}

struct ControllerRules;

impl Rules<ReplicationController> for ControllerRules {
    fn default(&self, rc: &mut ReplicationController) {
        let Some(spec) = &mut rc.spec else { return };
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        pod_template::default(template);
        let of_template = template.metadata.as_ref().and_then(|m| m.labels.clone()).filter(|l| !l.is_empty());
        if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
            spec.selector.clone_from(&of_template);
        }
        if rc.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            rc.metadata.labels = of_template;
        }
    }
    fn prepare_create(&self, rc: &mut ReplicationController, _: Cx<'_>) {
        rc.status = Some(ReplicationControllerStatus::default());
    }
    fn prepare_update(&self, new: &mut ReplicationController, old: &ReplicationController, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut ReplicationController, old: &ReplicationController, _: Cx<'_>) {
        if part == "status" {
            new.spec.clone_from(&old.spec);
        }
    }
    fn validate(&self, rc: &ReplicationController, errors: &mut Errors) {
        let path = Path::new("spec");
        let Some(spec) = &rc.spec else { return errors.required(&path, "") };
        not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
        let selector = spec.selector.clone().unwrap_or_default();
        if selector.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        validate_labels(Some(&selector), &path.child("selector"), errors);
        not_negative(spec.replicas, &path.child("replicas"), errors);
        let Some(template) = &spec.template else { return errors.required(&path.child("template"), "") };
        let own = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        if selector.iter().any(|(k, v)| own.get(k) != Some(v)) {
            let at = path.child("template").child("metadata").child("labels");
            errors.invalid(&at, &json!(own), "`selector` does not match template `labels`");
        }
        pod_template::validate_long_running(template, "ReplicationController", &path.child("template"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn the_selector_comes_from_the_template() {
        let rc = |labels: &str, selector: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{{selector} template: {{metadata: {{labels: {labels}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
            )
        };
        assert_eq!(errors(row(), &rc("{a: b}", "")), "");
        expect!["spec.selector: Required value"].assert_eq(&errors(row(), &rc("{}", "")));
        expect![[r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#]]
            .assert_eq(&errors(row(), &rc("{a: b}", "selector: {a: c},")));
        assert_eq!(cells(row(), &rc("{a: b}", "replicas: 2, selector: {a: b},")), "a | 2 | 0 | 0 | <unknown> | c | i | a=b");
    }
}
