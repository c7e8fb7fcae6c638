//! Whole pods, with real directories and (as root) real mounts; the API's objects come from a table.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use async_trait::async_trait;
use expect_test::{Expect, expect};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ServiceAccount};
use serde_json::json;

use super::*;

/// The cluster's objects by `kind/name`.
struct Table(parking_lot::Mutex<BTreeMap<String, serde_json::Value>>);

impl Table {
    fn get<T: serde::de::DeserializeOwned>(&self, kind: &'static str, name: &str) -> Result<T, Error> {
        let found = self.0.lock().get(&format!("{kind}/{name}")).cloned();
        found.map(|v| serde_json::from_value(v).unwrap()).ok_or_else(|| Error::NotFound { kind, name: name.to_owned() })
    }
}

#[async_trait]
impl Objects for Table {
    async fn config_map(&self, _: &str, name: &str) -> Result<ConfigMap, Error> {
        self.get("configmap", name)
    }
    async fn secret(&self, _: &str, name: &str) -> Result<Secret, Error> {
        self.get("secret", name)
    }
    async fn service_account(&self, _: &str, name: &str) -> Result<ServiceAccount, Error> {
        self.get("serviceaccount", name)
    }
    async fn token(&self, _: &str, account: &str, request: TokenRequest) -> Result<TokenRequestStatus, Error> {
        let bound = request.spec.bound_object_ref.unwrap();
        let token = format!("{account} {:?} {} {}", request.spec.audiences, bound.name.unwrap(), bound.uid.unwrap());
        Ok(serde_json::from_value(json!({"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"})).unwrap())
    }
    async fn claim(&self, _: &str, name: &str) -> Result<PersistentVolumeClaim, Error> {
        self.get("persistentvolumeclaim", name)
    }
    async fn volume(&self, name: &str) -> Result<PersistentVolume, Error> {
        self.get("persistentvolume", name)
    }
}

fn host(root: &Path, objects: serde_json::Value) -> (VolumeHost, Arc<Table>) {
    let table = Arc::new(Table(parking_lot::Mutex::new(serde_json::from_value(objects).unwrap())));
    let host =
        VolumeHost { root_dir: root.to_owned(), objects: table.clone(), node_name: "n1".into(), node: crate::env::NodeFacts::default() };
    (host, table)
}

fn pod(volumes: serde_json::Value, security: serde_json::Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "x"}});
    let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "250m"}}}]);
    let spec = json!({"containers": containers, "volumes": volumes, "securityContext": security, "serviceAccountName": "robot"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

/// Each volume's visible files: mode, group and content.
fn listing(mounts: &Mounts) -> String {
    let mut out = String::new();
    for (name, volume) in &mounts.volumes {
        let place = volume.path.strip_prefix(&mounts.pod_dir).unwrap_or(&volume.path);
        let place = if place.is_absolute() { "elsewhere".into() } else { place.display().to_string() };
        out.push_str(&format!("{name}: {place}{}\n", if volume.read_only { " ro" } else { "" }));
        let mut pending = vec![volume.path.clone()];
        let mut lines = vec![];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().starts_with("..") {
                    continue;
                }
                let meta = std::fs::metadata(&path).unwrap();
                if meta.is_dir() {
                    pending.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                lines.push(format!(
                    "  {} {:o} {} {text}\n",
                    path.strip_prefix(&volume.path).unwrap().display(),
                    meta.mode() & 0o7777,
                    meta.gid()
                ));
            }
        }
        lines.sort();
        out.extend(lines);
    }
    out
}

async fn check(volumes: serde_json::Value, security: serde_json::Value, objects: serde_json::Value, expected: Expect) {
    if !rustix::process::geteuid().is_root() {
        return; // only root may mount
    }
    let root = tempfile::tempdir().unwrap();
    let (host, _) = host(root.path(), objects);
    let pod = pod(volumes, security);
    let text = match mount(&host, &pod).await {
        Ok(mounts) => listing(&mounts),
        Err(error) => format!("{error}\n"),
    };
    unmount(&host, "u-1").await.unwrap();
    assert!(!root.path().join("pods/u-1/volumes").exists());
    expected.assert_eq(&text);
}

#[tokio::test]
async fn objects_become_files() {
    check(
        json!([
            {"name": "all", "configMap": {"name": "m", "defaultMode": 0o444}},
            {"name": "some", "configMap": {"name": "m", "items": [{"key": "b", "path": "deep/er/b", "mode": 0o400}]}},
            {"name": "pw", "secret": {"secretName": "s"}},
            {"name": "none", "secret": {"secretName": "missing", "optional": true}},
        ]),
        json!({}),
        json!({"configmap/m": {"data": {"a": "1"}, "binaryData": {"b": "Mg=="}}, "secret/s": {"data": {"pw": "eA=="}}}),
        expect![[r#"
            all: volumes/kubernetes.io~configmap/all ro
              a 444 0 1
              b 444 0 2
            none: volumes/kubernetes.io~secret/none ro
            pw: volumes/kubernetes.io~secret/pw ro
              pw 644 0 x
            some: volumes/kubernetes.io~configmap/some ro
              deep/er/b 400 0 2
        "#]],
    )
    .await;
}

#[tokio::test]
async fn everything_projects_into_one_directory_of_the_pods_group() {
    check(
        json!([{"name": "api", "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"path": "token", "audience": "vault"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "mode": 0o400, "resourceFieldRef": {"containerName": "c", "resource": "requests.cpu", "divisor": "1m"}}]}},
            {"secret": {"name": "s"}},
        ]}}]),
        json!({"fsGroup": 2000}),
        json!({"configmap/kube-root-ca.crt": {"data": {"ca.crt": "CA"}}, "secret/s": {"data": {"pw": "eA=="}}}),
        expect![[r#"
            api: volumes/kubernetes.io~projected/api ro
              ca.crt 644 2000 CA
              cpu 440 2000 250
              labels 644 2000 app="x"
              pw 644 2000 x
              token 640 2000 robot ["vault"] p u-1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_missing_is_named_as_upstream_does() {
    let objects = || json!({"configmap/m": {"data": {"a": "1"}}, "secret/s": {}});
    check(
        json!([{"name": "x", "configMap": {"name": "y"}}]),
        json!({}),
        objects(),
        expect![[r#"
        MountVolume.SetUp failed for volume "x" : configmap "y" not found
    "#]],
    )
    .await;
    check(
        json!([{"name": "x", "secret": {"secretName": "y"}}]),
        json!({}),
        objects(),
        expect![[r#"
        MountVolume.SetUp failed for volume "x" : secret "y" not found
    "#]],
    )
    .await;
    check(
        json!([{"name": "x", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}}]),
        json!({}),
        objects(),
        expect![[r#"
        MountVolume.SetUp failed for volume "x" : configmap references non-existent config key: k
    "#]],
    )
    .await;
    check(
        json!([{"name": "x", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}]),
        json!({}),
        objects(),
        expect![[r#"
        MountVolume.SetUp failed for volume "x" : references non-existent secret key: k
    "#]],
    )
    .await;
    check(
        json!([{"name": "x", "nfs": {"server": "s", "path": "/"}}]),
        json!({}),
        objects(),
        expect![[r#"
        MountVolume.SetUp failed for volume "x" : no volume plugin matched
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_claim_is_bound_into_the_pod() {
    let disk = tempfile::tempdir().unwrap();
    std::fs::write(disk.path().join("kept"), "data").unwrap();
    check(
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]),
        json!({"fsGroup": 3000}),
        json!({
            "persistentvolumeclaim/c": {"spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"}},
            "persistentvolume/pv1": {"spec": {"local": {"path": disk.path()}}},
        }),
        expect![[r#"
            d: volumes/kubernetes.io~local-volume/pv1
              kept 664 3000 data
        "#]],
    )
    .await;
    assert!(disk.path().join("kept").exists(), "the data outlives the pod");
}

#[tokio::test]
async fn updates_reach_a_mounted_volume_and_what_the_pod_wrote_stays() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may mount
    }
    let root = tempfile::tempdir().unwrap();
    let (host, table) = host(root.path(), json!({"configmap/m": {"data": {"a": "1"}}}));
    let pod = pod(
        json!([{"name": "m", "configMap": {"name": "m", "optional": true}}, {"name": "w", "emptyDir": {}}, {"name": "t", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]),
        json!({}),
    );
    let mounts = mount(&host, &pod).await.unwrap();
    for name in ["w", "t"] {
        std::fs::write(mounts.volumes[name].path.join("own"), name).unwrap();
        assert_eq!(std::fs::metadata(&mounts.volumes[name].path).unwrap().mode() & 0o7777, 0o777);
    }
    table.0.lock().insert("configmap/m".into(), json!({"data": {"a": "2", "b": "3"}}));
    let mounts = mount(&host, &pod).await.unwrap();
    assert_eq!(
        listing(&mounts),
        "m: volumes/kubernetes.io~configmap/m ro\n  a 644 0 2\n  b 644 0 3\nt: volumes/kubernetes.io~empty-dir/t\n  own 644 0 t\nw: volumes/kubernetes.io~empty-dir/w\n  own 644 0 w\n"
    );
    table.0.lock().remove("configmap/m");
    assert!(listing(&mount(&host, &pod).await.unwrap()).starts_with("m: volumes/kubernetes.io~configmap/m ro\nt:"));
    let message = root.path().join("pods/u-1/containers/c/message");
    std::fs::create_dir_all(message.parent().unwrap()).unwrap();
    std::fs::write(&message, "DONE").unwrap();
    unmount(&host, "u-1").await.unwrap();
    unmount(&host, "u-1").await.unwrap();
    assert!(!root.path().join("pods/u-1/volumes").exists());
    assert!(message.exists(), "a container's last words outlive its volumes");
    assert!(unmount(&host, "../x").await.is_err());
}
