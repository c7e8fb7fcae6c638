//! networking.k8s.io/v1 IngressClass

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::text;

const CONTROLLER_MAX: usize = 250;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "IngressClass", "ingressclasses")
        .generation()
        .columns(vec![
            Column::name(),
            Column::text("Controller", "/spec/controller"),
            Column::compute("Parameters", |o, _| parameters(o).into()),
            Column::age(),
        ])
        .rules::<IngressClass>(ClassRules)
}

fn parameters(o: &Value) -> String {
    let kind = text(o, "/spec/parameters/kind");
    if kind.is_empty() {
        return "<none>".to_owned();
    }
    let group = text(o, "/spec/parameters/apiGroup");
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    format!("{kind}/{}", text(o, "/spec/parameters/name"))
}

struct ClassRules;

impl Rules<IngressClass> for ClassRules {
    fn default(&self, class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|s| s.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }
    fn validate(&self, class: &IngressClass, errors: &mut Errors) {
        let (Some(spec), path) = (&class.spec, Path::new("spec")) else { return };
        let controller = spec.controller.as_deref().unwrap_or("");
        if controller.len() > CONTROLLER_MAX {
            errors.too_long(&path.child("controller"), CONTROLLER_MAX);
        }
        if !controller.contains('/') || !names::dns1123_subdomain(controller.split('/').next().unwrap_or("")).is_empty() {
            errors.invalid(&path.child("controller"), controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
        let Some(parameters) = &spec.parameters else { return };
        let path = path.child("parameters");
        for (name, value) in [("kind", &parameters.kind), ("name", &parameters.name)] {
            if value.is_empty() {
                errors.required(&path.child(name), if name == "kind" { "kind is required" } else { "name is required" });
            }
        }
        let scope = parameters.scope.as_deref().unwrap_or("");
        one_of(scope, &["Cluster", "Namespace"], &path.child("scope"), errors);
        match (&parameters.namespace, scope) {
            (None, "Namespace") => errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'"),
            (Some(_), "Cluster") => errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'"),
            (Some(namespace), _) => follows(namespace, names::dns1123_label, &path.child("namespace"), errors),
            _ => {}
        }
    }
    fn validate_update(&self, new: &IngressClass, old: &IngressClass, errors: &mut Errors) {
        let controller = |c: &IngressClass| c.spec.as_ref().and_then(|s| s.controller.clone());
        errors.immutable(&Path::new("spec").child("controller"), &controller(new), &controller(old));
    }
}
