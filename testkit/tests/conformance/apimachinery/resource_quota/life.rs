//! Objects are counted when they come and no more when they have gone.

use serde_json::{Value, json};

use super::{HARD, NAME, create, exceeds, until_used};
use crate::framework::{Framework, PAUSE};

pub async fn promptly(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    until_used(&f, NAME, &[("resourcequotas", "1")]).await;
    Ok(())
}

/// Creates an object, sees it counted, deletes it, sees it counted no more.
async fn counted(f: &Framework, path: &str, object: &Value, without: &[(&str, &str)], with: &[(&str, &str)]) {
    until_used(f, NAME, without).await;
    f.wire.post(path, object).await.expect(201);
    until_used(f, NAME, with).await;
    let name = object["metadata"]["name"].as_str().expect("a name");
    let answer = f.wire.delete(&format!("{path}/{name}")).await;
    assert!((200..300).contains(&answer.code), "{}", answer.text());
    until_used(f, NAME, without).await;
}

fn service_object(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "ports": [{"port": 80, "targetPort": 80}]},
    })
}

pub async fn service(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    let none = [("services", "0"), ("services.nodeports", "0"), ("services.loadbalancers", "0")];
    until_used(&f, NAME, &none).await;
    let path = f.core("services");
    f.wire.post(&path, &service_object("test-service", "ClusterIP")).await.expect(201);
    f.wire.post(&path, &service_object("test-service-np", "NodePort")).await.expect(201);
    // A load balancer takes a node port too, unless it says that it needs none, and there is one in all.
    exceeds(&f.wire.post(&path, &service_object("test-service-lbnp", "LoadBalancer")).await.refusal(), NAME);
    until_used(&f, NAME, &[("services", "2"), ("services.nodeports", "1"), ("services.loadbalancers", "0")]).await;
    f.wire.delete(&format!("{path}/test-service")).await.expect(200);
    f.wire.delete(&format!("{path}/test-service-np")).await.expect(200);
    until_used(&f, NAME, &none).await;
    Ok(())
}

/// How many there are already, as text: the root certificate is a config map of every namespace.
async fn there(f: &Framework, resource: &str, more: usize) -> String {
    (f.list(&f.core(resource)).await.len() + more).to_string()
}

pub async fn secret(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "test-secret"}, "stringData": {"data-1": "value-1"}});
    let (before, after) = (there(&f, "secrets", 0).await, there(&f, "secrets", 1).await);
    counted(&f, &f.core("secrets"), &object, &[("secrets", &before)], &[("secrets", &after)]).await;
    Ok(())
}

pub async fn config_map(f: Framework) -> anyhow::Result<()> {
    f.until_it(&f.core("configmaps/kube-root-ca.crt"), "to be there", crate::framework::SOON, |_| true).await;
    create(&f, NAME, HARD, &[]).await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-configmap"}, "data": {"a": "b"}});
    let (before, after) = (there(&f, "configmaps", 0).await, there(&f, "configmaps", 1).await);
    counted(&f, &f.core("configmaps"), &object, &[("configmaps", &before)], &[("configmaps", &after)]).await;
    Ok(())
}

pub async fn replication_controller(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    let object = Framework::replication_controller("test-rc", 0, &json!({"name": "test-rc"}));
    counted(&f, &f.core("replicationcontrollers"), &object, &[("replicationcontrollers", "0")], &[("replicationcontrollers", "1")]).await;
    Ok(())
}

pub async fn replica_set(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    let object = Framework::workload("ReplicaSet", "test-rs", 0, &json!({"name": "test-rs"}));
    let path = f.group("apps/v1", "replicasets");
    counted(&f, &path, &object, &[("count/replicasets.apps", "0")], &[("count/replicasets.apps", "1")]).await;
    Ok(())
}

fn pod_object(name: &str, requests: &Value) -> Value {
    let mut resources = json!({"requests": requests});
    // What cannot be overcommitted is limited to what is requested.
    if let Some(count) = requests.get("example.com/dongtu") {
        resources["limits"] = json!({"example.com/dongtu": count});
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent", "resources": resources}]},
    })
}

pub async fn pod(f: Framework) -> anyhow::Result<()> {
    create(&f, NAME, HARD, &[]).await;
    until_used(&f, NAME, &[("pods", "0"), ("cpu", "0")]).await;
    let path = f.core("pods");
    let requests = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongtu": "2"});
    f.wire.post(&path, &pod_object("test-pod", &requests)).await.expect(201);
    let used = [("pods", "1"), ("cpu", "500m"), ("memory", "252Mi"), ("ephemeral-storage", "30Gi"), ("requests.example.com/dongtu", "2")];
    until_used(&f, NAME, &used).await;

    let refused = f.wire.post(&path, &pod_object("fail-pod", &json!({"cpu": "600m", "memory": "100Mi"}))).await.refusal();
    // It says nothing of ephemeral storage, which the quota wants said.
    assert!(refused.starts_with(r#"403 Forbidden: pods "fail-pod" is forbidden: "#), "{refused}");
    let over = json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"});
    exceeds(&f.wire.post(&path, &pod_object("fail-pod", &over)).await.refusal(), NAME);
    let over = json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongtu": "2"});
    exceeds(&f.wire.post(&path, &pod_object("fail-pod-for-extended-resource", &over)).await.refusal(), NAME);

    let mut read = f.wire.get(&f.core("pods/test-pod")).await.expect(200);
    read["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("100m");
    read["spec"]["containers"][0]["resources"]["requests"]["memory"] = json!("100Mi");
    let refused = f
        .until("an update without a conflict", crate::framework::SOON, || async {
            let now = f.wire.get(&f.core("pods/test-pod")).await.expect(200);
            let mut changed = read.clone();
            changed["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
            let answer = f.wire.put(&f.core("pods/test-pod"), &changed).await;
            (answer.code != 409).then(|| answer.refusal())
        })
        .await;
    assert!(refused.starts_with("422 Invalid: ") && refused.contains("pod updates may not change fields other than"), "{refused}");
    until_used(&f, NAME, &used).await;

    let answer = f.wire.delete_with(&f.core("pods/test-pod"), &json!({"gracePeriodSeconds": 0})).await;
    assert!((200..300).contains(&answer.code), "{}", answer.text());
    until_used(&f, NAME, &[("pods", "0"), ("cpu", "0"), ("memory", "0"), ("ephemeral-storage", "0"), ("requests.example.com/dongtu", "0")])
        .await;
    Ok(())
}
