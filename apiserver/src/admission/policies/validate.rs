//! Validating policies over a request: every policy, every binding of it, every parameter; the first refusal is the answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use api::object::ObjectKey;
use api::status::{Cause, Status};
use serde_json::{Value, json};

use super::compile::{Binding, Policy, ValidatingPolicy};
use super::{is_exempt, params, request};
use crate::admission::{Attributes, Notes, Step, View};
use crate::auth::User;
use crate::cel::conditions::{Matched, why};
use crate::cel::request::Facts;
use crate::cel::{Authorize, Fail, Out, Val, Vars};

/// What all expressions of a policy may cost together.
pub const BUDGET: u64 = 10_000_000;
/// Bytes of an evaluated message at most.
const MAX_MESSAGE: usize = 5 * 1024;
/// Bytes of the value of an audit annotation at most.
const MAX_ANNOTATION: usize = 10 * 1024;
/// The annotation of what `Audit` is to note.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The step.
pub struct ValidatingAdmissionPolicies;

impl Step for ValidatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, notes: &mut Notes) -> Result<(), Status> {
        if is_exempt(at.row) {
            return Ok(());
        }
        let policies = view.policies();
        let mut first = None;
        for (policy, bindings) in policies.iter() {
            let mut run = Run { at, obj, view, notes: &mut *notes, denied: vec![] };
            run.policy(policy, bindings);
            first = first.or_else(|| run.denied.into_iter().next());
        }
        match first {
            None => Ok(()),
            Some(denied) => Err(denied.status(at, request::name(at, obj))),
        }
    }
}

/// A refusal.
struct Denied {
    message: String,
    reason: String,
}

impl Denied {
    fn status(self, at: &Attributes<'_>, name: &str) -> Status {
        let (code, reason) = match self.reason.as_str() {
            "Forbidden" => (403, "Forbidden"),
            "Unauthorized" => (401, "Unauthorized"),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
            _ => (422, "Invalid"),
        };
        let mut status = Status::forbidden(&at.row.group, &at.row.plural, name, &self.message);
        (status.code, status.reason) = (code, reason);
        status.with_causes(vec![Cause { reason: String::new(), message: self.message, field: String::new() }])
    }
}

/// What came of an expression.
struct Decision {
    message: String,
    reason: String,
}

/// Whoever decides for `authorizer`.
pub struct Judge<'v>(pub &'v dyn View);

impl Authorize for Judge<'_> {
    fn allows(&self, user: &User, attributes: &crate::auth::Attributes) -> bool {
        self.0.authorize(user, attributes)
    }
}

struct Run<'r> {
    at: &'r Attributes<'r>,
    obj: &'r Value,
    view: &'r dyn View,
    notes: &'r mut Notes,
    denied: Vec<Denied>,
}

impl Run<'_> {
    /// What keeps a policy from being put to work, where that matters.
    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        if !policy.fails {
            return;
        }
        let (what, whose) = match binding {
            None => ("policy", String::new()),
            Some(binding) => ("binding", format!(" with binding '{}'", binding.name)),
        };
        let message = format!("ValidatingAdmissionPolicy '{}'{whose} denied request: failed to configure {what}: {why}", policy.name);
        self.denied.push(Denied { message, reason: String::new() });
    }

    fn policy(&mut self, validating: &ValidatingPolicy, bindings: &[std::sync::Arc<Binding>]) {
        let (at, view, policy) = (self.at, self.view, &validating.policy);
        let Some(seen) = policy.matches.seen(at, self.obj, view) else { return };
        let shown = request::shown(self.obj, at, &seen, view)
            .and_then(|new| Ok((new, at.old.map(|old| request::shown(old, at, &seen, view)).transpose()?)));
        let (new, old) = match shown {
            Ok(shown) => shown,
            Err(status) => return self.misconfigured(policy, None, &format!("failed to convert object version: {}", status.message)),
        };
        let row = match policy.params.as_ref().map(|kind| params::row(kind, view)).transpose() {
            Ok(row) => row,
            Err(why) => return self.misconfigured(policy, None, &why),
        };
        let described = request::describe(at, &seen);
        let is_namespace = at.row.group.is_empty() && at.row.plural == "namespaces";
        let namespace =
            if at.namespace.is_empty() || is_namespace { None } else { view.get("", "namespaces", &ObjectKey::cluster(at.namespace)) };
        let judge = Judge(view);
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bindings {
            if binding.matches.as_ref().is_some_and(|m| m.seen(at, self.obj, view).is_none()) {
                continue;
            }
            let all = match &row {
                Some(row) => params::collect(row, binding.params.as_ref(), at.namespace, view),
                None => Ok(vec![None]),
            };
            let all = match all {
                Ok(all) => all,
                Err(why) => {
                    self.misconfigured(policy, Some(binding), &why);
                    continue;
                }
            };
            for param in &all {
                let facts = Facts {
                    request: &described,
                    object: Some(&new).filter(|o| o.is_object()),
                    old: old.as_ref(),
                    user: at.user,
                    judge: &judge,
                    namespace: namespace.as_deref(),
                    params: param.as_ref(),
                };
                self.evaluate(validating, binding, &Scope::new(policy, facts), &mut annotations);
            }
        }
        for (key, values) in annotations {
            self.notes.audit.insert(format!("{}/{key}", policy.name), values.join(", "));
        }
    }

    fn evaluate<'a>(
        &mut self,
        validating: &'a ValidatingPolicy,
        binding: &Binding,
        scope: &Scope<'a>,
        annotations: &mut BTreeMap<String, Vec<String>>,
    ) {
        let policy = &validating.policy;
        let matched = policy.conditions.evaluate_in(scope);
        let decisions = match &matched {
            Matched::No(_) => return,
            Matched::Failed(why) => vec![(0, failure(policy, why.clone()))],
            Matched::Yes => decide(validating, scope),
        };
        for (i, decision) in decisions {
            if let Some(decision) = decision {
                self.act(policy, binding, i, decision);
            }
        }
        if matched == Matched::Yes {
            self.annotate(validating, binding, scope, annotations);
        }
    }

    /// Does about a violation what the binding says.
    fn act(&mut self, policy: &Policy, binding: &Binding, index: usize, decision: Decision) {
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => {
                    let message = format!(
                        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
                        policy.name, binding.name, decision.message
                    );
                    self.denied.push(Denied { message, reason: decision.reason.clone() });
                }
                "Warn" => self.notes.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, decision.message
                )),
                _ => {
                    let failure = json!([{"message": decision.message, "policy": policy.name, "binding": binding.name,
                        "expressionIndex": index, "validationActions": binding.actions}]);
                    self.notes.audit.insert(FAILURE.to_owned(), failure.to_string());
                }
            }
        }
    }

    fn annotate<'a>(
        &mut self,
        validating: &'a ValidatingPolicy,
        binding: &Binding,
        scope: &Scope<'a>,
        annotations: &mut BTreeMap<String, Vec<String>>,
    ) {
        let mut left = BUDGET;
        for annotation in &validating.annotations {
            let wrong = match scope.run(&annotation.program, &mut left) {
                Ok(Val::Str(value)) => {
                    let value = value.trim();
                    let end = (0..=MAX_ANNOTATION.min(value.len())).rev().find(|i| value.is_char_boundary(*i)).unwrap_or(0);
                    let all = annotations.entry(annotation.key.clone()).or_default();
                    if !value.is_empty() && !all.iter().any(|v| v == &value[..end]) {
                        all.push(value[..end].to_owned());
                    }
                    continue;
                }
                Ok(Val::Null) => continue,
                Ok(other) => format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    annotation.expression,
                    other.type_name()
                ),
                Err(why) => format!("expression '{}' resulted in error: {why}", annotation.expression),
            };
            if validating.policy.fails {
                let message = format!(
                    "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {wrong}",
                    validating.policy.name, binding.name
                );
                self.denied.push(Denied { message, reason: String::new() });
            }
        }
    }
}

/// What could not be evaluated, where that matters.
fn failure(policy: &Policy, message: String) -> Option<Decision> {
    policy.fails.then(|| Decision { message, reason: String::new() })
}

/// What each validation comes to: nothing where all is well.
fn decide<'a>(validating: &'a ValidatingPolicy, scope: &Scope<'a>) -> Vec<(usize, Option<Decision>)> {
    let policy = &validating.policy;
    let mut left = BUDGET;
    let mut out = vec![];
    for (i, validation) in validating.validations.iter().enumerate() {
        let decision = match scope.run(&validation.program, &mut left) {
            Ok(Val::Bool(true)) => None,
            Ok(_) => Some(Decision { message: String::new(), reason: validation.reason.clone() }),
            // The budget is the policy's: there is one decision.
            Err(why) if left == 0 => return vec![(0, failure(policy, why))],
            Err(why) => failure(policy, format!("expression '{}' resulted in error: {why}", validation.expression)),
        };
        out.push((i, decision));
    }
    for (i, decision) in &mut out {
        let Some(decision) = decision.as_mut().filter(|d| d.message.is_empty()) else { continue };
        let validation = &validating.validations[*i];
        let worked_out = validation.message_program.as_ref().and_then(|p| match scope.run(p, &mut left) {
            Ok(Val::Str(message)) => Some(message.trim().to_owned()),
            _ => None,
        });
        let usable = |m: &String| !m.is_empty() && m.len() <= MAX_MESSAGE && !m.contains('\n');
        decision.message = match worked_out.filter(usable) {
            Some(message) => message,
            None if !validation.message.is_empty() => validation.message.clone(),
            None => format!("failed expression: {}", validation.expression),
        };
    }
    out
}

/// The variables of a policy's expressions: what a request is about, and the policy's own, each evaluated when it is first named.
pub struct Scope<'a> {
    policy: &'a Policy,
    facts: Facts<'a>,
    known: RefCell<Vec<Option<Out<'a>>>>,
    /// What evaluating variables cost that nobody paid for yet.
    owed: Cell<u64>,
}

impl<'a> Scope<'a> {
    /// Nothing is evaluated yet.
    #[must_use]
    pub fn new(policy: &'a Policy, facts: Facts<'a>) -> Self {
        let known = RefCell::new(vec![None; policy.variables.len()]);
        Self { policy, facts, known, owed: Cell::new(0) }
    }

    /// Evaluates an expression out of a budget.
    ///
    /// # Errors
    /// Why there is no value, in upstream's words.
    pub fn run(&self, program: &'a super::compile::Compiled, left: &mut u64) -> Result<Val<'a>, String> {
        let program = program.as_ref().map_err(Clone::clone)?;
        let (out, cost) = program.run(self, *left);
        *left = left.saturating_sub(cost.saturating_add(self.owed.take()));
        match out {
            Ok(_) if *left == 0 => Err(why(Fail::Budget, 0)),
            Ok(value) => Ok(value),
            Err(fail) => Err(why(fail, *left)),
        }
    }
}

impl<'a> Vars<'a> for Scope<'a> {
    fn get(&self, index: usize) -> Out<'a> {
        let Some(i) = index.checked_sub(self.policy.base) else { return self.facts.get(index) };
        if let Some(Some(known)) = self.known.borrow().get(i) {
            return known.clone();
        }
        let Some(variable) = self.policy.variables.get(i) else { return Err(Fail::Error("no such attribute".to_owned())) };
        let out = match &variable.program {
            Ok(program) => {
                let (out, cost) = program.run(self, BUDGET);
                self.owed.set(self.owed.get().saturating_add(cost));
                match out {
                    Err(Fail::Error(why)) => Err(Fail::Error(format!("composited variable {:?} fails to evaluate: {why}", variable.name))),
                    other => other,
                }
            }
            Err(why) => Err(Fail::Error(format!("composited variable {:?} fails to compile: {why}", variable.name))),
        };
        if let Some(slot) = self.known.borrow_mut().get_mut(i) {
            *slot = Some(out.clone());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::admission::world_in_tests::{Request, World, run};
    use crate::resources::apps::deployments;
    use crate::resources::core;

    const GROUP: &str = "admissionregistration.k8s.io";
    const NEW: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop, labels: {x: w}}, spec: {replicas: 7}}";

    fn world(spec: &str, binding: &str) -> World {
        let constraints =
            "matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: ['*']}]}";
        let policy = format!("{{metadata: {{name: p}}, spec: {{{constraints}, {spec}}}}}");
        World::of(&[
            (GROUP, "validatingadmissionpolicies", &policy),
            (GROUP, "validatingadmissionpolicybindings", &format!("{{metadata: {{name: b}}, spec: {{policyName: p, {binding}}}}}")),
            ("", "namespaces", "{metadata: {name: shop, labels: {team: a}}}"),
            (
                "",
                "configmaps",
                "{apiVersion: v1, kind: ConfigMap, metadata: {name: limits, namespace: shop, labels: {l: m}}, data: {most: '5'}}",
            ),
            ("", "configmaps", "{apiVersion: v1, kind: ConfigMap, metadata: {name: limits, namespace: other}, data: {most: '9'}}"),
        ])
    }

    fn check_request(spec: &str, binding: &str, request: &Request<'_>, expect: Expect) {
        let shown = match run(&ValidatingAdmissionPolicies, &world(spec, binding), request) {
            Err(why) => why,
            Ok((_, notes)) => format!("warnings {:?}, audit {:?}", notes.warnings, notes.audit),
        };
        expect.assert_eq(&shown);
    }

    fn check(spec: &str, expect: Expect) {
        check_request(spec, "validationActions: [Deny]", &Request::create(deployments::row(), NEW), expect);
    }

    #[test]
    fn validations_refuse() {
        check("validations: [{expression: object.spec.replicas < 9}]", expect!["warnings [], audit {}"]);
        check(
            "validations: [{expression: object.spec.replicas < 5}]",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.spec.replicas < 5"#
            ]],
        );
        check(
            "validations: [{expression: object.spec.replicas < 5, message: ' too many ', reason: Forbidden}]",
            expect![[r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too many"#]],
        );
        check(
            "validations: [{expression: 'false', message: m, messageExpression: \"'got ' + string(object.spec.replicas)\"}]",
            expect![[r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: got 7"#]],
        );
        check(
            "validations: [{expression: 'false', message: m, messageExpression: object.spec.nope}]",
            expect![[r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: m"#]],
        );
        check(
            "validations: [{expression: object.spec.nope > 1}]",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression 'object.spec.nope > 1' resulted in error: no such key: nope"#
            ]],
        );
        check("failurePolicy: Ignore, validations: [{expression: object.spec.nope > 1}]", expect!["warnings [], audit {}"]);
        check(
            "validations: [{expression: 'object.'}]",
            expect![[r#"
            deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression 'object.' resulted in error: compilation failed: ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER
             | object.
             | .......^"#]],
        );
        check(
            "validations: [{expression: 'true'}, {expression: 'false'}, {expression: '1 > 2'}]",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: false"#
            ]],
        );
    }

    #[test]
    fn expressions_see_the_request() {
        check(
            "variables: [{name: team, expression: namespaceObject.metadata.labels.team}, {name: who, expression: request.userInfo.username + variables.team}], validations: [{expression: \"variables.who == 'somebodya' && request.operation == 'CREATE' && oldObject == null && request.resource.resource == 'deployments' && !authorizer.group('').resource('pods').check('get').allowed()\"}]",
            expect!["warnings [], audit {}"],
        );
        check(
            "variables: [{name: bad, expression: object.nope}], validations: [{expression: variables.bad == 1}]",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression 'variables.bad == 1' resulted in error: composited variable "bad" fails to evaluate: no such key: nope"#
            ]],
        );
        check_request(
            "validations: [{expression: object == null && oldObject.spec.replicas == 1}]",
            "validationActions: [Deny]",
            &Request::delete(deployments::row(), "{apiVersion: apps/v1, metadata: {name: a, namespace: shop}, spec: {replicas: 2}}"),
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object == null && oldObject.spec.replicas == 1"#
            ]],
        );
        check_request(
            "validations: [{expression: 'false'}]",
            "validationActions: [Deny]",
            &Request::create(core::nodes::row(), "{metadata: {name: a}}"),
            expect!["warnings [], audit {}"],
        );
    }

    #[test]
    fn conditions_come_first() {
        check("matchConditions: [{name: c, expression: 'false'}], validations: [{expression: 'false'}]", expect!["warnings [], audit {}"]);
        check(
            "matchConditions: [{name: c, expression: object.nope}], validations: [{expression: 'true'}]",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression 'object.nope' resulted in error: no such key: nope"#
            ]],
        );
        check(
            "matchConditions: [{name: c, expression: object.nope}, {name: d, expression: 'false'}], validations: [{expression: 'false'}]",
            expect!["warnings [], audit {}"],
        );
        check(
            "failurePolicy: Ignore, matchConditions: [{name: c, expression: object.nope}], validations: [{expression: 'false'}]",
            expect!["warnings [], audit {}"],
        );
    }

    #[test]
    fn bindings_say_what_is_done() {
        let request = || Request::create(deployments::row(), NEW);
        let spec = "validations: [{expression: 'false', message: not so}], auditAnnotations: [{key: k, valueExpression: \"'r' + string(object.spec.replicas)\"}, {key: none, valueExpression: 'null'}]";
        check_request(
            spec,
            "validationActions: [Warn, Audit]",
            &request(),
            expect![[
                r#"warnings ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': not so"], audit {"p/k": "r7", "validation.policy.admission.k8s.io/validation_failure": "[{\"binding\":\"b\",\"expressionIndex\":0,\"message\":\"not so\",\"policy\":\"p\",\"validationActions\":[\"Warn\",\"Audit\"]}]"}"#
            ]],
        );
        check_request(
            spec,
            "validationActions: [Deny], matchResources: {objectSelector: {matchLabels: {x: z}}}",
            &request(),
            expect!["warnings [], audit {}"],
        );
        check_request(
            spec,
            "validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {team: a}}}",
            &request(),
            expect![[r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not so"#]],
        );
    }

    #[test]
    fn parameters_come_from_objects() {
        let request = || Request::create(deployments::row(), NEW);
        let spec = "paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: params == null || object.spec.replicas <= int(params.data.most)}]";
        let with = |params: &str, expect: Expect| check_request(spec, &format!("validationActions: [Deny], {params}"), &request(), expect);
        with(
            "paramRef: {name: limits, parameterNotFoundAction: Deny}",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: params == null || object.spec.replicas <= int(params.data.most)"#
            ]],
        );
        with("paramRef: {name: limits, namespace: other, parameterNotFoundAction: Deny}", expect!["warnings [], audit {}"]);
        with(
            "paramRef: {selector: {matchLabels: {l: m}}, parameterNotFoundAction: Deny}",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: params == null || object.spec.replicas <= int(params.data.most)"#
            ]],
        );
        with(
            "paramRef: {name: nope, parameterNotFoundAction: Deny}",
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"#
            ]],
        );
        with("paramRef: {name: nope, parameterNotFoundAction: Allow}", expect!["warnings [], audit {}"]);
        with("matchResources: {}", expect!["warnings [], audit {}"]);
        check_request(
            "paramKind: {apiVersion: x.io/v1, kind: Nope}, validations: [{expression: 'true'}]",
            "validationActions: [Deny], paramRef: {name: a, parameterNotFoundAction: Deny}",
            &request(),
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'x.io/v1, Kind=Nope'"#
            ]],
        );
    }

    #[test]
    fn the_budget_is_the_policys() {
        let costly = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a > 0 && b > 0 && c > 0 && d > 0 && e > 0)))))";
        check(
            &format!("validations: [{{expression: {costly:?}}}]"),
            expect![[
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression '[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a > 0 && b > 0 && c > 0 && d > 0 && e > 0)))))' resulted in error: operation cancelled: actual cost limit exceeded"#
            ]],
        );
    }
}
