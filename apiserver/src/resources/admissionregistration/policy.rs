//! What validating and mutating policies have in common: kinds of parameters, match conditions, variables.

use api::field::{Errors, Path};
use serde_json::Value;

use crate::admission::policies::compile;
use crate::cel::Env;
use crate::cel::conditions;
use crate::cel::request::policy_env;
use crate::resources::cells::{items, text};

/// Checks what is common, and gives the environment of the policy's expressions.
pub(super) fn validate_common(spec: &Value, path: &Path, errors: &mut Errors) -> Env {
    let params = spec.get("paramKind").filter(|k| k.is_object());
    if let Some(kind) = params {
        for field in ["apiVersion", "kind"] {
            if text(kind, &format!("/{field}")).is_empty() {
                errors.required(&path.child("paramKind").child(field), "");
            }
        }
    }
    let env = policy_env(params.is_some());
    conditions::validate_in(&env, items(spec, "/matchConditions"), &path.child("matchConditions"), errors);
    let at = path.child("variables");
    for (i, variable) in items(spec, "/variables").iter().enumerate() {
        let (name, expression) = (text(variable, "/name"), text(variable, "/expression"));
        let at = at.index(i);
        if name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&at.child("name"), name, "name is not a valid CEL identifier");
        }
        if expression.trim().is_empty() {
            errors.required(&at.child("expression"), "expression is not specified");
        }
    }
    let (env, compiled) = compile::variables(env, spec);
    for (i, (variable, compiled)) in items(spec, "/variables").iter().zip(&compiled).enumerate() {
        let expression = text(variable, "/expression");
        if let (false, Err(why)) = (expression.trim().is_empty(), &compiled.program) {
            errors.invalid(&at.index(i).child("expression"), expression, why);
        }
    }
    env
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
