//! resource.k8s.io/v1 ResourceClaimTemplate

use api::field::{Errors, Path};
use serde_json::Value;

use super::resourceclaims::{default_spec, validate_spec};
use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates")
        .returns_deleted()
        .rules::<Value>(TemplateRules)
}

struct TemplateRules;

impl Rules<Value> for TemplateRules {
    fn default(&self, template: &mut Value) {
        if let Some(spec) = template.pointer_mut("/spec/spec") {
            default_spec(spec);
        }
    }
    fn validate(&self, template: &Value, errors: &mut Errors) {
        validate_spec(&template["spec"]["spec"], &Path::new("spec").child("spec"), errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("spec"), &new["spec"], &old["spec"]);
    }
}
