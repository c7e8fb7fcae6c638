//! What a container can know of its pod and its node, as files; of their own or in a projected volume.

use serde_json::{Value, json};

use super::super::pod;
use super::files::{until_log, watching};
use crate::framework::{Behaviour, Framework};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] Downward API volume should provide podname only [NodeConformance]", |f| Box::pin(name(f, false))),
    Behaviour::new("[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(default_mode(f, false))
    }),
    Behaviour::new("[sig-storage] Downward API volume should set mode on item file [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(item_mode(f, false))
    }),
    Behaviour::new("[sig-storage] Downward API volume should update labels on modification [NodeConformance]", |f| {
        Box::pin(updated(f, false, "labels"))
    }),
    Behaviour::new("[sig-storage] Downward API volume should update annotations on modification [NodeConformance]", |f| {
        Box::pin(updated(f, false, "annotations"))
    }),
    Behaviour::new("[sig-storage] Downward API volume should provide container's cpu limit [NodeConformance]", |f| {
        Box::pin(resource(f, false, "limits.cpu", "2"))
    }),
    Behaviour::new("[sig-storage] Downward API volume should provide container's memory limit [NodeConformance]", |f| {
        Box::pin(resource(f, false, "limits.memory", "67108864"))
    }),
    Behaviour::new("[sig-storage] Downward API volume should provide container's cpu request [NodeConformance]", |f| {
        Box::pin(resource(f, false, "requests.cpu", "1"))
    }),
    Behaviour::new("[sig-storage] Downward API volume should provide container's memory request [NodeConformance]", |f| {
        Box::pin(resource(f, false, "requests.memory", "33554432"))
    }),
    Behaviour::new(
        "[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance]",
        |f| Box::pin(allocatable(f, false, "cpu")),
    ),
    Behaviour::new(
        "[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance]",
        |f| Box::pin(allocatable(f, false, "memory")),
    ),
];

/// A volume `v` of these files.
pub fn volume(projected: bool, items: &Value, default_mode: Option<u32>) -> Value {
    let mut volume = if projected { json!({"sources": [{"downwardAPI": {"items": items}}]}) } else { json!({"items": items}) };
    if let Some(mode) = default_mode {
        volume["defaultMode"] = json!(mode);
    }
    json!({"name": "v", if projected { "projected" } else { "downwardAPI" }: volume})
}

/// The pod's name in the file `podname`.
pub fn name_item() -> Value {
    json!({"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}})
}

/// What a script says in a pod `p` with the volume at `/v`.
async fn said(f: &Framework, script: &str, volume: Value, container: Value) -> String {
    let mut container = container;
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    f.output_of(&pod("p", script, json!({"volumes": [volume]}), container)).await
}

pub async fn name(f: Framework, projected: bool) -> anyhow::Result<()> {
    let volume = volume(projected, &json!([name_item()]), None);
    assert_eq!(said(&f, "cat /v/podname; stat -L -c ' %A' /v/podname", volume, json!({})).await, "p -rw-r--r--\n");
    Ok(())
}

pub async fn default_mode(f: Framework, projected: bool) -> anyhow::Result<()> {
    let volume = volume(projected, &json!([name_item()]), Some(0o400));
    assert_eq!(said(&f, "stat -L -c %A /v/podname", volume, json!({})).await, "-r--------\n");
    Ok(())
}

pub async fn item_mode(f: Framework, projected: bool) -> anyhow::Result<()> {
    let mut item = name_item();
    item["mode"] = json!(0o400);
    let volume = volume(projected, &json!([item]), None);
    assert_eq!(said(&f, "stat -L -c %A /v/podname", volume, json!({})).await, "-r--------\n");
    Ok(())
}

/// Labels or annotations that change under a running container.
pub async fn updated(f: Framework, projected: bool, field: &str) -> anyhow::Result<()> {
    let items = json!([{"path": field, "fieldRef": {"fieldPath": format!("metadata.{field}")}}]);
    let file = format!("/v/{field}");
    let mut pod = watching(&[&file], json!([volume(projected, &items, None)]), &["v"]);
    pod["metadata"][field] = json!({"key1": "value1", "key2": "value2"});
    f.create_pod(&pod).await;
    // Annotations are also others' (the scheduler's, the admission's); they come in the order of their keys.
    until_log(&f, "key1=\"value1\"\nkey2=\"value2\"\n").await;
    f.wire.patch("merge", &f.core("pods/watcher"), &json!({"metadata": {field: {"key3": "value3"}}})).await.expect(200);
    until_log(&f, "key1=\"value1\"\nkey2=\"value2\"\nkey3=\"value3\"\n").await;
    Ok(())
}

fn resource_item(resource: &str) -> Value {
    json!([{"path": "value", "resourceFieldRef": {"containerName": "main", "resource": resource}}])
}

pub async fn resource(f: Framework, projected: bool, resource: &str, expected: &str) -> anyhow::Result<()> {
    let resources = json!({"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}});
    let volume = volume(projected, &resource_item(resource), None);
    assert_eq!(said(&f, "cat /v/value", volume, json!({"resources": resources})).await, expected);
    Ok(())
}

pub async fn allocatable(f: Framework, projected: bool, resource: &str) -> anyhow::Result<()> {
    let volume = volume(projected, &resource_item(&format!("limits.{resource}")), None);
    let said: i64 = said(&f, "cat /v/value", volume, json!({})).await.parse()?;
    let pod = f.wire.get(&f.core("pods/p")).await.expect(200);
    let node = f.wire.get(&format!("/api/v1/nodes/{}", pod["spec"]["nodeName"].as_str().expect("a node"))).await.expect(200);
    let quantity: api::quantity::Quantity = node["status"]["allocatable"][resource].as_str().expect("a quantity").parse()?;
    assert_eq!(said, i64::try_from(quantity.value())?);
    Ok(())
}
