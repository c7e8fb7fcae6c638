//! Lists: one revision for all pages, whatever is written meanwhile; tokens that expire; read your writes.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";

async fn world(objects: usize) -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    for i in 0..objects {
        make(&wire, i).await;
    }
    (server, wire)
}

async fn make(wire: &Wire, i: usize) -> Value {
    let parity = if i.is_multiple_of(2) { "even" } else { "odd" };
    wire.post(MAPS, &json!({"metadata": {"name": format!("m-{i:03}"), "labels": {"parity": parity}}})).await.expect(201)
}

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().expect("items").iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

fn text<'a>(list: &'a Value, field: &str) -> &'a str {
    list["metadata"][field].as_str().unwrap_or("")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_revision_while_writes_go_on() {
    let (_server, wire) = world(25).await;
    let first = wire.get(&format!("{MAPS}?limit=10")).await.ok();
    assert_eq!((names(&first).len(), &first["metadata"]["remainingItemCount"]), (10, &json!(15)));
    for i in [3, 12, 20] {
        assert_eq!(wire.delete(&format!("{MAPS}/m-{i:03}")).await.code, 200);
    }
    wire.patch("merge", &format!("{MAPS}/m-024"), &json!({"data": {"a": "new"}})).await.ok();
    make(&wire, 100).await;
    let second = wire.get(&format!("{MAPS}?limit=10&continue={}", text(&first, "continue"))).await.ok();
    let third = wire.get(&format!("{MAPS}?limit=10&continue={}", text(&second, "continue"))).await.ok();
    assert_eq!(
        (text(&first, "resourceVersion"), text(&first, "resourceVersion")),
        (text(&second, "resourceVersion"), text(&third, "resourceVersion"))
    );
    assert_eq!((text(&third, "continue"), &third["metadata"]["remainingItemCount"]), ("", &Value::Null));
    let all: Vec<String> = [&first, &second, &third].iter().flat_map(|l| names(l)).collect();
    assert_eq!(all, (0..25).map(|i| format!("m-{i:03}")).collect::<Vec<_>>(), "as it was when the list began");
    assert_eq!(third["items"][4]["data"], Value::Null, "the state of that revision, not the newest");

    let selected = wire.get(&format!("{MAPS}?limit=5&labelSelector=parity%3Deven")).await.ok();
    assert_eq!(
        (names(&selected).len(), &selected["metadata"]["remainingItemCount"]),
        (5, &Value::Null),
        "what a selector leaves is not counted"
    );
    let rest = wire.get(&format!("{MAPS}?limit=50&labelSelector=parity%3Deven&continue={}", text(&selected, "continue"))).await.ok();
    assert_eq!(names(&selected).len() + names(&rest).len(), 12, "thirteen even ones and 100, without 12 and 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_compacted_revision_expires_with_a_fresh_one() {
    let (mut server, wire) = world(12).await;
    let first = wire.get(&format!("{MAPS}?limit=5")).await.ok();
    make(&wire, 50).await;
    // A restarted server has no snapshots of its own, and etcd's history is gone.
    server.etcd.compact(server.etcd.revision().expect("a revision")).expect("a compaction");
    server.restart().await.expect("a restart");
    let expired = wire.get(&format!("{MAPS}?limit=5&continue={}", text(&first, "continue"))).await;
    assert_eq!(expired.code, 410, "{}", expired.text());
    let status = expired.json();
    assert_eq!(status["reason"], "Expired");
    let fresh = text(&status, "continue");
    assert!(!fresh.is_empty(), "{status}");
    let rest = wire.get(&format!("{MAPS}?continue={fresh}")).await.ok();
    let seen: BTreeSet<String> = names(&first).into_iter().chain(names(&rest)).collect();
    assert_eq!(seen.len(), 13, "everything, though not at one revision");
    let gone = wire.get(&format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={}", text(&first, "resourceVersion"))).await;
    assert_eq!(gone.code, 410, "{}", gone.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_a_list_may_ask_for() {
    let (_server, wire) = world(3).await;
    let then = wire.get(MAPS).await.ok();
    let at = text(&then, "resourceVersion");
    make(&wire, 3).await;
    let exact = wire.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!((names(&exact).len(), text(&exact, "resourceVersion")), (3, at));
    let newer = wire.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=NotOlderThan")).await.ok();
    assert!(text(&newer, "resourceVersion").parse::<u64>().expect("a number") >= at.parse().expect("a number"));
    let limited = wire.get(&format!("{MAPS}?resourceVersion={at}&limit=2")).await.ok();
    assert_eq!((names(&limited).len(), text(&limited, "resourceVersion")), (2, at));
    let future = wire.get(&format!("{MAPS}?resourceVersion=1000000")).await;
    assert_eq!(future.code, 504, "{}", future.text());
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "{}", future.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wrote_reads_it() {
    let (_server, wire) = world(0).await;
    let other = wire.clone();
    for i in 0..50 {
        let made = make(&wire, i).await;
        let list = other.get(MAPS).await.ok();
        assert_eq!(names(&list).len(), i + 1);
        assert_eq!(list["items"][i]["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
        let path = format!("{MAPS}/m-{i:03}");
        let patched = wire.patch("merge", &path, &json!({"data": {"i": i.to_string()}})).await.ok();
        assert_eq!(other.get(&path).await.ok(), patched);
    }
}
