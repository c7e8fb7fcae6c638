//! authorization.k8s.io/v1 LocalSubjectAccessReview: may somebody do something in this namespace?

use api::field::{Errors, Path};
use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;

use super::subjectaccessreviews::validate_spec;
use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")
        .virtual_kind()
        .rules::<LocalSubjectAccessReview>(LocalRules)
}

struct LocalRules;

impl Rules<LocalSubjectAccessReview> for LocalRules {
    fn validate(&self, review: &LocalSubjectAccessReview, errors: &mut Errors) {
        validate_spec(&review.spec, errors);
        let own = review.metadata.namespace.as_deref().unwrap_or("");
        let path = Path::new("spec").child("resourceAttributes").child("namespace");
        let Some(resource) = &review.spec.resource_attributes else {
            return errors.invalid(
                &Path::new("spec").child("nonResourceAttributes"),
                &serde_json::json!(review.spec.non_resource_attributes),
                "disallowed on this kind of request",
            );
        };
        let asked = resource.namespace.as_deref().unwrap_or("");
        if asked != own {
            errors.invalid(&path, asked, &format!("must match metadata.namespace, {own}"));
        }
    }
}
