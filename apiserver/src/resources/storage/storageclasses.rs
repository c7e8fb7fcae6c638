//! storage.k8s.io/v1 StorageClass

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::admission::default_storage_class::DEFAULT;
use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{follows, required_one_of};
use crate::resources::cells::{flag, or_none, text};

/// The most bytes of parameters together.
const MAX_SIZE: usize = 256 << 10;
const MAX_PARAMETERS: usize = 512;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "StorageClass", "storageclasses")
        .returns_deleted()
        .short(&["sc"])
        .columns(vec![
            Column { cell: crate::resource::Cell::Compute(|o, _| name(o).into()), ..Column::name() },
            Column::text("Provisioner", "/provisioner"),
            Column::compute("ReclaimPolicy", |o, _| or_none(text(o, "/reclaimPolicy")).into()),
            Column::compute("VolumeBindingMode", |o, _| or_none(text(o, "/volumeBindingMode")).into()),
            Column::compute("AllowVolumeExpansion", |o, _| flag(o, "/allowVolumeExpansion").to_string().into()),
            Column::age(),
        ])
        .rules::<StorageClass>(ClassRules)
}

fn name(o: &Value) -> String {
    let annotations = crate::resources::cells::map(o, "/metadata/annotations");
    let default = DEFAULT.iter().any(|a| annotations.get(*a).is_some_and(|v| v == "true"));
    format!("{}{}", text(o, "/metadata/name"), if default { " (default)" } else { "" })
}

struct ClassRules;

impl Rules<StorageClass> for ClassRules {
    fn default(&self, class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }
    fn validate(&self, class: &StorageClass, errors: &mut Errors) {
        let provisioner = Path::new("provisioner");
        if class.provisioner.is_empty() {
            errors.required(&provisioner, "");
        } else {
            follows(&class.provisioner.to_lowercase(), names::qualified_name, &provisioner, errors);
        }
        let parameters = class.parameters.iter().flatten();
        let size: usize = parameters.clone().map(|(k, v)| k.len() + v.len()).sum();
        if parameters.clone().count() > MAX_PARAMETERS {
            errors.too_long(&Path::new("parameters"), MAX_PARAMETERS);
        }
        if size > MAX_SIZE {
            errors.too_long(&Path::new("parameters"), MAX_SIZE);
        }
        if parameters.clone().any(|(k, _)| k.is_empty()) {
            errors.invalid(&Path::new("parameters"), "", "field can not be empty.");
        }
        required_one_of(class.reclaim_policy.as_deref().unwrap_or(""), &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
        let mode = class.volume_binding_mode.as_deref().unwrap_or("");
        required_one_of(mode, &["Immediate", "WaitForFirstConsumer"], &Path::new("volumeBindingMode"), errors);
    }
    fn validate_update(&self, new: &StorageClass, old: &StorageClass, errors: &mut Errors) {
        if new.parameters != old.parameters {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        if new.provisioner != old.provisioner {
            errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
        }
        if new.reclaim_policy != old.reclaim_policy {
            errors.forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
        }
        errors.immutable(&Path::new("volumeBindingMode"), &new.volume_binding_mode, &old.volume_binding_mode);
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let class = "{metadata: {name: a, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, provisioner: p.io/x, reclaimPolicy: Retain}";
        assert_eq!(cells(row(), class), "a (default) | p.io/x | Retain | <none> | false | <unknown>");
        expect!["provisioner: Required value"].assert_eq(&errors(row(), "{metadata: {name: a}}"));
        expect!["provisioner: Forbidden: updates to provisioner are forbidden."].assert_eq(&update_errors(
            row(),
            "{metadata: {name: a}, provisioner: p.io/x}",
            "{metadata: {name: a}, provisioner: p.io/other}",
        ));
    }
}
