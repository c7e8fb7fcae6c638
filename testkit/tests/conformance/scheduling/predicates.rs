//! Where pods may go, and where they may not.

use serde_json::{Value, json};

use super::{advertise, idle, unschedulable};
use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run",
        test!(resource_limits),
    ),
    Behaviour::new(
        "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching",
        test!(no_node),
    ),
    Behaviour::new("[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching", test!(one_node)),
    Behaviour::new(
        "[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP",
        test!(host_ports),
    ),
];

async fn node(f: &Framework) -> (String, Value) {
    let node = f.list("/api/v1/nodes").await.swap_remove(0);
    (node["metadata"]["name"].as_str().expect("a name").to_owned(), node)
}

/// The scheduler tells of it, too.
async fn told(f: &Framework, pod: &str) {
    let path = f.core("events?fieldSelector=reason%3DFailedScheduling");
    f.until("an event", SOON, || async { f.list(&path).await.iter().any(|e| e["involvedObject"]["name"] == pod).then_some(()) }).await;
}

async fn resource_limits(f: Framework) -> anyhow::Result<()> {
    let (node, object) = node(&f).await;
    let resource = advertise(&f, &node, "10").await;
    f.create_pod(&idle("filler", &node, &resource, "7")).await;
    f.until_ready("filler").await;
    f.create_pod(&idle("additional-pod", &node, &resource, "4")).await;
    let why = unschedulable(&f, "additional-pod").await;
    assert!(why.contains(&format!("Insufficient {resource}")), "{why}");
    told(&f, "additional-pod").await;
    // More than the whole machine has.
    let cores: u64 = object["status"]["capacity"]["cpu"].as_str().expect("cores").parse()?;
    f.create_pod(&idle("large", &node, "cpu", &(cores + 1).to_string())).await;
    let why = unschedulable(&f, "large").await;
    assert!(why.contains("Insufficient cpu"), "{why}");
    // What becomes free is taken.
    f.wire.delete(&f.core("pods/filler")).await.expect(200);
    f.until_ready("additional-pod").await;
    Ok(())
}

fn selecting(name: &str, key: &str, value: &str) -> Value {
    let mut pod = idle(name, "", "cpu", "1m");
    pod["spec"]["nodeSelector"] = json!({key: value});
    pod
}

async fn no_node(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&selecting("restricted-pod", "label", "nonempty")).await;
    let why = unschedulable(&f, "restricted-pod").await;
    assert!(why.contains("didn't match Pod's node affinity/selector"), "{why}");
    told(&f, "restricted-pod").await;
    Ok(())
}

async fn one_node(f: Framework) -> anyhow::Result<()> {
    let (node, _) = node(&f).await;
    let key = format!("kubernetes.io/{}", f.namespace);
    let label = async |value: Value| {
        f.wire.patch("merge", &format!("/api/v1/nodes/{node}"), &json!({"metadata": {"labels": {&*key: value}}})).await.expect(200);
    };
    label(json!("42")).await;
    f.create_pod(&selecting("with-labels", &key, "42")).await;
    let pod = f.until_ready("with-labels").await;
    label(Value::Null).await;
    assert_eq!(pod["spec"]["nodeName"], *node);
    Ok(())
}

async fn host_ports(f: Framework) -> anyhow::Result<()> {
    const PORT: u16 = 54322;
    let (node, object) = node(&f).await;
    let addresses = object["status"]["addresses"].as_array().expect("addresses");
    let own = addresses.iter().find(|a| a["type"] == "InternalIP").expect("one")["address"].clone();
    for (name, ip) in [("pod4", json!("")), ("pod5", own)] {
        let mut pod = idle(name, &node, "cpu", "1m");
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": PORT, "protocol": "TCP", "hostIP": ip}]);
        f.create_pod(&pod).await;
        if name == "pod4" {
            f.until_ready(name).await;
        }
    }
    let why = unschedulable(&f, "pod5").await;
    assert!(why.contains("didn't have free ports for the requested pod ports"), "{why}");
    Ok(())
}
