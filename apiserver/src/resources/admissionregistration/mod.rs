//! The group `admissionregistration.k8s.io`.

pub mod mutatingadmissionpolicies;
pub mod mutatingadmissionpolicybindings;
pub mod mutatingwebhookconfigurations;
mod policy;
pub mod validatingadmissionpolicies;
pub mod validatingadmissionpolicybindings;
pub mod validatingwebhookconfigurations;
pub(crate) mod webhooks;

const GROUP: &str = "admissionregistration.k8s.io";
