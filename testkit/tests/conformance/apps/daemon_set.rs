//! DaemonSets. Each has nodes of its own label, or all of them: the tests need not be alone.

use serde_json::{Value, json};

use super::{belongs_to, name, selected, until_status};
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] Daemon set [Serial] should run and stop simple daemon", test!(simple)),
    Behaviour::new("[sig-apps] Daemon set [Serial] should run and stop complex daemon", test!(complex)),
    Behaviour::new("[sig-apps] Daemon set [Serial] should retry creating failed daemon pods", test!(failed_pods)),
    Behaviour::new(
        "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate",
        test!(rolling_update),
    ),
    Behaviour::new("[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts", test!(rollback)),
    Behaviour::new("[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets", test!(collection)),
    Behaviour::new("[sig-apps] Daemon set [Serial] should verify changes to a daemon set status", test!(status)),
];

const NAME: &str = "daemon-set";

fn object() -> Value {
    let labels = json!({"daemonset-name": NAME});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": NAME, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": Framework::idle_template(&labels)},
    })
}

fn path(f: &Framework) -> String {
    f.group("apps/v1", &format!("daemonsets/{NAME}"))
}

async fn pods(f: &Framework) -> Vec<Value> {
    f.list(&f.core(&format!("pods{}", selected("daemonset-name", NAME)))).await
}

/// Waits until the set's pods are ready on so many nodes, one on each, all of its newest revision.
async fn until_on(f: &Framework, nodes: u64) -> Vec<Value> {
    let counts = [("desiredNumberScheduled", nodes), ("numberReady", nodes), ("numberAvailable", nodes), ("updatedNumberScheduled", nodes)];
    f.until(&format!("ready pods on {nodes} nodes"), POD, || async {
        until_status(f, &path(f), &counts).await;
        // The status may be older than a pod's end.
        let pods = pods(f).await;
        let mut on: Vec<&str> = pods.iter().filter_map(|p| p["spec"]["nodeName"].as_str()).collect();
        on.sort_unstable();
        on.dedup();
        let well = |p: &Value| p["status"]["phase"] == "Running" && p["metadata"].get("deletionTimestamp").is_none();
        (pods.len() as u64 == nodes && on.len() as u64 == nodes && pods.iter().all(well)).then_some(pods)
    })
    .await
}

/// Makes the set, and waits until it runs on all nodes.
async fn create(f: &Framework, object: &Value) -> Vec<Value> {
    f.wire.post(&f.group("apps/v1", "daemonsets"), object).await.expect(201);
    let nodes = f.list("/api/v1/nodes").await.len() as u64;
    until_on(f, nodes).await
}

async fn simple(f: Framework) -> anyhow::Result<()> {
    let before = create(&f, &object()).await;
    f.wire.delete(&f.core(&format!("pods/{}", name(&before[0])))).await.expect(200);
    f.until("the pod to be replaced", POD, || async {
        let now = pods(&f).await;
        let replaced = now.len() == before.len() && now.iter().all(|p| name(p) != name(&before[0]));
        replaced.then_some(())
    })
    .await;
    until_on(&f, before.len() as u64).await;
    f.wire.delete(&path(&f)).await.expect(200);
    f.until("its pods to go", POD, || async { pods(&f).await.is_empty().then_some(()) }).await;
    Ok(())
}

async fn complex(f: Framework) -> anyhow::Result<()> {
    let key = format!("{}-color", f.namespace);
    let mut set = object();
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({&*key: "blue"});
    f.wire.post(&f.group("apps/v1", "daemonsets"), &set).await.expect(201);
    until_on(&f, 0).await;
    let node = f.list("/api/v1/nodes").await.swap_remove(0);
    let node = format!("/api/v1/nodes/{}", name(&node));
    let paint = async |color: Option<&str>| {
        f.wire.patch("merge", &node, &json!({"metadata": {"labels": {&*key: color}}})).await.expect(200);
    };
    paint(Some("blue")).await;
    let pods = until_on(&f, 1).await;
    assert_eq!(format!("/api/v1/nodes/{}", pods[0]["spec"]["nodeName"].as_str().expect("a node")), node);
    paint(Some("green")).await;
    until_on(&f, 0).await;
    f.update(&path(&f), |set| {
        set["spec"]["template"]["spec"]["nodeSelector"][&*key] = json!("green");
        set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
    })
    .await;
    until_on(&f, 1).await;
    paint(None).await;
    until_on(&f, 0).await;
    Ok(())
}

async fn failed_pods(f: Framework) -> anyhow::Result<()> {
    let before = create(&f, &object()).await;
    let path = f.core(&format!("pods/{}", name(&before[0])));
    // As upstream's test does: whatever the kubelet says meanwhile.
    f.update(&format!("{path}/status"), |pod| pod["status"]["phase"] = json!("Failed")).await;
    f.until_gone(&path, POD).await;
    until_on(&f, before.len() as u64).await;
    let events = f.list(&f.core("events?fieldSelector=reason%3DFailedDaemonPod")).await;
    assert!(!events.is_empty(), "it is told of");
    Ok(())
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().expect("an image")
}

async fn rolling_update(f: Framework) -> anyhow::Result<()> {
    let before = create(&f, &object()).await;
    let revision = |pods: &[Value]| {
        let mut all: Vec<String> = pods.iter().map(|p| p["metadata"]["labels"]["controller-revision-hash"].to_string()).collect();
        all.dedup();
        assert_eq!(all.len(), 1, "one revision");
        all.remove(0)
    };
    let container = json!({"name": "main", "image": BUSYBOX, "command": ["sleep", "3600"]});
    let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    f.wire.patch("strategic", &path(&f), &patch).await.expect(200);
    let after = until_on(&f, before.len() as u64).await;
    assert!(after.iter().all(|p| image(p) == BUSYBOX), "{after:?}");
    assert_ne!(revision(&before), revision(&after));
    let set = f.wire.get(&path(&f)).await.expect(200);
    let history = f.list(&f.group("apps/v1", &format!("controllerrevisions{}", selected("daemonset-name", NAME)))).await;
    let mut numbers: Vec<u64> = history.iter().filter(|r| belongs_to(r, &set)).filter_map(|r| r["revision"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    Ok(())
}

async fn rollback(f: Framework) -> anyhow::Result<()> {
    let before = create(&f, &object()).await;
    anyhow::ensure!(before.len() >= 2, "one node cannot show it");
    let good = image(&before[0]).to_owned();
    let set_image = async |image: &str| {
        f.update(&path(&f), |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image)).await;
    };
    const BAD: &str = "foo:non-existent";
    set_image(BAD).await;
    let half = f
        .until("one pod to be replaced by one that cannot start", POD, || async {
            let now = pods(&f).await;
            let waits = |p: &Value| image(p) == BAD && p["status"]["containerStatuses"][0]["state"]["waiting"].is_object();
            (now.len() == before.len() && now.iter().any(waits)).then_some(now)
        })
        .await;
    let kept: Vec<&str> = half.iter().filter(|p| image(p) == good).map(name).collect();
    assert_eq!(kept.len(), before.len() - 1, "the others wait");
    set_image(&good).await;
    let after = until_on(&f, before.len() as u64).await;
    assert!(after.iter().all(|p| image(p) == good));
    for name_of in kept {
        let pod = after.iter().find(|p| name(p) == name_of).expect("what was not replaced stays");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    }
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("ds");
    let mut set = object();
    set["metadata"]["labels"]["e2e"] = json!(label);
    create(&f, &set).await;
    assert_eq!(f.list(&format!("/apis/apps/v1/daemonsets{}", selected("e2e", &label))).await.len(), 1);
    f.delete_collection(&f.group("apps/v1", &format!("daemonsets{}", selected("e2e", &label)))).await;
    f.until("its pods to go", SOON, || async { pods(&f).await.is_empty().then_some(()) }).await;
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    create(&f, &object()).await;
    f.status_conditions(&path(&f)).await;
    Ok(())
}
