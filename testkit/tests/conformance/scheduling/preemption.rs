//! Pods that make room for more important ones.

use serde_json::{Value, json};

use super::{advertise, idle};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works", test!(basic)),
    Behaviour::new(
        "[sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod",
        test!(critical),
    ),
    Behaviour::new(
        "[sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path",
        test!(replica_sets),
    ),
    Behaviour::new(
        "[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods",
        test!(endpoints),
    ),
];

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// Makes a class of the test's own.
async fn class(f: &Framework, word: &str, value: i64) -> String {
    let name = format!("{word}-{}", f.namespace);
    let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
    f.wire.post(CLASSES, &object).await.expect(201);
    f.remove_later(&format!("{CLASSES}/{name}"));
    name
}

async fn nodes(f: &Framework) -> Vec<String> {
    let nodes = f.list("/api/v1/nodes").await;
    nodes.iter().map(|n| n["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// Fills each node with a pod of low priority on one, of medium priority on the others; gives the low one's uid and a pod that fits nowhere.
async fn filled(f: &Framework) -> (Value, Value) {
    let (low, medium) = (class(f, "low", 1).await, class(f, "medium", 100).await);
    let mut uid = Value::Null;
    let mut resource = String::new();
    for (number, node) in nodes(f).await.iter().enumerate() {
        resource = advertise(f, node, "5").await;
        let name = format!("pod{number}");
        let mut pod = idle(&name, node, &resource, "3");
        pod["spec"]["priorityClassName"] = json!(if number == 0 { &low } else { &medium });
        let made = f.create_pod(&pod).await;
        if number == 0 {
            uid = made["metadata"]["uid"].clone();
            assert_eq!(made["spec"]["priority"], 1);
        }
        f.until_ready(&name).await;
    }
    let mut pod = idle("preemptor-pod", "", &resource, "3");
    pod["spec"].as_object_mut().expect("a spec").remove("nodeSelector");
    (uid, pod)
}

/// The preemptor runs where the pod of low priority was; the others were left alone.
async fn preempted(f: &Framework, preemptor: &Framework, name: &str) {
    let pod = preemptor.until_ready(name).await;
    assert_eq!(pod["spec"]["nodeName"], *nodes(f).await[0]);
    f.until_gone(&f.core("pods/pod0"), POD).await;
    for other in f.list(&f.core("pods")).await {
        let known = other["metadata"]["name"].as_str().expect("a name");
        assert!(known == name || other["status"]["phase"] == "Running" && other["metadata"].get("deletionTimestamp").is_none(), "{other}");
    }
    let events = f.list(&f.core("events?fieldSelector=reason%3DPreempted")).await;
    assert!(events.iter().any(|e| e["involvedObject"]["name"] == "pod0" || e["regarding"]["name"] == "pod0"), "it is told of: {events:?}");
}

async fn basic(f: Framework) -> anyhow::Result<()> {
    let (_, mut pod) = filled(&f).await;
    pod["spec"]["priorityClassName"] = json!(class(&f, "high", 1000).await);
    f.create_pod(&pod).await;
    preempted(&f, &f, "preemptor-pod").await;
    Ok(())
}

async fn critical(f: Framework) -> anyhow::Result<()> {
    let (_, mut pod) = filled(&f).await;
    let name = f.unique("critical-pod");
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["priorityClassName"] = json!("system-cluster-critical");
    let system = f.in_namespace("kube-system");
    let made = system.create_pod(&pod).await;
    f.remove_later(&system.core(&format!("pods/{name}")));
    assert_eq!(made["spec"]["priority"], 2_000_000_000);
    preempted(&f, &system, &name).await;
    Ok(())
}

async fn replica_sets(f: Framework) -> anyhow::Result<()> {
    let node = nodes(&f).await.remove(0);
    let resource = advertise(&f, &node, "10").await;
    let sets = async |level: usize, replicas: usize, amount: &str, ready: usize| {
        let name = format!("rs-pod{level}");
        let class = class(&f, &format!("p{level}"), i64::try_from(level).expect("a small number")).await;
        let mut set = Framework::workload("ReplicaSet", &name, replicas, &json!({"name": name}));
        let pod = idle(&name, &node, &resource, amount);
        set["spec"]["template"]["spec"] = pod["spec"].clone();
        set["spec"]["template"]["spec"]["priorityClassName"] = json!(class);
        f.wire.post(&f.group("apps/v1", "replicasets"), &set).await.expect(201);
        until_ready(&f, level, ready).await;
    };
    for (level, replicas, amount) in [(1, 2, "1"), (2, 2, "1"), (3, 2, "2")] {
        sets(level, replicas, amount, replicas).await;
    }
    // Two are free and four wanted: the two least important make room, and their replacements wait.
    sets(4, 1, "4", 1).await;
    for (level, ready) in [(1, 0), (2, 2), (3, 2), (4, 1)] {
        until_ready(&f, level, ready).await;
    }
    let waiting = f.until_pods("name=rs-pod1", 2).await;
    assert!(waiting.iter().all(|p| p["status"]["phase"] == "Pending"), "{waiting:?}");
    Ok(())
}

async fn until_ready(f: &Framework, level: usize, ready: usize) {
    let path = f.group("apps/v1", &format!("replicasets/rs-pod{level}"));
    f.until_it(&path, &format!("to have {ready} ready pods"), POD, |rs| {
        rs["status"]["readyReplicas"].as_u64().unwrap_or(0) == ready as u64
    })
    .await;
}

async fn endpoints(f: Framework) -> anyhow::Result<()> {
    for (word, value) in [("p1", 1), ("p2", 2)] {
        let path = format!("{CLASSES}/{}", class(&f, word, value).await);
        // What must not change is refused however it is sent; the rest is not.
        let patched = f.wire.patch("json", &path, &json!([{"op": "replace", "path": "/value", "value": value * 10}])).await;
        assert!(
            patched.refusal().starts_with("422 Invalid: ") && patched.text().contains("may not be changed in an update"),
            "{}",
            patched.text()
        );
        let mut object = f.wire.get(&path).await.expect(200);
        object["value"] = json!(value * 10);
        assert_eq!(f.wire.put(&path, &object).await.code, 422);
        for kind in ["merge", "strategic"] {
            let patched = f.wire.patch(kind, &path, &json!({"description": kind})).await.expect(200);
            assert_eq!((&patched["description"], &patched["value"]), (&json!(kind), &json!(value)));
        }
        let updated = f.update(&path, |class| class["description"] = json!("updated")).await;
        assert_eq!(updated["description"], "updated");
    }
    let listed = f.list(CLASSES).await;
    let own = |c: &&Value| c["metadata"]["name"].as_str().is_some_and(|n| n.ends_with(&f.namespace));
    assert_eq!(listed.iter().filter(own).count(), 2);
    assert!(listed.iter().any(|c| c["metadata"]["name"] == "system-node-critical" && c["value"] == 2_000_001_000));
    let kept = f.wire.delete(&format!("{CLASSES}/system-node-critical")).await.refusal();
    assert!(kept.starts_with("403 Forbidden: ") && kept.ends_with("this is a system priority class and cannot be deleted"), "{kept}");
    Ok(())
}
