//! Pod templates: the same defaults, rules and columns in every workload.

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::cells::{joined, selector};
use super::core::pod::{self, defaults};
use super::metadata;
use crate::resource::Column;

/// Fills in a template.
pub fn default(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        defaults::pod_spec(spec);
    }
}

/// Checks a template on its own.
pub fn validate(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    metadata::validate_template(template.metadata.as_ref(), &path.child("metadata"), errors);
    let Some(spec) = &template.spec else { return errors.required(&path.child("spec").child("containers"), "") };
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
    pod::spec::validate(spec, &path.child("spec"), errors);
}

/// Checks a template of pods that must run for ever, as those of a ReplicaSet.
pub fn validate_long_running(template: &PodTemplateSpec, whose: &str, path: &Path, errors: &mut Errors) {
    validate(template, path, errors);
    let (Some(spec), path) = (&template.spec, path.child("spec")) else { return };
    match spec.restart_policy.as_deref() {
        None | Some("" | "Always") => {}
        Some(other) => errors.not_supported(&path.child("restartPolicy"), other, &["Always"]),
    }
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(&path.child("activeDeadlineSeconds"), &format!("activeDeadlineSeconds in {whose} is not Supported"));
    }
}

/// What the author of a template should be told.
#[must_use]
pub fn warnings(template: &PodTemplateSpec, path: &Path) -> Vec<String> {
    template.spec.iter().flat_map(|s| pod::warnings::of(s, &path.child("spec"))).collect()
}

/// Containers, images and the selector, as workloads show them with `-o wide`.
pub fn wide_columns() -> [Column; 3] {
    [
        Column::compute("Containers", |o, _| joined(o, "/spec/template/spec/containers", "/name").into()).wide(),
        Column::compute("Images", |o, _| joined(o, "/spec/template/spec/containers", "/image").into()).wide(),
        Column::compute("Selector", |o, _| selector(o, "/spec/selector").into()).wide(),
    ]
}
