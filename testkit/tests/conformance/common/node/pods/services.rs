//! Services that were there before a pod are in its environment.

use serde_json::json;

use super::super::super::pod;
use crate::framework::Framework;

pub async fn variables(f: Framework) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fooservice"},
        "spec": {"selector": {"name": "server"}, "ports": [{"port": 8765, "targetPort": 8080}]},
    });
    let service = f.wire.post(&f.core("services"), &service).await.expect(201);
    let ip = service["spec"]["clusterIP"].as_str().expect("an address");
    let said = f.output_of(&pod("client", "env", json!({}), json!({}))).await;
    for wanted in [
        format!("FOOSERVICE_SERVICE_HOST={ip}"),
        "FOOSERVICE_SERVICE_PORT=8765".to_owned(),
        format!("FOOSERVICE_PORT=tcp://{ip}:8765"),
        "FOOSERVICE_PORT_8765_TCP_PORT=8765".to_owned(),
        "FOOSERVICE_PORT_8765_TCP_PROTO=tcp".to_owned(),
        format!("FOOSERVICE_PORT_8765_TCP=tcp://{ip}:8765"),
        format!("FOOSERVICE_PORT_8765_TCP_ADDR={ip}"),
    ] {
        assert!(said.lines().any(|l| l == wanted), "{wanted} in {said}");
    }
    assert!(said.lines().any(|l| l.starts_with("KUBERNETES_SERVICE_HOST=")), "{said}");
    Ok(())
}
