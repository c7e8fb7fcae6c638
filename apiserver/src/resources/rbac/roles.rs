//! rbac.authorization.k8s.io/v1 Role, and the rules of policy rules.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use crate::resource::{Column, Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "Role", "roles")
        .create_on_update()
        .names(names::path_segment)
        .columns(vec![Column::name(), Column::text("Created At", "/metadata/creationTimestamp")])
        .rules::<Role>(RoleRules)
}

struct RoleRules;

impl Rules<Role> for RoleRules {
    fn validate(&self, role: &Role, errors: &mut Errors) {
        for (i, rule) in role.rules.iter().flatten().enumerate() {
            validate_policy_rule(rule, true, &Path::new("rules").index(i), errors);
        }
    }
}

pub(super) fn validate_policy_rule(rule: &PolicyRule, namespaced: bool, path: &Path, errors: &mut Errors) {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !empty(&rule.non_resource_urls) {
        let shown = serde_json::json!(rule.non_resource_urls);
        let path = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(&path, &shown, "namespaced rules cannot apply to non-resource URLs");
        }
        if !empty(&rule.api_groups) || !empty(&rule.resources) || !empty(&rule.resource_names) {
            errors.invalid(&path, &shown, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if empty(&rule.api_groups) {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if empty(&rule.resources) {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::errors;
    use expect_test::expect;

    #[test]
    fn rules() {
        expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#]]
        .assert_eq(&errors(super::row(), "{metadata: {name: 'a:b'}, rules: [{verbs: []}, {verbs: [get], nonResourceURLs: [/x]}]}"));
    }
}
