//! admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicyBinding

use api::field::{Errors, Path};
use serde_json::Value;

use super::validatingadmissionpolicies::default_match;
use super::validatingadmissionpolicybindings::{param_ref, validate_params};
use crate::resource::{Column, Resource, Rules};
use crate::resources::cells::text;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1beta1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::text("PolicyName", "/spec/policyName"),
            Column::compute("ParamRef", |o, _| param_ref(o).into()),
            Column::age(),
        ])
        .rules::<Value>(BindingRules)
}

struct BindingRules;

impl Rules<Value> for BindingRules {
    fn default(&self, binding: &mut Value) {
        default_match(binding.pointer_mut("/spec/matchResources"));
    }
    fn validate(&self, binding: &Value, errors: &mut Errors) {
        let (spec, path) = (&binding["spec"], Path::new("spec"));
        if text(spec, "/policyName").is_empty() {
            errors.required(&path.child("policyName"), "");
        }
        validate_params(spec, &path, errors);
    }
}
