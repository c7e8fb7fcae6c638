//! admissionregistration.k8s.io/v1 MutatingWebhookConfiguration

use serde_json::Value;

use super::webhooks::{Webhooks, columns};
use crate::resource::Resource;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns(columns())
        .rules::<Value>(Webhooks { mutating: true })
}
