//! StatefulSets: what becomes of their claims, where they begin to count, when a pod counts as available, how many may be away.

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-apps] StatefulSet Non-retain StatefulSetPersistentVolumeClaimPolicy should delete PVCs after a scaledown and with the set",
        test!(claims),
    ),
    Behaviour::new(
        "newer: [sig-apps] StatefulSet Scaling StatefulSetStartOrdinal: setting, increasing, decreasing and removing .start.ordinal",
        test!(ordinals),
    ),
    Behaviour::new("newer: [sig-apps] StatefulSet MinReadySeconds should be honored when enabled", test!(min_ready)),
    Behaviour::new("newer: [sig-apps] StatefulSet MaxUnavailable should be honored in a rolling update", test!(max_unavailable)),
];

fn set(name: &str, replicas: usize, more: Value) -> Value {
    let labels = json!({"app": name});
    let container = json!({"name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "100000"]});
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "serviceName": name, "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}},
        },
    });
    crate::common::put(&mut set["spec"], more);
    set
}

async fn create(f: &Framework, set: &Value) -> String {
    let made = f.wire.post(&f.group("apps/v1", "statefulsets"), set).await.expect(201);
    f.group("apps/v1", &format!("statefulsets/{}", made["metadata"]["name"].as_str().expect("a name")))
}

async fn until_ready(f: &Framework, path: &str, replicas: usize) -> Value {
    f.until_it(path, &format!("to have {replicas} ready"), POD, |set| {
        set["status"]["readyReplicas"].as_u64().unwrap_or(0) == replicas as u64 && set["status"]["replicas"] == replicas
    })
    .await
}

async fn names(f: &Framework, resource: &str) -> Vec<String> {
    let mut names: Vec<String> =
        f.list(&f.core(resource)).await.iter().map(|o| o["metadata"]["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

async fn until_names(f: &Framework, resource: &str, wanted: &[&str]) {
    f.until(&format!("{resource} to be {wanted:?}"), POD, || async { (names(f, resource).await == wanted).then_some(()) }).await;
}

async fn claims(f: Framework) -> anyhow::Result<()> {
    let class = format!("class-{}", f.namespace);
    for i in 0..3 {
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{class}-{i}")},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"}, "storageClassName": class,
                "hostPath": {"path": format!("/tmp/{class}-{i}"), "type": "DirectoryOrCreate"}},
        });
        f.wire.post("/api/v1/persistentvolumes", &volume).await.expect(201);
        f.remove_later(&format!("/api/v1/persistentvolumes/{class}-{i}"));
    }
    let template = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "storageClassName": class}}]);
    let path = create(
        &f,
        &set(
            "ss",
            3,
            json!({
                "volumeClaimTemplates": template, "podManagementPolicy": "Parallel",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            }),
        ),
    )
    .await;
    until_ready(&f, &path, 3).await;
    until_names(&f, "persistentvolumeclaims", &["data-ss-0", "data-ss-1", "data-ss-2"]).await;
    f.wire.patch("merge", &path, &json!({"spec": {"replicas": 2}})).await.expect(200);
    until_names(&f, "persistentvolumeclaims", &["data-ss-0", "data-ss-1"]).await;
    // Another policy: what is scaled away from now on stays.
    f.wire.patch("merge", &path, &json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}}})).await.expect(200);
    f.until_it(&path, "to be seen", SOON, |s| s["status"]["observedGeneration"] == s["metadata"]["generation"]).await;
    f.wire.patch("merge", &path, &json!({"spec": {"replicas": 1}})).await.expect(200);
    until_ready(&f, &path, 1).await;
    f.until_gone(&f.core("pods/ss-1"), POD).await;
    assert_eq!(names(&f, "persistentvolumeclaims").await, ["data-ss-0", "data-ss-1"]);
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&f.core("persistentvolumeclaims/data-ss-0"), POD).await;
    until_names(&f, "persistentvolumeclaims", &[]).await;
    Ok(())
}

async fn ordinals(f: Framework) -> anyhow::Result<()> {
    let path = create(&f, &set("ss", 2, json!({}))).await;
    until_ready(&f, &path, 2).await;
    assert_eq!(names(&f, "pods").await, ["ss-0", "ss-1"]);
    for (start, wanted) in [(json!(2), ["ss-2", "ss-3"]), (json!(3), ["ss-3", "ss-4"]), (json!(2), ["ss-2", "ss-3"])] {
        f.wire.patch("merge", &path, &json!({"spec": {"ordinals": {"start": start}}})).await.expect(200);
        until_names(&f, "pods", &wanted).await;
        until_ready(&f, &path, 2).await;
        let pod = f.wire.get(&f.core(&format!("pods/{}", wanted[0]))).await.expect(200);
        assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], wanted[0].trim_start_matches("ss-"));
    }
    f.wire.patch("merge", &path, &json!({"spec": {"ordinals": null}})).await.expect(200);
    until_names(&f, "pods", &["ss-0", "ss-1"]).await;
    until_ready(&f, &path, 2).await;
    Ok(())
}

async fn min_ready(f: Framework) -> anyhow::Result<()> {
    let path = create(&f, &set("ss", 2, json!({"minReadySeconds": 10, "podManagementPolicy": "Parallel"}))).await;
    let ready = until_ready(&f, &path, 2).await;
    assert_eq!(ready["status"]["availableReplicas"], 0, "ready, but not for long enough");
    f.until_it(&path, "to be available", POD, |s| s["status"]["availableReplicas"] == 2).await;
    f.wire.patch("merge", &path, &json!({"spec": {"minReadySeconds": 3600}})).await.expect(200);
    f.until_it(&path, "to be available no more", SOON, |s| s["status"]["availableReplicas"] == 0).await;
    Ok(())
}

async fn max_unavailable(f: Framework) -> anyhow::Result<()> {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}});
    let path = create(&f, &set("ss", 4, json!({"updateStrategy": strategy, "podManagementPolicy": "Parallel"}))).await;
    until_ready(&f, &path, 4).await;
    // An update to what never becomes ready stops when two are away, from the highest down.
    let container = json!({"name": "c", "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}});
    f.wire.patch("strategic", &path, &json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await.expect(200);
    let set = f
        .until_it(&path, "to have two of the new", POD, |s| {
            s["status"]["updatedReplicas"] == 2 && s["status"]["readyReplicas"] == 2 && s["status"]["replicas"] == 4
        })
        .await;
    let hash = set["status"]["updateRevision"].as_str().expect("a revision");
    let mut new: Vec<String> = f
        .list(&f.core(&format!("pods?labelSelector=controller-revision-hash%3D{hash}")))
        .await
        .iter()
        .map(|p| p["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect();
    new.sort();
    assert_eq!(new, ["ss-2", "ss-3"]);
    let container = json!({"name": "c", "readinessProbe": null});
    f.wire.patch("strategic", &path, &json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await.expect(200);
    f.until_it(&path, "to be through", POD, |s| {
        s["status"]["updatedReplicas"] == 4
            && s["status"]["readyReplicas"] == 4
            && s["status"]["currentRevision"] == s["status"]["updateRevision"]
    })
    .await;
    Ok(())
}
