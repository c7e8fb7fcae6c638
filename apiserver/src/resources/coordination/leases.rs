//! coordination.k8s.io/v1 Lease

use api::field::{Errors, Path};
use k8s_openapi::api::coordination::v1::Lease;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{not_negative, one_of, positive};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("coordination.k8s.io", "v1", "Lease", "leases")
        .create_on_update()
        .conditional_update()
        .columns(vec![Column::name(), Column::text("Holder", "/spec/holderIdentity"), Column::age()])
        .rules::<Lease>(LeaseRules)
}

struct LeaseRules;

impl Rules<Lease> for LeaseRules {
    fn validate(&self, lease: &Lease, errors: &mut Errors) {
        let (Some(spec), path) = (&lease.spec, Path::new("spec")) else { return };
        positive(spec.lease_duration_seconds, &path.child("leaseDurationSeconds"), errors);
        not_negative(spec.lease_transitions, &path.child("leaseTransitions"), errors);
        if let Some(strategy) = &spec.strategy {
            one_of(strategy, &["OldestEmulationVersion"], &path.child("strategy"), errors);
        }
        if spec.strategy.is_none() && spec.preferred_holder.as_ref().is_some_and(|h| !h.is_empty()) {
            errors.forbidden(&path.child("preferredHolder"), "may only be specified when `strategy` is defined");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::errors;
    use expect_test::expect;

    #[test]
    fn rules() {
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"#]]
        .assert_eq(&errors(super::row(), "{metadata: {name: a}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}"));
    }
}
