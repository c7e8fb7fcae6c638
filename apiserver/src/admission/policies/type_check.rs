//! What the expressions of a policy get wrong about the kinds that it names: warnings, told in its status. Pure.

use std::sync::Arc;

use api::schema::Schema;
use serde_json::{Value, json};

use crate::catalog::{Catalog, Served};
use crate::cel::Program;
use crate::cel::env::Env;
use crate::cel::request::policy_env;
use crate::cel::shape::Shape;
use crate::cel::types::Type;
use crate::resources::cells::{items, text};

/// Kinds looked at, at most, as upstream.
const KINDS: usize = 10;

/// `status.typeChecking` of a policy.
#[must_use]
pub fn check(policy: &Value, catalog: &Catalog) -> Value {
    let spec = &policy["spec"];
    let kinds = kinds(spec, catalog);
    let params = spec.get("paramKind").filter(|k| k.is_object());
    let param_shape = params.and_then(|kind| {
        let (group, version) = api::object::split_api_version(text(kind, "/apiVersion"));
        shape(catalog.of_kind(group, version, text(kind, "/kind"))?)
    });
    let mut warnings = vec![];
    let mut look = |field: String, expression: &str, variables: usize| {
        if expression.trim().is_empty() {
            return;
        }
        let all: Vec<String> = kinds
            .iter()
            .filter_map(|(name, shape)| {
                let env = env(spec, shape, params.is_some(), param_shape.as_ref(), variables);
                Program::compile(&env, expression).err().map(|why| format!("{name}: {why}"))
            })
            .collect();
        if !all.is_empty() {
            warnings.push(json!({"fieldRef": field, "warning": all.join("\n")}));
        }
    };
    let variables = items(spec, "/variables");
    for (i, variable) in variables.iter().enumerate() {
        look(format!("spec.variables[{i}].expression"), text(variable, "/expression"), i);
    }
    for (i, condition) in items(spec, "/matchConditions").iter().enumerate() {
        look(format!("spec.matchConditions[{i}].expression"), text(condition, "/expression"), 0);
    }
    for (i, validation) in items(spec, "/validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            look(format!("spec.validations[{i}].{field}"), text(validation, &format!("/{field}")), variables.len());
        }
    }
    for (i, annotation) in items(spec, "/auditAnnotations").iter().enumerate() {
        look(format!("spec.auditAnnotations[{i}].valueExpression"), text(annotation, "/valueExpression"), variables.len());
    }
    if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) }
}

/// The environment of an expression that may name the first few variables.
fn env(spec: &Value, object: &Arc<Shape>, params: bool, param_shape: Option<&Arc<Shape>>, variables: usize) -> Env {
    let mut env = policy_env(params);
    for var in &mut env.vars {
        let shape = match var.name.as_str() {
            "object" | "oldObject" => Some(object),
            "params" => param_shape,
            _ => None,
        };
        if let Some(shape) = shape {
            (var.ty, var.shape) = (shape.ty(), Some(shape.clone()));
        }
    }
    for variable in items(spec, "/variables").iter().take(variables) {
        let ty = Program::compile(&env, text(variable, "/expression")).map_or(Type::Dyn, |p| p.result().clone());
        env = env.with(&format!("variables.{}", text(variable, "/name")), ty);
    }
    env
}

/// The kinds that a policy names one by one, with their shapes.
fn kinds(spec: &Value, catalog: &Catalog) -> Vec<(String, Arc<Shape>)> {
    let mut out: Vec<(String, Arc<Shape>)> = vec![];
    for rule in items(spec, "/matchConstraints/resourceRules") {
        let list = |field: &str| items(rule, field).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        let (groups, versions, resources) = (list("/apiGroups"), list("/apiVersions"), list("/resources"));
        if groups.contains(&"*") || versions.contains(&"*") {
            continue;
        }
        for (group, version) in groups.iter().flat_map(|g| versions.iter().map(move |v| (*g, *v))) {
            for resource in resources.iter().filter(|r| !r.contains(['*', '/'])) {
                let Some(row) = catalog.find(group, version, resource) else { continue };
                let name = format!("{}, Kind={}", api::object::api_version(group, version), row.kind);
                if out.len() < KINDS
                    && !out.iter().any(|(n, _)| *n == name)
                    && let Some(shape) = shape(row)
                {
                    out.push((name, shape));
                }
            }
        }
    }
    out
}

fn shape(row: &Served) -> Option<Arc<Shape>> {
    let schema = row.schema.as_ref().map_or(Schema::builtin(), |custom| &custom.schema);
    let node = schema.node_of(&row.group, &row.version, &row.kind)?;
    Some(Shape::of_facts(node, &row.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;
    use expect_test::expect;

    #[test]
    fn expressions_are_checked_against_the_kinds_they_are_about() {
        let policy = yaml(
            r#"
            spec:
              paramKind: {apiVersion: v1, kind: ConfigMap}
              matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], resources: [deployments, replicasets, "*"], operations: [CREATE]}]}
              variables: [{name: count, expression: object.spec.replicas}, {name: wrong, expression: object.spec.replica}]
              validations:
              - expression: object.spec.replicas > 1 && object.metadata.labels.all(k, k != '')
              - expression: object.spec.paused
              - {expression: variables.count == 'x', messageExpression: params.data.x + 1}
              - expression: object.spec.template.spec.containers.all(c, c.image.startsWith('x'))
        "#,
        );
        expect![[r#"
            spec.variables[1].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'
             | object.spec.replica
             | ...........^
            apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'replica'
             | object.spec.replica
             | ...........^
            spec.validations[1].expression: apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'paused'
             | object.spec.paused
             | ...........^
            spec.validations[2].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:17: found no matching overload for '_==_' applied to '(int, string)'
             | variables.count == 'x'
             | ................^
            apps/v1, Kind=ReplicaSet: ERROR: <input>:1:17: found no matching overload for '_==_' applied to '(int, string)'
             | variables.count == 'x'
             | ................^
            spec.validations[2].messageExpression: apps/v1, Kind=Deployment: ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(string, int)'
             | params.data.x + 1
             | ..............^
            apps/v1, Kind=ReplicaSet: ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(string, int)'
             | params.data.x + 1
             | ..............^"#]]
        .assert_eq(&shown(&check(&policy, &Catalog::in_tests(crate::resources::builtin()))));
    }

    fn shown(status: &Value) -> String {
        let one = |w: &Value| format!("{}: {}", text(w, "/fieldRef"), text(w, "/warning"));
        items(status, "/expressionWarnings").iter().map(one).collect::<Vec<_>>().join("\n")
    }
}
