//! rbac.authorization.k8s.io/v1 ClusterRoleBinding

use api::field::Errors;
use api::names;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use super::rolebindings::{columns, default_binding, validate_binding, validate_role_ref_stays};
use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings")
        .create_on_update()
        .names(names::path_segment)
        .columns(columns())
        .rules::<ClusterRoleBinding>(ClusterRoleBindingRules)
}

struct ClusterRoleBindingRules;

impl Rules<ClusterRoleBinding> for ClusterRoleBindingRules {
    fn default(&self, binding: &mut ClusterRoleBinding) {
        default_binding(&mut binding.role_ref, binding.subjects.as_deref_mut());
    }
    fn validate(&self, binding: &ClusterRoleBinding, errors: &mut Errors) {
        validate_binding(&binding.role_ref, &["ClusterRole"], binding.subjects.as_deref(), errors);
    }
    fn validate_update(&self, new: &ClusterRoleBinding, old: &ClusterRoleBinding, errors: &mut Errors) {
        validate_role_ref_stays(&new.role_ref, &old.role_ref, errors);
    }
}
