//! Events of the core group.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-instrumentation] Events should manage the lifecycle of an event", test!(lifecycle)),
    Behaviour::new("[sig-instrumentation] Events should delete a collection of events", test!(collection)),
];

fn event(f: &Framework, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "labels": labels},
        "message": format!("This is {name}"), "reason": "Test", "type": "Normal", "count": 1,
        "involvedObject": {"namespace": f.namespace},
    })
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("static");
    f.wire.post(&f.core("events"), &event(&f, "event-test", &json!({"testevent-constant": label}))).await.expect(201);
    let path = f.core("events/event-test");
    let everywhere = format!("/api/v1/events?labelSelector=testevent-constant%3D{label}");
    let found = f.list(&everywhere).await;
    assert_eq!(
        found.iter().map(|e| (&e["metadata"]["name"], &e["metadata"]["namespace"])).collect::<Vec<_>>(),
        [(&json!("event-test"), &json!(f.namespace))]
    );

    f.wire.patch("strategic", &path, &json!({"message": "This is a test event - patched"})).await.expect(200);
    let mut read = f.wire.get(&path).await.expect(200);
    assert_eq!(read["message"], "This is a test event - patched");

    let series = json!({"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"});
    read["series"] = series.clone();
    f.wire.put(&path, &read).await.expect(200);
    let read = f.wire.get(&path).await.expect(200);
    assert_eq!((&read["series"], &read["message"]), (&series, &json!("This is a test event - patched")));

    f.wire.delete(&path).await.expect(200);
    assert_eq!(f.list(&everywhere).await, Vec::<Value>::new());
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    for name in ["test-event-1", "test-event-2", "test-event-3"] {
        f.wire.post(&f.core("events"), &event(&f, name, &json!({"testevent-set": "true"}))).await.expect(201);
    }
    let set = f.core("events?labelSelector=testevent-set%3Dtrue");
    assert_eq!(f.list(&set).await.len(), 3);
    f.wire.delete(&set).await.expect(200);
    f.until("the events to go", SOON, || async { f.list(&set).await.is_empty().then_some(()) }).await;
    Ok(())
}
