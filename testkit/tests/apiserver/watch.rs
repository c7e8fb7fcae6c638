//! Watches: nothing lost, nothing twice, nothing skipped in silence; across restarts of etcd and of the server.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    (server, wire)
}

async fn make(wire: &Wire, name: &str, labels: Value) -> Value {
    wire.post(MAPS, &json!({"metadata": {"name": name, "labels": labels}})).await.expect(201)
}

async fn relabel(wire: &Wire, name: &str, labels: Value) {
    wire.patch("merge", &format!("{MAPS}/{name}"), &json!({"metadata": {"labels": labels}})).await.ok();
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("a resourceVersion").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_from_any_version_in_the_window() {
    let (_server, wire) = world().await;
    let first = make(&wire, "a", json!({})).await;
    make(&wire, "b", json!({})).await;
    relabel(&wire, "a", json!({"x": "1"})).await;
    wire.delete(&format!("{MAPS}/b")).await.ok();
    for _ in 0..2 {
        let mut watch = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
        assert_eq!([watch.short().await, watch.short().await, watch.short().await], ["ADDED b", "MODIFIED a", "DELETED b"]);
    }
    // Without a version, or with 0, what there is comes first.
    for query in ["", "&resourceVersion=0"] {
        let mut watch = wire.watch(&format!("{MAPS}?watch=1{query}")).await;
        assert_eq!(watch.short().await, "ADDED a");
        make(&wire, "c", json!({})).await;
        assert_eq!(watch.short().await, "ADDED c");
        let gone = wire.delete(&format!("{MAPS}/c")).await.ok();
        let event = watch.next().await.expect("an event");
        assert_eq!(event["type"], "DELETED");
        assert!(version(&event["object"]) > version(&first) && event["object"]["metadata"]["name"] == "c", "{event} {gone}");
    }
    // The old form of the URL, and one object alone.
    let mut watch = wire.watch(&format!("/api/v1/watch/namespaces/t/configmaps/a?resourceVersion={}", version(&first))).await;
    assert_eq!(watch.short().await, "MODIFIED a");
    let mut watch = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={}&fieldSelector=metadata.name%3Db", version(&first))).await;
    assert_eq!([watch.short().await, watch.short().await], ["ADDED b", "DELETED b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_too_old_is_an_event_and_not_an_error() {
    let (mut server, wire) = world().await;
    let first = make(&wire, "a", json!({})).await;
    make(&wire, "b", json!({})).await;
    server.restart().await.expect("a restart");
    let answer = wire.get(&format!("{MAPS}?watch=1&resourceVersion={}&timeoutSeconds=5", version(&first))).await;
    let event = answer.expect(200);
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired")),
        "{event}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_end_with_a_bookmark() {
    let (_server, wire) = world().await;
    make(&wire, "a", json!({})).await;
    let last = make(&wire, "b", json!({})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = wire.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!([watch.short().await, watch.short().await], ["ADDED a", "ADDED b"]);
    let end = watch.next().await.expect("a bookmark");
    assert_eq!((&end["type"], &end["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let at: u64 = version(&end["object"]).parse().expect("a number");
    assert!(at >= version(&last).parse().expect("a number"));
    make(&wire, "c", json!({})).await;
    assert_eq!(watch.short().await, "ADDED c");
    // The bookmark is a place to go on from.
    let mut watch = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={at}")).await;
    assert_eq!(watch.short().await, "ADDED c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_about_to_end_says_how_far_it_has_seen() {
    let (_server, wire) = world().await;
    let first = make(&wire, "a", json!({})).await;
    let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={}", version(&first));
    let mut watch = wire.watch(&format!("{MAPS}?{query}")).await;
    // What happens elsewhere moves the bookmark too: the next watch need not go through it again.
    let other = wire.post("/api/v1/namespaces/t/secrets", &json!({"metadata": {"name": "elsewhere"}})).await.expect(201);
    let bookmark = watch.next().await.expect("a bookmark");
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")), "{bookmark}");
    let number = |object: &Value| version(object).parse::<u64>().expect("a number");
    assert!(number(&bookmark["object"]) >= number(&other), "{bookmark}");
    assert_eq!(watch.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_enter_and_leave_a_selection() {
    let (_server, wire) = world().await;
    let first = make(&wire, "a", json!({"in": "no"})).await;
    let mut watch = wire.watch(&format!("{MAPS}?watch=1&labelSelector=in%3Dyes&resourceVersion={}", version(&first))).await;
    relabel(&wire, "a", json!({"in": "yes"})).await;
    relabel(&wire, "a", json!({"more": "1"})).await;
    relabel(&wire, "a", json!({"in": "no"})).await;
    relabel(&wire, "a", json!({"more": "2"})).await;
    relabel(&wire, "a", json!({"in": "yes"})).await;
    wire.delete(&format!("{MAPS}/a")).await.ok();
    assert_eq!(watch.short().await, "ADDED a");
    assert_eq!(watch.short().await, "MODIFIED a");
    let left = watch.next().await.expect("an event");
    // What is shown is the last state that was selected, at the revision at which it left.
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["in"]), (&json!("DELETED"), &json!("yes")), "{left}");
    assert_eq!([watch.short().await, watch.short().await], ["ADDED a", "DELETED a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_the_client_said() {
    let (_server, wire) = world().await;
    make(&wire, "a", json!({})).await;
    let began = tokio::time::Instant::now();
    let mut watch = wire.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(watch.short().await, "ADDED a");
    assert_eq!(watch.next().await, None);
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_events() {
    let (_server, wire) = world().await;
    make(&wire, "a", json!({})).await;
    let table = wire.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let mut watch = table.watch(&format!("{MAPS}?watch=1")).await;
    let first = watch.next().await.expect("an event");
    assert_eq!((&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert!(first["object"]["columnDefinitions"].as_array().is_some_and(|c| !c.is_empty()), "the first event has the columns");
    make(&wire, "b", json!({})).await;
    let second = watch.next().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"].as_array().map_or(0, Vec::len), 0, "{second}");
    let partial = wire.with("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
    let mut watch = partial.watch(&format!("{MAPS}?watch=1")).await;
    let first = watch.next().await.expect("an event");
    assert_eq!((&first["object"]["kind"], &first["object"]["apiVersion"]), (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_goes_and_comes_back_under_a_watch() {
    let (server, wire) = world().await;
    let first = make(&wire, "a", json!({})).await;
    let mut watch = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
    make(&wire, "b", json!({})).await;
    assert_eq!(watch.short().await, "ADDED b");
    server.etcd.kill();
    let refused = wire.post(MAPS, &json!({"metadata": {"name": "lost"}})).await;
    assert!(matches!(refused.code, 503 | 504), "a write that etcd did not take is not acknowledged: {}", refused.text());
    assert_eq!(wire.get(&format!("{MAPS}/a?resourceVersion=0")).await.code, 200, "what the cache holds can be read meanwhile");
    server.etcd.resume().await.expect("etcd comes back");
    testkit::eventually("a write to go through", Duration::from_secs(15), || {
        let wire = wire.clone();
        async move { matches!(wire.post(MAPS, &json!({"metadata": {"name": "c"}})).await.code, 201 | 409).then_some(()) }
    })
    .await;
    assert_eq!(watch.short().await, "ADDED c", "the same watch goes on");
    wire.delete(&format!("{MAPS}/a")).await.ok();
    assert_eq!(watch.short().await, "DELETED a");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_and_comes_back() {
    let (mut server, wire) = world().await;
    make(&wire, "a", json!({})).await;
    let mut watch = wire.watch(&format!("{MAPS}?watch=1")).await;
    let seen = watch.next().await.expect("an event");
    server.restart().await.expect("a restart");
    assert_eq!(watch.next().await, None, "a watch ends with its server");
    assert_eq!(wire.get(&format!("{MAPS}/a")).await.ok(), seen["object"]);
    // Nothing of ours happened since, but the version may be older than what the new server has seen.
    let mut watch = wire.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(watch.short().await, "ADDED a");
    make(&wire, "b", json!({})).await;
    assert_eq!(watch.short().await, "ADDED b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_is_told_and_nothing_is_skipped_in_silence() {
    /// More than the window and all buffers on the way hold.
    const WRITES: u64 = 600;
    let (_server, wire) = world().await;
    let first = make(&wire, "a", json!({})).await;
    let mut slow = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
    let mut quick = wire.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
    let text = "x".repeat(60 << 10);
    for n in 1..=WRITES {
        wire.patch("merge", &format!("{MAPS}/a"), &json!({"data": {"n": n.to_string(), "text": text}})).await.ok();
        assert_eq!(quick.next().await.expect("an event")["object"]["data"]["n"], n.to_string(), "one that keeps up sees everything");
    }
    let mut seen = 0;
    loop {
        let event = slow.next().await.expect("an event or an error");
        if event["type"] == "ERROR" {
            assert_eq!(event["object"]["code"], 410, "{event}");
            break;
        }
        seen += 1;
        assert_eq!(event["object"]["data"]["n"], seen.to_string(), "in order, none left out");
        assert!(seen < WRITES, "it was not too slow");
    }
    assert_eq!(slow.next().await, None, "then it has to list again");
}
