//! admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicy

use api::field::{Errors, Path};
use serde_json::{Value, json};

use super::policy;
use super::validatingadmissionpolicies::{default_match, param_kind, validate_constraints};
use crate::admission::policies::compile;
use crate::cel::Env;
use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::{count, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1beta1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column { kind: "integer".into(), ..Column::compute("Mutations", |o, _| count(o, "/spec/mutations").into()) },
            Column::compute("ParamKind", |o, _| param_kind(o).into()),
            Column::age(),
        ])
        .rules::<Value>(PolicyRules)
}

struct PolicyRules;

impl Rules<Value> for PolicyRules {
    fn default(&self, policy: &mut Value) {
        let Some(spec) = policy.get_mut("spec").filter(|s| s.is_object()) else { return };
        for (field, value) in [("failurePolicy", json!("Fail")), ("reinvocationPolicy", json!("Never"))] {
            if spec.get(field).is_none_or(Value::is_null) {
                spec[field] = value;
            }
        }
        default_match(spec.get_mut("matchConstraints"));
    }
    fn validate(&self, policy: &Value, errors: &mut Errors) {
        let (spec, path) = (&policy["spec"], Path::new("spec"));
        one_of(text(spec, "/failurePolicy"), &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
        one_of(text(spec, "/reinvocationPolicy"), &["IfNeeded", "Never"], &path.child("reinvocationPolicy"), errors);
        validate_constraints(spec, &path, errors);
        let env = Env { mutations: true, ..policy::validate_common(spec, &path, errors) };
        let mutations = items(spec, "/mutations");
        if mutations.is_empty() {
            errors.required(&path.child("mutations"), "mutations must contain at least one item");
        }
        for (i, one) in mutations.iter().enumerate() {
            mutation(one, &env, &path.child("mutations").index(i), errors);
        }
    }
}

fn mutation(one: &Value, env: &Env, at: &Path, errors: &mut Errors) {
    type Compile = fn(&Env, &str) -> compile::Compiled;
    let kinds: [(&str, &str, Compile); 2] =
        [("ApplyConfiguration", "applyConfiguration", compile::configuration), ("JSONPatch", "jsonPatch", compile::patch)];
    let given = text(one, "/patchType");
    if given.is_empty() {
        errors.required(&at.child("patchType"), "");
    } else {
        one_of(given, &["ApplyConfiguration", "JSONPatch"], &at.child("patchType"), errors);
    }
    for (kind, field, program) in kinds {
        let (there, at) = (one.get(field).is_some_and(Value::is_object), at.child(field));
        match (kind == given, there) {
            (true, false) => errors.required(&at, &format!("must be specified when patchType is {kind}")),
            (false, true) if !given.is_empty() => {
                errors.forbidden(&at, &format!("must not be specified when patchType is not {kind}"));
            }
            (true, true) => {
                let expression = text(one, &format!("/{field}/expression"));
                if expression.trim().is_empty() {
                    errors.required(&at.child("expression"), "expression is not specified");
                } else if let Err(why) = program(env, expression) {
                    errors.invalid(&at.child("expression"), expression, &why);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::errors;
    use expect_test::{Expect, expect};

    fn check(mutations: &str, expect: Expect) {
        let constraints =
            "matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}";
        expect.assert_eq(&errors(row(), &format!("{{metadata: {{name: p}}, spec: {{{constraints}, mutations: {mutations}}}}}")));
    }

    #[test]
    fn mutations_are_compiled() {
        check("[]", expect!["spec.mutations: Required value: mutations must contain at least one item"]);
        check("[{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{spec: Object.spec{x: object.y}}'}}]", expect![""]);
        check(
            "[{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{spec: Object.status{}}'}}]",
            expect![[r#"
            spec.mutations[0].applyConfiguration.expression: Invalid value: "Object{spec: Object.status{}}": compilation failed: ERROR: <input>:1:12: expected type of field 'spec' is 'Object.spec' but provided type is 'Object.status'
             | Object{spec: Object.status{}}
             | ...........^"#]],
        );
        check(
            "[{patchType: ApplyConfiguration, applyConfiguration: {expression: '1'}, jsonPatch: {expression: '[]'}}]",
            expect![[r#"
            spec.mutations[0].applyConfiguration.expression: Invalid value: "1": must evaluate to Object
            spec.mutations[0].jsonPatch: Forbidden: must not be specified when patchType is not JSONPatch"#]],
        );
        check(
            "[{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: 1, nope: 2}]'}}]",
            expect![[r#"
            spec.mutations[0].jsonPatch.expression: Invalid value: "[JSONPatch{op: 1, nope: 2}]": compilation failed: ERROR: <input>:1:14: expected type of field 'op' is 'string' but provided type is 'int'
             | [JSONPatch{op: 1, nope: 2}]
             | .............^
            ERROR: <input>:1:23: undefined field 'nope'
             | [JSONPatch{op: 1, nope: 2}]
             | ......................^"#]],
        );
        check(
            "[{patchType: JSONPatch, jsonPatch: {expression: 'Object{}'}}, {patchType: Odd}, {}]",
            expect![[r#"
            spec.mutations[0].jsonPatch.expression: Invalid value: "Object{}": must evaluate to list(JSONPatch)
            spec.mutations[1].patchType: Unsupported value: "Odd": supported values: "ApplyConfiguration", "JSONPatch"
            spec.mutations[2].patchType: Required value"#]],
        );
    }
}
