//! CSIStorageCapacities as objects.

use serde_json::json;

use crate::framework::{Behaviour, Framework, Resource, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-storage] CSIStorageCapacity  should support CSIStorageCapacities API operations", test!(operations))];

async fn operations(f: Framework) -> anyhow::Result<()> {
    f.operations(&Resource {
        group_version: "storage.k8s.io/v1",
        name: "csistoragecapacities",
        namespaced: true,
        object: json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "storageClassName": "mysc", "capacity": "1Gi",
        }),
        status: None,
    })
    .await;
    Ok(())
}
