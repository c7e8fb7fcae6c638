//! Rules for the parts of `metadata` that also stand inside specs, as in pod templates.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use api::names;

use super::bounds::follows;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Checks labels' keys and values.
pub fn validate_labels(labels: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        follows(key, names::qualified_name, path, errors);
        follows(value, names::label_value, path, errors);
    }
}

/// Checks annotations' keys and their size together.
pub fn validate_annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key, &wrong);
        }
        size += key.len() + value.len();
    }
    if size > names::ANNOTATIONS_MAX {
        errors.too_long(path, names::ANNOTATIONS_MAX);
    }
}

/// Checks the metadata of a template, which has no name of its own.
pub fn validate_template(meta: Option<&ObjectMeta>, path: &Path, errors: &mut Errors) {
    let Some(meta) = meta else { return };
    validate_labels(meta.labels.as_ref(), &path.child("labels"), errors);
    validate_annotations(meta.annotations.as_ref(), &path.child("annotations"), errors);
}
