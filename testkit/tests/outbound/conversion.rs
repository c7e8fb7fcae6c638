//! Conversion webhooks: custom resources read and written in a version that a webhook converts to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Reviewer, Wire, eventually};

const SOON: Duration = Duration::from_secs(20);
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/addresses.x.io";

fn addresses(version: &str) -> String {
    format!("/apis/x.io/{version}/namespaces/default/addresses")
}

/// v1 has `hostPort`, v2 has `host` and `port`.
fn converted(object: &Value, desired: &str) -> Value {
    let mut out = object.clone();
    out["apiVersion"] = desired.into();
    if let (Some(joined), "x.io/v2") = (object.get("hostPort").and_then(Value::as_str), desired) {
        let (host, port) = joined.split_once(':').expect("a colon");
        out.as_object_mut().expect("a map").remove("hostPort");
        (out["host"], out["port"]) = (host.into(), port.into());
    }
    if let (Some(host), Some(port), "x.io/v1") = (object["host"].as_str(), object["port"].as_str(), desired) {
        out["hostPort"] = format!("{host}:{port}").into();
        let map = out.as_object_mut().expect("a map");
        map.remove("host");
        map.remove("port");
    }
    out["metadata"]["annotations"]["converted-to"] = desired.into();
    out["metadata"]["uid"] = object["metadata"]["uid"].clone();
    out
}

fn answer(request: &Value) -> Value {
    let desired = request["desiredAPIVersion"].as_str().expect("a version");
    let objects: Vec<Value> = request["objects"].as_array().expect("objects").iter().map(|o| converted(o, desired)).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

fn definition(reviewer: &Reviewer, stored: &str) -> Value {
    let text = json!({"type": "string"});
    let of = |fields: Value| json!({"openAPIV3Schema": {"type": "object", "properties": fields}});
    let v1 = of(json!({"hostPort": text}));
    let v2 = of(json!({"host": text, "port": text, "protocol": {"type": "string", "default": "tcp"}}));
    let version = |name: &str, schema: &Value| {
        json!({"name": name, "served": true, "storage": name == stored, "schema": schema,
            "additionalPrinterColumns": [{"name": "Where", "type": "string", "jsonPath": if name == "v1" { ".hostPort" } else { ".host" }}]})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "addresses.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "addresses", "kind": "Address"},
            "versions": [version("v1", &v1), version("v2", &v2)],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": reviewer.client("/convert")}},
        },
    })
}

async fn world(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> (ApiServer, Wire, Reviewer) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    let reviewer = Reviewer::start(&[], answer).await.expect("a server");
    wire.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition(&reviewer, "v1")).await.expect(201);
    eventually("the definition to be served", SOON, || async { (wire.get(&addresses("v2")).await.code == 200).then_some(()) }).await;
    (server, wire, reviewer)
}

fn v1(name: &str, joined: &str) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Address", "metadata": {"name": name}, "hostPort": joined})
}

#[tokio::test]
async fn objects_are_read_and_written_in_the_version_that_was_asked_for() {
    let (_server, wire, reviewer) = world(|_, request| answer(request)).await;
    wire.post(&addresses("v1"), &v1("a", "one:1")).await.expect(201);
    let read = wire.get(&format!("{}/a", addresses("v2"))).await.ok();
    assert_eq!((&read["apiVersion"], &read["host"], &read["port"]), (&json!("x.io/v2"), &json!("one"), &json!("1")));
    assert_eq!(read["protocol"], "tcp", "defaults are those of the version");
    assert_eq!(read["metadata"]["annotations"]["converted-to"], "x.io/v2");

    let made = json!({"apiVersion": "x.io/v2", "kind": "Address", "metadata": {"name": "b"}, "host": "two", "port": "2"});
    let made = wire.post(&addresses("v2"), &made).await.expect(201);
    assert_eq!((&made["host"], &made["apiVersion"]), (&json!("two"), &json!("x.io/v2")));
    assert_eq!(wire.get(&format!("{}/b", addresses("v1"))).await.ok()["hostPort"], "two:2");

    let patched = wire.patch("merge", &format!("{}/a", addresses("v2")), &json!({"port": "11"})).await.ok();
    assert_eq!((&patched["host"], &patched["port"]), (&json!("one"), &json!("11")));
    assert_eq!(wire.get(&format!("{}/a", addresses("v1"))).await.ok()["hostPort"], "one:11");

    // A list asks once, for all its items.
    let before = reviewer.asked("/convert").len();
    let list = wire.get(&addresses("v2")).await.ok();
    let hosts: Vec<&str> = list["items"].as_array().expect("items").iter().filter_map(|i| i["host"].as_str()).collect();
    assert_eq!((hosts, list["apiVersion"].as_str()), (vec!["one", "two"], Some("x.io/v2")));
    let asked = reviewer.asked("/convert");
    assert_eq!((asked.len() - before, asked.last().expect("one")["objects"].as_array().map(Vec::len)), (1, Some(2)));

    let table = wire.with("accept", "application/json;as=Table;g=meta.k8s.io;v=v1").get(&addresses("v2")).await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "one"]), "columns are those of the version");
}

#[tokio::test]
async fn watchers_see_events_in_their_version() {
    let (_server, wire, _reviewer) = world(|_, request| answer(request)).await;
    wire.post(&addresses("v1"), &v1("a", "one:1")).await.expect(201);
    let mut watching = wire.watch(&format!("{}?watch=1", addresses("v2"))).await;
    let first = watching.next().await.expect("an event");
    assert_eq!((&first["type"], &first["object"]["host"]), (&json!("ADDED"), &json!("one")));
    wire.patch("merge", &format!("{}/a", addresses("v1")), &json!({"hostPort": "one:2"})).await.ok();
    let second = watching.next().await.expect("an event");
    assert_eq!((&second["type"], &second["object"]["port"]), (&json!("MODIFIED"), &json!("2")));
    wire.delete(&format!("{}/a", addresses("v1"))).await.ok();
    let third = watching.next().await.expect("an event");
    assert_eq!((&third["type"], &third["object"]["apiVersion"]), (&json!("DELETED"), &json!("x.io/v2")));
}

#[tokio::test]
async fn fields_are_selected_by_what_they_are_in_the_version_that_was_asked_for() {
    let (_server, wire, _reviewer) = world(|_, request| answer(request)).await;
    let selectable = |path: &str| json!({"jsonPath": path});
    let mut crd = wire.get(CRD).await.ok();
    for version in crd["spec"]["versions"].as_array_mut().expect("versions") {
        version["selectableFields"] = match version["name"].as_str() {
            Some("v1") => json!([selectable(".hostPort")]),
            _ => json!([selectable(".host"), selectable(".port")]),
        };
    }
    wire.put(CRD, &crd).await.ok();
    let selected = |version: &str, selector: &str| {
        format!("{}?fieldSelector={}", addresses(version), selector.replace('=', "%3D").replace(':', "%3A").replace(',', "%2C"))
    };
    eventually("the fields to be selectable", SOON, || async { (wire.get(&selected("v2", "host=one")).await.code == 200).then_some(()) })
        .await;
    let mut host = wire.watch(&format!("{}&watch=1", selected("v2", "host=one"))).await;
    let mut joined = wire.watch(&format!("{}&watch=1", selected("v1", "hostPort=one:1"))).await;
    for (name, host, port) in [("a", "one", "1"), ("b", "one", "2"), ("c", "two", "1")] {
        let made = json!({"apiVersion": "x.io/v2", "kind": "Address", "metadata": {"name": name}, "host": host, "port": port});
        wire.post(&addresses("v2"), &made).await.expect(201);
    }
    let names = async |path: &str| {
        let list = wire.get(path).await.ok();
        list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap_or("?").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&selected("v2", "host=one")).await, ["a", "b"]);
    assert_eq!(names(&selected("v2", "host=one,port=1")).await, ["a"]);
    assert_eq!(names(&selected("v1", "hostPort=one:2")).await, ["b"]);
    assert_eq!(names(&format!("{}&limit=1", selected("v2", "host=one"))).await, ["a"]);
    assert_eq!([host.short().await, host.short().await, joined.short().await], ["ADDED a", "ADDED b", "ADDED a"]);
    assert_eq!(wire.get(&selected("v1", "host=one")).await.refusal(), "400 BadRequest: field label not supported: host");

    wire.delete(&selected("v2", "host=one,port=1")).await.ok();
    wire.patch("merge", &format!("{}/b", addresses("v2")), &json!({"host": "two"})).await.ok();
    assert_eq!([host.short().await, host.short().await, joined.short().await], ["DELETED a", "DELETED b", "DELETED a"]);
    assert_eq!(names(&selected("v2", "host=one")).await, Vec::<String>::new());
    assert_eq!(names(&addresses("v1")).await, ["b", "c"]);
}

#[tokio::test]
async fn what_the_webhook_may_not_do_is_an_error_in_upstreams_words() {
    let wrong = Arc::new(AtomicBool::new(false));
    let lies = wrong.clone();
    let (_server, wire, reviewer) = world(move |_, request| {
        let mut said = answer(request);
        if lies.load(Ordering::SeqCst) {
            said["convertedObjects"][0]["metadata"]["name"] = "another".into();
        }
        said
    })
    .await;
    wire.post(&addresses("v1"), &v1("a", "one:1")).await.expect(201);
    wrong.store(true, Ordering::SeqCst);
    let refused = wire.get(&format!("{}/a", addresses("v2"))).await.refusal();
    assert_eq!(
        refused,
        "500 : conversion webhook for x.io/v1, Kind=Address returned invalid object: must have the same name: a != another"
    );
    wire.get(&format!("{}/a", addresses("v1"))).await.expect(200);
    let port = reviewer.server.port();
    drop(reviewer);
    let told = eventually("the webhook to be gone", SOON, || async {
        let answer = wire.get(&format!("{}/a", addresses("v2"))).await;
        (answer.code == 500 && answer.text().contains("connection refused")).then(|| answer.refusal())
    })
    .await;
    let expected = format!(
        r#"500 : conversion webhook for x.io/v1, Kind=Address failed: Post "https://localhost:{port}/convert?timeout=30s": dial tcp localhost:{port}: connect: connection refused"#
    );
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_stored_version_moves_with_writes() {
    let (_server, wire, reviewer) = world(|_, request| answer(request)).await;
    wire.post(&addresses("v1"), &v1("a", "one:1")).await.expect(201);
    let mut changed = wire.get(CRD).await.ok();
    changed["spec"]["versions"] = definition(&reviewer, "v2")["spec"]["versions"].clone();
    let changed = wire.put(CRD, &changed).await.ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // Read as before, from the old version's bytes. An update that changes nothing stores it in the new version.
    let path = format!("{}/a", addresses("v2"));
    let (before, after) = eventually("the object to be stored anew", SOON, || async {
        let read = wire.get(&path).await.ok();
        assert_eq!((&read["host"], &read["port"]), (&json!("one"), &json!("1")));
        let written = wire.put(&path, &read).await.ok();
        let moved = written["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"];
        moved.then_some((read, written))
    })
    .await;
    assert_eq!((&before["host"], &before["port"]), (&after["host"], &after["port"]));
    // Now v2 needs nobody's help, and a second update that changes nothing is none.
    let again = wire.put(&path, &after).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    let asked = reviewer.asked("/convert").len();
    wire.get(&path).await.ok();
    assert_eq!(reviewer.asked("/convert").len(), asked);
}
