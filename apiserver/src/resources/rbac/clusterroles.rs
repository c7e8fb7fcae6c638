//! rbac.authorization.k8s.io/v1 ClusterRole

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::rbac::v1::ClusterRole;

use super::roles::validate_policy_rule;
use crate::resource::{Column, Resource, Rules};
use crate::resources::label_selector;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ClusterRole", "clusterroles")
        .create_on_update()
        .names(names::path_segment)
        .columns(vec![Column::name(), Column::text("Created At", "/metadata/creationTimestamp")])
        .rules::<ClusterRole>(ClusterRoleRules)
}

struct ClusterRoleRules;

impl Rules<ClusterRole> for ClusterRoleRules {
    fn validate(&self, role: &ClusterRole, errors: &mut Errors) {
        for (i, rule) in role.rules.iter().flatten().enumerate() {
            validate_policy_rule(rule, false, &Path::new("rules").index(i), errors);
        }
        let Some(aggregation) = &role.aggregation_rule else { return };
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (i, selector) in selectors.iter().enumerate() {
            label_selector::validate(selector, &path.index(i), errors);
        }
    }
}
