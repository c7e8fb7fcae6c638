//! Webhooks: admission by somebody else, asked over HTTPS (MutatingWebhookConfiguration, ValidatingWebhookConfiguration).
//!
//! [`configuration`] reads the configurations, once for each version of one; [`matching`] says which webhooks a request concerns, [`review`]
//! what they are asked and what their answers mean. All of that is pure. [`mutate`] and [`validate`] ask, by way of [`call`].

pub mod call;
pub mod configuration;
pub mod metrics;
pub mod mutate;
pub mod review;
pub mod validate;

pub use configuration::{Hook, Webhooks};

use crate::resource::Resource;

/// Whether objects of a row are never subject to webhooks: those that could otherwise lock everybody out of repairing themselves.
#[must_use]
pub fn is_exempt(row: &Resource) -> bool {
    row.group == "admissionregistration.k8s.io"
        && matches!(
            row.plural.as_ref(),
            "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "validatingwebhookconfigurations"
        )
}
