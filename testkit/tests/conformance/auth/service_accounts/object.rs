//! The account as an object, and the config map that each namespace has beside it.

use serde_json::{Value, json};

use crate::framework::{Framework, SOON};

pub async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("static");
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "testserviceaccount", "labels": {"test-serviceaccount-static": label}},
    });
    let made = f.wire.post(&f.core("serviceaccounts"), &account).await.expect(201);
    let path = f.core("serviceaccounts/testserviceaccount");
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);

    let selector = format!("labelSelector=test-serviceaccount-static%3D{label}");
    let mut watch = f.wire.watch(&f.core(&format!("serviceaccounts?watch=true&{selector}"))).await;
    assert_eq!(watch.short().await, "ADDED testserviceaccount");
    let patched = f.wire.patch("strategic", &path, &json!({"automountServiceAccountToken": false})).await.expect(200);
    assert_eq!(patched["automountServiceAccountToken"], false);
    assert_eq!(watch.short().await, "MODIFIED testserviceaccount");
    let everywhere = f.list(&format!("/api/v1/serviceaccounts?{selector}")).await;
    let found: Vec<[&Value; 3]> =
        everywhere.iter().map(|a| [&a["metadata"]["name"], &a["metadata"]["namespace"], &a["automountServiceAccountToken"]]).collect();
    assert_eq!(found, [[&json!("testserviceaccount"), &json!(f.namespace), &json!(false)]]);
    f.wire.delete(&f.core("serviceaccounts")).await.expect(200);
    assert_eq!(watch.short().await, "DELETED testserviceaccount");
    Ok(())
}

pub async fn updated(f: Framework) -> anyhow::Result<()> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "e2e-sa"}, "automountServiceAccountToken": false,
    });
    let made = f.wire.post(&f.core("serviceaccounts"), &account).await.expect(201);
    assert_eq!(made["automountServiceAccountToken"], false);
    let path = f.core("serviceaccounts/e2e-sa");
    let updated = f
        .until("an update without a conflict", SOON, || async {
            let mut read = f.wire.get(&path).await.expect(200);
            read["automountServiceAccountToken"] = json!(true);
            let answer = f.wire.put(&path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await;
    assert_eq!(updated["automountServiceAccountToken"], true);
    assert_eq!(f.wire.get(&path).await.expect(200)["automountServiceAccountToken"], true);
    Ok(())
}

pub async fn root_authority(f: Framework) -> anyhow::Result<()> {
    let path = f.core("configmaps/kube-root-ca.crt");
    let first = f.until_it(&path, "to be there", SOON, |_| true).await;
    assert!(first["data"]["ca.crt"].as_str().is_some_and(|c| c.contains("BEGIN CERTIFICATE")), "{first}");
    f.wire.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await.expect(200);
    f.until_it(&path, "to be there again", SOON, |m| m["metadata"]["uid"] != first["metadata"]["uid"] && m["data"] == first["data"]).await;
    let emptied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}});
    f.wire.put(&path, &emptied).await.expect(200);
    f.until_it(&path, "to be as it was", SOON, |m| m["data"] == first["data"]).await;
    Ok(())
}
