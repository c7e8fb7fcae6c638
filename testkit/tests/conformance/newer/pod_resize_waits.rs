//! Upstream's `test/e2e/node/pod_resize.go`: resizes that a node does not take, or not yet.

use serde_json::{Value, json};

use super::container_resources::{on, pod, resize, sleeper, until_resized};
use crate::common::{condition, container_status};
use crate::framework::{Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::serial(
        "newer: [sig-node] Pod InPlace Resize Container (deferred-resizes) [Serial] pod-resize-retry-deferred-test-1",
        test!(deferred),
    ),
    Behaviour::serial(
        "newer: [sig-node] Pod InPlace Resize Container (deferred-resizes) [Serial] pod-resize-retry-deferred-test-2",
        test!(priority),
    ),
    Behaviour::serial(
        "newer: [sig-node] Pod InPlace Resize Container (scheduler-focused) [Serial] pod-resize-scheduler-tests",
        test!(scheduler),
    ),
];

fn milli(amount: &str) -> i64 {
    amount.strip_suffix('m').map_or_else(|| amount.parse::<i64>().expect("cores") * 1000, |m| m.parse().expect("thousandths"))
}

/// A node, the CPU it allocates, and what of that is still free, in thousandths, once the pods of tests that ran before are gone.
async fn node(f: &Framework) -> (String, i64, i64) {
    let node = f.list("/api/v1/nodes").await.swap_remove(0);
    let name = node["metadata"]["name"].as_str().expect("a name").to_owned();
    let all = milli(node["status"]["allocatable"]["cpu"].as_str().expect("CPU"));
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}");
    let of_a_test = |pod: &Value| pod["metadata"]["namespace"].as_str().is_some_and(|n| n.starts_with("e2e"));
    let pods = f
        .until("the pods of other tests to go", POD, || async {
            let pods = f.list(&path).await;
            (!pods.iter().any(of_a_test)).then_some(pods)
        })
        .await;
    let running = pods.iter().filter(|p| p["status"]["phase"] != "Succeeded" && p["status"]["phase"] != "Failed");
    let requests = running.flat_map(|p| p["spec"]["containers"].as_array().into_iter().flatten());
    let taken: i64 = requests.filter_map(|c| c["resources"]["requests"]["cpu"].as_str()).map(milli).sum();
    (name, all, all - taken)
}

/// `cpu=N:N` in thousandths.
fn cpu(milli: i64) -> String {
    format!("cpu={milli}m:{milli}m")
}

async fn start(f: &Framework, node: &str, name: &str, words: &str) {
    f.create_pod(&on(node, pod(name, &[sleeper("c", words)]))).await;
    f.until_ready(name).await;
}

async fn is_deferred(f: &Framework, name: &str) -> Value {
    f.until_it(&f.core(&format!("pods/{name}")), "to be deferred", POD, |p| {
        condition(p, "PodResizePending").starts_with("True Deferred Node didn't have enough resource: cpu, requested: ")
            && p["status"]["observedGeneration"] == p["metadata"]["generation"]
    })
    .await
}

async fn told(f: &Framework, pod: &str, reason: &str) {
    let path = f.core(&format!("events?fieldSelector=reason%3D{reason}"));
    f.until(reason, SOON, || async { f.list(&path).await.iter().any(|e| e["involvedObject"]["name"] == pod).then_some(()) }).await;
}

async fn deferred(f: Framework) -> anyhow::Result<()> {
    let (node, _, free) = node(&f).await;
    let third = free / 3;
    for name in ["first", "second", "third"] {
        start(&f, &node, name, &cpu(third - 10)).await;
    }
    // More than is free; it goes on with what it has.
    let more = cpu(third + 100);
    resize(&f, "third", &[("c", &more)]).await;
    let waiting = is_deferred(&f, "third").await;
    assert_eq!(container_status(&waiting, "c")["resources"]["requests"]["cpu"], cpu_text(third - 10), "{}", waiting["status"]);
    let generation = |kind: &str| {
        let all = waiting["status"]["conditions"].as_array().expect("conditions");
        all.iter().find(|c| c["type"] == kind).map(|c| c["observedGeneration"].clone())
    };
    assert_eq!(generation("PodResizePending"), Some(json!(2)));
    told(&f, "third", "ResizeDeferred").await;
    // A pod that shrinks makes room.
    let less = cpu(third - 200);
    resize(&f, "first", &[("c", &less)]).await;
    until_resized(&f, "first", &[("c", &less)], 0).await;
    until_resized(&f, "third", &[("c", &more)], 0).await;
    told(&f, "third", "ResizeCompleted").await;
    // So does a pod that goes.
    let most = cpu(third + 300);
    resize(&f, "third", &[("c", &most)]).await;
    is_deferred(&f, "third").await;
    f.wire.delete(&f.core("pods/second")).await.expect(200);
    until_resized(&f, "third", &[("c", &most)], 0).await;
    Ok(())
}

fn cpu_text(milli: i64) -> Value {
    if milli % 1000 == 0 { json!((milli / 1000).to_string()) } else { json!(format!("{milli}m")) }
}

async fn priority(f: Framework) -> anyhow::Result<()> {
    let (node, _, free) = node(&f).await;
    let (most, little) = (free * 2 / 3 / 10 * 10 + 1, free / 16 / 10 * 10 + 1);
    start(&f, &node, "large", &cpu(most)).await;
    let class = f.unique("resize-priority");
    let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 1000});
    f.wire.post("/apis/scheduling.k8s.io/v1/priorityclasses", &object).await.expect(201);
    f.remove_later(&format!("/apis/scheduling.k8s.io/v1/priorityclasses/{class}"));
    let mut important = on(&node, pod("important", &[sleeper("c", &cpu(little))]));
    important["spec"]["priorityClassName"] = json!(class);
    f.create_pod(&important).await;
    f.until_ready("important").await;
    start(&f, &node, "guaranteed", &format!("{} memory=50Mi:50Mi", cpu(little))).await;
    for name in ["early", "late"] {
        start(&f, &node, name, &cpu(little)).await;
    }
    let wanted = cpu(most);
    let of_guaranteed = format!("{wanted} memory=50Mi:50Mi");
    let words = |name: &str| if name == "guaranteed" { of_guaranteed.clone() } else { wanted.clone() };
    for name in ["early", "guaranteed", "important", "late"] {
        resize(&f, name, &[("c", &words(name))]).await;
        is_deferred(&f, name).await;
    }
    let order = ["large", "important", "guaranteed", "early", "late"];
    for pair in order.windows(2) {
        f.wire.delete(&f.core(&format!("pods/{}", pair[0]))).await.expect(200);
        until_resized(&f, pair[1], &[("c", &words(pair[1]))], 0).await;
        let rest = order.iter().skip_while(|name| **name != pair[1]).skip(1);
        for name in rest {
            is_deferred(&f, name).await;
        }
    }
    Ok(())
}

async fn scheduler(f: Framework) -> anyhow::Result<()> {
    let (node, all, free) = node(&f).await;
    start(&f, &node, "large", &cpu(free - 100)).await;
    // A pod that does not fit is scheduled when another shrinks.
    f.create_pod(&on(&node, pod("small", &[sleeper("c", &cpu(300))]))).await;
    f.until_it(&f.core("pods/small"), "to be unschedulable", POD, |p| condition(p, "PodScheduled").contains("Insufficient cpu")).await;
    let less = cpu(free - 400);
    resize(&f, "large", &[("c", &less)]).await;
    f.until_ready("small").await;
    until_resized(&f, "large", &[("c", &less)], 0).await;
    // What is wanted counts before it is there, except what can never be.
    resize(&f, "large", &[("c", &cpu(free - 200))]).await;
    is_deferred(&f, "large").await;
    f.create_pod(&on(&node, pod("other", &[sleeper("c", &cpu(100))]))).await;
    f.until_it(&f.core("pods/other"), "to be unschedulable", POD, |p| condition(p, "PodScheduled").contains("Insufficient cpu")).await;
    resize(&f, "large", &[("c", &cpu(all + 100))]).await;
    let infeasible = f
        .until_it(&f.core("pods/large"), "to be infeasible", POD, |p| condition(p, "PodResizePending").starts_with("True Infeasible "))
        .await;
    let words = format!("True Infeasible Node didn't have enough capacity: cpu, requested: {}, capacity: {all}", all + 100);
    assert_eq!(condition(&infeasible, "PodResizePending"), words);
    told(&f, "large", "ResizeInfeasible").await;
    f.until_ready("other").await;
    // What it has it keeps, and it can ask for something else.
    resize(&f, "large", &[("c", &less)]).await;
    until_resized(&f, "large", &[("c", &less)], 0).await;
    Ok(())
}
