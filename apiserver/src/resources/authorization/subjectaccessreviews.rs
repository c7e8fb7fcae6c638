//! authorization.k8s.io/v1 SubjectAccessReview: may somebody do something?

use api::field::{Errors, Path};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

use crate::resource::{Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "SubjectAccessReview", "subjectaccessreviews")
        .virtual_kind()
        .rules::<SubjectAccessReview>(SubjectAccessReviewRules)
}

struct SubjectAccessReviewRules;

impl Rules<SubjectAccessReview> for SubjectAccessReviewRules {
    fn validate(&self, review: &SubjectAccessReview, errors: &mut Errors) {
        validate_spec(&review.spec, errors);
    }
}

pub(super) fn validate_spec(spec: &SubjectAccessReviewSpec, errors: &mut Errors) {
    validate_question(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    let user = spec.user.as_deref().unwrap_or("");
    if user.is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        errors.invalid(&Path::new("spec").child("user"), user, "at least one of user or group must be specified");
    }
}

/// A review asks for exactly one of a resource and a path.
pub(super) fn validate_question(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>, errors: &mut Errors) {
    let spec = Path::new("spec");
    match (resource, path) {
        (Some(_), Some(path)) => errors.invalid(
            &spec.child("nonResourceAttributes"),
            &serde_json::json!(path),
            "cannot be specified in combination with resourceAttributes",
        ),
        (None, None) => errors.invalid(
            &spec.child("resourceAttributes"),
            &serde_json::Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::errors;
    use expect_test::expect;

    #[test]
    fn rules() {
        expect![[r#"
            spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified
            spec.user: Invalid value: "": at least one of user or group must be specified"#]]
        .assert_eq(&errors(super::row(), "{spec: {}}"));
        assert_eq!(errors(super::row(), "{spec: {user: a, resourceAttributes: {verb: get, resource: pods}}}"), "");
    }
}
