//! Policies and bindings as they are evaluated: every expression compiled, in the environment of the policy.

use serde_json::Value;

use super::matching::Matches;
use crate::admission::matching::selector;
use crate::cel::Program;
use crate::cel::conditions::Conditions;
use crate::cel::env::Env;
use crate::cel::request::policy_env;
use crate::cel::types::Type;
use api::labels::Selector;
use api::object::{Meta as _, split_api_version};

use crate::resources::cells::{items, text};

/// An expression, compiled; or why it is none.
pub type Compiled = Result<Program, String>;

/// A variable of a policy's own.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub program: Compiled,
}

/// What is validated.
#[derive(Debug)]
pub struct Validation {
    /// As written.
    pub expression: String,
    /// Whether the object is right.
    pub program: Compiled,
    /// What is said when it is not.
    pub message: String,
    /// What is said instead, worked out.
    pub message_program: Option<Compiled>,
    /// The reason of the Status.
    pub reason: String,
}

/// An audit annotation.
#[derive(Debug)]
pub struct Annotation {
    /// Its key, without the policy's name.
    pub key: String,
    /// As written.
    pub expression: String,
    /// Its value.
    pub program: Compiled,
}

/// A kind of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamKind {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// What validating and mutating policies have in common.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whether what goes wrong refuses the request.
    pub fails: bool,
    /// What it concerns.
    pub matches: Matches,
    /// The kind of its parameters.
    pub params: Option<ParamKind>,
    /// What has to hold for a request to be looked at.
    pub conditions: Conditions,
    /// Variables, each of which may name those before it.
    pub variables: Vec<Variable>,
    /// How many variables come before those of the policy.
    pub base: usize,
    /// The environment of its expressions.
    pub env: Env,
}

/// A validating policy.
#[derive(Debug)]
pub struct ValidatingPolicy {
    /// What it has in common with others.
    pub policy: Policy,
    /// What is validated.
    pub validations: Vec<Validation>,
    /// Audit annotations.
    pub annotations: Vec<Annotation>,
}

/// Compiles an expression; an empty one is none.
pub fn program(env: &Env, expression: &str, fits: fn(&Type) -> bool, wanted: &str) -> Compiled {
    let program = Program::compile(env, expression).map_err(|why| format!("compilation failed: {why}"))?;
    if fits(program.result()) { Ok(program) } else { Err(wanted.to_owned()) }
}

/// Compiles one that is true or false.
///
/// # Errors
/// What is wrong with it.
pub fn boolean(env: &Env, expression: &str) -> Compiled {
    program(env, expression, |t| matches!(t, Type::Bool | Type::Dyn), "must evaluate to bool")
}

/// Compiles one that is text.
///
/// # Errors
/// What is wrong with it.
pub fn string(env: &Env, expression: &str) -> Compiled {
    program(env, expression, |t| matches!(t, Type::String | Type::Dyn), "must evaluate to string")
}

/// Compiles one that is text or nothing.
///
/// # Errors
/// What is wrong with it.
pub fn string_or_null(env: &Env, expression: &str) -> Compiled {
    program(env, expression, |t| matches!(t, Type::String | Type::Null | Type::Dyn), "must evaluate to one of [string null_type]")
}

/// Compiles variables, each into the environment of those after it.
#[must_use]
pub fn variables(env: Env, spec: &Value) -> (Env, Vec<Variable>) {
    let mut env = env;
    let mut out = vec![];
    for variable in items(spec, "/variables") {
        let name = text(variable, "/name").to_owned();
        let program = program(&env, text(variable, "/expression"), |_| true, "");
        let ty = program.as_ref().map_or(Type::Dyn, |p| p.result().clone());
        env = env.with(&format!("variables.{name}"), ty);
        out.push(Variable { name, program });
    }
    (env, out)
}

impl Policy {
    /// Compiles what is common.
    #[must_use]
    pub fn compile(stored: &Value, mutations: bool) -> Self {
        let spec = &stored["spec"];
        let params = spec.get("paramKind").filter(|k| k.is_object()).map(|kind| {
            let (group, version) = split_api_version(text(kind, "/apiVersion"));
            ParamKind { group: group.to_owned(), version: version.to_owned(), kind: text(kind, "/kind").to_owned() }
        });
        let env = Env { mutations, ..policy_env(params.is_some()) };
        let base = env.vars.len();
        let conditions = Conditions::compile_in(&env, items(spec, "/matchConditions"));
        let (env, variables) = variables(env, spec);
        Self {
            name: stored.name().to_owned(),
            fails: text(spec, "/failurePolicy") != "Ignore",
            matches: Matches::parse(&spec["matchConstraints"]),
            params,
            conditions,
            variables,
            base,
            env,
        }
    }
}

impl ValidatingPolicy {
    /// Compiles a policy as it is stored.
    #[must_use]
    pub fn compile(stored: &Value) -> Self {
        let policy = Policy::compile(stored, false);
        let validation = |v: &Value| Validation {
            expression: text(v, "/expression").trim().to_owned(),
            program: boolean(&policy.env, text(v, "/expression")),
            message: text(v, "/message").trim().to_owned(),
            message_program: Some(text(v, "/messageExpression")).filter(|m| !m.trim().is_empty()).map(|m| string(&policy.env, m)),
            reason: text(v, "/reason").to_owned(),
        };
        let annotation = |a: &Value| Annotation {
            key: text(a, "/key").to_owned(),
            expression: text(a, "/valueExpression").trim().to_owned(),
            program: string_or_null(&policy.env, text(a, "/valueExpression")),
        };
        let validations = items(stored, "/spec/validations").iter().map(validation).collect();
        let annotations = items(stored, "/spec/auditAnnotations").iter().map(annotation).collect();
        Self { policy, validations, annotations }
    }
}

/// Where a binding's parameters are.
#[derive(Debug)]
pub struct ParamRef {
    /// By name; empty for a selector.
    pub name: String,
    /// By labels; `None` for a selector that cannot be read.
    pub selector: Option<Selector>,
    /// The namespace; empty for that of the object.
    pub namespace: String,
    /// Whether parameters that are not there refuse the request.
    pub required: bool,
}

/// A binding.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The policy that it puts to work.
    pub policy: String,
    /// What it narrows the policy down to.
    pub matches: Option<Matches>,
    /// Where the parameters are.
    pub params: Option<ParamRef>,
    /// What is done about what is wrong: `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

impl Binding {
    /// Reads a binding as it is stored.
    #[must_use]
    pub fn parse(stored: &Value) -> Self {
        let spec = &stored["spec"];
        let params = spec.get("paramRef").filter(|p| p.is_object()).map(|p| ParamRef {
            name: text(p, "/name").to_owned(),
            selector: selector(&p["selector"]).ok(),
            namespace: text(p, "/namespace").to_owned(),
            required: text(p, "/parameterNotFoundAction") == "Deny",
        });
        Self {
            name: stored.name().to_owned(),
            policy: text(spec, "/policyName").to_owned(),
            matches: spec.get("matchResources").filter(|m| m.is_object()).map(Matches::parse),
            params,
            actions: items(spec, "/validationActions").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// A change that a mutating policy makes.
#[derive(Debug)]
pub enum Mutation {
    /// A configuration that is applied, as server-side apply would.
    Apply {
        /// As written.
        expression: String,
        /// Its program.
        program: Compiled,
    },
    /// A JSON patch.
    Patch {
        /// As written.
        expression: String,
        /// Its program.
        program: Compiled,
    },
    /// Of a type that is not known.
    Unknown(String),
}

/// A mutating policy.
#[derive(Debug)]
pub struct MutatingPolicy {
    /// What it has in common with others.
    pub policy: Policy,
    /// What it changes, in order.
    pub mutations: Vec<Mutation>,
    /// Whether it is put to work again when the object changed after its turn.
    pub again: bool,
}

/// Compiles one that is a configuration.
///
/// # Errors
/// What is wrong with it.
pub fn configuration(env: &Env, expression: &str) -> Compiled {
    let fits = |t: &Type| matches!(t, Type::Mutation(name) if &**name == "Object") || t.is_dyn();
    program(env, expression, fits, "must evaluate to Object")
}

/// Compiles one that is a patch.
///
/// # Errors
/// What is wrong with it.
pub fn patch(env: &Env, expression: &str) -> Compiled {
    let fits = |t: &Type| match t {
        Type::List(of) => of.is_dyn() || matches!(&**of, Type::Mutation(name) if &**name == "JSONPatch"),
        other => other.is_dyn(),
    };
    program(env, expression, fits, "must evaluate to list(JSONPatch)")
}

impl MutatingPolicy {
    /// Compiles a policy as it is stored.
    #[must_use]
    pub fn compile(stored: &Value) -> Self {
        let policy = Policy::compile(stored, true);
        let mutation = |m: &Value| match text(m, "/patchType") {
            "ApplyConfiguration" => {
                let expression = text(m, "/applyConfiguration/expression").trim().to_owned();
                Mutation::Apply { program: configuration(&policy.env, &expression), expression }
            }
            "JSONPatch" => {
                let expression = text(m, "/jsonPatch/expression").trim().to_owned();
                Mutation::Patch { program: patch(&policy.env, &expression), expression }
            }
            other => Mutation::Unknown(other.to_owned()),
        };
        let mutations = items(stored, "/spec/mutations").iter().map(mutation).collect();
        Self { policy, mutations, again: text(stored, "/spec/reinvocationPolicy") == "IfNeeded" }
    }
}

/// A policy of either kind.
pub trait Named {
    /// Its name, by which bindings name it.
    fn name(&self) -> &str;
}

impl Named for ValidatingPolicy {
    fn name(&self) -> &str {
        &self.policy.name
    }
}

impl Named for MutatingPolicy {
    fn name(&self) -> &str {
        &self.policy.name
    }
}
