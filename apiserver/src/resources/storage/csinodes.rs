//! storage.k8s.io/v1 CSINode

use api::field::{Errors, Path};
use k8s_openapi::api::storage::v1::CSINode;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::not_negative;
use crate::resources::cells::count;
use crate::resources::core::pod::volumes::validate_driver;

/// The longest name that a driver may have for a node.
const NODE_ID_MAX: usize = 256;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "CSINode", "csinodes")
        .returns_deleted()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column { kind: "integer".into(), ..Column::compute("Drivers", |o, _| count(o, "/spec/drivers").into()) },
            Column::age(),
        ])
        .rules::<CSINode>(NodeRules)
}

struct NodeRules;

impl Rules<CSINode> for NodeRules {
    fn validate(&self, node: &CSINode, errors: &mut Errors) {
        let drivers = &node.spec.drivers;
        for (i, driver) in drivers.iter().enumerate() {
            let path = Path::new("spec").child("drivers").index(i);
            validate_driver(&driver.name, &path.child("name"), errors);
            if drivers[..i].iter().any(|d| d.name == driver.name) {
                errors.duplicate(&path.child("name"), &driver.name);
            }
            match driver.node_id.len() {
                0 => errors.required(&path.child("nodeID"), ""),
                n if n > NODE_ID_MAX => {
                    errors.invalid(&path.child("nodeID"), &driver.node_id, &format!("must be {NODE_ID_MAX} characters or less"))
                }
                _ => {}
            }
            not_negative(driver.allocatable.as_ref().and_then(|a| a.count), &path.child("allocatable").child("count"), errors);
        }
    }
    fn validate_update(&self, new: &CSINode, old: &CSINode, errors: &mut Errors) {
        // A driver comes and goes as a whole.
        for (i, driver) in new.spec.drivers.iter().enumerate() {
            let before = old.spec.drivers.iter().find(|d| d.name == driver.name);
            if before.is_some_and(|b| b.node_id != driver.node_id || b.topology_keys != driver.topology_keys) {
                let path = Path::new("spec").child("drivers").index(i);
                errors.invalid(&path, &serde_json::json!(driver), "field is immutable");
            }
        }
    }
}
