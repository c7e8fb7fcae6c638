//! Volumes, claims, classes and attachments as objects.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, POD, Resource, SOON, has_condition, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode", test!(csi_nodes)),
    Behaviour::new(
        "newer: [sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass",
        test!(classes),
    ),
    Behaviour::new(
        "newer: [sig-storage] VolumeAttributesClass should run through the lifecycle of a VolumeAttributesClass",
        test!(attributes),
    ),
    Behaviour::new(
        "newer: [sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment",
        test!(attachments),
    ),
    Behaviour::new("newer: [sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status", test!(attached)),
    Behaviour::new(
        "newer: [sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC",
        test!(volume_and_claim),
    ),
    Behaviour::new("newer: [sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status", test!(statuses)),
];

const GROUP: &str = "storage.k8s.io/v1";
const VOLUMES: &str = "/api/v1/persistentvolumes";

async fn cluster_wide(f: &Framework, name: &str, object: Value) {
    f.operations(&Resource { group_version: GROUP, name, namespaced: false, object, status: None }).await;
}

async fn csi_nodes(f: Framework) -> anyhow::Result<()> {
    let drivers = json!([{"name": "e2e-driver.example.com", "nodeID": "e2e-node", "topologyKeys": ["example.com/zone"]}]);
    cluster_wide(&f, "csinodes", json!({"apiVersion": GROUP, "kind": "CSINode", "spec": {"drivers": drivers}})).await;
    Ok(())
}

async fn classes(f: Framework) -> anyhow::Result<()> {
    let class = json!({"apiVersion": GROUP, "kind": "StorageClass", "provisioner": "e2e-fake-provisioner", "reclaimPolicy": "Delete"});
    cluster_wide(&f, "storageclasses", class).await;
    Ok(())
}

async fn attributes(f: Framework) -> anyhow::Result<()> {
    let class =
        json!({"apiVersion": GROUP, "kind": "VolumeAttributesClass", "driverName": "e2e-fake-csi-driver", "parameters": {"foo": "bar"}});
    cluster_wide(&f, "volumeattributesclasses", class).await;
    Ok(())
}

fn attachment(volume: &str) -> Value {
    json!({
        "apiVersion": GROUP, "kind": "VolumeAttachment",
        "spec": {"attacher": "e2e-test.example.com", "nodeName": "e2e-node", "source": {"persistentVolumeName": volume}},
    })
}

async fn attachments(f: Framework) -> anyhow::Result<()> {
    cluster_wide(&f, "volumeattachments", attachment("e2e-pv")).await;
    Ok(())
}

async fn attached(f: Framework) -> anyhow::Result<()> {
    let mut object = attachment("e2e-pv");
    object["metadata"]["name"] = json!(f.unique("va-e2e"));
    f.wire.post("/apis/storage.k8s.io/v1/volumeattachments", &object).await.expect(201);
    let path = format!("/apis/storage.k8s.io/v1/volumeattachments/{}", object["metadata"]["name"].as_str().expect("a name"));
    f.remove_later(&path);
    let status = format!("{path}/status");
    let read = f.wire.get(&status).await.expect(200);
    assert_eq!(read["status"]["attached"], false);
    let patch =
        json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"attached": true, "attachmentMetadata": {"k": "v"}}});
    let patched = f.wire.patch("merge", &status, &patch).await.expect(200);
    assert_eq!((&patched["status"]["attached"], &patched["metadata"]["annotations"]["patchedstatus"]), (&json!(true), &json!("true")));
    let updated = f.update(&status, |va| va["status"]["attached"] = json!(false)).await;
    assert_eq!((&updated["status"]["attached"], &updated["status"]["attachmentMetadata"]), (&json!(false), &json!({"k": "v"})));
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"], read["spec"], "the status alone was written");
    Ok(())
}

/// A volume and a claim that find each other, and nobody else.
fn pair(f: &Framework, word: &str) -> (Value, Value) {
    let class = format!("{word}-{}", f.namespace);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": class, "labels": {"e2e-pv": f.namespace}},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "e2e-driver.example.com", "volumeHandle": class},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": format!("{word}-claim"), "labels": {"e2e-pvc": f.namespace}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class},
    });
    (volume, claim)
}

async fn made(f: &Framework, word: &str) -> (String, String) {
    let (volume, claim) = pair(f, word);
    f.wire.post(VOLUMES, &volume).await.expect(201);
    f.wire.post(&f.core("persistentvolumeclaims"), &claim).await.expect(201);
    let volume = format!("{VOLUMES}/{}", volume["metadata"]["name"].as_str().expect("a name"));
    f.remove_later(&volume);
    let claim = f.core(&format!("persistentvolumeclaims/{}", claim["metadata"]["name"].as_str().expect("a name")));
    for path in [&volume, &claim] {
        f.until_it(path, "to be bound", SOON, |o| o["status"]["phase"] == "Bound").await;
    }
    (volume, claim)
}

async fn volume_and_claim(f: Framework) -> anyhow::Result<()> {
    let (volume, claim) = made(&f, "first").await;
    let of_volumes = format!("{VOLUMES}?labelSelector=e2e-pv%3D{}", f.namespace);
    let of_claims = f.core(&format!("persistentvolumeclaims?labelSelector=e2e-pvc%3D{}", f.namespace));
    assert_eq!((f.list(&of_volumes).await.len(), f.list(&of_claims).await.len()), (1, 1));
    let everywhere = format!("/api/v1/persistentvolumeclaims?labelSelector=e2e-pvc%3D{}", f.namespace);
    assert_eq!(f.list(&everywhere).await.len(), 1);
    for path in [&volume, &claim] {
        let patched = f.wire.patch("strategic", path, &json!({"metadata": {"labels": {"patched": "true"}}})).await.expect(200);
        assert_eq!(patched["metadata"]["labels"]["patched"], "true");
        let read = f.wire.get(path).await.expect(200);
        assert_eq!(read["metadata"]["uid"], patched["metadata"]["uid"]);
        assert!(read["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()), "it is protected: {read}");
    }
    f.wire.delete(&claim).await.expect(200);
    f.until_gone(&claim, POD).await;
    let released = f.until_it(&volume, "to be released", SOON, |o| o["status"]["phase"] == "Released").await;
    assert_eq!(released["spec"]["claimRef"]["name"], "first-claim");
    f.wire.delete(&volume).await.expect(200);
    f.until_gone(&volume, POD).await;

    let (volume, claim) = made(&f, "second").await;
    for path in [&volume, &claim] {
        let updated = f.update(path, |o| o["metadata"]["labels"]["updated"] = json!("true")).await;
        assert_eq!(updated["metadata"]["labels"]["updated"], "true");
    }
    f.wire.delete(&format!("{of_claims}%2Cupdated%3Dtrue")).await.expect(200);
    f.until_gone(&claim, POD).await;
    f.wire.delete(&format!("{of_volumes}%2Cupdated%3Dtrue")).await.expect(200);
    f.until_gone(&volume, POD).await;
    Ok(())
}

async fn statuses(f: Framework) -> anyhow::Result<()> {
    let (volume, claim) = made(&f, "status").await;
    f.status_conditions(&claim).await;
    let claim = f.wire.get(&claim).await.expect(200);
    assert!(has_condition(&claim, "StatusPatched") && claim["status"]["phase"] == "Bound", "{claim}");

    let status = format!("{volume}/status");
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"message": "StatusPatched", "reason": "E2E patchStatus"}});
    let patched = f.wire.patch("merge", &status, &patch).await.expect(200);
    assert_eq!((&patched["status"]["message"], &patched["status"]["reason"]), (&json!("StatusPatched"), &json!("E2E patchStatus")));
    let updated = f
        .update(&status, |volume| {
            volume["status"]["message"] = json!("StatusUpdated");
            volume["status"]["reason"] = json!("E2E updateStatus");
        })
        .await;
    assert_eq!((&updated["status"]["message"], &updated["status"]["phase"]), (&json!("StatusUpdated"), &json!("Bound")));
    assert_eq!(f.wire.get(&status).await.expect(200)["status"]["reason"], "E2E updateStatus");
    Ok(())
}
