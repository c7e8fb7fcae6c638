//! Nothing is made in a namespace that is not there or that is going, and the system's namespaces stay.

use api::object::{Meta as _, ObjectKey};
use api::status::{Cause, Status};
use serde_json::Value;

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::text;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// Upstream's `NamespaceLifecycle`.
pub struct NamespaceLifecycle;

impl Step for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn admit(&self, at: &Attributes<'_>, _: &mut Value, view: &dyn View) -> Result<(), Status> {
        check(at, view)
    }

    fn validate(&self, at: &Attributes<'_>, _: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        check(at, view)
    }
}

fn check(at: &Attributes<'_>, view: &dyn View) -> Result<(), Status> {
    let is_namespace = at.row.group.is_empty() && at.row.plural == "namespaces";
    if at.operation == Operation::Delete {
        let kept = is_namespace && at.subresource.is_empty() && IMMORTAL.contains(&at.name);
        return if kept { Err(at.forbidden("this namespace may not be deleted")) } else { Ok(()) };
    }
    // Reviews ask about namespaces; they are in none.
    if is_namespace || at.namespace.is_empty() || at.row.virtual_kind {
        return Ok(());
    }
    let Some(namespace) = view.get("", "namespaces", &ObjectKey::cluster(at.namespace)) else {
        return Err(Status::not_found("", "namespaces", at.namespace));
    };
    if at.operation != Operation::Create || (text(&namespace, "/status/phase") != "Terminating" && !namespace.is_deleting()) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", at.namespace);
    let mut status = at.forbidden(&why);
    status.details.get_or_insert_default().causes = vec![Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {} is being terminated", at.namespace),
        field: "metadata.namespace".to_owned(),
    }];
    Err(status)
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, verdict};
    use super::NamespaceLifecycle;
    use crate::resources::core::{configmaps, namespaces};

    #[test]
    fn nothing_new_where_there_is_no_namespace() {
        let world = World::of(&[
            ("", "namespaces", "{metadata: {name: here}}"),
            ("", "namespaces", "{metadata: {name: going}, status: {phase: Terminating}}"),
        ]);
        let create = |namespace: &str| {
            let object = format!("{{metadata: {{name: a, namespace: {namespace}}}}}");
            verdict(&NamespaceLifecycle, &world, &Request::create(configmaps::row(), &object))
        };
        assert_eq!(create("here"), "ok");
        assert_eq!(create("nowhere"), "namespaces \"nowhere\" not found");
        assert_eq!(
            create("going"),
            "configmaps \"a\" is forbidden: unable to create new content in namespace going because it is being terminated"
        );
    }

    #[test]
    fn the_systems_namespaces_stay() {
        let delete = |name: &str| {
            let object = format!("{{metadata: {{name: {name}}}}}");
            verdict(&NamespaceLifecycle, &World::default(), &Request::delete(namespaces::row(), &object))
        };
        assert_eq!(delete("kube-system"), "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
        assert_eq!(delete("mine"), "ok");
    }
}
