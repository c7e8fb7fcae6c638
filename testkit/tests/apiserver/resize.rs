//! Resizes of pods (KEP-1287) and their generations (KEP-5067), as far as the apiserver goes.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire, eventually};

const PODS: &str = "/api/v1/namespaces/t/pods";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    crate::namespace(&admin, "t").await;
    (server, admin)
}

fn pod(cpu: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn asking(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_changes_resources_alone_and_counts_as_a_generation() {
    let (_server, admin) = world().await;
    let path = format!("{PODS}/p");
    let made = admin.post(PODS, &pod("1")).await.ok();
    assert_eq!((&made["metadata"]["generation"], &made["spec"]["containers"][0]["resizePolicy"]), (&json!(1), &Value::Null));
    let by_the_front_door = admin.patch("strategic", &path, &asking("2")).await;
    assert!(
        by_the_front_door.refusal().starts_with("422 Invalid: Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields")
    );

    let mut patch = asking("2");
    patch["metadata"] = json!({"labels": {"a": "b"}});
    patch["spec"]["containers"][0]["image"] = json!("other");
    let resized = admin.patch("strategic", &format!("{path}/resize"), &patch).await.ok();
    let container = &resized["spec"]["containers"][0];
    assert_eq!((&container["resources"]["requests"]["cpu"], &container["image"]), (&json!("2"), &json!("i")));
    assert_eq!((&resized["metadata"]["generation"], &resized["metadata"]["labels"]), (&json!(2), &Value::Null));
    let owners = resized["metadata"]["managedFields"].as_array().expect("owners");
    let owner = owners.iter().find(|o| o["subresource"] == "resize").expect("an owner of what was resized");
    let owned = owner["fieldsV1"].to_string();
    assert!(owned.contains("f:cpu") && !owned.contains("f:image"), "{owned}");

    let same = admin.patch("strategic", &format!("{path}/resize"), &asking("2")).await.ok();
    assert_eq!(same["metadata"]["generation"], 2, "nothing changed");
    assert_eq!(admin.get(&format!("{path}/resize")).await.ok(), admin.get(&path).await.ok());
    let removed = admin
        .patch(
            "strategic",
            &format!("{path}/resize"),
            &json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": null}}}]}}),
        )
        .await;
    assert!(removed.refusal().contains("spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_and_quotas_hold_for_resizes() {
    let (_server, admin) = world().await;
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "min": {"cpu": "1"}}]}});
    admin.post("/api/v1/namespaces/t/limitranges", &range).await.ok();
    admin
        .post("/api/v1/namespaces/t/resourcequotas", &json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "3"}}}))
        .await
        .ok();
    let status = json!({"status": {"hard": {"requests.cpu": "3"}, "used": {"requests.cpu": "0"}}});
    admin.patch("merge", "/api/v1/namespaces/t/resourcequotas/q/status", &status).await.ok();
    eventually("the quota to be known", Duration::from_secs(5), || async { (admin.post(PODS, &pod("2")).await.code == 201).then_some(()) })
        .await;
    let resize = format!("{PODS}/p/resize");
    assert_eq!(
        admin.patch("strategic", &resize, &asking("500m")).await.refusal(),
        "403 Forbidden: pods \"p\" is forbidden: minimum cpu usage per Container is 1, but request is 500m"
    );
    assert_eq!(
        admin.patch("strategic", &resize, &asking("4")).await.refusal(),
        "403 Forbidden: pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=2, limited: requests.cpu=3"
    );
    admin.patch("strategic", &resize, &asking("3")).await.ok();
    let used = admin.get("/api/v1/namespaces/t/resourcequotas/q").await.ok()["status"]["used"]["requests.cpu"].clone();
    assert_eq!(used, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_edit_may_resize() {
    let (server, admin) = world().await;
    // A controller makes `edit` and `view` of these.
    admin.post(PODS, &pod("1")).await.ok();
    let bound = |role: &str, user: &str| {
        json!({
            "metadata": {"name": user}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        })
    };
    for (role, user) in [("system:aggregate-to-edit", "editor"), ("system:aggregate-to-view", "viewer")] {
        admin.post("/apis/rbac.authorization.k8s.io/v1/namespaces/t/rolebindings", &bound(role, user)).await.ok();
    }
    let (editor, viewer) =
        (server.wire_of("editor", None).await.expect("a client"), server.wire_of("viewer", None).await.expect("a client"));
    eventually("the editor's right", Duration::from_secs(10), || async {
        (editor.patch("strategic", &format!("{PODS}/p/resize"), &asking("2")).await.code == 200).then_some(())
    })
    .await;
    eventually("the viewer's right to look", Duration::from_secs(10), || async {
        (viewer.get(&format!("{PODS}/p")).await.code == 200).then_some(())
    })
    .await;
    assert_eq!(viewer.patch("strategic", &format!("{PODS}/p/resize"), &asking("3")).await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_observed_is_not_forgotten() {
    let (_server, admin) = world().await;
    admin.post(PODS, &pod("1")).await.ok();
    let status = format!("{PODS}/p/status");
    let condition = json!({"type": "Ready", "status": "True", "observedGeneration": 1});
    let written = admin.patch("merge", &status, &json!({"status": {"observedGeneration": 1, "conditions": [condition]}})).await.ok();
    assert_eq!(written["status"]["observedGeneration"], 1);
    let mut read = written;
    read["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]);
    read["status"]["observedGeneration"] = Value::Null;
    let kept = admin.put(&status, &read).await.ok();
    let observed = |i: usize| kept["status"]["conditions"][i]["observedGeneration"].clone();
    assert_eq!((&kept["status"]["observedGeneration"], observed(0), observed(1)), (&json!(1), json!(1), Value::Null));
    let bound = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    admin.post(&format!("{PODS}/p/binding"), &bound).await.ok();
    let pod = admin.get(&format!("{PODS}/p")).await.ok();
    let scheduled = pod["status"]["conditions"].as_array().expect("conditions").iter().find(|c| c["type"] == "PodScheduled").expect("told");
    assert_eq!((&pod["metadata"]["generation"], &scheduled["observedGeneration"]), (&json!(1), &json!(1)), "a binding is no change");
}
