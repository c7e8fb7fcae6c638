//! Taints that drive pods away, and pods that bear them for a while. A node so tainted is no place for other tests: these run alone.

use std::time::Instant;

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::serial(
        "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive]",
        test!(taken_away_in_time),
    ),
    Behaviour::serial(
        "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive]",
        test!(one_after_the_other),
    ),
];

const KEY: &str = "kubernetes.io/e2e-evict-taint-key";

/// A pod that bears the taint for so many seconds, on a node.
async fn bearing(f: &Framework, name: &str, node: &str, seconds: u64) {
    let mut pod = Framework::idle_template(&json!({"group": "taint-eviction"}));
    (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!(name));
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["spec"]["tolerations"] = json!([{"key": KEY, "value": "evictTaintVal", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    f.create_pod(&pod).await;
    f.until_ready(name).await;
}

async fn node(f: &Framework) -> String {
    // Not the first: that is where the control plane may be.
    f.list("/api/v1/nodes").await.pop().expect("a node")["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// Taints the node, or takes the taint away.
async fn taint(f: &Framework, node: &str, tainted: bool) {
    f.update(&format!("/api/v1/nodes/{node}"), |node| {
        let mut taints: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        taints.retain(|t| t["key"] != KEY);
        if tainted {
            taints.push(json!({"key": KEY, "value": "evictTaintVal", "effect": "NoExecute"}));
        }
        node["spec"]["taints"] = json!(taints);
    })
    .await;
}

async fn taken_away_in_time(f: Framework) -> anyhow::Result<()> {
    let node = node(&f).await;
    bearing(&f, "taint-eviction-3", &node, 3600).await;
    bearing(&f, "taint-eviction-0", &node, 0).await;
    taint(&f, &node, true).await;
    // The controller has seen the taint: another pod went at once.
    f.until_gone(&f.core("pods/taint-eviction-0"), POD).await;
    taint(&f, &node, false).await;
    // Upstream waits until the time would be over; the controller says that it has seen the end of it.
    f.until("the deletion to be cancelled", SOON, || async {
        let events = f.list(&f.core("events?fieldSelector=reason%3DTaintManagerEviction")).await;
        events.iter().any(|e| e["message"].as_str().is_some_and(|m| m.starts_with("Cancelling deletion"))).then_some(())
    })
    .await;
    let pod = f.wire.get(&f.core("pods/taint-eviction-3")).await.expect(200);
    assert_eq!((pod["metadata"].get("deletionTimestamp"), &pod["status"]["phase"]), (None, &json!("Running")));
    Ok(())
}

async fn one_after_the_other(f: Framework) -> anyhow::Result<()> {
    let node = node(&f).await;
    for (name, seconds) in [("taint-eviction-b1", 1), ("taint-eviction-b2", 4)] {
        bearing(&f, name, &node, seconds).await;
    }
    let mut watch = f.watch_from_now(&f.core("pods?labelSelector=group%3Dtaint-eviction")).await;
    taint(&f, &node, true).await;
    let began = Instant::now();
    let mut went = vec![];
    while went.len() < 2 {
        let event = watch.next().await.expect("another event");
        if event["type"] == "DELETED" {
            went.push((event["object"]["metadata"]["name"].as_str().expect("a name").to_owned(), began.elapsed().as_secs()));
        }
    }
    taint(&f, &node, false).await;
    assert_eq!(went.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["taint-eviction-b1", "taint-eviction-b2"]);
    // Times are kept in whole seconds.
    assert!(went[1].1 >= 3, "the second bears it for four seconds: {went:?}");
    f.until_gone(&f.core("pods/taint-eviction-b2"), POD).await;
    Ok(())
}
