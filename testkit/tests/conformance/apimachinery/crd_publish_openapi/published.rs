//! What the document has after definitions came, changed and went.

use serde_json::json;

use super::{define, schemas, undefine, until_not_published, until_published};
use crate::framework::{Framework, SOON};

pub async fn different_groups(f: Framework) -> anyhow::Result<()> {
    let (foos, waldo) = (schemas::foo(), schemas::waldo());
    let first = define(&f, &foos, Some(&foos), "foo", &["v1"]).await;
    let second = define(&f, &waldo, Some(&waldo), "waldo", &["v1beta1"]).await;
    assert_ne!(first.group(), second.group());
    until_published(&f, &second, "v1beta1", Some(&waldo)).await;
    until_published(&f, &first, "v1", Some(&foos)).await;
    undefine(&f, &first, &["v1"]).await;
    undefine(&f, &second, &["v1beta1"]).await;
    Ok(())
}

pub async fn different_versions(f: Framework) -> anyhow::Result<()> {
    let (foos, waldo) = (schemas::foo(), schemas::waldo());
    let both = define(&f, &foos, Some(&foos), "multi-ver", &["v2", "v3"]).await;
    until_published(&f, &both, "v2", Some(&foos)).await;
    undefine(&f, &both, &["v2", "v3"]).await;

    let first = define(&f, &foos, Some(&foos), "common-group", &["v4"]).await;
    let second = define(&f, &waldo, Some(&waldo), "common-group", &["v5"]).await;
    assert_eq!(first.group(), second.group());
    until_published(&f, &second, "v5", Some(&waldo)).await;
    until_published(&f, &first, "v4", Some(&foos)).await;
    undefine(&f, &first, &["v4"]).await;
    undefine(&f, &second, &["v5"]).await;
    Ok(())
}

pub async fn different_kinds(f: Framework) -> anyhow::Result<()> {
    let (foos, waldo) = (schemas::foo(), schemas::waldo());
    let first = define(&f, &foos, Some(&foos), "common-group", &["v6"]).await;
    let second = define(&f, &waldo, Some(&waldo), "common-group", &["v6"]).await;
    assert_eq!(first.group(), second.group());
    until_published(&f, &second, "v6", Some(&waldo)).await;
    until_published(&f, &first, "v6", Some(&foos)).await;
    undefine(&f, &first, &["v6"]).await;
    undefine(&f, &second, &["v6"]).await;
    Ok(())
}

pub async fn renamed_version(f: Framework) -> anyhow::Result<()> {
    let foos = schemas::foo();
    let definition = define(&f, &foos, Some(&foos), "multi-ver", &["v2", "v3"]).await;
    let patch = json!([
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]);
    f.wire.patch("json", &definition.path(), &patch).await.expect(200);
    until_published(&f, &definition, "v4", Some(&foos)).await;
    until_not_published(&f, &definition, "v3").await;
    until_published(&f, &definition, "v2", Some(&foos)).await;
    undefine(&f, &definition, &["v2", "v4"]).await;
    Ok(())
}

pub async fn unserved_version(f: Framework) -> anyhow::Result<()> {
    let foos = schemas::foo();
    let definition = define(&f, &foos, Some(&foos), "multi-to-single-ver", &["v5", "v6alpha1"]).await;
    f.until("an update without a conflict", SOON, || async {
        let mut read = f.wire.get(&definition.path()).await.expect(200);
        read["spec"]["versions"][1]["served"] = json!(false);
        let answer = f.wire.put(&definition.path(), &read).await;
        (answer.code != 409).then(|| answer.expect(200))
    })
    .await;
    until_not_published(&f, &definition, "v6alpha1").await;
    until_published(&f, &definition, "v5", Some(&foos)).await;
    undefine(&f, &definition, &["v5", "v6alpha1"]).await;
    Ok(())
}
