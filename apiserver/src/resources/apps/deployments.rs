//! apps/v1 Deployment

use api::field::{Errors, Path};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resource::{Column, Cx, Generation, Resource, Rules};
use crate::resources::bounds::{at_most_100_percent, int_or_percent, is_zero, not_negative};
use crate::resources::cells::int;
use crate::resources::equality::immutable;
use crate::resources::{label_selector, pod_template};

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut columns = vec![
        Column::name(),
        Column::compute("Ready", |o, _| format!("{}/{}", int(o, "/status/readyReplicas"), int(o, "/spec/replicas")).into()),
        Column::integer_or_zero("Up-to-date", "/status/updatedReplicas"),
        Column::integer_or_zero("Available", "/status/availableReplicas"),
        Column::age(),
    ];
    columns.extend(pod_template::wide_columns());
    let mut row = Resource::namespaced("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .status()
        .scale("/spec/replicas", "/status/replicas", "/spec/selector")
        .columns(columns)
        .rules::<Deployment>(DeploymentRules);
    row.generation = Generation::SpecOrAnnotations;
    row
}

struct DeploymentRules;

fn quarter() -> IntOrString {
    IntOrString::String("25%".to_owned())
}

impl Rules<Deployment> for DeploymentRules {
    fn default(&self, deployment: &mut Deployment) {
        let Some(spec) = &mut deployment.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_ref().is_none_or(String::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        pod_template::default(&mut spec.template);
    }
    fn prepare_create(&self, deployment: &mut Deployment, _: Cx<'_>) {
        deployment.status = Some(DeploymentStatus::default());
    }
    fn prepare_update(&self, new: &mut Deployment, old: &Deployment, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut Deployment, old: &Deployment, _: Cx<'_>) {
        if part == "status" {
            new.spec.clone_from(&old.spec);
        }
    }
    fn validate(&self, deployment: &Deployment, errors: &mut Errors) {
        let path = Path::new("spec");
        match &deployment.spec {
            Some(spec) => validate_spec(spec, &path, errors),
            None => errors.required(&path, ""),
        }
    }
    fn validate_update(&self, new: &Deployment, old: &Deployment, errors: &mut Errors) {
        let (new, old) = (new.spec.as_ref().map(|s| &s.selector), old.spec.as_ref().map(|s| &s.selector));
        immutable(&Path::new("spec").child("selector"), &new, &old, errors);
    }
    fn warnings(&self, workload: &Deployment) -> Vec<String> {
        workload.spec.iter().flat_map(|s| pod_template::warnings(&s.template, &Path::new("spec").child("template"))).collect()
    }
    fn validate_part(&self, part: &str, new: &Deployment, old: &Deployment, errors: &mut Errors) {
        if let (Some(status), "status") = (&new.status, part) {
            validate_status(status, old.status.as_ref(), errors);
        }
    }
}

fn validate_spec(spec: &DeploymentSpec, path: &Path, errors: &mut Errors) {
    not_negative(spec.replicas, &path.child("replicas"), errors);
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    label_selector::validate_for_template(&spec.selector, labels, "deployment", path, errors);
    pod_template::validate_long_running(&spec.template, "Deployment", &path.child("template"), errors);
    if let Some(strategy) = &spec.strategy {
        validate_strategy(strategy, &path.child("strategy"), errors);
    }
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    not_negative(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    if let Some(deadline) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        not_negative(Some(deadline), &path, errors);
        if deadline <= spec.min_ready_seconds.unwrap_or(0) {
            errors.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &Path, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or(""), &strategy.rolling_update) {
        ("Recreate", Some(_)) => errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'"),
        ("RollingUpdate", None) => errors.required(&rolling, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(update)) => validate_rolling_update(update, &rolling, errors),
        ("Recreate", None) => {}
        (other, _) => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn validate_rolling_update(update: &RollingUpdateDeployment, path: &Path, errors: &mut Errors) {
    let (Some(unavailable), Some(surge)) = (&update.max_unavailable, &update.max_surge) else { return };
    int_or_percent(unavailable, &path.child("maxUnavailable"), errors);
    int_or_percent(surge, &path.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        errors.invalid(&path.child("maxUnavailable"), &serde_json::json!(unavailable), "may not be 0 when `maxSurge` is 0");
    }
    at_most_100_percent(unavailable, &path.child("maxUnavailable"), errors);
}

fn validate_status(status: &DeploymentStatus, old: Option<&DeploymentStatus>, errors: &mut Errors) {
    let path = Path::new("status");
    not_negative(status.observed_generation, &path.child("observedGeneration"), errors);
    let all = status.replicas.unwrap_or(0);
    let (ready, available) = (status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    not_negative(Some(all), &path.child("replicas"), errors);
    not_negative(status.unavailable_replicas, &path.child("unavailableReplicas"), errors);
    not_negative(status.collision_count, &path.child("collisionCount"), errors);
    for (name, n) in [("updatedReplicas", status.updated_replicas.unwrap_or(0)), ("readyReplicas", ready), ("availableReplicas", available)]
    {
        not_negative(Some(n), &path.child(name), errors);
        if n > all {
            errors.invalid(&path.child(name), n, "cannot be greater than status.replicas");
        }
    }
    if available > ready {
        errors.invalid(&path.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
    let (new, old) = (status.collision_count, old.and_then(|s| s.collision_count));
    if let Some(before) = old
        && new.is_none_or(|n| n < before)
    {
        errors.invalid(&path.child("collisionCount"), new.unwrap_or(0), "cannot be decremented");
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let template = "selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
        expected.assert_eq(&errors(super::row(), &format!("{{metadata: {{name: a}}, spec: {{{template}, {spec}}}}}")));
    }

    #[test]
    fn rules() {
        check("replicas: 2", expect![""]);
        check("replicas: -1", expect!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
        check(
            "strategy: {type: Recreate, rollingUpdate: {}}",
            expect!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        );
        check(
            "strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 0%}}",
            expect!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        );
        check(
            "minReadySeconds: 10, progressDeadlineSeconds: 10",
            expect!["spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds"],
        );
    }

    #[test]
    fn table() {
        let deployment = "{metadata: {name: a}, spec: {replicas: 3, selector: {matchLabels: {a: b}},
           template: {spec: {containers: [{name: c, image: i}, {name: d, image: j}]}}}, status: {readyReplicas: 1, updatedReplicas: 2}}";
        assert_eq!(cells(super::row(), deployment), "a | 1/3 | 2 | 0 | <unknown> | c,d | i,j | a=b");
    }
}
