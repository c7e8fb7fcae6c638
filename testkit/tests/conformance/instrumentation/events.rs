//! Events of the group `events.k8s.io`, which are those of the core group by other names.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed",
        test!(lifecycle),
    ),
    Behaviour::new("[sig-instrumentation] Events API should delete a collection of events", test!(collection)),
];

const GROUP: &str = "events.k8s.io/v1";
const TIME: &str = "2017-09-19T13:49:16.000000Z";

fn event(f: &Framework, name: &str, label: &str, value: &str) -> Value {
    json!({
        "apiVersion": GROUP, "kind": "Event", "metadata": {"name": name, "labels": {label: value}},
        "regarding": {"namespace": f.namespace}, "eventTime": TIME, "note": format!("This is {name}"), "action": "Do", "reason": "Test",
        "type": "Normal", "reportingController": "test-controller", "reportingInstance": "test-node",
    })
}

/// The event without what the server alone writes.
fn own(event: &Value) -> Value {
    let mut event = event.clone();
    let metadata = event["metadata"].as_object_mut().expect("metadata");
    metadata.remove("resourceVersion");
    metadata.remove("managedFields");
    event
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let value = f.unique("constant");
    let events = f.group(GROUP, "events");
    f.wire.post(&events, &event(&f, "event-test", "testevent-constant", &value)).await.expect(201);
    let path = f.group(GROUP, "events/event-test");
    let selector = format!("labelSelector=testevent-constant%3D{value}");
    let everywhere = format!("/apis/{GROUP}/events?{selector}");
    let here = format!("{events}?{selector}");
    for list in [&everywhere, &here] {
        let found = f.list(list).await;
        assert_eq!(
            found.iter().map(|e| (&e["metadata"]["name"], &e["metadata"]["namespace"])).collect::<Vec<_>>(),
            [(&json!("event-test"), &json!(f.namespace))]
        );
    }
    // The same event by what its fields are called in each group.
    for list in
        [f.core("events?fieldSelector=source%3Dtest-controller"), format!("{events}?fieldSelector=reportingController%3Dtest-controller")]
    {
        let found = f.list(&list).await;
        assert_eq!(found.iter().map(|e| &e["metadata"]["name"]).collect::<Vec<_>>(), ["event-test"], "{list}");
    }

    let mut wanted = f.wire.get(&path).await.expect(200);
    f.wire.patch("strategic", &path, &json!({"note": "This is a test event - patched"})).await.expect(200);
    wanted["note"] = json!("This is a test event - patched");
    assert_eq!(own(&f.wire.get(&path).await.expect(200)), own(&wanted), "the note alone is changed");

    // Without a version: an event is whoever's writes last.
    let mut update = own(&wanted);
    update["series"] = json!({"count": 100, "lastObservedTime": TIME});
    f.wire.put(&path, &update).await.expect(200);
    assert_eq!(own(&f.wire.get(&path).await.expect(200)), update, "the series is added and nothing else");

    f.wire.delete(&path).await.expect(200);
    for list in [&everywhere, &here] {
        assert_eq!(f.list(list).await, Vec::<Value>::new());
    }
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let events = f.group(GROUP, "events");
    for name in ["test-event-1", "test-event-2", "test-event-3"] {
        f.wire.post(&events, &event(&f, name, "testevent-set", "true")).await.expect(201);
    }
    let set = format!("{events}?labelSelector=testevent-set%3Dtrue");
    assert_eq!(f.list(&set).await.len(), 3);
    f.wire.delete(&set).await.expect(200);
    assert_eq!(f.list(&set).await, Vec::<Value>::new());
    Ok(())
}
