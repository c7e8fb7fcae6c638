//! One client, one pod: session affinity, and taking it away again.

use serde_json::json;

use super::super::serving::{answered_by_one, client, places, reachable, servers, service};
use crate::framework::Framework;

async fn sticks(f: &Framework, name: &str, kind: &str, switched: bool) -> anyhow::Result<()> {
    let mut service = service(name, kind);
    service["spec"]["sessionAffinity"] = json!("ClientIP");
    let path = f.core(&format!("services/{name}"));
    let made = f.wire.post(&f.core("services"), &service).await.expect(201);
    assert_eq!(made["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    let (pods, _) = tokio::join!(servers(f, name, 3), client(f));
    let places = places(f, &made).await;
    reachable(f, &places).await?;
    // Upstream asks the cluster IP, or a node's port.
    let place = if kind == "NodePort" { &places[2] } else { &places[1] };
    let one = answered_by_one(f, place, true).await;
    assert!(pods.contains(&one.trim().to_owned()), "{one} is one of {pods:?}");
    if switched {
        f.update(&path, |service| service["spec"]["sessionAffinity"] = json!("None")).await;
        answered_by_one(f, place, false).await;
        f.update(&path, |service| service["spec"]["sessionAffinity"] = json!("ClientIP")).await;
        answered_by_one(f, place, true).await;
    }
    Ok(())
}

pub async fn cluster_ip(f: Framework) -> anyhow::Result<()> {
    sticks(&f, "affinity-clusterip", "ClusterIP", false).await
}

pub async fn switched_cluster_ip(f: Framework) -> anyhow::Result<()> {
    sticks(&f, "affinity-clusterip-transition", "ClusterIP", true).await
}

pub async fn node_port(f: Framework) -> anyhow::Result<()> {
    sticks(&f, "affinity-nodeport", "NodePort", false).await
}

pub async fn switched_node_port(f: Framework) -> anyhow::Result<()> {
    sticks(&f, "affinity-nodeport-transition", "NodePort", true).await
}
