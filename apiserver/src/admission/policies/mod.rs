//! Policies: admission by expressions that are stored in the cluster (ValidatingAdmissionPolicy, MutatingAdmissionPolicy and their bindings).
//!
//! [`compile`] turns a stored policy into programs and [`set`] keeps those of all policies, compiled again only when one changes. [`matching`] says
//! which requests a policy or binding concerns, [`params`] with which parameters, [`validate`] and [`mutate`] what comes of it; [`controller`] tells what
//! [`type_check`] finds. Policies never concern policies,
//! so that a wrong one can be repaired.

pub mod compile;
pub mod controller;
pub mod matching;
pub mod mutate;
pub mod params;
pub mod request;
pub mod set;
pub mod type_check;
pub mod validate;

pub use mutate::MutatingAdmissionPolicies;
pub use set::Policies;
pub use validate::ValidatingAdmissionPolicies;

use crate::resource::Resource;

/// Whether objects of a row are never subject to policies.
#[must_use]
pub fn is_exempt(row: &Resource) -> bool {
    row.group == "admissionregistration.k8s.io"
        && matches!(
            row.plural.as_ref(),
            "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
        )
}
