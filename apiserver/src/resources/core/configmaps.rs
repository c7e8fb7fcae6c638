//! v1 ConfigMap

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::follows;
use crate::resources::cells::count;

/// The most bytes of a ConfigMap's or Secret's values together.
pub(super) const MAX_SIZE: usize = 1 << 20;
pub(super) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns(vec![
            Column::name(),
            Column::compute("Data", |o, _| (count(o, "/data") + count(o, "/binaryData")).to_string().into()),
            Column::age(),
        ])
        .rules::<ConfigMap>(ConfigMapRules)
}

struct ConfigMapRules;

impl Rules<ConfigMap> for ConfigMapRules {
    fn validate(&self, map: &ConfigMap, errors: &mut Errors) {
        let mut size = 0;
        for (key, value) in map.data.iter().flatten() {
            size += value.len();
            validate_key(key, &Path::new("data"), errors);
            if map.binary_data.as_ref().is_some_and(|b| b.contains_key(key)) {
                errors.invalid(&Path::new("data").key(key), key, "duplicate of key present in binaryData");
            }
        }
        for (key, value) in map.binary_data.iter().flatten() {
            size += value.0.len();
            validate_key(key, &Path::new("binaryData"), errors);
        }
        if size > MAX_SIZE {
            errors.too_long(&Path::root(), MAX_SIZE);
        }
    }
    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap, errors: &mut Errors) {
        if old.immutable != Some(true) {
            return;
        }
        if new.immutable != Some(true) {
            errors.forbidden(&Path::new("immutable"), IMMUTABLE);
        }
        if new.data != old.data {
            errors.forbidden(&Path::new("data"), IMMUTABLE);
        }
        if new.binary_data != old.binary_data {
            errors.forbidden(&Path::new("binaryData"), IMMUTABLE);
        }
    }
}

pub(super) fn validate_key(key: &str, path: &Path, errors: &mut Errors) {
    follows(key, names::config_map_key, &path.key(key), errors);
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn rules() {
        expect![[r#"
            data[..]: Invalid value: "..": must not be '..'
            data[a]: Invalid value: "a": duplicate of key present in binaryData"#]]
        .assert_eq(&errors(super::row(), "{metadata: {name: a}, data: {a: x, '..': z}, binaryData: {a: eA==}}"));
        expect![[r#"
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set"#]]
        .assert_eq(&update_errors(super::row(), "{metadata: {name: a}, immutable: true, data: {a: x}}", "{metadata: {name: a}}"));
    }

    #[test]
    fn table() {
        assert_eq!(cells(super::row(), "{metadata: {name: a}, data: {a: x}, binaryData: {b: eA==}}"), "a | 2 | <unknown>");
    }
}
