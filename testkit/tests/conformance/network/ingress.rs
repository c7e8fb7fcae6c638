//! Ingresses as objects.

use serde_json::json;

use crate::framework::{Behaviour, Framework, Resource, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-network] Ingress API should support creating Ingress API operations", test!(operations))];

async fn operations(f: Framework) -> anyhow::Result<()> {
    let backend = json!({"service": {"name": "default-backend", "port": {"number": 80}}});
    f.operations(&Resource {
        group_version: "networking.k8s.io/v1",
        name: "ingresses",
        namespaced: true,
        object: json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "spec": {
                "defaultBackend": backend,
                "rules": [{"host": "foo.bar.com", "http": {"paths": [{"path": "/", "pathType": "ImplementationSpecific", "backend": backend}]}}],
            },
        }),
        status: Some(json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}})),
    })
    .await;
    Ok(())
}
