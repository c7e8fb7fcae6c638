//! A small world for steps' tests: objects as YAML, a request, and what a step makes of it.

use std::sync::Arc;

use api::object::{Meta as _, ObjectKey};
use serde_json::Value;

use super::policies::compile::{Binding, MutatingPolicy, Named, ValidatingPolicy};
use super::policies::set::{Bound, joined};
use super::{Attributes, Notes, Operation, Stays, Step, View};
use crate::auth::User;
use crate::catalog::Catalog;
use crate::resource::Resource;
use crate::resources::rows_in_tests::yaml;

/// Objects, each with the group and plural of its resource.
#[derive(Default)]
pub struct World(Vec<(String, String, Arc<Value>)>);

impl World {
    /// A world with objects: group, plural, YAML.
    pub fn of(objects: &[(&str, &str, &str)]) -> Self {
        Self(objects.iter().map(|(g, p, o)| ((*g).to_owned(), (*p).to_owned(), Arc::new(yaml(o)))).collect())
    }
}

impl View for World {
    fn get(&self, group: &str, plural: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        let here = self.list(group, plural, key.namespace.as_deref());
        here.into_iter().find(|o| o.name() == key.name)
    }
    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let of = self.0.iter().filter(|(g, p, o)| g == group && p == plural && namespace.is_none_or(|n| o.namespace() == n));
        of.map(|(_, _, o)| o.clone()).collect()
    }
    fn allows(&self, user: &User, _: &str, _: &str, _: &str, _: &str) -> bool {
        user.name == "admin"
    }
    fn holds(&self, user: &User, _: &str, _: &crate::auth::rbac::Rule) -> bool {
        user.name == "admin"
    }
    fn stays(&self) -> Stays {
        Stays { not_ready: 60, unreachable: 120 }
    }
    fn authorize(&self, user: &User, _: &crate::auth::Attributes) -> bool {
        user.name == "admin"
    }
    fn catalog(&self) -> Arc<Catalog> {
        // Built-in rows with empty caches: what steps ask of a catalog is what its rows are.
        Arc::new(Catalog::in_tests(crate::resources::builtin()))
    }
    fn policies(&self) -> Bound<ValidatingPolicy> {
        self.bound("validating", ValidatingPolicy::compile)
    }
    fn mutating_policies(&self) -> Bound<MutatingPolicy> {
        self.bound("mutating", MutatingPolicy::compile)
    }
}

impl World {
    fn bound<P: Named>(&self, which: &str, compile: fn(&Value) -> P) -> Bound<P> {
        let list = |what: &str| self.list("admissionregistration.k8s.io", &format!("{which}{what}"), None);
        let policies: Vec<_> = list("admissionpolicies").iter().map(|p| Arc::new(compile(p))).collect();
        let bindings: Vec<_> = list("admissionpolicybindings").iter().map(|b| Arc::new(Binding::parse(b))).collect();
        joined(policies.iter(), bindings.iter())
    }
}

/// A request.
pub struct Request<'a> {
    pub row: Resource,
    pub operation: Operation,
    pub subresource: &'a str,
    pub user: &'a str,
    pub old: Option<&'a str>,
    pub new: &'a str,
}

impl<'a> Request<'a> {
    pub fn create(row: Resource, new: &'a str) -> Self {
        Self { row, operation: Operation::Create, subresource: "", user: "somebody", old: None, new }
    }
    pub fn update(row: Resource, old: &'a str, new: &'a str) -> Self {
        Self { operation: Operation::Update, old: Some(old), ..Self::create(row, new) }
    }
    pub fn delete(row: Resource, old: &'a str) -> Self {
        Self { operation: Operation::Delete, old: Some(old), ..Self::create(row, "null") }
    }
    pub fn by(self, user: &'a str) -> Self {
        Self { user, ..self }
    }
    pub fn part(self, subresource: &'a str) -> Self {
        Self { subresource, ..self }
    }
}

/// Runs a step: the object it leaves and its notes, or the error's message.
pub fn run(step: &dyn Step, world: &World, request: &Request<'_>) -> Result<(Value, Notes), String> {
    with_attributes(request, |at, obj| {
        let (mut obj, mut notes) = (obj.clone(), Notes::default());
        step.admit(at, &mut obj, world).map_err(|s| s.message)?;
        step.validate(at, &obj, world, &mut notes).map_err(|s| s.message)?;
        Ok((obj, notes))
    })
}

/// A request as a step sees it.
pub fn with_attributes<T>(request: &Request<'_>, f: impl FnOnce(&Attributes<'_>, &Value) -> T) -> T {
    let (old, obj) = (request.old.map(yaml), yaml(request.new));
    let groups = if request.user.starts_with("system:node:") { vec!["system:nodes".to_owned()] } else { vec![] };
    let user = User { name: request.user.to_owned(), groups, ..User::default() };
    let subject = if obj.is_null() { old.clone().unwrap_or_default() } else { obj.clone() };
    let at = Attributes {
        row: &request.row,
        subresource: request.subresource,
        operation: request.operation,
        namespace: subject.namespace(),
        name: subject.name(),
        user: &user,
        dry_run: false,
        old: old.as_ref(),
        now: crate::resources::rows_in_tests::NOW.parse().expect("a time"),
        random: 0,
    };
    f(&at, &obj)
}

/// The error's message; `ok` when there is none.
pub fn verdict(step: &dyn Step, world: &World, request: &Request<'_>) -> String {
    run(step, world, request).map_or_else(|e| e, |_| "ok".to_owned())
}

/// What a step leaves at a JSON pointer.
pub fn left(step: &dyn Step, world: &World, request: &Request<'_>, pointer: &str) -> String {
    run(step, world, request).map_or_else(|e| e, |(o, _)| o.pointer(pointer).cloned().unwrap_or_default().to_string())
}
