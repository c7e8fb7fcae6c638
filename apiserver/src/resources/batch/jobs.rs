//! batch/v1 Job

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, PodFailurePolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::policies;
use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{not_negative, one_of};
use crate::resources::cells::{human_duration, int, items, text};
use crate::resources::equality::immutable;
use crate::resources::{label_selector, pod_template};

/// Labels that tie pods to their job; the short ones are from before the prefixed ones.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// The most pods of an indexed job that run at a time.
const MAX_INDEXED_PARALLELISM: i32 = 100_000;
/// The most indexes that may fail before the job does.
const MAX_FAILED_INDEXES: i32 = 100_000;
/// The most pods at a time, and the most failures, of a job with more indexes than that.
const MAX_PARALLELISM_OF_MANY: i32 = 10_000;

/// The row.
#[must_use]
pub fn row() -> Resource {
    let [containers, images, selector] = pod_template::wide_columns();
    Resource::namespaced("batch", "v1", "Job", "jobs")
        .in_all()
        .status()
        .generation()
        .columns(vec![
            Column::name(),
            Column::compute("Status", |o, _| status(o).into()),
            Column::compute("Completions", |o, _| completions(o).into()),
            Column::compute("Duration", |o, now| duration(o, now).into()),
            Column::age(),
            containers,
            images,
            selector,
        ])
        .selectable(&[("status.successful", "0")])
        .rules::<Job>(JobRules)
}

fn status(o: &Value) -> &'static str {
    let has = |kind: &str| items(o, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True");
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !text(o, "/metadata/deletionTimestamp").is_empty() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(o: &Value) -> String {
    let succeeded = int(o, "/status/succeeded");
    match (o.pointer("/spec/completions").and_then(Value::as_i64), int(o, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(o: &Value, now: Timestamp) -> String {
    let Ok(start) = text(o, "/status/startTime").parse::<Timestamp>() else { return String::new() };
    let end = text(o, "/status/completionTime").parse().unwrap_or(now);
    human_duration(end.duration_since(start).as_secs())
}

struct JobRules;

impl Rules<Job> for JobRules {
    fn default(&self, job: &mut Job) {
        let Some(spec) = &mut job.spec else { return };
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
        default_failure_policy(spec.pod_failure_policy.as_mut());
        pod_template::default(&mut spec.template);
        if job.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            job.metadata.labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).filter(|l| !l.is_empty());
        }
    }
    fn prepare_create(&self, job: &mut Job, _: Cx<'_>) {
        job.status = Some(JobStatus::default());
        let (uid, name) = (job.metadata.uid.clone().unwrap_or_default(), job.metadata.name.clone().unwrap_or_default());
        if let Some(spec) = job.spec.as_mut().filter(|s| s.manual_selector != Some(true)) {
            select_own_pods(spec, &uid, &name);
        }
    }
    fn prepare_update(&self, new: &mut Job, old: &Job, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut Job, old: &Job, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, job: &Job, errors: &mut Errors) {
        let path = Path::new("spec");
        let Some(spec) = &job.spec else { return errors.required(&path, "") };
        match &spec.selector {
            Some(selector) => {
                label_selector::validate(selector, &path.child("selector"), errors);
                let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
                if !label_selector::matches(selector, &labels) {
                    let at = path.child("template").child("metadata").child("labels");
                    errors.invalid(&at, &json!(labels), "`selector` does not match template `labels`");
                }
            }
            None => errors.required(&path.child("selector"), ""),
        }
        validate_spec(spec, &path, errors);
    }
    fn validate_update(&self, new: &Job, old: &Job, errors: &mut Errors) {
        if let (Some(new), Some(old_spec)) = (&new.spec, &old.spec) {
            validate_change(new, old_spec, old.status.as_ref(), errors);
        }
    }
    fn warnings(&self, workload: &Job) -> Vec<String> {
        workload.spec.iter().flat_map(|s| pod_template::warnings(&s.template, &Path::new("spec").child("template"))).collect()
    }
    fn validate_part(&self, _: &str, new: &Job, _: &Job, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, Path::new("status")) else { return };
        for (name, n) in [("active", status.active), ("succeeded", status.succeeded), ("failed", status.failed), ("ready", status.ready)] {
            not_negative(n, &path.child(name), errors);
        }
    }
}

/// A job's pods are told by its uid.
fn select_own_pods(spec: &mut JobSpec, uid: &str, name: &str) {
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for label in NAME_LABELS {
        labels.insert(label.to_owned(), name.to_owned());
    }
    for label in UID_LABELS {
        labels.insert(label.to_owned(), uid.to_owned());
    }
    let selector: &mut LabelSelector = spec.selector.get_or_insert_default();
    selector.match_labels.get_or_insert_default().entry(UID_LABELS[0].to_owned()).or_insert_with(|| uid.to_owned());
}

fn default_failure_policy(policy: Option<&mut PodFailurePolicy>) {
    for rule in policy.into_iter().flat_map(|p| &mut p.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            if pattern.status.as_deref().unwrap_or("").is_empty() {
                pattern.status = Some("True".to_owned());
            }
        }
    }
}

/// Checks a job's spec, in a job as in a template of one.
pub(super) fn validate_spec(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    not_negative(spec.parallelism, &path.child("parallelism"), errors);
    not_negative(spec.completions, &path.child("completions"), errors);
    not_negative(spec.active_deadline_seconds, &path.child("activeDeadlineSeconds"), errors);
    not_negative(spec.backoff_limit, &path.child("backoffLimit"), errors);
    not_negative(spec.ttl_seconds_after_finished, &path.child("ttlSecondsAfterFinished"), errors);
    not_negative(spec.backoff_limit_per_index, &path.child("backoffLimitPerIndex"), errors);
    not_negative(spec.max_failed_indexes, &path.child("maxFailedIndexes"), errors);
    if let Some(mode) = &spec.completion_mode {
        one_of(mode, &["Indexed", "NonIndexed"], &path.child("completionMode"), errors);
        if mode == "Indexed" {
            validate_indexed(spec, path, errors);
        } else if spec.backoff_limit_per_index.is_some() {
            let why = "requires indexed completion mode";
            errors.invalid(&path.child("backoffLimitPerIndex"), spec.backoff_limit_per_index.unwrap_or(0), why);
        }
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let known: &[&str] = if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        one_of(policy, known, &path.child("podReplacementPolicy"), errors);
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    let template = path.child("template");
    pod_template::validate(&spec.template, &template, errors);
    let restarts = spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("");
    let at = template.child("spec").child("restartPolicy");
    match restarts {
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            errors.invalid(&at, restarts, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        _ => {}
    }
    policies::validate(spec, path, errors);
}

fn validate_indexed(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if let Some(n) = spec.parallelism.filter(|n| *n > MAX_INDEXED_PARALLELISM) {
        let why = format!("must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed");
        errors.invalid(&path.child("parallelism"), n, &why);
    }
    validate_many_indexes(spec, path, errors);
}

/// The status names each index that failed, so that many of them bound the rest.
fn validate_many_indexes(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let at_most = |value: Option<i32>, most: i32, field: &str, when: &str, errors: &mut Errors| {
        if let Some(n) = value.filter(|n| *n > most) {
            errors.invalid(&path.child(field), n, &format!("must be less than or equal to {most}{when}"));
        }
    };
    let completions = spec.completions.unwrap_or(0);
    if let Some(n) = spec.max_failed_indexes.filter(|n| spec.completions.is_some_and(|c| *n > c)) {
        errors.invalid(&path.child("maxFailedIndexes"), n, "must be less than or equal to completions");
    }
    at_most(spec.max_failed_indexes, MAX_FAILED_INDEXES, "maxFailedIndexes", "", errors);
    if spec.backoff_limit_per_index.is_some() && completions > MAX_FAILED_INDEXES {
        let (most, when) = (MAX_PARALLELISM_OF_MANY, " when completions are above 100000 and used with backoff limit per index");
        at_most(spec.parallelism, most, "parallelism", when, errors);
        match spec.max_failed_indexes {
            None => errors.required(&path.child("maxFailedIndexes"), "must be specified when completions is above 100000"),
            some => at_most(some, most, "maxFailedIndexes", when, errors),
        }
    }
}

fn validate_change(new: &JobSpec, old: &JobSpec, status: Option<&JobStatus>, errors: &mut Errors) {
    let path = Path::new("spec");
    // An indexed job may grow and shrink when both numbers go together.
    let elastic = new.completion_mode.as_deref() == Some("Indexed") && new.completions == new.parallelism;
    if !elastic {
        immutable(&path.child("completions"), &new.completions, &old.completions, errors);
    }
    immutable(&path.child("selector"), &new.selector, &old.selector, errors);
    let (mut now, before) = (new.template.clone(), &old.template);
    let suspended = old.suspend == Some(true) && status.is_none_or(|s| s.start_time.is_none());
    if suspended && let (Some(spec), Some(old)) = (&mut now.spec, &before.spec) {
        // Where its pods run may be said as long as there are none.
        spec.node_selector.clone_from(&old.node_selector);
        spec.tolerations.clone_from(&old.tolerations);
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
        spec.affinity.clone_from(&old.affinity);
        now.metadata.clone_from(&before.metadata);
    }
    immutable(&path.child("template"), &now, before, errors);
    immutable(&path.child("completionMode"), &new.completion_mode, &old.completion_mode, errors);
    immutable(&path.child("podFailurePolicy"), &new.pod_failure_policy, &old.pod_failure_policy, errors);
    immutable(&path.child("backoffLimitPerIndex"), &new.backoff_limit_per_index, &old.backoff_limit_per_index, errors);
    immutable(&path.child("managedBy"), &new.managed_by, &old.managed_by, errors);
    immutable(&path.child("successPolicy"), &new.success_policy, &old.success_policy, errors);
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, created, errors, update_errors};
    use expect_test::expect;

    fn job(spec: &str) -> String {
        format!(
            "{{metadata: {{name: a, uid: u}}, spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}, {spec}}}}}"
        )
    }

    #[test]
    fn made_with_a_selector_of_its_own() {
        let created = created(row(), &job("backoffLimit: 2"));
        for line in
            ["completions: 1", "parallelism: 1", "completionMode: NonIndexed", "batch.kubernetes.io/controller-uid: u", "job-name: a"]
        {
            assert!(created.contains(line), "{line} in\n{created}");
        }
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.completions: Required value: when completion mode is Indexed
            spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"#]]
        .assert_eq(&errors(row(), &job("parallelism: -1, completionMode: Indexed, maxFailedIndexes: 1")));
        expect!["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
            .assert_eq(&errors(row(), "{metadata: {name: a}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}"));
        expect![[r#"
            spec.selector: Required value
            spec.completions: Invalid value: 2: field is immutable"#]]
        .assert_eq(&update_errors(row(), &job("completions: 1"), &job("completions: 2")));
    }

    #[test]
    fn table() {
        let job = "{metadata: {name: a}, spec: {completions: 3, template: {spec: {containers: [{name: c, image: i}]}}},
          status: {succeeded: 1, startTime: '2026-01-01T00:00:00Z', conditions: [{type: Complete, status: 'True'}]}}";
        assert_eq!(cells(row(), job), "a | Complete | 1/3 | 5m | <unknown> | c | i | <none>");
    }
}
