//! resource.k8s.io/v1 ResourceSlice

use api::field::{Errors, Path};
use api::names;
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::follows;
use crate::resources::cells::{flag, int, items, text};
use crate::resources::core::pod::volumes::validate_driver;

/// The most devices of a slice.
const MOST: usize = 128;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "ResourceSlice", "resourceslices")
        .returns_deleted()
        .generation()
        .columns(vec![
            Column::name(),
            Column::text("Node", "/spec/nodeName"),
            Column::text("Driver", "/spec/driver"),
            Column::text("Pool", "/spec/pool/name"),
            Column::age(),
        ])
        .selectable(&[("spec.nodeName", ""), ("spec.driver", "")])
        .rules::<Value>(SliceRules)
}

struct SliceRules;

impl Rules<Value> for SliceRules {
    fn validate(&self, slice: &Value, errors: &mut Errors) {
        let (spec, path) = (&slice["spec"], Path::new("spec"));
        validate_driver(text(spec, "/driver"), &path.child("driver"), errors);
        let pool = path.child("pool");
        if text(spec, "/pool/name").is_empty() {
            errors.required(&pool.child("name"), "");
        }
        if int(spec, "/pool/resourceSliceCount") <= 0 {
            errors.invalid(&pool.child("resourceSliceCount"), int(spec, "/pool/resourceSliceCount"), "must be greater than zero");
        }
        let where_to = [
            !text(spec, "/nodeName").is_empty(),
            spec.get("nodeSelector").is_some_and(|s| !s.is_null()),
            flag(spec, "/allNodes"),
            flag(spec, "/perDeviceNodeSelection"),
        ];
        let what = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        match where_to.iter().filter(|set| **set).count() {
            0 => errors.required(&path, what),
            1 => {}
            _ => errors.invalid(&path, &Value::Null, &format!("{what}, but multiple fields are set")),
        }
        let devices = items(spec, "/devices");
        if devices.len() > MOST {
            errors.too_many(&path.child("devices"), devices.len(), MOST);
        }
        for (i, device) in devices.iter().enumerate() {
            let path = path.child("devices").index(i).child("name");
            follows(text(device, "/name"), names::dns1123_label, &path, errors);
            if devices[..i].iter().any(|d| d["name"] == device["name"]) {
                errors.duplicate(&path, text(device, "/name"));
            }
        }
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for (field, name) in [("nodeName", "nodeName"), ("driver", "driver")] {
            errors.immutable(&Path::new("spec").child(name), &new["spec"][field], &old["spec"][field]);
        }
        errors.immutable(&Path::new("spec").child("pool").child("name"), &new["spec"]["pool"]["name"], &old["spec"]["pool"]["name"]);
    }
}
