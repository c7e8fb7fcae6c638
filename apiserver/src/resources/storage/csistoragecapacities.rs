//! storage.k8s.io/v1 CSIStorageCapacity

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::follows;
use crate::resources::label_selector;
use crate::resources::quantities::{canonical, validate_amount};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities")
        .columns(vec![Column::name(), Column::text("StorageClassName", "/storageClassName"), Column::text("Capacity", "/capacity")])
        .rules::<CSIStorageCapacity>(CapacityRules)
}

struct CapacityRules;

impl Rules<CSIStorageCapacity> for CapacityRules {
    fn default(&self, capacity: &mut CSIStorageCapacity) {
        for text in [&mut capacity.capacity, &mut capacity.maximum_volume_size].into_iter().flatten() {
            canonical(text);
        }
    }
    fn validate(&self, capacity: &CSIStorageCapacity, errors: &mut Errors) {
        follows(&capacity.storage_class_name, names::dns1123_subdomain, &Path::new("storageClassName"), errors);
        for (name, text) in [("capacity", &capacity.capacity), ("maximumVolumeSize", &capacity.maximum_volume_size)] {
            if let Some(text) = text {
                validate_amount("storage", text, &Path::new(name), errors);
            }
        }
        if let Some(selector) = &capacity.node_topology {
            label_selector::validate(selector, &Path::new("nodeTopology"), errors);
        }
    }
    fn validate_update(&self, new: &CSIStorageCapacity, old: &CSIStorageCapacity, errors: &mut Errors) {
        errors.immutable(&Path::new("nodeTopology"), &new.node_topology, &old.node_topology);
        errors.immutable(&Path::new("storageClassName"), &new.storage_class_name, &old.storage_class_name);
    }
}
