//! batch/v1 CronJob

use api::field::{Errors, Path};
use api::names;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};
use serde_json::Value;

use super::jobs;
use super::schedule::wrong;
use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{not_negative, required_one_of};
use crate::resources::cells::{count, flag, joined, or_none, selector, since, text};
use crate::resources::{metadata, pod_template};

/// Jobs get eleven characters more than their CronJob.
const NAME_MAX: usize = 63 - 11;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .in_all()
        .status()
        .generation()
        .names(name_rule)
        .columns(vec![
            Column::name(),
            Column::text("Schedule", "/spec/schedule"),
            Column::compute("Timezone", |o, _| or_none(text(o, "/spec/timeZone")).into()),
            Column::compute("Suspend", |o, _| if flag(o, "/spec/suspend") { "True" } else { "False" }.into()),
            Column { kind: "integer".into(), ..Column::compute("Active", |o, _| count(o, "/status/active").into()) },
            Column::compute("Last Schedule", last_schedule),
            Column::age(),
            Column::compute("Containers", |o, _| joined(o, "/spec/jobTemplate/spec/template/spec/containers", "/name").into()).wide(),
            Column::compute("Images", |o, _| joined(o, "/spec/jobTemplate/spec/template/spec/containers", "/image").into()).wide(),
            Column::compute("Selector", |o, _| selector(o, "/spec/jobTemplate/spec/selector").into()).wide(),
        ])
        .rules::<CronJob>(CronJobRules)
}

fn name_rule(name: &str) -> Vec<String> {
    let mut wrong = names::dns1123_subdomain(name);
    if name.len() > NAME_MAX {
        wrong.push(format!("must be no more than {NAME_MAX} characters"));
    }
    wrong
}

fn last_schedule(o: &Value, now: Timestamp) -> Value {
    since(o, "/status/lastScheduleTime", now).unwrap_or_else(|| "<none>".to_owned()).into()
}

struct CronJobRules;

impl Rules<CronJob> for CronJobRules {
    fn default(&self, cron: &mut CronJob) {
        let Some(spec) = &mut cron.spec else { return };
        if spec.concurrency_policy.as_ref().is_none_or(String::is_empty) {
            spec.concurrency_policy = Some("Allow".to_owned());
        }
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        if let Some(job) = &mut spec.job_template.spec {
            pod_template::default(&mut job.template);
        }
    }
    fn prepare_create(&self, cron: &mut CronJob, _: Cx<'_>) {
        cron.status = Some(CronJobStatus::default());
    }
    fn prepare_update(&self, new: &mut CronJob, old: &CronJob, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut CronJob, old: &CronJob, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, cron: &CronJob, errors: &mut Errors) {
        match &cron.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
}

fn validate_spec(spec: &CronJobSpec, path: &Path, errors: &mut Errors) {
    let at = path.child("schedule");
    if spec.schedule.is_empty() {
        errors.required(&at, "");
    } else if spec.schedule.contains("TZ") {
        errors.invalid(&at, &spec.schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Some(wrong) = wrong(&spec.schedule) {
        errors.invalid(&at, &spec.schedule, &wrong);
    }
    if let Some(zone) = &spec.time_zone {
        let at = path.child("timeZone");
        if zone.is_empty() {
            errors.invalid(&at, zone, "timeZone must be nil or non-empty string");
        } else if zone.eq_ignore_ascii_case("local") {
            errors.invalid(&at, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
        } else if jiff::tz::TimeZone::get(zone).is_err() {
            errors.invalid(&at, zone, &format!("unknown time zone {zone}"));
        }
    }
    not_negative(spec.starting_deadline_seconds, &path.child("startingDeadlineSeconds"), errors);
    not_negative(spec.successful_jobs_history_limit, &path.child("successfulJobsHistoryLimit"), errors);
    not_negative(spec.failed_jobs_history_limit, &path.child("failedJobsHistoryLimit"), errors);
    let policy = spec.concurrency_policy.as_deref().unwrap_or("");
    required_one_of(policy, &["Allow", "Forbid", "Replace"], &path.child("concurrencyPolicy"), errors);
    let template = path.child("jobTemplate");
    metadata::validate_template(spec.job_template.metadata.as_ref(), &template.child("metadata"), errors);
    match &spec.job_template.spec {
        Some(job) => {
            if job.manual_selector == Some(true) {
                errors.not_supported(&template.child("spec").child("manualSelector"), true, &["nil", "false"]);
            }
            jobs::validate_spec(job, &template.child("spec"), errors);
        }
        None => errors.required(&template.child("spec"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let cron = |spec: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{{spec}, jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}}}}}"
            )
        };
        assert_eq!(
            cells(row(), &cron("schedule: '* * * * *'")),
            "a | * * * * * | <none> | False | 0 | <none> | <unknown> | c | i | <none>"
        );
        assert_eq!(errors(row(), &cron("schedule: '@hourly', timeZone: Europe/Zurich")), "");
        expect![[r#"
            spec.schedule: Invalid value: "nonsense": expected exactly 5 fields, found 1: [nonsense]
            spec.timeZone: Invalid value: "Mars": unknown time zone Mars
            spec.concurrencyPolicy: Unsupported value: "Race": supported values: "Allow", "Forbid", "Replace""#]]
        .assert_eq(&errors(row(), &cron("schedule: nonsense, timeZone: Mars, concurrencyPolicy: Race")));
    }
}
