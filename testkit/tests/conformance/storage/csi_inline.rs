//! Drivers of volumes, and pods that name one, as objects.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, PAUSE, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver", test!(lifecycle)),
    Behaviour::new("[sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API", test!(in_pods)),
];

const DRIVERS: &str = "/apis/storage.k8s.io/v1/csidrivers";

async fn driver(f: &Framework, label: &str) -> String {
    let name = f.unique("inline-driver");
    let object = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name, "labels": {"e2e-test": label}},
        "spec": {"volumeLifecycleModes": ["Ephemeral"], "attachRequired": false},
    });
    f.wire.post(DRIVERS, &object).await.expect(201);
    f.remove_later(&format!("{DRIVERS}/{name}"));
    name
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("csidriver");
    let (first, second) = (driver(&f, &label).await, driver(&f, &label).await);
    let path = |name: &str| format!("{DRIVERS}/{name}");
    let selected = format!("{DRIVERS}?labelSelector=e2e-test%3D{label}");
    let patched = f.wire.patch("strategic", &path(&first), &json!({"metadata": {"labels": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["patched"], "true");
    let updated = f.update(&path(&second), |driver| driver["metadata"]["labels"]["updated"] = json!("true")).await;
    assert_eq!(updated["metadata"]["labels"]["updated"], "true");
    assert_eq!(f.list(&selected).await.len(), 2);
    f.wire.delete(&path(&first)).await.expect(200);
    f.until_gone(&path(&first), SOON).await;
    f.delete_collection(&selected).await;
    f.until_gone(&path(&second), SOON).await;
    Ok(())
}

async fn in_pods(f: Framework) -> anyhow::Result<()> {
    let driver = driver(&f, "inline").await;
    let volume =
        json!({"name": "csi-volume", "csi": {"driver": driver, "readOnly": true, "volumeAttributes": {"secretProviderClass": "e2e"}}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-csi-inline", "labels": {"e2e": "csi"}},
        "spec": {
            "terminationGracePeriodSeconds": 0, "volumes": [volume],
            "containers": [{
                "name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent",
                "volumeMounts": [{"name": "csi-volume", "mountPath": "/mnt/csi"}],
            }],
        },
    });
    f.create_pod(&pod).await;
    let path = f.core("pods/pod-csi-inline");
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["volumes"][0], volume);
    let listed: Vec<Value> = f.list(&f.core("pods?labelSelector=e2e%3Dcsi")).await;
    assert_eq!((listed.len(), &listed[0]["spec"]["volumes"][0]["csi"]["driver"]), (1, &json!(driver)));
    let patched = f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["patched"], "true");
    // No node has such a driver; the pod goes all the same.
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, POD).await;
    Ok(())
}
