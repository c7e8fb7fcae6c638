//! authentication.k8s.io/v1 TokenReview: who a token belongs to.

use api::field::{Errors, Path};
use k8s_openapi::api::authentication::v1::TokenReview;

use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "TokenReview", "tokenreviews").virtual_kind().rules::<TokenReview>(TokenReviewRules)
}

struct TokenReviewRules;

impl Rules<TokenReview> for TokenReviewRules {
    fn validate(&self, review: &TokenReview, errors: &mut Errors) {
        if review.spec.token.as_ref().is_none_or(String::is_empty) {
            errors.required(&Path::new("spec").child("token"), "");
        }
    }
}
