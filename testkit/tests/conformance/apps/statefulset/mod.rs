//! StatefulSets.

mod scaling;
mod updates;

use serde_json::{Value, json};

use super::{name, selected, until_status};
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications",
        test!(updates::rolling),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications",
        test!(updates::canary),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow]",
        test!(scaling::ordered),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow]",
        test!(scaling::burst),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset",
        test!(evicted),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource",
        test!(scale),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets",
        test!(collection),
    ),
    Behaviour::new(
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints",
        test!(status),
    ),
];

const NAME: &str = "ss";

fn path(f: &Framework) -> String {
    f.group("apps/v1", &format!("statefulsets/{NAME}"))
}

/// Makes the headless Service, and the set.
async fn create(f: &Framework, replicas: usize, change: impl FnOnce(&mut Value)) -> Value {
    let labels = json!({"foo": "bar", "baz": "blah"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "test"},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [{"name": "http", "port": 80}]},
    });
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let mut set = Framework::workload("StatefulSet", NAME, replicas, &labels);
    set["spec"]["serviceName"] = json!("test");
    change(&mut set);
    f.wire.post(&f.group("apps/v1", "statefulsets"), &set).await.expect(201)
}

/// Its pods, by ordinal.
async fn pods(f: &Framework) -> Vec<Value> {
    let mut pods = f.list(&f.core(&format!("pods{}", selected("foo", "bar")))).await;
    pods.sort_by_key(|p| name(p).to_owned());
    pods
}

async fn until_ready(f: &Framework, replicas: u64) -> Value {
    until_status(f, &path(f), &[("replicas", replicas), ("readyReplicas", replicas), ("availableReplicas", replicas)]).await
}

async fn scale(f: Framework) -> anyhow::Result<()> {
    create(&f, 1, |_| ()).await;
    until_ready(&f, 1).await;
    f.scaled(&path(&f), 1, 2, 3).await;
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("ss");
    create(&f, 1, |set| set["metadata"]["labels"]["e2e"] = json!(label)).await;
    until_ready(&f, 1).await;
    let patch = json!({
        "metadata": {"labels": {"e2e-patch": "patched"}},
        "spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": BUSYBOX, "command": ["sleep", "3600"]}]}}},
    });
    f.wire.patch("strategic", &path(&f), &patch).await.expect(200);
    until_status(&f, &path(&f), &[("readyReplicas", 2), ("updatedReplicas", 2)]).await;
    let found = f.list(&format!("/apis/apps/v1/statefulsets{}", selected("e2e", &label))).await;
    assert_eq!((found.len(), &found[0]["metadata"]["labels"]["e2e-patch"]), (1, &json!("patched")));
    f.delete_collection(&f.group("apps/v1", &format!("statefulsets{}", selected("e2e", &label)))).await;
    f.until("its pods to go", POD, || async { pods(&f).await.is_empty().then_some(()) }).await;
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    create(&f, 1, |_| ()).await;
    until_ready(&f, 1).await;
    f.status_conditions(&path(&f)).await;
    Ok(())
}

/// A node that rejects the set's pod, since another has the port, sees it made anew until that one is gone.
async fn evicted(f: Framework) -> anyhow::Result<()> {
    const PORT: u16 = 21017;
    let node = name(&f.list("/api/v1/nodes").await.swap_remove(0)).to_owned();
    let ports = json!([{"containerPort": PORT, "hostPort": PORT, "name": "conflict"}]);
    let mut other = Framework::idle_template(&json!({"name": "test-pod"}));
    (other["apiVersion"], other["kind"], other["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!("test-pod"));
    let occupy = |pod: &mut Value| {
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["containers"][0]["ports"] = ports.clone();
    };
    occupy(&mut other);
    f.create_pod(&other).await;
    f.until_ready("test-pod").await;
    let mut watch = f.watch_from_now(&f.core(&format!("pods{}", selected("foo", "bar")))).await;
    create(&f, 1, |set| occupy(&mut set["spec"]["template"])).await;
    let mut first = None;
    loop {
        let event = watch.next().await.expect("another event");
        let pod = &event["object"];
        if pod["status"]["phase"] == "Failed" {
            first.get_or_insert_with(|| pod["metadata"]["uid"].clone());
        } else if first.as_ref().is_some_and(|uid| *uid != pod["metadata"]["uid"]) {
            break;
        }
    }
    f.wire.delete(&f.core("pods/test-pod")).await.expect(200);
    until_ready(&f, 1).await;
    Ok(())
}
