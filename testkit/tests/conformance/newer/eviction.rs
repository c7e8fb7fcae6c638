//! What an eviction leaves behind, and which budgets it heeds (KEP-3329, KEP-3017).

use serde_json::{Value, json};

use crate::common::{condition, put};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-apps] DisruptionController should evict unready pods with AlwaysAllow UnhealthyPodEvictionPolicy, and not without",
        test!(unready),
    ),
    Behaviour::new("newer: [sig-apps] DisruptionController evicted pods have pod disruption condition", test!(told)),
];

async fn evict(f: &Framework, name: &str, query: &str) -> u16 {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    f.wire.post(&f.core(&format!("pods/{name}/eviction{query}")), &eviction).await.code
}

fn unready_pod(name: &str) -> Value {
    let mut pod = Framework::script(name, "exec sleep 3600");
    pod["metadata"]["labels"] = json!({"app": "guarded"});
    put(&mut pod["spec"], json!({"terminationGracePeriodSeconds": 0}));
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    pod
}

async fn unready(f: Framework) -> anyhow::Result<()> {
    let budgets = f.group("policy/v1", "poddisruptionbudgets");
    let budget = json!({"metadata": {"name": "guard"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}});
    f.wire.post(&budgets, &budget).await.expect(201);
    f.create_pod(&unready_pod("unready")).await;
    f.until_it(&f.core("pods/unready"), "to run", POD, |p| p["status"]["phase"] == "Running").await;
    let seen = |b: &Value| b["status"]["observedGeneration"] == b["metadata"]["generation"] && b["status"]["expectedPods"] == 1;
    f.until_it(&format!("{budgets}/guard"), "to be seen", POD, seen).await;
    assert_eq!(evict(&f, "unready", "").await, 429, "fewer than wanted are healthy: nobody may go");
    f.wire.patch("merge", &format!("{budgets}/guard"), &json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})).await.expect(200);
    f.until_it(&format!("{budgets}/guard"), "to be seen again", POD, seen).await;
    assert_eq!(evict(&f, "unready", "").await, 201);
    f.until_gone(&f.core("pods/unready"), POD).await;
    Ok(())
}

async fn told(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("evicted", "exec sleep 3600");
    pod["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    f.create_pod(&pod).await;
    f.until_ready("evicted").await;
    let path = f.core("pods/evicted");
    assert_eq!(evict(&f, "evicted", "?dryRun=All").await, 201);
    assert_eq!(condition(&f.wire.get(&path).await.expect(200), "DisruptionTarget"), "", "nothing was done");
    assert_eq!(evict(&f, "evicted", "").await, 201);
    let going = f.wire.get(&path).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    assert_eq!(condition(&going, "DisruptionTarget"), "True EvictionByEvictionAPI Eviction API: evicting");
    // The kubelet, which writes the status of what ended, leaves it there.
    let ended = f.until_it(&path, "to have ended", POD, |p| p["status"]["phase"] == "Failed" || p["status"]["phase"] == "Succeeded").await;
    assert_eq!(condition(&ended, "DisruptionTarget"), "True EvictionByEvictionAPI Eviction API: evicting");
    f.update(&path, |pod| pod["metadata"]["finalizers"] = json!([])).await;
    f.until_gone(&path, POD).await;
    Ok(())
}
