//! When a pod is looked at by the scheduler and counts as ready, what its affinity and its spreading mean, and what pre-emption leaves behind.

use serde_json::{Value, json};

use crate::common::{condition, put};
use crate::framework::{Behaviour, Framework, POD, SOON, test, until_event};
use crate::scheduling::{advertise, idle, unschedulable};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod",
        test!(disruption_condition),
    ),
    Behaviour::new(
        "newer: [sig-scheduling] SchedulerPredicates [Serial] validates Pods with non-empty schedulingGates are blocked on scheduling",
        test!(gates),
    ),
    Behaviour::new("newer: [sig-node] Pods should support pod readiness gates", test!(readiness_gates)),
    Behaviour::new(
        "newer: [sig-scheduling] SchedulerPredicates [Serial] validates that pods with matchLabelKeys are spread and kept apart within their own group",
        test!(label_keys),
    ),
    Behaviour::new(
        "newer: [sig-scheduling] SchedulerPredicates [Serial] validates minDomains and node inclusion policies of spreading",
        test!(spreading),
    ),
    Behaviour::serial(
        "newer: [sig-node] NoExecuteTaintManager Single Pod [Serial] pods evicted from tainted nodes have pod disruption condition",
        test!(tainted),
    ),
];

async fn disruption_condition(f: Framework) -> anyhow::Result<()> {
    let node = f.list("/api/v1/nodes").await[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let resource = advertise(&f, &node, "1").await;
    let mut classes = vec![];
    for (word, value) in [("low", 1), ("high", 1000)] {
        let name = format!("{word}-{}", f.namespace);
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
        f.wire.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await.expect(201);
        f.remove_later(&format!("/apis/scheduling.k8s.io/v1/priorityclasses/{name}"));
        classes.push(name);
    }
    let mut victim = idle("victim-pod", &node, &resource, "1");
    put(&mut victim["spec"], json!({"priorityClassName": classes[0]}));
    victim["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    f.create_pod(&victim).await;
    f.until_ready("victim-pod").await;
    let mut preemptor = idle("preemptor-pod", &node, &resource, "1");
    put(&mut preemptor["spec"], json!({"priorityClassName": classes[1]}));
    f.create_pod(&preemptor).await;
    let path = f.core("pods/victim-pod");
    let gone = f.until_it(&path, "to be deleted", POD, |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(
        condition(&gone, "DisruptionTarget"),
        "True PreemptionByScheduler default-scheduler: preempting to accommodate a higher priority pod"
    );
    f.update(&path, |pod| pod["metadata"]["finalizers"] = json!([])).await;
    f.until_ready("preemptor-pod").await;
    Ok(())
}

async fn gates(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("gated", "exec sleep 3600");
    put(&mut pod["spec"], json!({"schedulingGates": [{"name": "example.com/foo"}, {"name": "example.com/bar"}]}));
    f.create_pod(&pod).await;
    let path = f.core("pods/gated");
    let held =
        f.until_it(&path, "to say that it is held", SOON, |pod| condition(pod, "PodScheduled").starts_with("False SchedulingGated")).await;
    assert_eq!(held["spec"].get("nodeName"), None);
    assert!(f.kubectl().ok(&["get", "pod", "gated", "--no-headers"]).await?.contains(" SchedulingGated "));
    // Where it may run can be narrowed meanwhile, and gates only go.
    f.wire.patch("merge", &path, &json!({"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}})).await.expect(200);
    let more = f
        .wire
        .patch("merge", &path, &json!({"spec": {"schedulingGates": [{"name": "example.com/foo"}, {"name": "example.com/new"}]}}))
        .await;
    assert_eq!(more.code, 422, "{}", more.text());
    f.wire.patch("merge", &path, &json!({"spec": {"schedulingGates": [{"name": "example.com/bar"}]}})).await.expect(200);
    let still = f.wire.get(&path).await.expect(200);
    assert_eq!(still["spec"].get("nodeName"), None);
    f.wire.patch("merge", &path, &json!({"spec": {"schedulingGates": null}})).await.expect(200);
    let ready = f.until_ready("gated").await;
    assert!(condition(&ready, "PodScheduled").starts_with("True"), "{ready}");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "both"},
        "spec": {"nodeName": "x", "schedulingGates": [{"name": "a"}], "containers": pod["spec"]["containers"]}});
    assert_eq!(f.wire.post(&f.core("pods"), &bound).await.code, 422);
    Ok(())
}

async fn readiness_gates(f: Framework) -> anyhow::Result<()> {
    const GATES: [&str; 2] = ["k8s.io/test-condition1", "k8s.io/test-condition2"];
    let mut pod = Framework::script("pod-ready", "exec sleep 3600");
    put(&mut pod["spec"], json!({"readinessGates": GATES.map(|g| json!({"conditionType": g}))}));
    f.create_pod(&pod).await;
    let path = f.core("pods/pod-ready");
    let ready = |pod: &Value| condition(pod, "Ready");
    let unready = f.until_it(&path, "to have its containers ready", POD, |pod| condition(pod, "ContainersReady").starts_with("True")).await;
    assert!(ready(&unready).starts_with("False ReadinessGatesNotReady"), "{}", ready(&unready));
    let set = async |gate: &str, status: &str| {
        let patch = json!({"status": {"conditions": [{"type": gate, "status": status}]}});
        f.wire.patch("strategic", &format!("{path}/status"), &patch).await.expect(200);
    };
    set(GATES[0], "True").await;
    set(GATES[1], "False").await;
    f.until_it(&path, "to wait for the second", SOON, |pod| {
        ready(pod) == format!("False ReadinessGatesNotReady the status of pod readiness gate \"{}\" is not \"True\", but False", GATES[1])
    })
    .await;
    set(GATES[1], "True").await;
    f.until_it(&path, "to be ready", SOON, |pod| ready(pod).starts_with("True")).await;
    set(GATES[0], "False").await;
    f.until_it(&path, "to be ready no more", SOON, |pod| ready(pod).starts_with("False")).await;
    Ok(())
}

fn placed(name: &str, group: &str, more: Value) -> Value {
    let mut pod = Framework::script(name, "exec sleep 3600");
    pod["metadata"]["labels"] = json!({"app": "grouped", "group": group});
    put(&mut pod["spec"], more);
    put(&mut pod["spec"], json!({"terminationGracePeriodSeconds": 0}));
    pod
}

async fn label_keys(f: Framework) -> anyhow::Result<()> {
    let count = f.list("/api/v1/nodes").await.len();
    let selector = json!({"matchLabels": {"app": "grouped"}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector, "matchLabelKeys": ["group"]});
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    // As many of each group as there are nodes: groups do not mind each other.
    for group in ["a", "b"] {
        let mut nodes = vec![];
        for i in 0..count {
            let name = format!("{group}-{i}");
            let made = f.create_pod(&placed(&name, group, apart.clone())).await;
            let merged = &made["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"];
            assert_eq!(merged["matchExpressions"], json!([{"key": "group", "operator": "In", "values": [group]}]), "it is written out");
            nodes.push(f.until_ready(&name).await["spec"]["nodeName"].clone());
        }
        nodes.dedup();
        assert_eq!(nodes.len(), count, "each on a node of its own: {nodes:?}");
    }
    f.create_pod(&placed("a-more", "a", apart)).await;
    let why = unschedulable(&f, "a-more").await;
    assert!(why.contains("node(s) didn't match pod anti-affinity rules"), "{why}");

    let spread = json!({"topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": selector, "matchLabelKeys": ["group"]}]});
    let mut nodes = vec![];
    for i in 0..count {
        let name = format!("c-{i}");
        f.create_pod(&placed(&name, "c", spread.clone())).await;
        nodes.push(f.until_ready(&name).await["spec"]["nodeName"].clone());
    }
    nodes.dedup();
    assert_eq!(nodes.len(), count, "{nodes:?}");
    Ok(())
}

async fn spreading(f: Framework) -> anyhow::Result<()> {
    let nodes = f.list("/api/v1/nodes").await;
    let count = nodes.len();
    let constraint = |more: Value| {
        let mut constraint = json!({"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "grouped"}}});
        put(&mut constraint, more);
        json!({"topologySpreadConstraints": [constraint]})
    };
    // With a domain more than there are nodes, one always counts as empty: a second pod on a node would be too many.
    let wide = constraint(json!({"minDomains": count + 1}));
    for i in 0..count {
        f.create_pod(&placed(&format!("wide-{i}"), "w", wide.clone())).await;
        f.until_ready(&format!("wide-{i}")).await;
    }
    f.create_pod(&placed("wide-more", "w", wide)).await;
    let why = unschedulable(&f, "wide-more").await;
    assert!(why.contains("node(s) didn't match pod topology spread constraints"), "{why}");
    f.wire.delete(&f.core("pods")).await.expect(200);
    f.until_pods("app=grouped", 0).await;

    // Bound to one node: the others do not count, unless that is ignored.
    let here = json!({"kubernetes.io/hostname": nodes[0]["metadata"]["labels"]["kubernetes.io/hostname"]});
    for (i, policy) in ["Honor", "Honor", "Ignore"].iter().enumerate() {
        let mut more = constraint(json!({"nodeAffinityPolicy": policy}));
        put(&mut more, json!({"nodeSelector": here}));
        f.create_pod(&placed(&format!("bound-{i}"), "b", more)).await;
        if *policy == "Honor" {
            f.until_ready(&format!("bound-{i}")).await;
        }
    }
    unschedulable(&f, "bound-2").await;
    Ok(())
}

async fn tainted(f: Framework) -> anyhow::Result<()> {
    let node = f.list("/api/v1/nodes").await.pop().expect("a node")["metadata"]["name"].as_str().expect("a name").to_owned();
    let mut pod = Framework::script("tainted", "exec sleep 3600");
    put(&mut pod["spec"], json!({"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 0}));
    pod["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    f.create_pod(&pod).await;
    f.until_ready("tainted").await;
    let mut watch = f.watch_from_now(&f.core("pods")).await;
    let key = "kubernetes.io/e2e-evict-taint-key";
    let taint = async |on: bool| {
        f.update(&format!("/api/v1/nodes/{node}"), |node| {
            let mut taints: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            taints.retain(|t| t["key"] != key);
            if on {
                taints.push(json!({"key": key, "value": "evictTaintVal", "effect": "NoExecute"}));
            }
            node["spec"]["taints"] = json!(taints);
        })
        .await;
    };
    taint(true).await;
    let gone = until_event(&mut watch, "MODIFIED", |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    taint(false).await;
    assert_eq!(condition(&gone, "DisruptionTarget"), "True DeletionByTaintManager Taint manager: deleting due to NoExecute taint");
    f.update(&f.core("pods/tainted"), |pod| pod["metadata"]["finalizers"] = json!([])).await;
    f.until_gone(&f.core("pods/tainted"), POD).await;
    Ok(())
}
