//! Parts of volumes that are written as a whole.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod", test!(secret)),
    Behaviour::new("[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod", test!(config_map)),
    Behaviour::new(
        "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file",
        test!(existing_file),
    ),
    Behaviour::new("[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod", test!(downward)),
    Behaviour::new("[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod", test!(projected)),
];

const NAME: &str = "my-source";

/// A pod that mounts `sub_path` of a volume at `at` reads `text` in the file `file`, again and again, while the container runs.
async fn reads(f: &Framework, volume: Value, sub_path: &str, at: &str, file: &str, text: &str) -> anyhow::Result<()> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {"configmap-key": "configmap-value"}});
    f.wire.post(&f.core("configmaps"), &map).await.expect(201);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "stringData": {"secret-key": "secret-value"}});
    f.wire.post(&f.core("secrets"), &secret).await.expect(201);
    let script = format!("i=0; while [ $i -lt 20 ]; do cat {file} || exit 1; echo; i=$((i+1)); usleep 20000; done");
    let mut pod = Framework::script("pod-subpath-test", &script);
    pod["metadata"]["annotations"] = json!({"e2e": "x"});
    let mut volume = volume;
    volume["name"] = json!("test-volume");
    pod["spec"]["volumes"] = json!([volume]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "test-volume", "mountPath": at, "subPath": sub_path}]);
    let said = f.output_of(&pod).await;
    assert_eq!(said.lines().collect::<Vec<_>>(), [text; 20]);
    Ok(())
}

const FILE: &str = "/test-volume/file";

async fn secret(f: Framework) -> anyhow::Result<()> {
    reads(&f, json!({"secret": {"secretName": NAME}}), "secret-key", FILE, FILE, "secret-value").await
}

async fn config_map(f: Framework) -> anyhow::Result<()> {
    reads(&f, json!({"configMap": {"name": NAME}}), "configmap-key", FILE, FILE, "configmap-value").await
}

async fn existing_file(f: Framework) -> anyhow::Result<()> {
    let file = "/etc/resolv.conf";
    reads(&f, json!({"configMap": {"name": NAME}}), "configmap-key", file, file, "configmap-value").await
}

async fn downward(f: Framework) -> anyhow::Result<()> {
    let items = json!([{"path": "downward/podname", "fieldRef": {"fieldPath": "metadata.name"}}]);
    let read = "/test-volume/podname";
    reads(&f, json!({"downwardAPI": {"items": items}}), "downward", "/test-volume", read, "pod-subpath-test").await
}

async fn projected(f: Framework) -> anyhow::Result<()> {
    let items = json!([{"key": "configmap-key", "path": "projected/configmap-key"}]);
    let sources = json!([{"configMap": {"name": NAME, "items": items}}, {"secret": {"name": NAME}}]);
    let read = "/test-volume/configmap-key";
    reads(&f, json!({"projected": {"sources": sources}}), "projected", "/test-volume", read, "configmap-value").await
}
