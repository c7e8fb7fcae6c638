//! Pods made, changed, ended.

use serde_json::{Value, json};

use super::{idle, restrict, selected};
use crate::common::{condition, container_status};
use crate::framework::{Framework, NGINX, POD, SOON};

pub async fn host_ip(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    f.create_pod(&idle("p", &json!({}))).await;
    let pod = f.until_it(&f.core("pods/p"), "a host IP", POD, |p| p["status"]["hostIP"].is_string()).await;
    let ip: std::net::IpAddr = pod["status"]["hostIP"].as_str().expect("a text").parse()?;
    assert_eq!(pod["status"]["hostIPs"][0]["ip"], json!(ip));
    let node = f.wire.get(&format!("/api/v1/nodes/{}", pod["spec"]["nodeName"].as_str().expect("a node"))).await.expect(200);
    assert!(node["status"]["addresses"].as_array().expect("addresses").contains(&json!({"type": "InternalIP", "address": ip})));
    Ok(())
}

/// Waits for the next events until one is as wanted.
async fn event(watch: &mut testkit::Watching, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = watch.next().await.expect("another event");
        if wanted(&event) {
            return event["object"].clone();
        }
    }
}

pub async fn removed(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    let selected = selected(&f, "removed");
    let list = f.wire.get(&selected).await.expect(200);
    assert_eq!(list["items"], json!([]));
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut watch = f.wire.watch(&format!("{selected}&watch=true&resourceVersion={version}")).await;
    f.create_pod(&idle("p", &json!({"name": "foo", "time": "removed"}))).await;
    assert_eq!(watch.short().await, "ADDED p");
    f.until_ready("p").await;
    assert_eq!(f.list(&selected).await.len(), 1);

    let node = f.wire.get(&f.core("pods/p")).await.expect(200)["spec"]["nodeName"].as_str().expect("a node").to_owned();
    let deleted = f.wire.delete(&f.core("pods/p?gracePeriodSeconds=30")).await.expect(200);
    let metadata = &deleted["metadata"];
    assert!(metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == 30, "{metadata}");
    f.until("the kubelet to see that the pod is to go", POD, || async {
        let pods = f.wire.get(&format!("/api/v1/nodes/{node}:10250/proxy/pods")).await.expect(200);
        let uid = |p: &&Value| p["metadata"]["uid"] == metadata["uid"];
        let known = pods["items"].as_array().expect("a list").iter().find(uid).cloned();
        known.is_none_or(|p| p["metadata"]["deletionTimestamp"].is_string()).then_some(())
    })
    .await;
    event(&mut watch, |e| !e["object"]["metadata"]["deletionTimestamp"].is_null()).await;
    let last = event(&mut watch, |e| e["type"] == "DELETED").await;
    assert!(last["metadata"]["deletionTimestamp"].is_string() && last["spec"]["terminationGracePeriodSeconds"] == 1, "{last}");
    assert_eq!(f.list(&selected).await, Vec::<Value>::new());
    Ok(())
}

/// Reads the pod, changes it, writes it back, until nobody else was faster.
async fn change(f: &Framework, path: &str, change: impl Fn(&mut Value)) -> Value {
    f.until("an update without a conflict", SOON, || async {
        let mut read = f.wire.get(path).await.expect(200);
        change(&mut read);
        let answer = f.wire.put(path, &read).await;
        (answer.code != 409).then(|| answer.expect(200))
    })
    .await
}

pub async fn updated(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    f.create_pod(&idle("p", &json!({"name": "foo", "time": "first"}))).await;
    f.until_ready("p").await;
    assert_eq!(f.list(&selected(&f, "first")).await.len(), 1);
    change(&f, &f.core("pods/p"), |pod| pod["metadata"]["labels"]["time"] = json!("second")).await;
    assert_eq!(f.list(&selected(&f, "second")).await.len(), 1);
    assert_eq!(f.list(&selected(&f, "first")).await, Vec::<Value>::new());
    f.until_ready("p").await;
    Ok(())
}

pub async fn deadline(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    f.create_pod(&idle("p", &json!({"name": "foo", "time": "deadline"}))).await;
    f.until_ready("p").await;
    assert_eq!(f.list(&selected(&f, "deadline")).await.len(), 1);
    change(&f, &f.core("pods/p"), |pod| pod["spec"]["activeDeadlineSeconds"] = json!(3)).await;
    let ended = f.until_ended("p").await;
    assert_eq!(
        (&ended["status"]["phase"], &ended["status"]["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded")),
        "{}",
        ended["status"]
    );
    Ok(())
}

pub async fn collection(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    for name in ["test-pod-1", "test-pod-2", "test-pod-3"] {
        f.create_pod(&idle(name, &json!({"time": "set"}))).await;
    }
    let set = selected(&f, "set");
    assert_eq!(f.list(&set).await.len(), 3);
    f.wire.delete_with(&set, &json!({"gracePeriodSeconds": 1})).await.expect(200);
    f.until("no pods to be left", POD, || async { f.list(&set).await.is_empty().then_some(()) }).await;
    Ok(())
}

pub async fn status(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    f.create_pod(&idle("p", &json!({}))).await;
    f.until_ready("p").await;
    let patch =
        json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"message": "Patched by e2e test", "reason": "E2E"}});
    let patched = f.wire.patch("merge", &f.core("pods/p/status"), &patch).await.expect(200);
    assert_eq!((&patched["status"]["message"], &patched["status"]["reason"]), (&json!("Patched by e2e test"), &json!("E2E")));
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    assert_eq!(patched["status"]["phase"], "Running", "what is not in the patch stays");
    Ok(())
}

pub async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    restrict(&f).await;
    let (set, path) = (selected(&f, "static"), f.core("pods/p"));
    let mut watch = f.wire.watch(&format!("{set}&watch=true")).await;
    f.create_pod(&idle("p", &json!({"time": "static"}))).await;
    let ready = event(&mut watch, |e| condition(&e["object"], "Ready") == "True").await;

    let container = json!({"name": "main", "image": NGINX});
    let patch =
        json!({"metadata": {"labels": {"test-pod": "patched"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}});
    let patched = f.wire.patch("strategic", &path, &patch).await.expect(200);
    assert_eq!(
        (&patched["metadata"]["labels"]["test-pod"], &patched["spec"]["containers"][0]["image"]),
        (&json!("patched"), &json!(NGINX))
    );
    let version = |pod: &Value| pod["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok()).expect("a version");
    let seen = event(&mut watch, |e| e["type"] == "MODIFIED" && e["object"]["metadata"]["labels"]["test-pod"] == "patched").await;
    assert!(version(&seen) > version(&ready));
    // Its container is replaced by one of the other image, and until then the pod is ready.
    let restarted = event(&mut watch, |e| {
        assert_eq!((condition(&e["object"], "Ready"), condition(&e["object"], "ContainersReady")), ("True".to_owned(), "True".to_owned()));
        let status = container_status(&e["object"], "main");
        status["restartCount"] == 1 && status["image"].as_str().is_some_and(|i| i.ends_with(NGINX))
    })
    .await;
    assert!(container_status(&restarted, "main")["lastState"]["terminated"].is_object(), "{}", restarted["status"]);

    let not_ready = change(&f, &format!("{path}/status"), |pod| {
        for condition in pod["status"]["conditions"].as_array_mut().expect("conditions") {
            if condition["type"] == "Ready" || condition["type"] == "ContainersReady" {
                condition["status"] = json!("False");
            }
        }
    })
    .await;
    assert_eq!((condition(&not_ready, "Ready"), condition(&not_ready, "ContainersReady")), ("False".to_owned(), "False".to_owned()));
    // The kubelet knows better.
    f.until_ready("p").await;

    f.wire.delete_with(&set, &json!({"gracePeriodSeconds": 1})).await.expect(200);
    event(&mut watch, |e| e["type"] == "DELETED").await;
    Ok(())
}
