//! admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy

use api::field::{Errors, Path};
use serde_json::{Value, json};

use super::webhooks::{default_rules, validate_operations};
use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::{count, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .status()
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column { kind: "integer".into(), ..Column::compute("Validations", |o, _| count(o, "/spec/validations").into()) },
            Column::compute("ParamKind", |o, _| param_kind(o).into()),
            Column::age(),
        ])
        .rules::<Value>(PolicyRules)
}

fn param_kind(o: &Value) -> String {
    match text(o, "/spec/paramKind/kind") {
        "" => "<unset>".to_owned(),
        kind => format!("{}/{kind}", text(o, "/spec/paramKind/apiVersion")),
    }
}

struct PolicyRules;

/// Fills in what a policy or binding matches.
pub(super) fn default_match(matched: Option<&mut Value>) {
    let Some(matched) = matched.filter(|m| m.is_object()) else { return };
    for (field, value) in [("matchPolicy", json!("Equivalent")), ("namespaceSelector", json!({})), ("objectSelector", json!({}))] {
        if matched.get(field).is_none_or(Value::is_null) {
            matched[field] = value;
        }
    }
    default_rules(matched.get_mut("resourceRules"));
    default_rules(matched.get_mut("excludeResourceRules"));
}

impl Rules<Value> for PolicyRules {
    fn default(&self, policy: &mut Value) {
        let Some(spec) = policy.get_mut("spec").filter(|s| s.is_object()) else { return };
        if spec.get("failurePolicy").is_none_or(Value::is_null) {
            spec["failurePolicy"] = "Fail".into();
        }
        default_match(spec.get_mut("matchConstraints"));
    }
    fn prepare_create(&self, policy: &mut Value, _: Cx<'_>) {
        policy["status"] = json!({});
    }
    fn prepare_update(&self, new: &mut Value, old: &Value, _: Cx<'_>) {
        new["status"] = old.get("status").cloned().unwrap_or_else(|| json!({}));
    }
    fn validate(&self, policy: &Value, errors: &mut Errors) {
        let (spec, path) = (&policy["spec"], Path::new("spec"));
        one_of(text(spec, "/failurePolicy"), &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
        let (validations, audits) = (items(spec, "/validations"), items(spec, "/auditAnnotations"));
        if validations.is_empty() && audits.is_empty() {
            let why = "validations or auditAnnotations must be non-empty";
            errors.required(&path.child("validations"), &format!("{why} at least one of them must contain one or more items"));
        }
        let constraints = path.child("matchConstraints");
        match spec.get("matchConstraints").filter(|m| m.is_object()) {
            None => errors.required(&constraints, ""),
            Some(matched) => {
                if items(matched, "/resourceRules").is_empty() {
                    errors.required(&constraints.child("resourceRules"), "");
                }
                validate_operations(&json!({"rules": matched["resourceRules"]}), &constraints, errors);
            }
        }
        for (i, validation) in validations.iter().enumerate() {
            if text(validation, "/expression").trim().is_empty() {
                errors.required(&path.child("validations").index(i).child("expression"), "expression is not specified");
            }
        }
        for (i, audit) in audits.iter().enumerate() {
            for field in ["key", "valueExpression"] {
                if text(audit, &format!("/{field}")).trim().is_empty() {
                    errors.required(&path.child("auditAnnotations").index(i).child(field), &format!("{field} is not specified"));
                }
            }
        }
        if let Some(kind) = spec.get("paramKind").filter(|k| k.is_object()) {
            for field in ["apiVersion", "kind"] {
                if text(kind, &format!("/{field}")).is_empty() {
                    errors.required(&path.child("paramKind").child(field), "");
                }
            }
        }
        for (list, named) in [("variables", "variables"), ("matchConditions", "matchConditions")] {
            for (i, one) in items(spec, &format!("/{list}")).iter().enumerate() {
                for field in ["name", "expression"] {
                    if text(one, &format!("/{field}")).trim().is_empty() {
                        errors.required(&path.child(named).index(i).child(field), &format!("{field} is not specified"));
                    }
                }
            }
        }
    }
}
