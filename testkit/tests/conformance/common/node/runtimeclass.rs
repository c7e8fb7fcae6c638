//! RuntimeClasses: their API, and what a pod that names one gets of it.

use serde_json::{Value, json};

use super::super::{condition, pod};
use crate::framework::{Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance]",
        test!(nonexistent),
    ),
    Behaviour::new("[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass [NodeConformance]", test!(deleted)),
    Behaviour::new(
        "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead [NodeConformance]",
        test!(without_overhead),
    ),
    Behaviour::new(
        "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [NodeConformance]",
        test!(with_overhead),
    ),
    Behaviour::new("[sig-node] RuntimeClass  should support RuntimeClasses API operations", test!(operations)),
];

const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

fn class(name: &str, more: &Value) -> Value {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "runc"});
    super::super::put(&mut class, more.clone());
    class
}

async fn create(f: &Framework, more: &Value) -> String {
    let name = f.unique("class");
    f.wire.post(CLASSES, &class(&name, more)).await.expect(201);
    f.remove_later(&format!("{CLASSES}/{name}"));
    name
}

async fn rejected(f: &Framework, class: &str) {
    let refused = f.wire.post(&f.core("pods"), &pod("p", "true", json!({"runtimeClassName": class}), json!({}))).await.refusal();
    assert_eq!(refused, format!("403 Forbidden: pods \"p\" is forbidden: pod rejected: RuntimeClass {class:?} not found"));
}

async fn nonexistent(f: Framework) -> anyhow::Result<()> {
    rejected(&f, "nonexistent").await;
    Ok(())
}

async fn deleted(f: Framework) -> anyhow::Result<()> {
    let name = create(&f, &json!({})).await;
    let path = format!("{CLASSES}/{name}");
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, SOON).await;
    rejected(&f, &name).await;
    Ok(())
}

async fn without_overhead(f: Framework) -> anyhow::Result<()> {
    let name = create(&f, &json!({})).await;
    f.output_of(&pod("p", "true", json!({"runtimeClassName": name}), json!({}))).await;
    assert_eq!(f.wire.get(&f.core("pods/p")).await.expect(200)["spec"].get("overhead"), None);
    Ok(())
}

/// Scheduled, although no runtime will ever have the handler; and gone again when nobody wants it any more.
async fn with_overhead(f: Framework) -> anyhow::Result<()> {
    let overhead = json!({"cpu": "10m", "memory": "1Mi"});
    let name = create(&f, &json!({"handler": "test-handler", "overhead": {"podFixed": overhead}})).await;
    f.create_pod(&pod("p", "true", json!({"runtimeClassName": name}), json!({}))).await;
    let scheduled = f.until_it(&f.core("pods/p"), "to be scheduled", POD, |p| condition(p, "PodScheduled") == "True").await;
    assert_eq!(scheduled["spec"]["overhead"], overhead);
    f.wire.delete(&f.core("pods/p")).await.expect(200);
    f.until_gone(&f.core("pods/p"), POD).await;
    Ok(())
}

async fn operations(f: Framework) -> anyhow::Result<()> {
    let groups = f.wire.get("/apis").await.expect(200);
    let group = groups["groups"].as_array().expect("groups").iter().find(|g| g["name"] == "node.k8s.io").expect("the group").clone();
    assert!(group["versions"].as_array().expect("versions").iter().any(|v| v["version"] == "v1"), "{group}");
    let group = f.wire.get("/apis/node.k8s.io").await.expect(200);
    assert!(group["versions"].as_array().expect("versions").iter().any(|v| v["groupVersion"] == "node.k8s.io/v1"), "{group}");
    let resources = f.wire.get("/apis/node.k8s.io/v1").await.expect(200);
    assert!(resources["resources"].as_array().expect("resources").iter().any(|r| r["name"] == "runtimeclasses"), "{resources}");

    let set = f.unique("set");
    let selected = format!("{CLASSES}?labelSelector=test%3D{set}");
    let names: Vec<String> = (0..3).map(|_| f.unique("class")).collect();
    let labelled = |name: &String| class(name, &json!({"metadata": {"name": name, "labels": {"test": set}}}));
    f.wire.post(CLASSES, &labelled(&names[0])).await.expect(201);
    let again = f.wire.post(CLASSES, &labelled(&names[0])).await.refusal();
    assert!(again.starts_with("409 AlreadyExists: "), "{again}");
    f.wire.post(CLASSES, &labelled(&names[1])).await.expect(201);
    f.wire.post(CLASSES, &labelled(&names[2])).await.expect(201);
    let path = format!("{CLASSES}/{}", names[0]);
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["metadata"]["name"], &read["handler"]), (&json!(names[0]), &json!("runc")));
    let list = f.wire.get(&selected).await.expect(200);
    assert_eq!(list["items"].as_array().expect("a list").len(), 3);

    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut watch = f.wire.watch(&format!("{selected}&watch=true&resourceVersion={version}")).await;
    let patched = f.wire.patch("merge", &path, &json!({"metadata": {"annotations": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let mut update = patched;
    update["metadata"]["annotations"]["updated"] = json!("true");
    let updated = f.wire.put(&path, &update).await.expect(200);
    assert_eq!(updated["metadata"]["annotations"], json!({"patched": "true", "updated": "true"}));
    for _ in ["patched", "updated"] {
        assert_eq!(watch.short().await, format!("MODIFIED {}", names[0]));
    }
    f.wire.delete(&path).await.expect(200);
    assert_eq!(watch.short().await, format!("DELETED {}", names[0]));
    assert_eq!(f.wire.get(&path).await.code, 404);
    f.wire.delete(&selected).await.expect(200);
    assert_eq!(f.list(&selected).await, Vec::<Value>::new());
    Ok(())
}
