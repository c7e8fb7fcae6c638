//! Match conditions of webhooks and policies: expressions that all have to hold for a request to be looked at.
//!
//! One that is false is enough for no, whatever becomes of the others; where none is false and one failed, the failure policy decides.

use api::field::{Errors, Path};
use serde_json::Value;

use super::env::Env;
use super::eval::Vars;
use super::library::Fail;
use super::program::Program;
use super::request::{Facts, conditions_env};
use super::types::Type;
use super::value::Val;
use crate::resources::cells::text;

/// What all conditions of one webhook or policy may cost together.
const BUDGET: u64 = 2_500_000;

/// What came of the conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matched {
    /// All hold.
    Yes,
    /// The one of this name is false.
    No(String),
    /// None is false, but not all could be evaluated: the failure policy decides.
    Failed(String),
}

/// The conditions of one configuration, compiled.
#[derive(Debug, Default)]
pub struct Conditions {
    all: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    name: String,
    expression: String,
    /// What is stored was checked when it was written; what does not compile all the same fails when it is evaluated.
    program: Result<Program, String>,
}

impl Conditions {
    /// Compiles `matchConditions` (a list of `name` and `expression`) of a webhook.
    #[must_use]
    pub fn compile(conditions: &[Value]) -> Self {
        Self::compile_in(&conditions_env(), conditions)
    }

    /// The same in the environment of a policy.
    #[must_use]
    pub fn compile_in(env: &Env, conditions: &[Value]) -> Self {
        let one = |c: &Value| {
            let expression = text(c, "/expression").trim().to_owned();
            Condition { name: text(c, "/name").to_owned(), program: boolean(env, &expression), expression }
        };
        Self { all: conditions.iter().map(one).collect() }
    }

    /// Whether there are none, so that everything matches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Evaluates them over a request.
    #[must_use]
    pub fn evaluate(&self, facts: &Facts<'_>) -> Matched {
        self.evaluate_in(facts)
    }

    /// The same with the variables of a policy.
    #[must_use]
    pub fn evaluate_in<'a>(&'a self, vars: &dyn Vars<'a>) -> Matched {
        let mut left = BUDGET;
        let mut failures = vec![];
        for condition in &self.all {
            let failed = match &condition.program {
                Err(why) => why.clone(),
                Ok(program) => {
                    let (out, cost) = program.run(vars, left);
                    left = left.saturating_sub(cost);
                    match out {
                        Ok(Val::Bool(true)) => continue,
                        Ok(Val::Bool(false)) => return Matched::No(condition.name.clone()),
                        Ok(_) => "cel expression must evaluate to a bool".to_owned(),
                        Err(fail) => why(fail, left),
                    }
                }
            };
            failures.push(format!("expression '{}' resulted in error: {failed}", condition.expression));
            if left == 0 {
                break;
            }
        }
        match failures.as_slice() {
            [] => Matched::Yes,
            [one] => Matched::Failed(one.clone()),
            many => Matched::Failed(format!("[{}]", many.join(", "))),
        }
    }
}

/// A failure in upstream's words.
pub fn why(fail: Fail, left: u64) -> String {
    match fail {
        Fail::Error(why) => why,
        Fail::Budget if left == 0 => {
            "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
        }
        Fail::Budget => "operation cancelled: actual cost limit exceeded".to_owned(),
    }
}

/// Compiles an expression that has to be true or false.
fn boolean(env: &Env, expression: &str) -> Result<Program, String> {
    let program = Program::compile(env, expression).map_err(|why| format!("compilation failed: {why}"))?;
    match program.result() {
        Type::Bool | Type::Dyn => Ok(program),
        _ => Err("must evaluate to bool".to_owned()),
    }
}

/// Checks `matchConditions` as they are written: names, and that every expression compiles.
pub fn validate(conditions: &[Value], path: &Path, errors: &mut Errors) {
    validate_in(&conditions_env(), conditions, path, errors);
}

/// How many match conditions there may be.
const MOST: usize = 64;

/// The same in the environment of a policy.
pub fn validate_in(env: &Env, conditions: &[Value], path: &Path, errors: &mut Errors) {
    if conditions.len() > MOST {
        errors.too_many(path, conditions.len(), MOST);
    }
    for (i, condition) in conditions.iter().enumerate() {
        let (at, name) = (path.index(i), text(condition, "/name"));
        let expression = text(condition, "/expression");
        if expression.trim().is_empty() {
            errors.required(&at.child("expression"), "");
        } else if let Err(why) = boolean(env, expression.trim()) {
            errors.invalid(&at.child("expression"), expression, &why);
        }
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            for wrong in api::names::qualified_name(name) {
                errors.invalid(&at.child("name"), name, &wrong);
            }
            if conditions[..i].iter().any(|c| text(c, "/name") == name) {
                errors.duplicate(&at.child("name"), name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::auth::{Attributes, User};
    use crate::cel::Authorize;

    struct Admin;
    impl Authorize for Admin {
        fn allows(&self, user: &User, attributes: &Attributes) -> bool {
            user.name == "admin" && attributes.resource == "pods"
        }
    }

    fn check(conditions: &[(&str, &str)], expected: &Matched) {
        let conditions: Vec<Value> = conditions.iter().map(|(name, e)| json!({"name": name, "expression": e})).collect();
        let request = json!({"operation": "UPDATE", "name": "a", "namespace": "n", "userInfo": {"username": "admin", "groups": ["g"]},
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "requestResource": {"group": "", "version": "v1", "resource": "pods"}});
        let (object, old) = (json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}));
        let user = User { name: "admin".to_owned(), ..User::default() };
        let facts = Facts::of_webhook(&request, &object, &old, &user, &Admin);
        assert_eq!(&Conditions::compile(&conditions).evaluate(&facts), expected, "{conditions:?}");
    }

    #[test]
    fn all_have_to_hold() {
        check(&[], &Matched::Yes);
        check(
            &[("a", "object.spec.a < oldObject.spec.a"), ("b", "request.operation == 'UPDATE' && 'g' in request.userInfo.groups")],
            &Matched::Yes,
        );
        check(&[("a", "true"), ("b", "object.spec.a == 5")], &Matched::No("b".to_owned()));
        check(
            &[
                ("a", "authorizer.group('').resource('pods').check('get').allowed()"),
                ("b", "authorizer.requestResource.check('x').allowed()"),
            ],
            &Matched::Yes,
        );
        check(
            &[("a", "authorizer.serviceAccount('n', 's').group('').resource('pods').check('get').allowed()")],
            &Matched::No("a".to_owned()),
        );
        check(&[("a", "has(request.dryRun) || !has(request.subResource)")], &Matched::Yes);
    }

    #[test]
    fn failures_count_only_when_nothing_is_false() {
        let failed = |why: &str| Matched::Failed(why.to_owned());
        check(&[("a", "object.nope == 1")], &failed("expression 'object.nope == 1' resulted in error: no such key: nope"));
        check(&[("a", "object.nope == 1"), ("b", "false")], &Matched::No("b".to_owned()));
        check(
            &[("a", "object.nope"), ("b", "object.spec.a.b")],
            &failed(
                "[expression 'object.nope' resulted in error: no such key: nope, expression 'object.spec.a.b' resulted in error: no such overload]",
            ),
        );
        // Three checks cost more than an expression may.
        let check_once = "authorizer.path('/x').check('get').allowed()";
        let costly = format!("{check_once} || {check_once} || {check_once}");
        check(
            &[("a", &costly)],
            &failed(&format!("expression '{costly}' resulted in error: operation cancelled: actual cost limit exceeded")),
        );
    }

    #[test]
    fn what_may_be_written() {
        let conditions = [
            json!({"name": "a b", "expression": "object.x"}),
            json!({"name": "c", "expression": "request.x"}),
            json!({"name": "c", "expression": "1"}),
            json!({"expression": " "}),
            json!({"name": "d", "expression": "namespaceObject.x"}),
        ];
        let mut errors = Errors::new();
        validate(&conditions, &Path::new("m"), &mut errors);
        expect![[r#"
            m[0].name: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            m[1].expression: Invalid value: "request.x": compilation failed: ERROR: <input>:1:8: undefined field 'x'
             | request.x
             | .......^
            m[2].expression: Invalid value: "1": must evaluate to bool
            m[2].name: Duplicate value: "c"
            m[3].expression: Required value
            m[3].name: Required value
            m[4].expression: Invalid value: "namespaceObject.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'namespaceObject' (in container '')
             | namespaceObject.x
             | ^"#]].assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}
