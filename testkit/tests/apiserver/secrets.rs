//! Secrets are not readable in etcd, and reads do not notice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::ApiServer;

const SECRETS: &str = "/api/v1/namespaces/t/secrets";

fn configuration(dir: &std::path::Path, keys: &[(&str, u8)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, byte)| json!({"name": name, "secret": STANDARD.encode([*byte; 32])})).collect();
    let file = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": keys}}, {"identity": {}}]}],
    });
    let path = dir.join("encryption.yaml");
    std::fs::write(&path, file.to_string()).expect("a folder that can be written");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_holds_no_plaintext() {
    let dir = tempfile::tempdir().expect("a folder");
    let flag = format!("--encryption-provider-config={}", configuration(dir.path(), &[("one", 1)]));
    let mut server = ApiServer::start_with(&[&flag]).await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    let object = json!({"metadata": {"name": "a"}, "stringData": {"password": "correct horse"}});
    let made = wire.post(SECRETS, &object).await.expect(201);
    wire.post("/api/v1/namespaces/t/configmaps", &json!({"metadata": {"name": "a"}, "data": {"open": "battery staple"}})).await.ok();
    assert_eq!(made["data"]["password"], STANDARD.encode("correct horse"));

    let stored = server.etcd.ctl(&["get", "--print-value-only", "/registry/secrets/t/a"]).expect("etcdctl");
    assert!(stored.starts_with(b"k8s:enc:aesgcm:v1:one:"), "{}", String::from_utf8_lossy(&stored));
    let everything = server.etcd.ctl(&["get", "--prefix", "/registry/"]).expect("etcdctl");
    let holds = |what: &str| everything.windows(what.len()).any(|w| w == what.as_bytes());
    assert!(holds("battery staple"), "what is not to be encrypted is not");
    assert!(!holds("correct horse") && !holds(&STANDARD.encode("correct horse")));

    // With a new key in front the old one still reads, and the next write uses the new one.
    configuration(dir.path(), &[("two", 2), ("one", 1)]);
    server.restart().await.expect("a restart");
    assert_eq!(wire.get(&format!("{SECRETS}/a")).await.ok()["data"], made["data"]);
    assert_eq!(wire.get(SECRETS).await.ok()["items"][0]["data"], made["data"]);
    wire.patch("merge", &format!("{SECRETS}/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await.ok();
    let stored = server.etcd.ctl(&["get", "--print-value-only", "/registry/secrets/t/a"]).expect("etcdctl");
    assert!(stored.starts_with(b"k8s:enc:aesgcm:v1:two:"), "{}", String::from_utf8_lossy(&stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_encrypt_does_not_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("encryption.yaml");
    std::fs::write(&path, "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [secrets], providers: [{secretbox: {keys: []}}]}]\n")
        .expect("a file");
    let flags = ["--encryption-provider-config".to_owned(), path.display().to_string()];
    let error = ApiServer::start_with(&[&flags[0], &flags[1]]).await.expect_err("no server").root_cause().to_string();
    assert!(error.contains("not supported"), "{error}");
}
