//! v1 Namespace

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::resource::{Column, Cx, Deletion, Resource, Rules};
use crate::resources::bounds::{follows, one_of};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut row = Resource::cluster("", "v1", "Namespace", "namespaces")
        .short(&["ns"])
        .status()
        .replaced_part("finalize", &["/spec/finalizers"])
        .columns(vec![Column::name(), Column::text("Status", "/status/phase"), Column::age()])
        .selectable(&[("status.phase", "")])
        .names(names::dns1123_label)
        .rules::<Namespace>(NamespaceRules);
    row.verbs.retain(|v| *v != crate::resource::Verb::DeleteCollection);
    row
}

struct NamespaceRules;

/// Every namespace can be selected by its name.
fn label_with_name(ns: &mut Namespace) {
    if let Some(name) = ns.metadata.name.clone().filter(|n| !n.is_empty()) {
        ns.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
    }
}

impl Rules<Namespace> for NamespaceRules {
    fn default(&self, ns: &mut Namespace) {
        label_with_name(ns);
    }
    fn prepare_create(&self, ns: &mut Namespace, _: Cx<'_>) {
        label_with_name(ns);
        ns.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = ns.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }
    fn prepare_update(&self, new: &mut Namespace, old: &Namespace, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }
    fn validate(&self, ns: &Namespace, errors: &mut Errors) {
        for finalizer in ns.spec.iter().flat_map(|s| s.finalizers.iter().flatten()) {
            validate_finalizer(finalizer, errors);
        }
    }
    fn prepare_part(&self, part: &str, new: &mut Namespace, old: &Namespace, _: Cx<'_>) {
        match part {
            "finalize" => new.status.clone_from(&old.status),
            _ => new.spec.clone_from(&old.spec),
        }
    }
    fn validate_part(&self, part: &str, new: &Namespace, _: &Namespace, errors: &mut Errors) {
        match part {
            "finalize" => self.validate(new, errors),
            _ => validate_phase(new, errors),
        }
    }
    fn deletion(&self, ns: &mut Namespace, _: Option<i64>, _: Cx<'_>) -> Deletion {
        let held = ns.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| !f.is_empty());
        if !held {
            return Deletion::Now;
        }
        ns.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        Deletion::Finalized
    }
}

fn validate_phase(ns: &Namespace, errors: &mut Errors) {
    let path = Path::new("status").child("Phase");
    let phase = ns.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
    match (ns.metadata.deletion_timestamp.is_some(), phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, other) => errors.invalid(&path, other, "may only be 'Active' if `deletionTimestamp` is empty"),
        (true, other) => errors.invalid(&path, other, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    }
}

fn validate_finalizer(finalizer: &str, errors: &mut Errors) {
    let path = Path::new("spec").child("finalizers");
    follows(finalizer, names::qualified_name, &path, errors);
    if !finalizer.contains('/') {
        one_of(finalizer, &[FINALIZER, "orphan", "foregroundDeletion"], &path, errors);
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{created, deleted};
    use expect_test::expect;

    #[test]
    fn made_active_with_its_name_as_label() {
        expect![[r#"
            apiVersion: v1
            kind: Namespace
            metadata:
              labels:
                kubernetes.io/metadata.name: a
              name: a
            spec:
              finalizers:
              - kubernetes
            status:
              phase: Active
        "#]]
        .assert_eq(&created(super::row(), "{metadata: {name: a}}"));
    }

    #[test]
    fn goes_when_its_finalizers_are_gone() {
        assert_eq!(deleted(super::row(), "{metadata: {name: a}, spec: {finalizers: [kubernetes]}}", None), "Finalized");
        assert_eq!(deleted(super::row(), "{metadata: {name: a}}", None), "Now");
    }
}
