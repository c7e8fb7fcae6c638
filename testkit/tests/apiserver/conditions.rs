//! Conditions of a status that do not say since when they hold.

use serde_json::{Value, json};
use testkit::ApiServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_without_a_time_holds_from_now_on() {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    let services = "/api/v1/namespaces/t/services";
    wire.post(services, &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await.expect(201);
    let path = format!("{services}/s/status");
    let condition = |more: Value| {
        let mut condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"});
        condition.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        condition
    };
    // Left out, as null, and with the type alone, as Go's clients write it in JSON.
    for (more, said) in [
        (json!({}), None),
        (json!({"lastTransitionTime": null}), None),
        (json!({"lastTransitionTime": "2026-01-01T00:00:00Z"}), Some("2026-01-01T00:00:00Z")),
    ] {
        let mut service = wire.get(&path).await.expect(200);
        service["status"]["conditions"] = json!([condition(more.clone())]);
        let stored = wire.put(&path, &service).await.expect(200);
        let patched = wire.patch("merge", &path, &json!({"status": {"conditions": [condition(more)]}})).await.expect(200);
        for object in [stored, patched] {
            let time = object["status"]["conditions"][0]["lastTransitionTime"].as_str().expect("a time");
            assert!(said.map_or_else(|| time.parse::<jiff::Timestamp>().is_ok(), |said| said == time), "{object}");
        }
    }
    // Other kinds' conditions are as they are written.
    let pods = "/api/v1/namespaces/t/replicationcontrollers";
    wire.post(pods, &json!({"metadata": {"name": "r"}, "spec": {"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})).await.expect(201);
    let patched = wire
        .patch("merge", &format!("{pods}/r/status"), &json!({"status": {"conditions": [{"type": "a", "status": "True"}]}}))
        .await
        .expect(200);
    assert_eq!(patched["status"]["conditions"][0].get("lastTransitionTime"), None);
}
