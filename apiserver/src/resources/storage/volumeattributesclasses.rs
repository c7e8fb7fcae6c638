//! storage.k8s.io/v1 VolumeAttributesClass

use api::field::{Errors, Path};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::resource::{Column, Resource, Rules};
use crate::resources::core::pod::volumes::validate_driver;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses")
        .returns_deleted()
        .short(&["vac"])
        .columns(vec![Column::name(), Column::text("DriverName", "/driverName"), Column::age()])
        .rules::<VolumeAttributesClass>(ClassRules)
}

struct ClassRules;

impl Rules<VolumeAttributesClass> for ClassRules {
    fn validate(&self, class: &VolumeAttributesClass, errors: &mut Errors) {
        validate_driver(&class.driver_name, &Path::new("driverName"), errors);
        if class.parameters.as_ref().is_none_or(|p| p.is_empty()) {
            errors.required(&Path::new("parameters"), "must contain at least one key/value pair");
        }
    }
    fn validate_update(&self, new: &VolumeAttributesClass, old: &VolumeAttributesClass, errors: &mut Errors) {
        errors.immutable(&Path::new("driverName"), &new.driver_name, &old.driver_name);
        errors.immutable(&Path::new("parameters"), &new.parameters, &old.parameters);
    }
}
