//! Definitions of custom resources as objects: made, listed, changed, discovered, and their defaults.

use http::Method;
use serde_json::{Value, json};

use crate::framework::{Behaviour, DEFINITIONS, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
        test!(made_and_deleted),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works",
        test!(listed),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works",
        test!(status),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents",
        test!(discovered),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works",
        test!(defaults),
    ),
];

fn random(f: &Framework) -> Definition {
    let word = f.unique("foo");
    Definition::new(&format!("{word}.example.com"), &word, "Cluster", &["v1beta1"], &Definition::anything())
}

async fn made_and_deleted(f: Framework) -> anyhow::Result<()> {
    let definition = f.define(random(&f)).await;
    assert_eq!(f.wire.get(&definition.objects("")).await.expect(200)["items"], json!([]));
    f.undefine(&definition).await;
    f.until_gone(&definition.objects(""), SOON).await;
    Ok(())
}

async fn listed(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("list");
    let mut made = vec![];
    for _ in 0..10 {
        let mut definition = random(&f);
        definition.object["metadata"]["labels"] = json!({"e2e-list-test-uuid": label});
        made.push(f.define(definition).await);
    }
    let other = f.define(random(&f)).await;
    let selected = format!("{DEFINITIONS}?labelSelector=e2e-list-test-uuid%3D{label}");
    let list = f.wire.get(&selected).await.expect(200);
    let items = list["items"].as_array().expect("a list");
    assert_eq!(items.len(), made.len());
    for definition in &made {
        let item = items.iter().find(|i| i["metadata"]["name"] == definition.name()).expect("each that was made");
        assert_eq!(item["spec"], definition.object["spec"]);
    }
    f.wire.delete(&selected).await.expect(200);
    for definition in &made {
        f.until_gone(&definition.path(), SOON).await;
    }
    let left = f.wire.get(&other.path()).await.expect(200);
    assert!(left["metadata"].get("deletionTimestamp").is_none(), "{left}");
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    let definition = f.define(random(&f)).await;
    let path = format!("{}/status", definition.path());
    let has = |object: &Value, message: &str| {
        object["status"]["conditions"].as_array().expect("conditions").iter().any(|c| c["message"] == message)
    };

    // The controller writes too: a conflict is tried again, as any client does.
    let updated = f
        .until("a status update without a conflict", SOON, || async {
            let mut read = f.wire.get(&path).await.expect(200);
            assert_eq!(read["spec"], definition.object["spec"], "status is read with the spec");
            read["status"]["conditions"].as_array_mut().expect("conditions").push(json!({"message": "updated", "type": "", "status": ""}));
            let answer = f.wire.put(&path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await;
    assert!(has(&updated, "updated"), "{updated}");
    assert!(has(&f.wire.get(&path).await.expect(200), "updated"));
    let patch = json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = f.wire.patch("json", &path, &patch).await.expect(200);
    assert!(has(&patched, "patched"), "{patched}");
    Ok(())
}

async fn discovered(f: Framework) -> anyhow::Result<()> {
    let has = |list: &Value, field: &str, value: &str| list.as_array().is_some_and(|all| all.iter().any(|e| e[field] == value));
    let groups = f.wire.get("/apis").await.expect(200);
    let group = groups["groups"].as_array().expect("a list").iter().find(|g| g["name"] == "apiextensions.k8s.io").expect("the group");
    assert!(has(&group["versions"], "version", "v1"), "{group}");
    let group = f.wire.get("/apis/apiextensions.k8s.io").await.expect(200);
    assert_eq!(group["name"], "apiextensions.k8s.io");
    assert!(has(&group["versions"], "version", "v1"), "{group}");
    let resources = f.wire.get("/apis/apiextensions.k8s.io/v1").await.expect(200);
    assert_eq!(resources["groupVersion"], "apiextensions.k8s.io/v1");
    assert!(has(&resources["resources"], "name", "customresourcedefinitions"), "{resources}");
    Ok(())
}

async fn defaults(f: Framework) -> anyhow::Result<()> {
    let mut wanted = random(&f);
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
    wanted.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
    let definition = f.define(wanted).await;
    let objects = definition.objects("");
    let create = |name: &'static str| {
        let object = json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name}});
        let (f, objects) = (f.clone(), objects.clone());
        async move { f.wire.send(Method::POST, &objects, object.to_string()).await.expect(201) }
    };
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties";

    let first = create("cr-1").await;
    assert!(first.get("a").is_none(), "no default yet: {first}");
    let patch = json!([{"op": "add", "path": format!("{properties}/a/default"), "value": "A"}]);
    f.wire.patch("json", &definition.path(), &patch).await.expect(200);
    f.until_it(&format!("{objects}/cr-1"), "to show the default of a", SOON, |o| {
        assert!(o.get("a").is_none_or(|a| a == "A"), "{o}");
        o.get("a").is_some()
    })
    .await;

    let second = create("cr-2").await;
    assert_eq!((second.get("a"), second.get("b")), (Some(&json!("A")), None), "a is defaulted in the request");
    let patch = json!([
        {"op": "remove", "path": format!("{properties}/a/default")},
        {"op": "add", "path": format!("{properties}/b/default"), "value": "B"},
    ]);
    f.wire.patch("json", &definition.path(), &patch).await.expect(200);
    let second = f.until_it(&format!("{objects}/cr-2"), "to show the default of b", SOON, |o| o.get("b").is_some()).await;
    assert_eq!((&second["a"], &second["b"]), (&json!("A"), &json!("B")), "the stored default of a stays");
    let first = f.wire.get(&format!("{objects}/cr-1")).await.expect(200);
    assert_eq!((first.get("a"), first.get("b")), (None, Some(&json!("B"))), "what was never stored goes");
    Ok(())
}
