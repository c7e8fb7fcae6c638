//! The quota as an object: updated, patched, listed, deleted, and its status.

use serde_json::{Value, json};

use super::{NAME, create};
use crate::framework::{Framework, SOON};

const HARD: &[(&str, &str)] = &[("cpu", "1"), ("memory", "500Mi")];

/// Reads, changes and writes, again when somebody else wrote meanwhile.
async fn update(f: &Framework, path: &str, change: impl Fn(&mut Value)) -> Value {
    f.until("an update without a conflict", SOON, || async {
        let mut read = f.wire.get(path).await.expect(200);
        change(&mut read);
        let answer = f.wire.put(path, &read).await;
        (answer.code != 409).then(|| answer.expect(200))
    })
    .await
}

pub async fn updated_and_deleted(f: Framework) -> anyhow::Result<()> {
    let made = create(&f, NAME, HARD, &[]).await;
    assert_eq!(made["spec"]["hard"], json!({"cpu": "1", "memory": "500Mi"}));
    let path = f.core(&format!("resourcequotas/{NAME}"));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["hard"], made["spec"]["hard"]);
    let updated = update(&f, &path, |q| q["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"})).await;
    assert_eq!(updated["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    f.wire.delete(&path).await.expect(200);
    let gone = f.wire.get(&path).await.refusal();
    assert_eq!(gone, format!(r#"404 NotFound: resourcequotas "{NAME}" not found"#));
    Ok(())
}

pub async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("rq");
    let hard = json!({"cpu": "1", "memory": "500Mi"});
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": NAME, "labels": {"e2e-rq": label}}, "spec": {"hard": hard},
    });
    f.wire.post(&f.core("resourcequotas"), &quota).await.expect(201);
    let path = f.core(&format!("resourcequotas/{NAME}"));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["hard"], hard);

    let everywhere = f.list(&format!("/api/v1/resourcequotas?labelSelector=e2e-rq%3D{label}")).await;
    assert_eq!(
        everywhere.iter().map(|q| (&q["metadata"]["name"], &q["metadata"]["namespace"])).collect::<Vec<_>>(),
        [(&json!(NAME), &json!(f.namespace))]
    );

    let patch = json!({"metadata": {"labels": {NAME: "patched"}}, "spec": {"hard": {"memory": "750Mi"}}});
    let patched = f.wire.patch("strategic", &path, &patch).await.expect(200);
    assert_eq!(patched["metadata"]["labels"][NAME], "patched");
    assert_eq!(patched["spec"]["hard"], json!({"cpu": "1", "memory": "750Mi"}));

    let selection = f.core(&format!("resourcequotas?labelSelector={NAME}%3Dpatched"));
    f.wire.delete(&selection).await.expect(200);
    f.until_gone(&path, SOON).await;
    Ok(())
}

pub async fn status(f: Framework) -> anyhow::Result<()> {
    let path = f.core(&format!("resourcequotas/{NAME}"));
    let status = format!("{path}/status");
    create(&f, NAME, &[("cpu", "500m"), ("memory", "500Mi")], &[]).await;
    let first = json!({"cpu": "500m", "memory": "500Mi"});
    f.until_it(&path, "to have its status", SOON, |q| q["status"]["hard"] == first).await;

    // The status takes what it is given; then the controller brings it back to the spec.
    let raised = json!({"cpu": "1", "memory": "1Gi"});
    let written = update(&f, &status, |q| {
        q["status"]["hard"] = raised.clone();
        q["spec"]["hard"] = json!({"cpu": "7", "memory": "7Gi"});
    })
    .await;
    assert_eq!((&written["status"]["hard"], &written["spec"]["hard"]), (&raised, &first), "status writes change no spec");
    f.until_it(&status, "to have the spec's values again", SOON, |q| q["status"]["hard"] == first).await;

    let raised = json!({"cpu": "2", "memory": "2Gi"});
    let patched = f.wire.patch("strategic", &path, &json!({"spec": {"hard": raised}})).await.expect(200);
    assert_eq!(patched["spec"]["hard"], raised);
    f.until_it(&status, "to have the new values", SOON, |q| q["status"]["hard"] == raised).await;

    let other = json!({"cpu": "1", "memory": "1Gi"});
    for patch in [
        json!({"metadata": {"annotations": {"quota": "patched"}}, "status": {"hard": other}}),
        json!({"status": {"hard": other}, "spec": {"hard": other}}),
    ] {
        let written = f.wire.patch("merge", &status, &patch).await.expect(200);
        assert_eq!((&written["status"]["hard"], &written["spec"]["hard"]), (&other, &raised), "status patches change no spec");
        let back = f.until_it(&status, "to have the spec's values again", SOON, |q| q["status"]["hard"] == raised).await;
        assert_eq!(back["spec"]["hard"], raised);
    }
    Ok(())
}
