//! IngressClasses as objects.

use serde_json::json;

use crate::framework::{Behaviour, Framework, Resource, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-network] IngressClass API  should support creating IngressClass API operations", test!(operations))];

async fn operations(f: Framework) -> anyhow::Result<()> {
    f.operations(&Resource {
        group_version: "networking.k8s.io/v1",
        name: "ingressclasses",
        namespaced: false,
        object: json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": {"controller": "example.com/controller"},
        }),
        status: None,
    })
    .await;
    Ok(())
}
