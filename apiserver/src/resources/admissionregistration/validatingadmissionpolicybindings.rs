//! admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding

use api::field::{Errors, Path};
use serde_json::Value;

use super::validatingadmissionpolicies::default_match;
use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::{items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
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

pub(super) fn param_ref(o: &Value) -> String {
    match (o.pointer("/spec/paramRef"), text(o, "/spec/paramRef/namespace"), text(o, "/spec/paramRef/name")) {
        (None, _, _) => "<unset>".to_owned(),
        (Some(_), "", name) => name.to_owned(),
        (Some(_), namespace, name) => format!("{namespace}/{name}"),
    }
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
        let actions: Vec<&str> = items(spec, "/validationActions").iter().filter_map(Value::as_str).collect();
        let at = path.child("validationActions");
        if actions.is_empty() {
            errors.required(&at, "at least one validation action is required");
        }
        for (i, action) in actions.iter().enumerate() {
            one_of(action, &["Audit", "Deny", "Warn"], &at, errors);
            if actions[..i].contains(action) {
                errors.duplicate(&at, *action);
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
            errors.invalid(&at, &serde_json::json!(actions), why);
        }
        validate_params(spec, &path, errors);
    }
}

/// Checks where the parameters are.
pub(super) fn validate_params(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(params) = spec.get("paramRef").filter(|p| p.is_object()) else { return };
    let at = path.child("paramRef");
    let (name, selector) = (!text(params, "/name").is_empty(), params.get("selector").is_some_and(|s| !s.is_null()));
    match (name, selector) {
        (true, true) => errors.forbidden(&at.child("name"), "name and selector are mutually exclusive"),
        (false, false) => errors.required(&at, "one of name or selector must be specified"),
        _ => {}
    }
    one_of(text(params, "/parameterNotFoundAction"), &["Allow", "Deny"], &at.child("parameterNotFoundAction"), errors);
}
