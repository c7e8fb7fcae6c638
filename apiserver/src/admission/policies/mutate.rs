//! Mutating policies over a request: in the order of their names, each mutation seeing what those before it did.
//!
//! A policy whose `reinvocationPolicy` is `IfNeeded` is put to work once more when the object changed after its turn.

use std::sync::Arc;

use api::object::ObjectKey;
use api::schema::{Schema, SchemaNode};
use api::status::{Cause, Status};
use serde_json::Value;

use super::compile::{Binding, Compiled, MutatingPolicy, Mutation};
use super::validate::{BUDGET, Judge, Scope};
use super::{is_exempt, params, request};
use crate::admission::matching::Seen;
use crate::admission::{Attributes, Step, View};
use crate::apply::{json_patch, server_side};
use crate::catalog::Served;
use crate::cel::conditions::Matched;
use crate::cel::request::Facts;
use crate::resource::Subresource;

/// The step.
pub struct MutatingAdmissionPolicies;

impl Step for MutatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn admit(&self, at: &Attributes<'_>, obj: &mut Value, view: &dyn View) -> Result<(), Status> {
        // A Scale is worked out of the object: there is nothing to put a changed one into.
        let is_scale = matches!(at.row.subresource(at.subresource), Some(Subresource::Scale { .. }));
        if is_exempt(at.row) || !obj.is_object() || is_scale {
            return Ok(());
        }
        let policies = view.mutating_policies();
        // What each policy left, to see whether somebody changed it after that.
        let mut left: Vec<Option<Value>> = vec![];
        for (policy, bindings) in policies.iter() {
            let concerned = invoke(at, obj, view, policy, bindings)?;
            left.push((concerned && policy.again).then(|| obj.clone()));
        }
        for ((policy, bindings), left) in policies.iter().zip(left) {
            if left.is_some_and(|left| left != *obj) {
                invoke(at, obj, view, policy, bindings)?;
            }
        }
        Ok(())
    }
}

/// What a policy sees an object through.
struct Lens<'r> {
    at: &'r Attributes<'r>,
    view: &'r dyn View,
    seen: Seen,
    row: Option<Arc<Served>>,
}

impl Lens<'_> {
    /// The object in the policy's version.
    fn shown(&self, stored: &Value) -> Result<Value, String> {
        request::shown(stored, self.at, &self.seen, self.view).map_err(|s| format!("failed to convert object version: {}", s.message))
    }

    /// The object in the worked form, with its defaults.
    fn stored(&self, shown: Value) -> Result<Value, String> {
        let row = self.row.as_ref().map(|r| &r.resource);
        let mut stored = request::worked(shown, self.at, row).map_err(|s| s.message)?;
        self.at.row.hooks.default(&mut stored)?;
        Ok(stored)
    }

    fn schema(&self) -> Option<SchemaNode<'_>> {
        let row = self.row.as_ref()?;
        let schema = row.schema.as_ref().map_or(Schema::builtin(), |custom| &custom.schema);
        schema.node_of(&row.group, &row.version, &row.kind)
    }
}

/// Puts a policy to work. Says whether the request concerned it.
fn invoke(
    at: &Attributes<'_>,
    obj: &mut Value,
    view: &dyn View,
    policy: &MutatingPolicy,
    bindings: &[Arc<Binding>],
) -> Result<bool, Status> {
    let common = &policy.policy;
    let Some(seen) = common.matches.seen(at, obj, view) else { return Ok(false) };
    let denied = |binding: Option<&Binding>, why: &str| {
        let whose = binding.map(|b| format!(" with binding '{}'", b.name)).unwrap_or_default();
        let message = format!("policy '{}'{whose} denied request: {why}", common.name);
        let mut status = Status::forbidden(&at.row.group, &at.row.plural, request::name(at, obj), &message);
        (status.code, status.reason) = (422, "Invalid");
        status.with_causes(vec![Cause { reason: String::new(), message, field: String::new() }])
    };
    let row = view.catalog().find(&seen.group, &seen.version, &seen.resource).cloned();
    let lens = Lens { at, view, seen, row };
    let param_row = match common.params.as_ref().map(|kind| params::row(kind, view)).transpose() {
        Ok(row) => row,
        Err(why) if common.fails => return Err(denied(None, &format!("failed to configure policy: {why}"))),
        Err(_) => return Ok(true),
    };
    let mut current = obj.clone();
    for binding in bindings {
        if binding.matches.as_ref().is_some_and(|m| m.seen(at, obj, view).is_none()) {
            continue;
        }
        let all = match &param_row {
            Some(row) => params::collect(row, binding.params.as_ref(), at.namespace, view),
            None => Ok(vec![None]),
        };
        let all = match all {
            Ok(all) => all,
            Err(why) if common.fails => return Err(denied(Some(binding), &format!("failed to configure binding: {why}"))),
            Err(_) => continue,
        };
        for param in &all {
            match mutate(&lens, policy, &current, param.as_ref()) {
                Ok(Some(changed)) => current = changed,
                Ok(None) => {}
                Err(why) if common.fails => return Err(denied(Some(binding), &why)),
                // A mutation that cannot be done is as if it were not there.
                Err(why) => tracing::debug!(policy = %common.name, %why, "a mutation failed and is ignored"),
            }
        }
    }
    *obj = current;
    Ok(true)
}

/// The stored object after all mutations of a policy; nothing when its conditions do not hold.
fn mutate(lens: &Lens<'_>, policy: &MutatingPolicy, stored: &Value, param: Option<&Value>) -> Result<Option<Value>, String> {
    let at = lens.at;
    let described = request::describe(at, &lens.seen);
    let old = at.old.map(|old| lens.shown(old)).transpose()?;
    let is_namespace = at.row.group.is_empty() && at.row.plural == "namespaces";
    let namespace = match at.namespace {
        "" => None,
        _ if is_namespace => None,
        name => lens.view.get("", "namespaces", &ObjectKey::cluster(name)),
    };
    let judge = Judge(lens.view);
    let mut shown = lens.shown(stored)?;
    let mut left = BUDGET;
    for (i, mutation) in policy.mutations.iter().enumerate() {
        let next = {
            let facts = Facts {
                request: &described,
                object: Some(&shown),
                old: old.as_ref(),
                user: at.user,
                judge: &judge,
                namespace: namespace.as_deref(),
                params: param,
            };
            let scope = Scope::new(&policy.policy, facts);
            if i == 0 {
                match policy.policy.conditions.evaluate_in(&scope) {
                    Matched::Yes => {}
                    Matched::No(_) => return Ok(None),
                    Matched::Failed(why) => return Err(why),
                }
            }
            one(lens, mutation, &shown, &scope, &mut left)?
        };
        shown = next;
    }
    lens.stored(shown).map(Some)
}

/// The object after one mutation.
fn one<'a>(lens: &Lens<'_>, mutation: &'a Mutation, object: &Value, scope: &Scope<'a>, left: &mut u64) -> Result<Value, String> {
    let mut evaluated = |program: &'a Compiled, expression: &str| {
        let value = scope.run(program, left).map_err(|why| format!("expression '{expression}' resulted in error: {why}"))?;
        value.to_json().ok_or_else(|| format!("expression '{expression}' resulted in a value that has no form in JSON"))
    };
    match mutation {
        Mutation::Apply { expression, program } => {
            let applied = evaluated(program, expression)?;
            let node = lens.schema().ok_or("the kind has no schema")?;
            server_side::merge_whole(object, &applied, node)
        }
        Mutation::Patch { expression, program } => {
            let patch = evaluated(program, expression)?;
            json_patch::apply(object, &patch).map_err(|e| format!("JSON Patch: {e}"))
        }
        Mutation::Unknown(kind) => Err(format!("unsupported patchType {kind:?}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::admission::world_in_tests::{Request, World, run};
    use crate::resources::apps::deployments;

    const GROUP: &str = "admissionregistration.k8s.io";

    fn check(spec: &str, expect: Expect) {
        let constraints =
            "matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [CREATE]}]}";
        let policy = format!("{{metadata: {{name: p}}, spec: {{{constraints}, {spec}}}}}");
        let world = World::of(&[
            (GROUP, "mutatingadmissionpolicies", &policy),
            (GROUP, "mutatingadmissionpolicybindings", "{metadata: {name: b}, spec: {policyName: p}}"),
            ("", "namespaces", "{metadata: {name: shop, labels: {team: a}}}"),
        ]);
        let new = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop, labels: {x: w}}, spec: {replicas: 1, template: {spec: {containers: [{name: c, image: i}]}}}}";
        let shown = match run(&MutatingAdmissionPolicies, &world, &Request::create(deployments::row(), new)) {
            Ok((object, _)) => {
                let part = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
                let containers: Vec<Value> = part("/spec/template/spec/containers").as_array().cloned().unwrap_or_default();
                let containers: Vec<String> = containers.iter().map(|c| format!("{}={}", c["name"], c["image"])).collect();
                format!(
                    "{} {} {} {}",
                    part("/spec/replicas"),
                    part("/metadata/labels"),
                    part("/metadata/annotations"),
                    containers.join(" ")
                )
            }
            Err(why) => why,
        };
        expect.assert_eq(&shown);
    }

    fn apply(expression: &str) -> String {
        format!("mutations: [{{patchType: ApplyConfiguration, applyConfiguration: {{expression: {expression:?}}}}}]")
    }

    fn patch(expression: &str) -> String {
        format!("mutations: [{{patchType: JSONPatch, jsonPatch: {{expression: {expression:?}}}}}]")
    }

    #[test]
    fn configurations_are_applied() {
        check(&apply("Object{spec: Object.spec{replicas: object.spec.replicas + 4}}"), expect![[r#"5 {"x":"w"} null "c"="i""#]]);
        check(
            &apply("Object{metadata: Object.metadata{labels: {'team': namespaceObject.metadata.labels.team}}}"),
            expect![[r#"1 {"team":"a","x":"w"} null "c"="i""#]],
        );
        check(
            &apply(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 's'}]}}}}",
            ),
            expect![[r#"1 {"x":"w"} null "c"="i" "side"="s""#]],
        );
        check(
            &apply("Object{spec: Object.spec{replicas: 'x'}}"),
            expect![[
                r#"deployments.apps "a" is forbidden: policy 'p' with binding 'b' denied request: .spec.replicas: expected numeric (int or float), got string"#
            ]],
        );
        check(
            &apply("Object{spec: Object.spec{nope: 1}}"),
            expect![[
                r#"deployments.apps "a" is forbidden: policy 'p' with binding 'b' denied request: .spec.nope: field not declared in schema"#
            ]],
        );
        check(
            &apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}"),
            expect![[
                r#"deployments.apps "a" is forbidden: policy 'p' with binding 'b' denied request: may not mutate atomic arrays, maps or structs: .spec.selector"#
            ]],
        );
        check(
            &apply("Object{spec: Object.spec{replicas: object.spec.nope}}"),
            expect![[
                r#"deployments.apps "a" is forbidden: policy 'p' with binding 'b' denied request: expression 'Object{spec: Object.spec{replicas: object.spec.nope}}' resulted in error: no such key: nope"#
            ]],
        );
        check(
            &format!("failurePolicy: Ignore, {}", apply("Object{spec: Object.spec{replicas: object.spec.nope}}")),
            expect![[r#"1 {"x":"w"} null "c"="i""#]],
        );
    }

    #[test]
    fn patches_are_applied() {
        check(&patch("[JSONPatch{op: 'replace', path: '/spec/replicas', value: 7}]"), expect![[r#"7 {"x":"w"} null "c"="i""#]]);
        check(
            &patch(
                "[JSONPatch{op: 'test', path: '/spec/replicas', value: 1}, JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]",
            ),
            expect![[r#"1 {"a/b":"c","x":"w"} null "c"="i""#]],
        );
        check(
            &patch("has(object.spec.nope) ? [JSONPatch{op: 'remove', path: '/spec/nope'}] : []"),
            expect![[r#"1 {"x":"w"} null "c"="i""#]],
        );
        check(
            &patch("[JSONPatch{op: 'add', path: '/metadata/annotations', value: Object.metadata.annotations{a: 'b'}}]"),
            expect![[r#"1 {"x":"w"} {"a":"b"} "c"="i""#]],
        );
        check(
            &patch("[JSONPatch{op: 'remove', path: '/spec/nope'}]"),
            expect![[
                r#"deployments.apps "a" is forbidden: policy 'p' with binding 'b' denied request: JSON Patch: error in remove for path: '/spec/nope': Unable to remove nonexistent key: nope: missing value"#
            ]],
        );
    }

    #[test]
    fn mutations_see_those_before_them_and_conditions_decide() {
        let twice = "variables: [{name: doubled, expression: object.spec.replicas * 2}], mutations: [{patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'replace', path: '/spec/replicas', value: variables.doubled}]\"}}, {patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'replace', path: '/spec/replicas', value: variables.doubled}]\"}}]";
        check(twice, expect![[r#"4 {"x":"w"} null "c"="i""#]]);
        let conditions = "matchConditions: [{name: c, expression: object.metadata.labels.x == 'z'}]";
        check(&format!("{conditions}, {}", apply("Object{spec: Object.spec{replicas: 9}}")), expect![[r#"1 {"x":"w"} null "c"="i""#]]);
    }
}
