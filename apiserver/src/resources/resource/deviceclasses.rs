//! resource.k8s.io/v1 DeviceClass

use api::field::{Errors, Path};
use serde_json::Value;

use super::resourceclaims::validate_selectors;
use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "DeviceClass", "deviceclasses").returns_deleted().generation().rules::<Value>(ClassRules)
}

struct ClassRules;

impl Rules<Value> for ClassRules {
    fn validate(&self, class: &Value, errors: &mut Errors) {
        validate_selectors(&class["spec"], &Path::new("spec"), errors);
    }
}
