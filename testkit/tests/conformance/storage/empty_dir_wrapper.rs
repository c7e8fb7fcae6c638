//! Volumes that are made of objects, many in one pod.

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] EmptyDir wrapper volumes should not conflict", test!(no_conflict)),
    Behaviour::new(
        "[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial]",
        test!(no_race),
    ),
];

async fn no_conflict(f: Framework) -> anyhow::Result<()> {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "emptydir-wrapper"}, "stringData": {"data-1": "secret"}});
    f.wire.post(&f.core("secrets"), &secret).await.expect(201);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "emptydir-wrapper"}, "data": {"data-1": "map"}});
    f.wire.post(&f.core("configmaps"), &map).await.expect(201);
    let mut pod = Framework::script("pod", "cat /etc/secret-volume/data-1 /etc/configmap-volume/data-1");
    pod["spec"]["volumes"] =
        json!([{"name": "s", "secret": {"secretName": "emptydir-wrapper"}}, {"name": "c", "configMap": {"name": "emptydir-wrapper"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "s", "mountPath": "/etc/secret-volume", "readOnly": true}, {"name": "c", "mountPath": "/etc/configmap-volume"},
    ]);
    assert_eq!(f.output_of(&pod).await, "secretmap");
    Ok(())
}

/// Upstream's numbers: fifty maps, each a volume of each of five pods of one node.
async fn no_race(f: Framework) -> anyhow::Result<()> {
    const MAPS: usize = 50;
    const PODS: usize = 5;
    let create = futures::stream::iter(0..MAPS).map(|number| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("racey-configmap-{number}")}, "data": {"data-1": "value-1"},
        });
        let f = f.clone();
        async move { f.wire.post(&f.core("configmaps"), &map).await.expect(201) }
    });
    create.buffer_unordered(8).collect::<Vec<_>>().await;
    let name = |number: usize| format!("racey-configmap-{number}");
    let volumes: Vec<Value> = (0..MAPS)
        .map(|n| json!({"name": name(n), "configMap": {"name": name(n), "items": [{"key": "data-1", "path": "data-1"}]}}))
        .collect();
    let mounts: Vec<Value> = (0..MAPS).map(|n| json!({"name": name(n), "mountPath": format!("/etc/config-{n}")})).collect();
    let node = f.list("/api/v1/nodes").await.swap_remove(0);
    let mut rc = Framework::replication_controller("wrapped-volume-race", PODS, &json!({"name": "wrapped-volume-race"}));
    let spec = &mut rc["spec"]["template"]["spec"];
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": node["metadata"]["labels"]["kubernetes.io/hostname"]});
    spec["volumes"] = json!(volumes);
    spec["containers"] = json!([{
        "name": "test-container", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"], "volumeMounts": mounts,
    }]);
    f.wire.post(&f.core("replicationcontrollers"), &rc).await.expect(201);
    for pod in f.until_pods("name=wrapped-volume-race", PODS).await {
        f.until_ready(pod["metadata"]["name"].as_str().expect("a name")).await;
    }
    let failed = f.list(&f.core("events?fieldSelector=reason%3DFailedMount")).await;
    assert_eq!(failed, Vec::<Value>::new());
    Ok(())
}
