//! Watches on config maps: what a watcher sees, in which order, and from where on.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::Watching;

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps",
        test!(add_update_delete),
    ),
    Behaviour::new("[sig-api-machinery] Watchers should be able to start watching from a specific resource version", test!(from_a_version)),
    Behaviour::new(
        "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch",
        test!(restarted),
    ),
    Behaviour::new(
        "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector",
        test!(leaving_the_selection),
    ),
    Behaviour::new("[sig-api-machinery] Watchers should receive events on concurrent watches in same order", test!(same_order)),
];

const LABEL: &str = "watch-this-configmap";

fn map(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {LABEL: label}}})
}

/// Watches config maps with one of these labels, from a version on.
async fn watch(f: &Framework, labels: &[&str], version: &str) -> Watching {
    let selector = format!("{LABEL}%20in%20%28{}%29", labels.join("%2C"));
    f.wire.watch(&f.core(&format!("configmaps?watch=true&labelSelector={selector}&resourceVersion={version}"))).await
}

async fn create(f: &Framework, map: &Value) -> Value {
    f.wire.post(&f.core("configmaps"), map).await.expect(201)
}

/// Reads the object, sets `data.mutation`, writes it back.
async fn mutate(f: &Framework, name: &str, mutation: &str) -> Value {
    change(f, name, |map| map["data"] = json!({"mutation": mutation})).await
}

async fn change(f: &Framework, name: &str, change: impl Fn(&mut Value)) -> Value {
    let path = f.core(&format!("configmaps/{name}"));
    let mut map = f.wire.get(&path).await.expect(200);
    change(&mut map);
    f.wire.put(&path, &map).await.expect(200)
}

async fn delete(f: &Framework, name: &str) {
    f.wire.delete(&f.core(&format!("configmaps/{name}"))).await.expect(200);
}

/// The next event is this one: its type, and the object as the writer got it.
async fn expect(watch: &mut Watching, kind: &str, object: &Value) {
    let event = watch.next().await.expect("another event");
    assert_eq!(event["type"], kind, "{event}");
    assert_eq!(event["object"], *object, "{kind}: what the watcher sees is what the writer got");
}

/// The next event tells that this object, as it was last, is deleted.
async fn expect_deleted(watch: &mut Watching, last: &Value) {
    let event = watch.next().await.expect("another event");
    assert_eq!(event["type"], "DELETED", "{event}");
    assert_eq!((&event["object"]["metadata"]["uid"], &event["object"]["data"]), (&last["metadata"]["uid"], &last["data"]), "{event}");
    assert_ne!(event["object"]["metadata"]["resourceVersion"], last["metadata"]["resourceVersion"], "a deletion has its own version");
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a resourceVersion")
}

async fn add_update_delete(f: Framework) -> anyhow::Result<()> {
    let now = f.wire.get(&f.core("configmaps")).await.expect(200);
    let mut a = watch(&f, &["multiple-watchers-A"], version(&now)).await;
    let mut b = watch(&f, &["multiple-watchers-B"], version(&now)).await;
    let mut both = watch(&f, &["multiple-watchers-A", "multiple-watchers-B"], version(&now)).await;

    let made = create(&f, &map("e2e-watch-test-configmap-a", "multiple-watchers-A")).await;
    expect(&mut a, "ADDED", &made).await;
    expect(&mut both, "ADDED", &made).await;
    let mut last = made;
    for mutation in ["1", "2"] {
        last = mutate(&f, "e2e-watch-test-configmap-a", mutation).await;
        expect(&mut a, "MODIFIED", &last).await;
        expect(&mut both, "MODIFIED", &last).await;
    }
    delete(&f, "e2e-watch-test-configmap-a").await;
    expect_deleted(&mut a, &last).await;
    expect_deleted(&mut both, &last).await;

    // B's first event is this one: it saw none of the above. A's next event is the marker: it saw nothing of this.
    let made = create(&f, &map("e2e-watch-test-configmap-b", "multiple-watchers-B")).await;
    expect(&mut b, "ADDED", &made).await;
    expect(&mut both, "ADDED", &made).await;
    delete(&f, "e2e-watch-test-configmap-b").await;
    expect_deleted(&mut b, &made).await;
    expect_deleted(&mut both, &made).await;
    let marker = create(&f, &map("e2e-watch-test-marker", "multiple-watchers-A")).await;
    expect(&mut a, "ADDED", &marker).await;
    expect(&mut both, "ADDED", &marker).await;
    Ok(())
}

async fn from_a_version(f: Framework) -> anyhow::Result<()> {
    let name = "e2e-watch-test-resource-version";
    create(&f, &map(name, "from-resource-version")).await;
    let first = mutate(&f, name, "1").await;
    let second = mutate(&f, name, "2").await;
    delete(&f, name).await;
    let mut watch = watch(&f, &["from-resource-version"], version(&first)).await;
    expect(&mut watch, "MODIFIED", &second).await;
    expect_deleted(&mut watch, &second).await;
    Ok(())
}

async fn restarted(f: Framework) -> anyhow::Result<()> {
    let (name, label) = ("e2e-watch-test-watch-closed", "watch-closed-and-restarted");
    let now = f.wire.get(&f.core("configmaps")).await.expect(200);
    let mut first = watch(&f, &[label], version(&now)).await;
    let made = create(&f, &map(name, label)).await;
    let changed = mutate(&f, name, "1").await;
    expect(&mut first, "ADDED", &made).await;
    let event = first.next().await.expect("another event");
    assert_eq!((&event["type"], &event["object"]), (&json!("MODIFIED"), &changed));
    drop(first);

    // While nobody watches.
    let missed = mutate(&f, name, "2").await;
    let mut second = watch(&f, &[label], version(&event["object"])).await;
    delete(&f, name).await;
    expect(&mut second, "MODIFIED", &missed).await;
    expect_deleted(&mut second, &missed).await;
    Ok(())
}

async fn leaving_the_selection(f: Framework) -> anyhow::Result<()> {
    let (name, label) = ("e2e-watch-test-label-changed", "label-changed-and-restored");
    let now = f.wire.get(&f.core("configmaps")).await.expect(200);
    let mut watch = watch(&f, &[label], version(&now)).await;
    let made = create(&f, &map(name, label)).await;
    let changed = mutate(&f, name, "1").await;
    let left = change(&f, name, |map| map["metadata"]["labels"][LABEL] = json!("wrong-value")).await;
    expect(&mut watch, "ADDED", &made).await;
    expect(&mut watch, "MODIFIED", &changed).await;
    // Seen as a deletion, with the object as it was, at the version that took it out.
    let event = watch.next().await.expect("another event");
    assert_eq!((&event["type"], &event["object"]["data"]), (&json!("DELETED"), &json!({"mutation": "1"})), "{event}");
    assert_eq!((&event["object"]["metadata"]["labels"][LABEL], version(&event["object"])), (&json!(label), version(&left)), "{event}");

    // Not seen, because it is not selected: the next event is the one that brings it back.
    mutate(&f, name, "2").await;
    let back = change(&f, name, |map| map["metadata"]["labels"][LABEL] = json!(label)).await;
    expect(&mut watch, "ADDED", &back).await;
    let last = mutate(&f, name, "3").await;
    expect(&mut watch, "MODIFIED", &last).await;
    delete(&f, name).await;
    expect_deleted(&mut watch, &last).await;
    Ok(())
}

/// Writes that a test of order makes, and as many further watches.
const WRITES: usize = 100;

async fn same_order(f: Framework) -> anyhow::Result<()> {
    let now = f.wire.get(&f.core("configmaps")).await.expect(200);
    let all = |version: &str| f.core(&format!("configmaps?watch=true&resourceVersion={version}"));
    let mut first = f.wire.watch(&all(version(&now))).await;
    let writer = tokio::spawn(write(f.clone(), WRITES));

    // A watch from each event that the first one sees: all of them go on alike from there.
    let mut watches: Vec<Watching> = vec![];
    for _ in 0..WRITES {
        let event = tokio::time::timeout(Duration::from_secs(60), first.line()).await?.expect("another event");
        for watch in &mut watches {
            let seen = watch.next().await.expect("another event");
            assert_eq!((&seen["type"], &seen["object"]), (&event["type"], &event["object"]), "all watches see the same");
        }
        watches.push(f.wire.watch(&all(version(&event["object"]))).await);
    }
    writer.await?;
    Ok(())
}

/// Creates, changes and deletes config maps: each at most a few at a time, all in an order that looks like none.
async fn write(f: Framework, writes: usize) {
    let mut there: Vec<String> = vec![];
    for n in 0..writes {
        let turn = n * 7 % 5;
        if there.is_empty() || turn == 0 || turn == 3 {
            let name = format!("e2e-watch-test-{n}");
            create(&f, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})).await;
            there.push(name);
        } else if turn == 1 {
            let name = there.remove(n * 3 % there.len());
            delete(&f, &name).await;
        } else {
            let name = there[n * 11 % there.len()].clone();
            mutate(&f, &name, &n.to_string()).await;
        }
    }
}
