//! The steps, in order. The order is upstream's and it matters: a step sees what those before it did.

use api::status::Status;
use serde_json::Value;

use super::{Attributes, Notes, Step, View};
use super::{
    certificate_approval, certificate_signing, certificate_subject, default_ingress_class, default_storage_class,
    default_toleration_seconds, limit_ranger, namespace_lifecycle, node_restriction, pod_security, policies, priority, rbac_escalation,
    resource_quota, runtime_class, service_account, storage_object_in_use, taint_nodes_by_condition, volume_resize,
};

/// The steps before webhooks. Policies come last: they see what every other step made of the object.
pub const BEFORE_WEBHOOKS: &[&dyn Step] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &limit_ranger::LimitRanger,
    &service_account::ServiceAccount,
    &node_restriction::NodeRestriction,
    &taint_nodes_by_condition::TaintNodesByCondition,
    &pod_security::PodSecurity,
    &priority::Priority,
    &default_toleration_seconds::DefaultTolerationSeconds,
    &default_storage_class::DefaultStorageClass,
    &storage_object_in_use::StorageObjectInUseProtection,
    &volume_resize::PersistentVolumeClaimResize,
    &runtime_class::RuntimeClass,
    &certificate_approval::CertificateApproval,
    &certificate_signing::CertificateSigning,
    &certificate_subject::CertificateSubjectRestriction,
    &default_ingress_class::DefaultIngressClass,
    &policies::MutatingAdmissionPolicies,
    &policies::ValidatingAdmissionPolicies,
];

/// The steps after webhooks and policies: what is charged is what will be stored.
pub const AFTER_WEBHOOKS: &[&dyn Step] = &[&rbac_escalation::RbacEscalation, &resource_quota::ResourceQuota];

/// Lets steps change an object, in order.
///
/// # Errors
/// The first step that says no.
pub fn admit(steps: &[&dyn Step], at: &Attributes<'_>, obj: &mut Value, view: &dyn View) -> Result<(), Status> {
    steps.iter().try_for_each(|step| step.admit(at, obj, view))
}

/// Lets steps look at an object as it will be stored, in order.
///
/// # Errors
/// The first step that says no.
pub fn validate(steps: &[&dyn Step], at: &Attributes<'_>, obj: &Value, view: &dyn View, notes: &mut Notes) -> Result<(), Status> {
    steps.iter().try_for_each(|step| step.validate(at, obj, view, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_stands_once() {
        let mut names: Vec<&str> = BEFORE_WEBHOOKS.iter().chain(AFTER_WEBHOOKS).map(|s| s.name()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
