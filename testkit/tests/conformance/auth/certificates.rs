//! Requests for certificates as objects, with their approval and status.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations", test!(operations))];

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn discovered(f: &Framework) {
    let has = |list: &Value, field: &str, value: &str| list.as_array().is_some_and(|all| all.iter().any(|e| e[field] == value));
    let groups = f.wire.get("/apis").await.expect(200);
    let group = groups["groups"].as_array().expect("a list").iter().find(|g| g["name"] == "certificates.k8s.io").expect("the group");
    assert!(has(&group["versions"], "version", "v1"), "{group}");
    let group = f.wire.get("/apis/certificates.k8s.io").await.expect(200);
    assert!(has(&group["versions"], "version", "v1"), "{group}");
    let resources = f.wire.get("/apis/certificates.k8s.io/v1").await.expect(200);
    for (name, verbs) in [
        ("certificatesigningrequests", vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]),
        ("certificatesigningrequests/approval", vec!["get", "patch", "update"]),
        ("certificatesigningrequests/status", vec!["get", "patch", "update"]),
    ] {
        let found = resources["resources"].as_array().expect("a list").iter().find(|r| r["name"] == name).expect(name);
        assert_eq!(found["verbs"], json!(verbs), "{name}");
    }
}

async fn operations(f: Framework) -> anyhow::Result<()> {
    discovered(&f).await;

    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(vec!["e2e.example.com".to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "e2e.example.com");
    let signer = format!("example.com/e2e-{}", f.namespace);
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"generateName": "e2e-example-csr-"},
        "spec": {
            "request": BASE64_STANDARD.encode(parameters.serialize_request(&key)?.pem()?), "signerName": signer, "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    });
    let certificate = BASE64_STANDARD.encode(parameters.self_signed(&key)?.pem());
    let mut made = Value::Null;
    for _ in 0..3 {
        made = f.wire.post(PATH, &request).await.expect(201);
        f.remove_later(&format!("{PATH}/{}", made["metadata"]["name"].as_str().expect("a name")));
    }
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("e2e-example-csr-"));
    let path = format!("{PATH}/{name}");
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["metadata"]["uid"], &read["spec"]["expirationSeconds"]), (&made["metadata"]["uid"], &json!(3600)));
    let selected = format!("{PATH}?fieldSelector=spec.signerName%3D{}", signer.replace('/', "%2F"));
    let list = f.wire.get(&selected).await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));

    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut watch = f.wire.watch(&format!("{PATH}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3D{name}")).await;
    let patched = f.wire.patch("merge", &path, &json!({"metadata": {"annotations": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let mut update = patched.clone();
    update["metadata"]["annotations"]["updated"] = json!("true");
    let updated = f.wire.put(&path, &update).await.expect(200);
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    for wanted in [&patched, &updated] {
        let event = watch.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]), (&json!("MODIFIED"), wanted));
    }

    approval(&f, &path, &made).await;
    status(&f, &path, &made, &certificate).await;

    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, SOON).await;
    assert_eq!(f.list(&selected).await.len(), 2);
    f.wire.delete(&selected).await.expect(200);
    f.until("all of the signer's requests to go", SOON, || async { f.list(&selected).await.is_empty().then_some(()) }).await;
    Ok(())
}

fn types(object: &Value) -> Vec<&str> {
    object["status"]["conditions"].as_array().map(|all| all.iter().filter_map(|c| c["type"].as_str()).collect()).unwrap_or_default()
}

async fn approval(f: &Framework, path: &str, made: &Value) {
    let path = format!("{path}/approval");
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["kind"], &read["metadata"]["uid"]), (&json!("CertificateSigningRequest"), &made["metadata"]["uid"]));
    let patch = json!({
        "metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [{"type": "ApprovalPatch", "status": "True", "reason": "e2e"}]},
    });
    let patched = f.wire.patch("merge", &path, &patch).await.expect(200);
    assert_eq!((types(&patched), &patched["metadata"]["annotations"]["patchedapproval"]), (vec!["ApprovalPatch"], &json!("true")));
    let mut update = patched;
    let condition = json!({"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"});
    update["status"]["conditions"].as_array_mut().expect("conditions").push(condition);
    assert_eq!(types(&f.wire.put(&path, &update).await.expect(200)), ["ApprovalPatch", "Approved"]);
}

async fn status(f: &Framework, path: &str, made: &Value, certificate: &str) {
    let path = format!("{path}/status");
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["kind"], &read["metadata"]["uid"]), (&json!("CertificateSigningRequest"), &made["metadata"]["uid"]));
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": certificate}});
    let patched = f.wire.patch("merge", &path, &patch).await.expect(200);
    assert_eq!(
        (&patched["status"]["certificate"], &patched["metadata"]["annotations"]["patchedstatus"]),
        (&json!(certificate), &json!("true"))
    );
    let mut update = patched;
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"});
    update["status"]["conditions"].as_array_mut().expect("conditions").push(condition);
    assert_eq!(types(&f.wire.put(&path, &update).await.expect(200)), ["ApprovalPatch", "Approved", "StatusUpdate"]);
}
