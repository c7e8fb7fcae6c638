//! Rules for label selectors inside specs, and what they select.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use api::labels::Selector;
use api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::bounds::follows;
use super::metadata::validate_labels;

/// Checks a selector.
pub fn validate(selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    validate_labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        validate_requirement(requirement, &path.child("matchExpressions").index(i), errors);
    }
}

fn validate_requirement(r: &LabelSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = r.values.as_deref().unwrap_or_default();
    match r.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    follows(&r.key, names::qualified_name, &path.child("key"), errors);
    for (i, value) in values.iter().enumerate() {
        follows(value, names::label_value, &path.child("values").index(i), errors);
    }
}

/// Whether a selector asks for nothing.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a selector selects these labels; one that is malformed selects none.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let expressions = selector.match_expressions.iter().flatten();
    let parts = expressions.map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    Selector::from_parts(selector.match_labels.as_ref(), parts).is_ok_and(|s| s.matches(labels))
}

/// Checks that a workload's selector is not empty and selects its template's labels.
pub fn validate_for_template(
    selector: &LabelSelector,
    labels: Option<&BTreeMap<String, String>>,
    whose: &str,
    spec: &Path,
    errors: &mut Errors,
) {
    let path = spec.child("selector");
    validate(selector, &path, errors);
    if is_empty(selector) {
        errors.invalid(&path, &serde_json::json!({}), &format!("empty selector is invalid for {whose}"));
    } else if !matches(selector, &labels.cloned().unwrap_or_default()) {
        let shown = serde_json::to_value(labels).unwrap_or_default();
        errors.invalid(&spec.child("template").child("metadata").child("labels"), &shown, "`selector` does not match template `labels`");
    }
}
