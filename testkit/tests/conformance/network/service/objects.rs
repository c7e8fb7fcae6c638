//! Services and Endpoints as objects.

use serde_json::{Value, json};

use super::super::serving::service;
use crate::framework::{Framework, SOON, has_condition};

pub async fn secure_master(f: Framework) -> anyhow::Result<()> {
    let service = f.wire.get("/api/v1/namespaces/default/services/kubernetes").await.expect(200);
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["name"], &port["port"], &port["protocol"]), (&json!("https"), &json!(443), &json!("TCP")));
    // Without a word about where, as a pod finds it, with what every pod is given.
    let script =
        "d=/var/run/secrets/kubernetes.io/serviceaccount; echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; ls $d/token $d/ca.crt";
    let said = f.output_of(&Framework::script("inside", script)).await;
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    assert!(said.starts_with(&format!("{address}:443\n")), "{said}");
    Ok(())
}

pub async fn found_everywhere(f: Framework) -> anyhow::Result<()> {
    let all = f.list("/api/v1/services").await;
    assert!(all.iter().any(|s| s["metadata"]["name"] == "kubernetes" && s["metadata"]["namespace"] == "default"), "{all:?}");
    Ok(())
}

pub async fn status(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("test-service");
    let mut service = service("test-service", "LoadBalancer");
    service["metadata"]["labels"] = json!({"test-service-static": label});
    service["spec"]["loadBalancerClass"] = json!("example.com/internal-vip");
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let path = f.core("services/test-service");
    let status = format!("{path}/status");
    let everywhere = format!("/api/v1/services?labelSelector=test-service-static%3D{label}");
    let mut watch = f.watch_from_now(&everywhere).await;
    let mut event = async || watch.next().await.expect("an event");

    assert_eq!(f.wire.get(&status).await.expect(200)["status"]["loadBalancer"], json!({}));
    let ingress = json!([{"ip": "203.0.113.1", "ipMode": "VIP"}]);
    let patch =
        json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let patched = f.wire.patch("merge", &status, &patch).await.expect(200);
    assert_eq!(
        (&patched["status"]["loadBalancer"]["ingress"], &patched["metadata"]["annotations"]["patchedstatus"]),
        (&ingress, &json!("true"))
    );
    assert_eq!(event().await["object"], patched);

    // As clients in Go send a time that they did not set.
    let condition = json!({
        "type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test", "lastTransitionTime": null,
    });
    let updated = f.update(&status, |service| service["status"]["conditions"] = json!([condition])).await;
    assert!(has_condition(&updated, "StatusUpdate") && updated["status"]["loadBalancer"]["ingress"] == ingress, "{updated}");
    assert_eq!(event().await["object"], updated);

    let patched = f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"test-service": "patched"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["test-service"], "patched");
    assert_eq!(event().await["object"], patched);
    f.wire.delete(&path).await.expect(200);
    assert_eq!(event().await["type"], "DELETED");
    Ok(())
}

pub async fn collection(f: Framework) -> anyhow::Result<()> {
    for (name, labelled) in [("e2e-svc-a", true), ("e2e-svc-b", true), ("e2e-svc-c", false)] {
        let mut service = service(name, "ClusterIP");
        if labelled {
            service["metadata"]["labels"] = json!({"e2e-test-service": "delete"});
        }
        f.wire.post(&f.core("services"), &service).await.expect(201);
    }
    assert_eq!(f.list(&f.core("services")).await.len(), 3);
    f.delete_collection(&f.core("services?labelSelector=e2e-test-service%3Ddelete")).await;
    let left: Vec<Value> = f.list(&f.core("services")).await.iter().map(|s| s["metadata"]["name"].clone()).collect();
    assert_eq!(left, [json!("e2e-svc-c")]);
    Ok(())
}

pub async fn endpoints_lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("endpoint");
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "testservice", "labels": {"test-endpoint-static": label}},
        "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}],
    });
    let everywhere = format!("/api/v1/endpoints?labelSelector=test-endpoint-static%3D{label}");
    let mut watch = f.watch_from_now(&everywhere).await;
    let made = f.wire.post(&f.core("endpoints"), &endpoints).await.expect(201);
    let mut expect = async |kind: &str, object: Option<&Value>| {
        let event = watch.next().await.expect("an event");
        assert_eq!(event["type"], kind, "{event}");
        if let Some(object) = object {
            assert_eq!(event["object"], *object);
        }
    };
    expect("ADDED", Some(&made)).await;
    assert_eq!(f.list(&everywhere).await.len(), 1);
    let path = f.core("endpoints/testservice");
    let updated = f.update(&path, |endpoints| endpoints["metadata"]["labels"]["test-service"] = json!("updated")).await;
    expect("MODIFIED", Some(&updated)).await;
    assert_eq!(f.wire.get(&path).await.expect(200), updated);
    let patch = json!({
        "metadata": {"labels": {"test-service": "patched"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}]}],
    });
    let patched = f.wire.patch("strategic", &path, &patch).await.expect(200);
    expect("MODIFIED", Some(&patched)).await;
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["metadata"]["labels"]["test-service"], &read["subsets"]), (&json!("patched"), &patch["subsets"]));
    f.wire.delete(&f.core(&format!("endpoints?labelSelector=test-endpoint-static%3D{label}"))).await.expect(200);
    expect("DELETED", None).await;
    f.until_gone(&path, SOON).await;
    Ok(())
}
