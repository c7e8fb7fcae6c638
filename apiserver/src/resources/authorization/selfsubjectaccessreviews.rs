//! authorization.k8s.io/v1 SelfSubjectAccessReview: may I do something? (`kubectl auth can-i`)

use api::field::Errors;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use super::subjectaccessreviews::validate_question;
use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
        .virtual_kind()
        .rules::<SelfSubjectAccessReview>(SelfRules)
}

struct SelfRules;

impl Rules<SelfSubjectAccessReview> for SelfRules {
    fn validate(&self, review: &SelfSubjectAccessReview, errors: &mut Errors) {
        validate_question(review.spec.resource_attributes.as_ref(), review.spec.non_resource_attributes.as_ref(), errors);
    }
}
