//! Pods come and go, and a Service's endpoints with them.

use serde_json::{Value, json};

use super::super::serving::{client, places, reachable, server_pod, unreachable, until_endpoints};
use crate::framework::Framework;

async fn create(f: &Framework, name: &str, ports: Value) -> Value {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"name": name}, "ports": ports},
    });
    f.wire.post(&f.core("services"), &service).await.expect(201)
}

async fn add(f: &Framework, name: &str, service: &str, port: u16, port_name: &str) {
    let mut pod = server_pod(name, &json!({"name": service}), port);
    if !port_name.is_empty() {
        pod["spec"]["containers"][0]["ports"][0]["name"] = json!(port_name);
    }
    f.create_pod(&pod).await;
}

async fn remove(f: &Framework, name: &str) {
    f.wire.delete_with(&f.core(&format!("pods/{name}")), &json!({"gracePeriodSeconds": 0})).await.ok();
}

pub async fn basic(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "endpoint-test2";
    let service = create(&f, NAME, json!([{"port": 80, "targetPort": 80}])).await;
    let places = places(&f, &service).await;
    until_endpoints(&f, NAME, &[]).await;
    tokio::join!(client(&f), add(&f, "pod1", NAME, 80, ""));
    until_endpoints(&f, NAME, &[("pod1", 80)]).await;
    reachable(&f, &places).await?;
    add(&f, "pod2", NAME, 80, "").await;
    until_endpoints(&f, NAME, &[("pod1", 80), ("pod2", 80)]).await;
    reachable(&f, &places).await?;
    remove(&f, "pod1").await;
    until_endpoints(&f, NAME, &[("pod2", 80)]).await;
    reachable(&f, &places).await?;
    remove(&f, "pod2").await;
    until_endpoints(&f, NAME, &[]).await;
    unreachable(&f, &places[1]).await
}

pub async fn several_ports(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "multi-endpoint-test";
    let ports = json!([{"name": "portname1", "port": 80, "targetPort": "svc1"}, {"name": "portname2", "port": 81, "targetPort": "svc2"}]);
    create(&f, NAME, ports).await;
    until_endpoints(&f, NAME, &[]).await;
    tokio::join!(client(&f), add(&f, "pod1", NAME, 100, "svc1"));
    until_endpoints(&f, NAME, &[("pod1", 100)]).await;
    add(&f, "pod2", NAME, 101, "svc2").await;
    until_endpoints(&f, NAME, &[("pod1", 100), ("pod2", 101)]).await;
    reachable(&f, &[format!("{NAME}:80"), format!("{NAME}:81")]).await?;
    remove(&f, "pod1").await;
    until_endpoints(&f, NAME, &[("pod2", 101)]).await;
    remove(&f, "pod2").await;
    until_endpoints(&f, NAME, &[]).await;
    Ok(())
}
