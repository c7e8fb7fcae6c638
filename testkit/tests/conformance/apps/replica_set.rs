//! ReplicaSets.

use serde_json::{Value, json};

use super::rc::Kind;
use super::{name, selected, until_status};
use crate::framework::{BUSYBOX, Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] ReplicaSet should serve a basic image on each replica with a public image", test!(serves)),
    Behaviour::new(
        "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods",
        test!(adopts_and_releases),
    ),
    Behaviour::new("[sig-apps] ReplicaSet Replicaset should have a working scale subresource", test!(scale)),
    Behaviour::new("[sig-apps] ReplicaSet Replace and Patch tests", test!(replaced_and_patched)),
    Behaviour::new("[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets", test!(collection)),
    Behaviour::new("[sig-apps] ReplicaSet should validate Replicaset Status endpoints", test!(status)),
];

const RS: Kind = Kind { group: Some("apps/v1"), plural: "replicasets", object: |n, r, l| Framework::workload("ReplicaSet", n, r, l) };

async fn serves(f: Framework) -> anyhow::Result<()> {
    RS.serves(&f).await
}

async fn adopts_and_releases(f: Framework) -> anyhow::Result<()> {
    let (pod, owner) = RS.adopts(&f, "pod-adoption-release").await;
    RS.releases(&f, name(&pod), &owner).await;
    Ok(())
}

async fn scale(f: Framework) -> anyhow::Result<()> {
    RS.create(&f, "test-rs", 1).await;
    let path = RS.path(&f, "/test-rs");
    until_status(&f, &path, &[("replicas", 1)]).await;
    f.scaled(&path, 1, 2, 4).await;
    Ok(())
}

async fn replaced_and_patched(f: Framework) -> anyhow::Result<()> {
    RS.create(&f, "test-rs", 1).await;
    let path = RS.path(&f, "/test-rs");
    until_status(&f, &path, &[("readyReplicas", 1)]).await;
    let replaced = f.update(&path, |rs| rs["spec"]["replicas"] = json!(2)).await;
    assert_eq!(replaced["spec"]["replicas"], 2);
    until_status(&f, &path, &[("replicas", 2)]).await;
    let container = json!({"name": "main", "image": BUSYBOX, "command": ["sleep", "3600"]});
    let patch = json!({
        "metadata": {"labels": {"test-rs": "patched"}},
        "spec": {"replicas": 3, "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    });
    f.wire.patch("strategic", &path, &patch).await.expect(200);
    let patched = until_status(&f, &path, &[("readyReplicas", 3)]).await;
    assert_eq!(
        (&patched["metadata"]["labels"]["test-rs"], &patched["spec"]["template"]["spec"]["containers"][0]["image"]),
        (&json!("patched"), &json!(BUSYBOX))
    );
    // Those that are there stay as they are; the new one is of the new template.
    let pods = f.until_pods("name=test-rs", 3).await;
    let new = pods.iter().filter(|p| p["spec"]["containers"][0]["image"] == BUSYBOX).count();
    assert_eq!(new, 1);
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("rs");
    let mut object = Framework::workload("ReplicaSet", "test-rs", 3, &json!({"name": "sample-pod", "pod": label}));
    object["metadata"]["labels"] = json!({"e2e": label});
    f.wire.post(&RS.path(&f, ""), &object).await.expect(201);
    until_status(&f, &RS.path(&f, "/test-rs"), &[("replicas", 3)]).await;
    assert_eq!(f.list(&format!("/apis/apps/v1/replicasets{}", selected("e2e", &label))).await.len(), 1);
    f.delete_collection(&RS.path(&f, &selected("e2e", &label))).await;
    f.until_pods(&format!("pod={label}"), 0).await;
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    let made: Value = RS.create(&f, "test-rs", 1).await;
    let path = RS.path(&f, "/test-rs");
    until_status(&f, &path, &[("readyReplicas", 1)]).await;
    f.status_conditions(&path).await;
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
    Ok(())
}
