//! Lists as informers ask for them: as a stream, of metadata alone, as tables, at a version (KEP-3157, KEP-2340).

use serde_json::{Value, json};
use testkit::{Watching, Wire};

use crate::framework::{Behaviour, Definition, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-api-machinery] API Streaming (aka. WatchList) should be requested by informers of built-in and custom kinds",
        test!(kinds),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] API Streaming (aka. WatchList) should be requested by metadata informers, and as tables",
        test!(metadata),
    ),
    Behaviour::new("newer: [sig-api-machinery] Consistent reads from cache, and lists with resourceVersionMatch", test!(consistent)),
];

const STREAM: &str = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
const END: &str = "k8s.io/initial-events-end";

/// The names and kinds of what there is, up to the bookmark that says that this was all.
async fn initial(wire: &Wire, path: &str) -> (Vec<(String, String)>, Value, Watching) {
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut watch = wire.watch(&format!("{path}{sign}{STREAM}")).await;
    let mut found = vec![];
    loop {
        let event = watch.next().await.expect("another event");
        let object = &event["object"];
        if event["type"] == "BOOKMARK" {
            assert_eq!(object["metadata"]["annotations"][END], "true", "{event}");
            assert!(object["metadata"]["resourceVersion"].is_string(), "{event}");
            found.sort();
            return (found, event, watch);
        }
        assert_eq!(event["type"], "ADDED", "{event}");
        let row = if object["kind"] == "Table" { &object["rows"][0]["object"] } else { object };
        found.push((row["metadata"]["name"].as_str().unwrap_or("?").to_owned(), object["kind"].as_str().unwrap_or("?").to_owned()));
    }
}

fn named(kind: &str) -> Vec<(String, String)> {
    ["a", "b"].map(|n| (n.to_owned(), kind.to_owned())).to_vec()
}

async fn kinds(f: Framework) -> anyhow::Result<()> {
    let word = f.unique("stream");
    let definition = f.define(Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1"], &Definition::anything())).await;
    let custom = definition.objects(&f.namespace);
    let template = Framework::idle_template(&json!({"a": "b"}));
    let kinds = [
        ("Secret", f.core("secrets"), json!({"metadata": {"labels": {"t": "1"}}})),
        ("PodTemplate", f.core("podtemplates"), json!({"metadata": {"labels": {"t": "1"}}, "template": template})),
        ("Lease", f.group("coordination.k8s.io/v1", "leases"), json!({"metadata": {"labels": {"t": "1"}}})),
        (
            definition.kind(),
            custom.clone(),
            json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"labels": {"t": "1"}}}),
        ),
    ];
    for (kind, path, object) in kinds {
        for name in ["a", "b"] {
            let mut object = object.clone();
            object["metadata"]["name"] = json!(name);
            f.wire.post(&path, &object).await.expect(201);
        }
        let selected = format!("{path}?labelSelector=t%3D1");
        let (found, bookmark, mut watch) = initial(&f.wire, &selected).await;
        assert_eq!((found, bookmark["object"]["kind"].as_str()), (named(kind), Some(kind)));
        f.wire.patch("merge", &format!("{path}/a"), &json!({"metadata": {"annotations": {"x": "y"}}})).await.expect(200);
        assert_eq!(watch.short().await, "MODIFIED a");
        f.wire.delete(&format!("{path}/b")).await.expect(200);
        assert_eq!(watch.short().await, "DELETED b");
    }
    let none = initial(&f.wire, &f.core("configmaps?labelSelector=t%3Dnone")).await;
    assert_eq!(none.0, vec![], "of nothing there is an end, too");
    Ok(())
}

async fn metadata(f: Framework) -> anyhow::Result<()> {
    let path = f.core("configmaps");
    for name in ["a", "b"] {
        f.wire.post(&path, &json!({"metadata": {"name": name, "labels": {"t": "1"}}, "data": {"k": "v"}})).await.expect(201);
    }
    let selected = format!("{path}?labelSelector=t%3D1");
    let partial = f.wire.with("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (found, bookmark, mut watch) = initial(&partial, &selected).await;
    assert_eq!((found, bookmark["object"]["kind"].as_str()), (named("PartialObjectMetadata"), Some("PartialObjectMetadata")));
    f.wire.patch("merge", &format!("{path}/a"), &json!({"data": {"k": "w"}})).await.expect(200);
    let event = watch.next().await.expect("an event");
    assert_eq!((&event["object"]["kind"], event["object"].get("data")), (&json!("PartialObjectMetadata"), None));
    let table = f.wire.with("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let (found, bookmark, _watch) = initial(&table, &selected).await;
    assert_eq!((found, bookmark["object"]["kind"].as_str()), (named("Table"), Some("Table")));
    Ok(())
}

async fn consistent(f: Framework) -> anyhow::Result<()> {
    let path = f.core("configmaps");
    let mut versions = vec![];
    for name in ["a", "b", "c"] {
        let made = f.wire.post(&path, &json!({"metadata": {"name": name, "labels": {"t": "1"}}})).await.expect(201);
        versions.push(made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned());
    }
    let selected = format!("{path}?labelSelector=t%3D1");
    let names = |list: &Value| {
        list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap_or("?").to_owned())
            .collect::<Vec<_>>()
    };
    // What was written is read, by everybody and at once.
    assert_eq!(names(&f.wire.get(&selected).await.expect(200)), ["a", "b", "c"]);
    let exact = f.wire.get(&format!("{selected}&resourceVersion={}&resourceVersionMatch=Exact", versions[1])).await.expect(200);
    assert_eq!((names(&exact), exact["metadata"]["resourceVersion"].as_str()), (vec!["a".to_owned(), "b".to_owned()], Some(&*versions[1])));
    let newer = f.wire.get(&format!("{selected}&resourceVersion={}&resourceVersionMatch=NotOlderThan", versions[2])).await.expect(200);
    assert_eq!(names(&newer), ["a", "b", "c"]);
    let any = f.wire.get(&format!("{selected}&resourceVersion=0")).await;
    assert_eq!(any.code, 200);
    for wrong in
        ["&resourceVersionMatch=Exact", "&resourceVersion=0&resourceVersionMatch=Exact", "&resourceVersion=1&resourceVersionMatch=Perhaps"]
    {
        let refused = f.wire.get(&format!("{selected}{wrong}")).await;
        assert!(matches!(refused.code, 400 | 422), "{wrong}: {} {}", refused.code, refused.text());
    }
    Ok(())
}
