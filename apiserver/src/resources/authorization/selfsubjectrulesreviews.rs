//! authorization.k8s.io/v1 SelfSubjectRulesReview: what may I do in a namespace? (`kubectl auth can-i --list`)

use api::field::{Errors, Path};
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;

use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")
        .virtual_kind()
        .rules::<SelfSubjectRulesReview>(SelfRules)
}

struct SelfRules;

impl Rules<SelfSubjectRulesReview> for SelfRules {
    fn validate(&self, review: &SelfSubjectRulesReview, errors: &mut Errors) {
        if review.spec.namespace.as_ref().is_none_or(String::is_empty) {
            errors.required(&Path::new("spec").child("namespace"), "no namespace on request");
        }
    }
}
