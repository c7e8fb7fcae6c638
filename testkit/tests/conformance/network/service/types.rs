//! Services that become of another type, and where they answer then.

use serde_json::{Value, json};

use super::super::serving::{client, places, reachable, servers, service, shell};
use crate::framework::{Framework, SOON};

fn external_name(name: &str, target: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": "ExternalName", "externalName": target}})
}

pub async fn node_port(f: Framework) -> anyhow::Result<()> {
    let made = f.wire.post(&f.core("services"), &service("nodeport-test", "NodePort")).await.expect(201);
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    assert!((30000..=32767).contains(&port), "{port}");
    tokio::join!(servers(&f, "nodeport-test", 2), client(&f));
    reachable(&f, &places(&f, &made).await).await
}

/// A name becomes a Service with an address that answers.
async fn from_external_name(f: &Framework, kind: &str) -> anyhow::Result<()> {
    const NAME: &str = "externalname-service";
    let made = f.wire.post(&f.core("services"), &external_name(NAME, "example.com")).await.expect(201);
    assert!(made["spec"].get("clusterIP").is_none(), "{made}");
    let changed = f
        .update(&f.core(&format!("services/{NAME}")), |service| {
            service["spec"]["type"] = json!(kind);
            service["spec"]["externalName"] = json!("");
            service["spec"]["selector"] = json!({"name": NAME});
            service["spec"]["ports"] = json!([{"port": 80, "name": "http", "protocol": "TCP", "targetPort": 9376}]);
        })
        .await;
    assert!(changed["spec"]["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty()), "{changed}");
    assert_eq!(changed["spec"]["ports"][0]["nodePort"].as_u64().is_some(), kind == "NodePort", "{changed}");
    tokio::join!(servers(f, NAME, 2), client(f));
    reachable(f, &places(f, &changed).await).await
}

pub async fn external_name_to_cluster_ip(f: Framework) -> anyhow::Result<()> {
    from_external_name(&f, "ClusterIP").await
}

pub async fn external_name_to_node_port(f: Framework) -> anyhow::Result<()> {
    from_external_name(&f, "NodePort").await
}

/// A Service with an address becomes another name for another Service.
async fn to_external_name(f: &Framework, kind: &str) -> anyhow::Result<()> {
    let name = format!("{}-service", kind.to_lowercase());
    let made = f.wire.post(&f.core("services"), &service(&name, kind)).await.expect(201);
    let old = made["spec"]["clusterIP"].as_str().expect("an address");
    let target = f.wire.post(&f.core("services"), &service("externalsvc", "ClusterIP")).await.expect(201);
    let address = target["spec"]["clusterIP"].as_str().expect("an address");
    tokio::join!(servers(f, "externalsvc", 1), client(f));
    let full = format!("externalsvc.{}.svc.cluster.local", f.namespace);
    let changed = f
        .update(&f.core(&format!("services/{name}")), |service| {
            service["spec"]["type"] = json!("ExternalName");
            service["spec"]["externalName"] = json!(full);
        })
        .await;
    let spec = changed["spec"].as_object().expect("a spec");
    assert!(!spec.contains_key("clusterIP") && !spec.contains_key("clusterIPs"), "{changed}");
    assert!(changed["spec"]["ports"][0].get("nodePort").is_none(), "{changed}");
    // Its address answers no more; its name leads on.
    let ask = format!("nslookup {name}.{}.svc.cluster.local", f.namespace);
    f.until("the name to lead to the other Service", SOON, || async {
        let said = shell(f, "client", &ask).await.ok()?;
        (said.contains(&full) && said.contains(address) && !said.contains(old)).then_some(())
    })
    .await;
    // And what it held is free: somebody else may have the port now.
    if let Some(port) = made["spec"]["ports"][0]["nodePort"].as_u64() {
        let mut next = service("next", "NodePort");
        next["spec"]["ports"][0]["nodePort"] = json!(port);
        f.wire.post(&f.core("services"), &next).await.expect(201);
    }
    reachable(f, &[format!("{name}.{}.svc.cluster.local:80", f.namespace)]).await
}

pub async fn cluster_ip_to_external_name(f: Framework) -> anyhow::Result<()> {
    to_external_name(&f, "ClusterIP").await
}

pub async fn node_port_to_external_name(f: Framework) -> anyhow::Result<()> {
    to_external_name(&f, "NodePort").await
}
