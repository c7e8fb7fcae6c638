//! One body over the whole resource table, as discovery shows it: what a client may count on for every kind, built-in and custom alike.
//!
//! A new row needs a sample in `samples.yaml` and nothing here.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{ApiServer, Wire};

/// Kinds whose names mean something, so that no name can be made up for them.
const NAMES_MEAN_SOMETHING: [&str; 4] = ["APIService", "CustomResourceDefinition", "IPAddress", "CSINode"];
/// Kinds whose deletion has a course of its own: namespaces are emptied first, and Events have no dependents.
const OWN_DELETION: [&str; 2] = ["Namespace", "Event"];
/// Kinds whose objects the server itself goes on writing to once they are made; `custom_resources.rs`, `outbound/aggregation.rs`, `limits.rs`
/// and `several.rs` are about them.
const ANSWERED_BY_THE_SERVER: [&str; 4] = ["APIService", "CustomResourceDefinition", "FlowSchema", "ServiceCIDR"];
/// The group of the custom resources that the test makes.
const CUSTOM: &str = "rows.example.com";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A resource as discovery describes it.
#[derive(Debug, Clone)]
struct Row {
    api_version: String,
    kind: String,
    plural: String,
    namespaced: bool,
    verbs: Vec<String>,
    subresources: Vec<String>,
}

impl Row {
    fn collection(&self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let namespace = if self.namespaced { "namespaces/t/" } else { "" };
        format!("/{root}/{}/{namespace}{}", self.api_version, self.plural)
    }

    fn is_custom(&self) -> bool {
        self.api_version.starts_with(CUSTOM)
    }

    fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    fn subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|s| s == name)
    }
}

async fn rows(wire: &Wire) -> Vec<Row> {
    let mut versions = vec!["/api/v1".to_owned()];
    for group in wire.get("/apis").await.ok()["groups"].as_array().expect("groups") {
        let of = group["versions"].as_array().expect("versions");
        versions.extend(of.iter().filter_map(|v| v["groupVersion"].as_str()).map(|v| format!("/apis/{v}")));
    }
    let mut rows = vec![];
    for path in versions {
        let list = wire.get(&path).await.ok();
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let all = list["resources"].as_array().expect("resources");
        for resource in all.iter().filter(|r| !text(&r["name"]).contains('/')) {
            let plural = text(&resource["name"]);
            let under = format!("{plural}/");
            rows.push(Row {
                api_version: text(&list["groupVersion"]),
                kind: text(&resource["kind"]),
                namespaced: resource["namespaced"] == true,
                verbs: resource["verbs"].as_array().into_iter().flatten().map(text).collect(),
                subresources: all.iter().filter_map(|r| r["name"].as_str()?.strip_prefix(&under).map(str::to_owned)).collect(),
                plural,
            });
        }
    }
    rows
}

fn samples() -> BTreeMap<(String, String), Value> {
    let documents: Vec<Value> = include_str!("samples.yaml").split("\n---\n").map(|d| serde_saphyr::from_str(d).expect("YAML")).collect();
    let key = |d: &Value| (d["apiVersion"].as_str().expect("apiVersion").to_owned(), d["kind"].as_str().expect("kind").to_owned());
    documents.into_iter().map(|d| (key(&d), d)).collect()
}

/// Definitions of custom resources with everything that a row can have, and the smallest object of each.
fn custom() -> (Vec<Value>, Vec<Value>) {
    let definition = |plural: &str, kind: &str, scope: &str, schema: Value, subresources: Value| {
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": subresources});
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{CUSTOM}")},
            "spec": {"group": CUSTOM, "scope": scope, "names": {"plural": plural, "kind": kind}, "versions": [version]}})
    };
    let integer = json!({"type": "integer"});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": integer, "size": {"type": "string", "default": "small"}}},
        "status": {"type": "object", "properties": {"replicas": integer, "selector": {"type": "string"}}},
    }});
    let scale =
        json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"});
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definitions = vec![
        definition("gadgets", "Gadget", "Namespaced", schema.clone(), json!({"status": {}, "scale": scale})),
        definition("gizmos", "Gizmo", "Cluster", schema, json!({"status": {}})),
        definition("things", "Thing", "Namespaced", anything, json!({})),
    ];
    let object = |kind: &str, spec: Value| json!({"apiVersion": format!("{CUSTOM}/v1"), "kind": kind, "spec": spec});
    let samples = vec![
        object("Gadget", json!({"replicas": 1})),
        object("Gizmo", json!({"size": "large"})),
        object("Thing", json!({"any": [1, {"deep": null}]})),
    ];
    (definitions, samples)
}

/// Makes the custom resources, and waits until all of them are served.
async fn define(wire: &Wire, definitions: &[Value]) {
    for definition in definitions {
        wire.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.expect(201);
    }
    testkit::eventually("the custom resources to be served", Duration::from_secs(15), || async {
        let list = wire.get(&format!("/apis/{CUSTOM}/v1")).await;
        let served = if list.code == 200 { list.json()["resources"].as_array().map_or(0, Vec::len) } else { 0 };
        (served >= 6).then_some(())
    })
    .await;
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a Value {
    &object["metadata"][field]
}

/// The labels that clients gave: a namespace has one of its own besides.
fn labels(object: &Value) -> Value {
    let mut labels = meta(object, "labels").clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.remove("kubernetes.io/metadata.name");
    }
    labels
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_behaves() {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    let (definitions, made_up) = custom();
    define(&wire, &definitions).await;
    let (rows, mut samples) = (rows(&wire).await, samples());
    samples.extend(made_up.into_iter().map(|s| ((format!("{CUSTOM}/v1"), s["kind"].as_str().expect("a kind").to_owned()), s)));
    assert!(rows.len() > 20, "{rows:?}");
    let mut wrong = vec![];
    for row in rows {
        let what = format!("{} {}", row.api_version, row.kind);
        if !row.has("get") || !row.has("create") || ANSWERED_BY_THE_SERVER.contains(&row.kind.as_str()) {
            continue;
        }
        let Some(sample) = samples.get(&(row.api_version.clone(), row.kind.clone())).cloned() else {
            wrong.push(format!("{what}: no sample"));
            continue;
        };
        // Rows apart, so that one that is wrong does not hide the others; its panic says what is.
        println!("-- {what}");
        if tokio::spawn(exercise(wire.clone(), row, sample)).await.is_err() {
            wrong.push(what);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn exercise(wire: Wire, row: Row, sample: Value) {
    let name = meta(&sample, "name").as_str().unwrap_or("a-sample").to_owned();
    let collection = row.collection();
    let path = format!("{collection}/{name}");
    let mut object = sample;
    object["metadata"]["name"] = name.clone().into();
    object["metadata"]["labels"] = json!({"row": "test"});

    creation(&wire, &row, &collection, &path, &object).await;
    let created = wire.get(&path).await.expect(200);
    forms(&wire, &row, &collection, &path, &created, &name).await;
    writes(&wire, &row, &collection, &path, &created, &name).await;
    parts(&wire, &row, &path).await;
    deletion(&wire, &row, &collection, &path, &object, &name).await;
}

async fn creation(wire: &Wire, row: &Row, collection: &str, path: &str, object: &Value) {
    let dry = wire.post(&format!("{collection}?dryRun=All"), object).await.expect(201);
    assert!(meta(&dry, "uid").is_string() && meta(&dry, "creationTimestamp").is_string(), "{dry}");
    assert_eq!(wire.get(path).await.code, 404, "a dry run stores nothing");
    let created = wire.post(&format!("{collection}?fieldValidation=Strict"), object).await.expect(201);
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(meta(&created, field).is_string(), "{field} in {created}");
    }
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!(row.kind), &json!(row.api_version)));
    assert!(meta(&created, "managedFields").as_array().is_some_and(|m| !m.is_empty()), "{created}");
    assert!(matches!(meta(&created, "generation").as_i64(), None | Some(1)), "{created}");
    assert_eq!(wire.post(collection, object).await.code, 409, "there is one of a name");
    // Some objects get a status at once, from the server's own controllers: then the rest is what was answered.
    let mut stored = wire.get(path).await.expect(200);
    let mut answered = created;
    if meta(&stored, "resourceVersion") != meta(&answered, "resourceVersion") {
        for object in [&mut stored, &mut answered] {
            object.as_object_mut().expect("an object").remove("status");
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            metadata.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields"));
        }
    }
    assert_eq!(stored, answered, "what a create answers is what is stored");
}

async fn forms(wire: &Wire, row: &Row, collection: &str, path: &str, created: &Value, name: &str) {
    let listed = wire.get(&format!("{collection}?labelSelector=row%3Dtest")).await.expect(200);
    assert_eq!((&listed["kind"], &listed["apiVersion"]), (&json!(format!("{}List", row.kind)), &json!(row.api_version)));
    let items = listed["items"].as_array().expect("items");
    assert_eq!((items.len(), meta(&items[0], "uid")), (1, meta(created, "uid")));
    let by_name = wire.get(&format!("{collection}?fieldSelector=metadata.name%3D{name}")).await.expect(200);
    assert_eq!(by_name["items"].as_array().map(Vec::len), Some(1), "{by_name}");

    let yaml = wire.with("accept", "application/yaml").get(path).await;
    assert_eq!((yaml.code, yaml.header("content-type")), (200, "application/yaml"));
    assert_eq!(&serde_saphyr::from_str::<Value>(&yaml.text()).expect("YAML"), created);

    let table = wire.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").get(collection).await.expect(200);
    let (columns, rows) = (table["columnDefinitions"].as_array().expect("columns"), table["rows"].as_array().expect("rows"));
    assert!(columns.iter().any(|c| c["name"] == "Name" && c["format"] == "name"), "{table}");
    let shown = rows.iter().find(|r| meta(&r["object"], "name") == name).unwrap_or_else(|| panic!("no row {name} in {table}"));
    assert_eq!(shown["cells"].as_array().map(Vec::len), Some(columns.len()), "{table}");

    let partial = wire.with("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").get(collection).await.expect(200);
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    let one = partial["items"].as_array().expect("items").iter().find(|i| meta(i, "name") == name).expect("the sample");
    assert_eq!(
        (meta(one, "labels"), one.as_object().map(|o| o.keys().all(|k| ["metadata", "kind", "apiVersion"].contains(&k.as_str())))),
        (meta(created, "labels"), Some(true))
    );

    let binary = wire.with("accept", PROTOBUF).get(path).await;
    if row.is_custom() {
        assert_eq!(binary.code, 406, "there is no such form of a custom resource");
        return;
    }
    assert_eq!((binary.code, binary.header("content-type")), (200, PROTOBUF), "{}", binary.text());
    assert!(binary.body.starts_with(b"k8s\0"));
    // Written back as it came, it is no change.
    let back = wire.with("content-type", PROTOBUF).send(Method::PUT, path, binary.body.to_vec()).await.expect(200);
    assert_eq!(&back, created, "the round trip through protobuf");
}

async fn writes(wire: &Wire, row: &Row, collection: &str, path: &str, created: &Value, name: &str) {
    assert_eq!(&wire.put(path, created).await.expect(200), created, "an update without a change is none");
    assert_eq!(
        &wire.patch("merge", path, &json!({"metadata": {"labels": {"row": "test"}}})).await.expect(200),
        created,
        "nor is such a patch"
    );
    let mut dry = created.clone();
    dry["metadata"]["labels"]["dry"] = "run".into();
    assert_eq!(meta(&wire.put(&format!("{path}?dryRun=All"), &dry).await.expect(200), "labels")["dry"], "run");

    let mut last = created.clone();
    let mut changed = |now: Value, what: &str| {
        assert_ne!(meta(&now, "resourceVersion"), meta(&last, "resourceVersion"), "{what} is a change");
        assert_eq!(meta(&now, "uid"), meta(&last, "uid"));
        assert_eq!(meta(&now, "generation"), meta(&last, "generation"), "{what} of metadata does not count as a generation");
        last = now.clone();
        now
    };
    let now = changed(wire.patch("merge", path, &json!({"metadata": {"labels": {"merge": "1"}}})).await.expect(200), "a merge patch");
    assert_eq!(labels(&now), json!({"row": "test", "merge": "1"}));
    if row.is_custom() {
        assert_eq!(wire.patch("strategic", path, &json!({})).await.code, 415, "a custom schema does not say how lists merge");
    }
    let kind = if row.is_custom() { "merge" } else { "strategic" };
    let now = changed(
        wire.patch(kind, path, &json!({"metadata": {"labels": {"strategic": "1", "merge": null}}})).await.expect(200),
        "a strategic patch",
    );
    assert_eq!(labels(&now), json!({"row": "test", "strategic": "1"}));
    let json_patch =
        json!([{"op": "test", "path": "/metadata/labels/row", "value": "test"}, {"op": "remove", "path": "/metadata/labels/strategic"}]);
    let now = changed(wire.patch("json", path, &json_patch).await.expect(200), "a JSON patch");
    assert_eq!(labels(&now), json!({"row": "test"}));
    let intent = json!({"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": name, "labels": {"applied": "yes"}}});
    let applied = wire.patch("apply", &format!("{path}?fieldManager=tester"), &intent).await.expect(200);
    let now = changed(applied, "an apply");
    assert_eq!(labels(&now), json!({"row": "test", "applied": "yes"}));
    let again = wire.patch("apply", &format!("{path}?fieldManager=tester"), &intent).await.expect(200);
    assert_eq!(again, now, "applied twice is applied once");
    let dropped = json!({"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": name}});
    let now = changed(wire.patch("apply", &format!("{path}?fieldManager=tester"), &dropped).await.expect(200), "an apply that lets go");
    assert_eq!(labels(&now), json!({"row": "test"}), "what is no longer applied is gone");

    let mut stale = created.clone();
    stale["metadata"]["labels"]["stale"] = "yes".into();
    assert_eq!(wire.put(path, &stale).await.code, 409);
    assert_eq!(wire.get(path).await.expect(200), now, "what was refused left nothing behind");

    let from = meta(created, "resourceVersion").as_str().expect("a version");
    let mut watch = wire.watch(&format!("{collection}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3D{name}")).await;
    for _ in 0..4 {
        assert_eq!(watch.short().await, format!("MODIFIED {name}"));
    }
    assert_eq!(watch.next().await.expect("an event")["object"], now);
}

async fn parts(wire: &Wire, row: &Row, path: &str) {
    let before = wire.get(path).await.expect(200);
    if row.subresource("status") {
        let status = format!("{path}/status");
        assert_eq!(wire.get(&status).await.expect(200), before);
        let mut lie = before.clone();
        lie["metadata"]["labels"] = json!({"row": "test"});
        lie["spec"] = before["spec"].clone();
        assert_eq!(wire.put(&status, &lie).await.expect(200), before, "a status without a change");
        assert_eq!(meta(&wire.patch("merge", &status, &json!({})).await.expect(200), "resourceVersion"), meta(&before, "resourceVersion"));
    }
    if row.subresource("scale") {
        let scale = wire.get(&format!("{path}/scale")).await.expect(200);
        assert_eq!(
            (&scale["kind"], &scale["apiVersion"], meta(&scale, "uid")),
            (&json!("Scale"), &json!("autoscaling/v1"), meta(&before, "uid"))
        );
        let scaled = wire.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 7}})).await.expect(200);
        assert_eq!(scaled["spec"]["replicas"], 7);
        let after = wire.get(path).await.expect(200);
        assert_eq!(after["spec"]["replicas"], 7);
        assert_eq!(
            meta(&after, "generation").as_i64(),
            meta(&before, "generation").as_i64().map(|g| g + 1),
            "more replicas are a generation"
        );
    }
    assert_eq!(wire.get(&format!("{path}/nonsense")).await.code, 404);
}

async fn deletion(wire: &Wire, row: &Row, collection: &str, path: &str, object: &Value, name: &str) {
    if row.kind == "Namespace" {
        let terminating = wire.delete(path).await.expect(200);
        assert_eq!((meta(&terminating, "deletionTimestamp").is_string(), &terminating["status"]["phase"]), (true, &json!("Terminating")));
        let mut finalized = terminating.clone();
        finalized["spec"]["finalizers"] = json!([]);
        assert!(wire.put(&format!("{path}/finalize"), &finalized).await.code == 200);
        assert_eq!(wire.get(path).await.code, 404, "nothing holds it any more");
        return;
    }
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        assert_eq!(wire.delete_with(path, &json!({"preconditions": wrong})).await.code, 409, "{wrong}");
    }
    assert!(wire.delete(&format!("{path}?dryRun=All")).await.code == 200 && wire.get(path).await.code == 200);

    let held = wire.patch("merge", path, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.expect(200);
    let deleted = wire.delete_with(path, &json!({"preconditions": {"uid": meta(&held, "uid")}})).await;
    assert!(matches!(deleted.code, 200 | 202), "{}", deleted.text());
    let waiting = wire.get(path).await.expect(200);
    assert!(meta(&waiting, "deletionTimestamp").is_string(), "{waiting}");
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(wire.patch("merge", path, &more).await.code, 422, "no finalizer is added to what is being deleted");
    release(wire, path).await;
    assert_eq!(wire.delete(path).await.code, 404);

    if !OWN_DELETION.contains(&row.kind.as_str()) {
        for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
            assert_eq!(wire.post(collection, object).await.code, 201);
            assert!(wire.delete_with(path, &json!({"propagationPolicy": policy})).await.code < 300);
            let waiting = wire.get(path).await.expect(200);
            let finalizers = meta(&waiting, "finalizers").as_array().cloned().unwrap_or_default();
            assert!(finalizers.contains(&json!(finalizer)), "{policy}: {waiting}");
            release(wire, path).await;
        }
    }

    if NAMES_MEAN_SOMETHING.contains(&row.kind.as_str()) {
        return;
    }
    let mut unnamed = object.clone();
    unnamed["metadata"] = json!({"generateName": "made-up-", "labels": {"row": "test"}});
    for _ in 0..2 {
        let made = wire.post(collection, &unnamed).await.expect(201);
        assert!(meta(&made, "name").as_str().is_some_and(|n| n.len() == "made-up-".len() + 5 && n.starts_with("made-up-")), "{made}");
    }
    unnamed["metadata"] = json!({"name": name, "labels": {"row": "other"}});
    assert_eq!(wire.post(collection, &unnamed).await.code, 201);
    let gone = wire.delete(&format!("{collection}?labelSelector=row%3Dtest")).await.expect(200);
    assert!(gone["items"].as_array().is_some_and(|i| i.len() == 2), "{gone}");
    for left in wire.get(&format!("{collection}?labelSelector=row%3Dtest")).await.expect(200)["items"].as_array().expect("items") {
        release(wire, &format!("{collection}/{}", meta(left, "name").as_str().expect("a name"))).await;
    }
    let left = wire.get(&format!("{collection}?labelSelector=row%3Dother")).await.expect(200);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "what was not selected stays");
    assert!(wire.delete(path).await.code < 300);
    if wire.get(path).await.code == 200 {
        release(wire, path).await;
    }
}

/// Takes away what holds an object that is being deleted; then it is gone.
async fn release(wire: &Wire, path: &str) {
    let last = wire.patch("merge", path, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(last.code, 200, "{}", last.text());
    assert_eq!(wire.get(path).await.code, 404, "nothing holds {path} any more");
}
