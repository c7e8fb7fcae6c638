//! Devices as objects (KEP-4381): their classes, claims, templates of claims and what nodes offer. Nobody hands devices out here.

use serde_json::json;

use crate::framework::{Behaviour, Framework, Resource, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass", test!(classes)),
    Behaviour::new("newer: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim", test!(claims)),
    Behaviour::new("newer: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate", test!(templates)),
    Behaviour::new("newer: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice", test!(slices)),
];

const GROUP: &str = "resource.k8s.io/v1";

async fn classes(f: Framework) -> anyhow::Result<()> {
    let object = json!({"apiVersion": GROUP, "kind": "DeviceClass", "spec": {"selectors": [{"cel": {"expression": "device.driver == 'dra.example.com'"}}]}});
    f.operations(&Resource { group_version: GROUP, name: "deviceclasses", namespaced: false, object, status: None }).await;
    Ok(())
}

fn spec() -> serde_json::Value {
    json!({"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "example"}}]}})
}

async fn claims(f: Framework) -> anyhow::Result<()> {
    let result = json!({"request": "req-0", "driver": "dra.example.com", "pool": "example-pool", "device": "device-0"});
    let status = json!({"allocation": {"devices": {"results": [result]}}});
    let object = json!({"apiVersion": GROUP, "kind": "ResourceClaim", "spec": spec()});
    f.operations(&Resource { group_version: GROUP, name: "resourceclaims", namespaced: true, object, status: Some(status) }).await;
    Ok(())
}

async fn templates(f: Framework) -> anyhow::Result<()> {
    let object = json!({"apiVersion": GROUP, "kind": "ResourceClaimTemplate", "spec": {"spec": spec()}});
    f.operations(&Resource { group_version: GROUP, name: "resourceclaimtemplates", namespaced: true, object, status: None }).await;
    Ok(())
}

async fn slices(f: Framework) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": GROUP, "kind": "ResourceSlice",
        "spec": {"driver": "dra.example.com", "pool": {"name": "example-pool", "generation": 0, "resourceSliceCount": 1}, "nodeName": "example-node",
            "devices": [{"name": "device-0", "attributes": {"model": {"string": "a"}}, "capacity": {"memory": {"value": "1Gi"}}}]},
    });
    f.operations(&Resource { group_version: GROUP, name: "resourceslices", namespaced: false, object, status: None }).await;
    Ok(())
}
