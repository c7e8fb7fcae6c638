//! A node as an object: made by hand, changed, its status written, removed.

use serde_json::json;

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("newer: [sig-node] Node Lifecycle should run through the lifecycle of a node", test!(lifecycle))];

const NODES: &str = "/api/v1/nodes";

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let name = f.unique("e2e-fake-node");
    let path = format!("{NODES}/{name}");
    // Nothing may be put on a node that does not run.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": true},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "message": "Set from e2e test"}]}});
    let made = f.wire.post(NODES, &node).await.expect(201);
    f.remove_later(&path);
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
    let patched = f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["patched"], "true");
    assert_eq!(f.list(&format!("{NODES}?labelSelector=patched%3Dtrue")).await.len(), 1);
    let updated = f.update(&path, |node| node["metadata"]["labels"]["updated"] = json!("true")).await;
    assert_eq!(updated["metadata"]["labels"]["updated"], "true");

    let status = format!("{path}/status");
    let condition =
        |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "E2E", "message": "Set by e2e test"}]}});
    let patched = f.wire.patch("strategic", &status, &condition("StatusPatched")).await.expect(200);
    let has = |node: &serde_json::Value, kind: &str| {
        node["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == kind))
    };
    assert!(has(&patched, "StatusPatched"), "{patched}");
    let updated = f
        .update(&status, |node| {
            let all = node["status"]["conditions"].as_array_mut().expect("conditions");
            all.push(json!({"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set by e2e test"}));
        })
        .await;
    assert!(has(&updated, "StatusUpdated") && has(&updated, "StatusPatched"), "{updated}");
    f.wire.delete(&format!("{NODES}?labelSelector=updated%3Dtrue")).await.expect(200);
    f.until_gone(&path, SOON).await;
    Ok(())
}
