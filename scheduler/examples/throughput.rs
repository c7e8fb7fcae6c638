//! How many pods a second one core decides about.
//!
//! `cargo run --release -p scheduler --example throughput [NODES [PODS]]`: fills a cluster of NODES (100) with PODS (10,000), each
//! bound and confirmed at once, first plain pods, then pods of a controller (spread by default), then pods with their own spread
//! constraint and anti-affinity.
#![allow(clippy::cast_precision_loss)] // for printing

use std::sync::Arc;
use std::time::Instant;

use api::labels::Selector;
use jiff::Timestamp;
use scheduler::node::NodeFacts;
use scheduler::observation::{Binding, Change, Observation};
use scheduler::plugins::PLUGINS;
use scheduler::pod::{DEFAULT_SCHEDULER, Pod};
use scheduler::scheduler::{Effect, Scheduler};
use serde_json::{Value, json};

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (nodes, pods) = (args.next().unwrap_or(100), args.next().unwrap_or(10_000));
    let group = json!({"matchLabels": {"app": "x"}});
    let spread = |key: &str| json!({"maxSkew": 5, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": group});
    let far = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": group}}]}});
    fill("plain pods", nodes, pods, false, &json!({}));
    fill("pods of a controller", nodes, pods, true, &json!({}));
    fill("spread over zones", nodes, pods, false, &json!({"topologySpreadConstraints": [spread("topology.kubernetes.io/zone")]}));
    fill("preferred anti-affinity", nodes, pods / 10, false, &json!({"affinity": far}));
}

fn fill(what: &str, nodes: usize, pods: usize, controlled: bool, more: &Value) {
    let mut scheduler = Scheduler::new(DEFAULT_SCHEDULER, PLUGINS);
    let now = Timestamp::UNIX_EPOCH;
    for i in 0..nodes {
        let name = format!("node-{i}");
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("z{}", i % 3)}},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "1000"}}});
        let facts = NodeFacts::parse(&serde_json::from_value(node).expect("a node")).expect("quantities");
        scheduler.observe(Observation::Node(Change::Put(facts.name.clone(), Arc::new(facts))), now);
    }
    if controlled {
        let selector = Selector::parse("app=x").expect("a selector");
        scheduler.observe(Observation::Controller("replicasets", Change::Put("rs".into(), selector)), now);
    }
    let pods: Vec<Arc<Pod>> = (0..pods).map(|i| pod(i, more)).collect();
    let started = Instant::now();
    for pod in &pods {
        scheduler.observe(Observation::Pod(Change::Put(pod.uid.clone().expect("a uid"), pod.clone())), now);
    }
    let mut random = 1u64;
    let mut placed = 0;
    while let Some((_, effects)) = scheduler.step(random, now) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for effect in effects {
            if let Effect::Bind { pod, node } = effect {
                let uid = pod.uid.clone().expect("a uid");
                scheduler.observe(Observation::Bound(uid.clone(), Binding::Done), now);
                scheduler.observe(Observation::Pod(Change::Put(uid, Arc::new(pod.on(node)))), now);
                placed += 1;
            }
        }
    }
    let took = started.elapsed();
    println!("{what}: {placed} of {} placed on {nodes} nodes, {:.0} a second", pods.len(), pods.len() as f64 / took.as_secs_f64());
}

fn pod(i: usize, more: &Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("pod-{i}"), "uid": format!("uid-{i}"), "namespace": "default", "labels": {"app": "x"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true}]},
        "spec": {"containers": [{"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}});
    if let (Some(spec), Some(more)) = (pod["spec"].as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    Arc::new(Pod::parse(&serde_json::from_value(pod).expect("a pod")))
}
