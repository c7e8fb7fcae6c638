//! admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy

use api::field::{Errors, Path};
use api::object::Meta as _;
use serde_json::{Value, json};

use super::policy;
use super::webhooks::{default_rules, validate_operations};
use crate::admission::policies::compile;
use crate::cel::Env;
use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::{count, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .status()
        .category("api-extensions")
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

pub(super) fn param_kind(o: &Value) -> String {
    match text(o, "/spec/paramKind/kind") {
        "" => "<unset>".to_owned(),
        kind => format!("{}/{kind}", text(o, "/spec/paramKind/apiVersion")),
    }
}

/// Checks what a policy concerns.
pub(super) fn validate_constraints(spec: &Value, path: &Path, errors: &mut Errors) {
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
        validate_constraints(spec, &path, errors);
        let env = policy::validate_common(spec, &path, errors);
        for (i, one) in validations.iter().enumerate() {
            validation(one, &env, &path.child("validations").index(i), errors);
        }
        for (i, audit) in audits.iter().enumerate() {
            let at = path.child("auditAnnotations").index(i);
            let (key, value) = (text(audit, "/key"), text(audit, "/valueExpression"));
            if key.trim().is_empty() {
                errors.required(&at.child("key"), "key is not specified");
            } else {
                for wrong in api::names::qualified_name(&format!("{}/{key}", policy.name())) {
                    errors.invalid(&at.child("key"), key, &wrong);
                }
                if audits[..i].iter().any(|a| text(a, "/key") == key) {
                    errors.duplicate(&at.child("key"), key);
                }
            }
            if value.trim().is_empty() {
                errors.required(&at.child("valueExpression"), "valueExpression is not specified");
            } else if let Err(why) = compile::string_or_null(&env, value) {
                errors.invalid(&at.child("valueExpression"), value, &why);
            }
        }
    }
}

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];

fn validation(one: &Value, env: &Env, at: &Path, errors: &mut Errors) {
    let breaks = |t: &str| t.contains(['\n', '\r']);
    let (expression, message, worked_out) = (text(one, "/expression"), text(one, "/message"), text(one, "/messageExpression"));
    if expression.trim().is_empty() {
        errors.required(&at.child("expression"), "expression is not specified");
    } else if let Err(why) = compile::boolean(env, expression) {
        errors.invalid(&at.child("expression"), expression, &why);
    }
    if !worked_out.is_empty() && worked_out.trim().is_empty() {
        errors.invalid(&at.child("messageExpression"), worked_out, "must be non-empty if specified");
    } else if !worked_out.is_empty()
        && let Err(why) = compile::string(env, worked_out)
    {
        errors.invalid(&at.child("messageExpression"), worked_out, &why);
    }
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at.child("message"), message, "message must be non-empty if specified");
    } else if breaks(message.trim()) {
        errors.invalid(&at.child("message"), message, "message must not contain line breaks");
    } else if breaks(expression.trim()) && message.trim().is_empty() {
        errors.required(&at.child("message"), "message must be specified if expression contains line breaks");
    }
    let reason = text(one, "/reason");
    if !reason.is_empty() {
        one_of(reason, REASONS, &at.child("reason"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::errors;
    use expect_test::{Expect, expect};

    fn check(spec: &str, expect: Expect) {
        let constraints =
            "matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}";
        expect.assert_eq(&errors(row(), &format!("{{metadata: {{name: p.x.io}}, spec: {{{constraints}, {spec}}}}}")));
    }

    #[test]
    fn every_expression_is_compiled() {
        check(
            "validations: [{expression: 'object.spec.x > 1 && request.operation == \"CREATE\" && has(namespaceObject.metadata.labels)'}]",
            expect![""],
        );
        check(
            "validations: [{expression: 'object.'}]",
            expect![[r#"
            spec.validations[0].expression: Invalid value: "object.": compilation failed: ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER
             | object.
             | .......^"#]],
        );
        check(
            "validations: [{expression: 'request.nope == 1', messageExpression: '1', message: ' ', reason: Odd}]",
            expect![[r#"
            spec.validations[0].expression: Invalid value: "request.nope == 1": compilation failed: ERROR: <input>:1:8: undefined field 'nope'
             | request.nope == 1
             | .......^
            spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string
            spec.validations[0].message: Invalid value: " ": message must be non-empty if specified
            spec.validations[0].reason: Unsupported value: "Odd": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized""#]],
        );
        check(
            "validations: [{expression: '1'}, {expression: ' '}, {expression: params.x}]",
            expect![[r#"
            spec.validations[0].expression: Invalid value: "1": must evaluate to bool
            spec.validations[1].expression: Required value: expression is not specified
            spec.validations[2].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
             | params.x
             | ^"#]],
        );
        check("paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: params.data.x == '1'}]", expect![""]);
        check(
            "variables: [{name: a, expression: '1'}, {name: b, expression: variables.a + 1}, {name: 1c, expression: variables.d}], validations: [{expression: variables.b == 'x'}]",
            expect![[r#"
                spec.variables[2].name: Invalid value: "1c": name is not a valid CEL identifier
                spec.variables[2].expression: Invalid value: "variables.d": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')
                 | variables.d
                 | ^
                spec.validations[0].expression: Invalid value: "variables.b == 'x'": compilation failed: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'
                 | variables.b == 'x'
                 | ............^"#]],
        );
        check(
            "matchConditions: [{name: 'a b', expression: object.x}, {name: c, expression: '1'}, {name: c, expression: 'true'}], validations: [{expression: 'true'}]",
            expect![[r#"
                spec.matchConditions[0].name: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.matchConditions[1].expression: Invalid value: "1": must evaluate to bool
                spec.matchConditions[2].name: Duplicate value: "c""#]],
        );
        check(
            "auditAnnotations: [{key: k, valueExpression: '1'}, {key: k, valueExpression: 'null'}, {key: a b}]",
            expect![[r#"
            spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type]
            spec.auditAnnotations[1].key: Duplicate value: "k"
            spec.auditAnnotations[2].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.auditAnnotations[2].valueExpression: Required value: valueExpression is not specified"#]],
        );
        check(
            "validations: [{expression: 'authorizer.group(\"\").resource(\"pods\").check(\"get\").allowed() && authorizer.requestResource.check(\"x\").allowed()'}]",
            expect![""],
        );
    }
}
