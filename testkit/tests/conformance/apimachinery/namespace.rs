//! Namespaces: what they take with them when they go, and changes to their parts.

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted",
        test!(pods),
    ),
    Behaviour::new(
        "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted",
        test!(services),
    ),
    Behaviour::new("[sig-api-machinery] Namespaces [Serial] should patch a Namespace", test!(patched)),
    Behaviour::new("[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status", test!(status)),
    Behaviour::new("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace", test!(updated)),
    Behaviour::new("[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace", test!(finalizer)),
];

/// Deletes a namespace, waits until it is gone, makes another of the same name, and sees that the collection in it is empty.
async fn comes_back_empty(f: &Framework, namespace: &str, resource: &str) {
    let path = format!("/api/v1/namespaces/{namespace}");
    let deleted = f.wire.delete(&path).await.expect(200);
    assert_eq!(deleted["status"]["phase"], "Terminating", "{deleted}");
    f.until_gone(&path, POD).await;
    let again = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    f.wire.post("/api/v1/namespaces", &again).await.expect(201);
    assert_eq!(f.list(&format!("{path}/{resource}")).await, Vec::<Value>::new());
}

async fn pods(f: Framework) -> anyhow::Result<()> {
    let namespace = f.new_namespace("nsdeletetest").await?;
    let own = f.in_namespace(&namespace);
    // It does not go by itself, nor at once when it is asked to.
    let mut pod = Framework::script("test-pod", "trap 'sleep 1; exit 0' TERM; while :; do sleep 1; done");
    pod["spec"]["containers"][0]["image"] = json!(BUSYBOX);
    own.create_pod(&pod).await;
    own.until_ready("test-pod").await;
    comes_back_empty(&f, &namespace, "pods").await;
    Ok(())
}

async fn services(f: Framework) -> anyhow::Result<()> {
    let namespace = f.new_namespace("nsdeletetest").await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "test-service"},
        "spec": {"selector": {"foo": "bar", "baz": "blah"}, "ports": [{"port": 80, "targetPort": 80}]},
    });
    f.wire.post(&format!("/api/v1/namespaces/{namespace}/services"), &service).await.expect(201);
    comes_back_empty(&f, &namespace, "services").await;
    Ok(())
}

async fn patched(f: Framework) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{}", f.new_namespace("nspatchtest").await?);
    f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"testLabel": "testValue"}}})).await.expect(200);
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!(read["metadata"]["labels"]["testLabel"], "testValue");
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{}/status", f.namespace);
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!(read["status"]["phase"], "Active");
    let has = |object: &Value, condition: &Value| {
        object["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| ["type", "status", "reason", "message"].iter().all(|f| c[f] == condition[f])))
    };

    let condition = json!({"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"});
    let patch = json!({"metadata": {"annotations": {"e2e": "patched"}}, "status": {"conditions": [condition]}});
    let patched = f.wire.patch("strategic", &path, &patch).await.expect(200);
    assert!(has(&patched, &condition) && patched["metadata"]["annotations"]["e2e"] == "patched", "{patched}");
    assert_eq!(patched["status"]["phase"], "Active");

    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Updated by an e2e test"});
    let updated = f
        .until("a status update without a conflict", SOON, || async {
            let mut read = f.wire.get(&path).await.expect(200);
            read["status"]["conditions"].as_array_mut().expect("conditions").push(condition.clone());
            let answer = f.wire.put(&path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await;
    assert!(has(&updated, &condition), "{updated}");
    assert!(has(&f.wire.get(&path).await.expect(200), &condition));
    Ok(())
}

async fn updated(f: Framework) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{}", f.namespace);
    let updated = f
        .until("an update without a conflict", SOON, || async {
            let mut read = f.wire.get(&path).await.expect(200);
            read["metadata"]["labels"][&f.namespace] = json!("updated");
            let answer = f.wire.put(&path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await;
    assert_eq!(updated["metadata"]["labels"][&f.namespace], "updated");
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["labels"][&f.namespace], "updated");
    Ok(())
}

async fn finalizer(f: Framework) -> anyhow::Result<()> {
    const FAKE: &str = "e2e.example.com/fakeFinalizer";
    let path = format!("/api/v1/namespaces/{}", f.new_namespace("e2e-ns").await?);
    let finalize = |change: fn(&mut Vec<Value>)| {
        let (f, path) = (f.clone(), path.clone());
        async move {
            f.until("a new list of finalizers", SOON, || async {
                let mut read = f.wire.get(&path).await.expect(200);
                change(read["spec"]["finalizers"].as_array_mut().expect("finalizers"));
                let answer = f.wire.put(&format!("{path}/finalize"), &read).await;
                (answer.code != 409).then(|| answer.expect(200))
            })
            .await
        }
    };
    let added = finalize(|all| all.push(json!(FAKE))).await;
    assert_eq!(added["spec"]["finalizers"], json!(["kubernetes", FAKE]));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["finalizers"], json!(["kubernetes", FAKE]));
    let removed = finalize(|all| all.retain(|f| f != FAKE)).await;
    assert_eq!(removed["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["finalizers"], json!(["kubernetes"]));
    Ok(())
}
