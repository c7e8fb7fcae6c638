//! rbac.authorization.k8s.io/v1 RoleBinding, and what it shares with ClusterRoleBinding.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use serde_json::Value;

use super::GROUP;
use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::{items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(GROUP, "v1", "RoleBinding", "rolebindings")
        .create_on_update()
        .names(names::path_segment)
        .columns(columns())
        .rules::<RoleBinding>(RoleBindingRules)
}

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::compute("Role", |o, _| format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into()),
        Column::age(),
        Column::compute("Users", |o, _| subjects(o, "User")).wide(),
        Column::compute("Groups", |o, _| subjects(o, "Group")).wide(),
        Column::compute("ServiceAccounts", |o, _| subjects(o, "ServiceAccount")).wide(),
    ]
}

fn subjects(o: &Value, kind: &str) -> Value {
    let name = |s: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", text(s, "/namespace"), text(s, "/name")),
        _ => text(s, "/name").to_owned(),
    };
    items(o, "/subjects").iter().filter(|s| s["kind"] == kind).map(name).collect::<Vec<_>>().join(", ").into()
}

struct RoleBindingRules;

impl Rules<RoleBinding> for RoleBindingRules {
    fn default(&self, binding: &mut RoleBinding) {
        default_binding(&mut binding.role_ref, binding.subjects.as_deref_mut());
    }
    fn validate(&self, binding: &RoleBinding, errors: &mut Errors) {
        validate_binding(&binding.role_ref, &["Role", "ClusterRole"], binding.subjects.as_deref(), errors);
    }
    fn validate_update(&self, new: &RoleBinding, old: &RoleBinding, errors: &mut Errors) {
        validate_role_ref_stays(&new.role_ref, &old.role_ref, errors);
    }
}

pub(super) fn default_binding(role: &mut RoleRef, subjects: Option<&mut [Subject]>) {
    if role.api_group.is_empty() {
        role.api_group = GROUP.to_owned();
    }
    for subject in subjects.into_iter().flatten() {
        if subject.api_group.as_ref().is_none_or(String::is_empty) && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

pub(super) fn validate_binding(role: &RoleRef, kinds: &[&str], subjects: Option<&[Subject]>, errors: &mut Errors) {
    let path = Path::new("roleRef");
    one_of(&role.api_group, &[GROUP], &path.child("apiGroup"), errors);
    one_of(&role.kind, kinds, &path.child("kind"), errors);
    if role.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    follows(&role.name, names::path_segment, &path.child("name"), errors);
    for (i, subject) in subjects.into_iter().flatten().enumerate() {
        validate_subject(subject, &Path::new("subjects").index(i), errors);
    }
}

fn validate_subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let group = subject.api_group.as_deref().unwrap_or("");
    match subject.kind.as_str() {
        "ServiceAccount" => {
            for wrong in names::dns1123_subdomain(&subject.name).into_iter().filter(|_| !subject.name.is_empty()) {
                errors.invalid(&path.child("name"), &subject.name, &wrong);
            }
            one_of(group, &[""], &path.child("apiGroup"), errors);
            if subject.namespace.as_ref().is_none_or(String::is_empty) {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => one_of(group, &[GROUP], &path.child("apiGroup"), errors),
        other => errors.not_supported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"]),
    }
}

pub(super) fn validate_role_ref_stays(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        errors.invalid(&Path::new("roleRef"), &serde_json::json!(new), "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn table() {
        let subjects =
            "[{kind: User, name: u}, {kind: User, name: v}, {kind: Group, name: g}, {kind: ServiceAccount, name: s, namespace: x}]";
        let binding = format!("{{metadata: {{name: a}}, roleRef: {{kind: Role, name: r}}, subjects: {subjects}}}");
        assert_eq!(cells(super::row(), &binding), "a | Role/r | <unknown> | u, v | g | x/s");
    }

    #[test]
    fn rules() {
        expect![[r#"
            roleRef.kind: Unsupported value: "Rule": supported values: "Role", "ClusterRole"
            roleRef.name: Required value
            subjects[0].namespace: Required value
            subjects[1].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User""#]]
        .assert_eq(&errors(
            super::row(),
            "{metadata: {name: a}, roleRef: {kind: Rule}, subjects: [{kind: ServiceAccount, name: s}, {kind: Robot, name: x}]}",
        ));
        expect![[r#"roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"s"}: cannot change roleRef"#]]
            .assert_eq(&update_errors(
                super::row(),
                "{metadata: {name: a}, roleRef: {kind: Role, name: r}}",
                "{metadata: {name: a}, roleRef: {kind: Role, name: s}}",
            ));
    }
}
