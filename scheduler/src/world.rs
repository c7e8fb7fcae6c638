//! Small clusters written as text, for tests.
//!
//! ```text
//! node a cpu=4 memory=8Gi pods=10 label:zone=z1 taint:k=v:NoSchedule image:nginx:1=500000000 unschedulable
//! pod p on=a cpu=1 priority=5 label:app=x ns=other port=80 started=60 deleting preempted spec:{"tolerations": [..]}
//! ```
//! A node has 110 pods' room and as much CPU and memory as need be unless told otherwise. `spec:` takes the rest of the line.
//! All of it goes through the parsers that read what the apiserver sends.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cache::Cache;
use crate::node::NodeFacts;
use crate::observation::Change;
use crate::pod::Pod;
use crate::volumes::{Claim, Class, Volume};

/// The second `n` of the tests' time.
pub fn at(n: i64) -> Timestamp {
    Timestamp::from_second(n).expect("a time")
}

fn fields(line: &str) -> (Vec<&str>, Value) {
    let (words, spec) = line.split_once("spec:").unwrap_or((line, "{}"));
    (words.split_whitespace().collect(), serde_json::from_str(spec).unwrap_or_else(|e| panic!("{spec}: {e}")))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

/// The node that `line` (`node a cpu=4`) describes.
pub fn node(line: &str) -> Arc<NodeFacts> {
    let (words, spec) = fields(line);
    let mut labels = json!({"kubernetes.io/hostname": words[1]});
    let (mut taints, mut images) = (Vec::new(), Vec::new());
    let mut allocatable = json!({"pods": "110", "cpu": "1000", "memory": "1000Gi"});
    let mut unschedulable = false;
    for word in &words[2..] {
        if let Some((key, value)) = word.strip_prefix("label:").and_then(|w| w.split_once('=')) {
            let key = if key == "zone" { "topology.kubernetes.io/zone" } else { key };
            labels[key] = json!(value);
        } else if let Some((taint, effect)) = word.strip_prefix("taint:").and_then(|w| w.rsplit_once(':')) {
            let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
            taints.push(json!({"key": key, "value": value, "effect": effect}));
        } else if let Some((image, size)) = word.strip_prefix("image:").and_then(|w| w.rsplit_once('=')) {
            images.push(json!({"names": [image], "sizeBytes": size.parse::<i64>().expect("a size")}));
        } else if *word == "unschedulable" {
            unschedulable = true;
        } else {
            let (resource, amount) = word.split_once('=').unwrap_or_else(|| panic!("what is {word:?}?"));
            allocatable[resource] = json!(amount);
        }
    }
    let mut node = json!({
        "metadata": {"name": words[1], "labels": labels},
        "spec": {"taints": taints, "unschedulable": unschedulable},
        "status": {"allocatable": allocatable, "images": images},
    });
    merge(&mut node["spec"], spec);
    Arc::new(NodeFacts::parse(&serde_json::from_value(node).expect("a node")).expect("quantities"))
}

/// The pod that `line` (`pod p cpu=1`) describes; its uid is its name.
pub fn pod(line: &str) -> Arc<Pod> {
    let (words, spec) = fields(line);
    let mut meta = json!({"name": words[1], "uid": words[1], "namespace": "default", "creationTimestamp": "1970-01-01T00:00:00Z"});
    let (mut requests, mut ports) = (Map::new(), Vec::new());
    let mut out = json!({});
    let mut status = json!({"phase": "Pending"});
    for word in &words[2..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "on" => out["nodeName"] = json!(value),
            "ns" => meta["namespace"] = json!(value),
            "owner" => meta["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": value, "controller": true}]),
            "priority" => out["priority"] = json!(value.parse::<i32>().expect("a priority")),
            "scheduler" => out["schedulerName"] = json!(value),
            "nominated" => status["nominatedNodeName"] = json!(value),
            "phase" => status["phase"] = json!(value),
            "gate" => out["schedulingGates"] = json!([{"name": value}]),
            "started" => status["startTime"] = json!(at(value.parse().expect("seconds")).to_string()),
            "deleting" => meta["deletionTimestamp"] = json!("1970-01-01T00:00:00Z"),
            "preempted" => {
                status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
            }
            "port" => {
                let (address, protocol) = value.split_once('/').unwrap_or((value, "TCP"));
                let (ip, port) = address.rsplit_once(':').unwrap_or(("", address));
                let port = port.parse::<i32>().expect("a port");
                ports.push(json!({"containerPort": port, "hostPort": port, "hostIP": ip, "protocol": protocol}));
            }
            "image" => out["image"] = json!(value),
            label if label.starts_with("label:") => meta["labels"][&label["label:".len()..]] = json!(value),
            resource => _ = requests.insert(resource.to_owned(), json!(value)),
        }
    }
    let image = out.as_object_mut().and_then(|o| o.remove("image")).unwrap_or(json!("i"));
    out["containers"] = json!([{"name": "c", "image": image, "ports": ports, "resources": {"requests": requests}}]);
    merge(&mut out, spec);
    let pod = json!({"metadata": meta, "spec": out, "status": status});
    Arc::new(Pod::parse(&serde_json::from_value(pod).expect("a pod")))
}

/// The cluster that `text` describes. Pods that are on no node are not in it, unless nominated.
pub fn world(text: &str) -> Cache {
    let mut cache = Cache::default();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        match line.split_whitespace().next() {
            Some("node") => _ = cache.put_node(node(line)),
            Some("namespace") => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let labels = words[2..].iter().filter_map(|w| w.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
                cache.snapshot_mut().put_namespace(words[1], Some(labels.collect()));
            }
            Some("volume") => cache.snapshot_mut().volumes_mut().on_volume(Change::Put(String::new(), volume(line))),
            Some("claim") => {
                let claim = claim(line);
                cache.snapshot_mut().volumes_mut().on_claim(Change::Put(claim.key.clone(), claim));
            }
            Some("class") => {
                let (name, class) = class(line);
                cache.snapshot_mut().volumes_mut().on_class(Change::Put(name, class));
            }
            Some("limits") => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let limits = words[2..].iter().filter_map(|w| w.split_once('=')).map(|(d, n)| (d.to_owned(), n.parse().expect("a number")));
                cache.snapshot_mut().volumes_mut().on_limits(Change::Put(words[1].into(), limits.collect()));
            }
            Some("pod") => {
                let pod = pod(line);
                if pod.node.is_some() {
                    cache.put_pod(pod);
                } else {
                    cache.nominate(&pod, pod.nominated.as_ref());
                }
            }
            _ => panic!("what is {line:?}?"),
        }
    }
    cache
}

/// The volume that `line` (`volume v on=a size=1Gi class=c claim=x csi=driver label:k=v`) describes; free when it has no claim.
pub fn volume(line: &str) -> Arc<Volume> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut meta = json!({"name": words[1], "resourceVersion": "1"});
    let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    let mut phase = "Available";
    for (key, value) in words[2..].iter().filter_map(|w| w.split_once('=')) {
        match key {
            "on" => {
                let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [value]});
                spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}});
            }
            "size" => spec["capacity"]["storage"] = json!(value),
            "class" => spec["storageClassName"] = json!(value),
            "claim" => {
                phase = "Bound";
                spec["claimRef"] = json!({"namespace": "default", "name": value, "uid": value});
            }
            "csi" => spec["csi"] = json!({"driver": value, "volumeHandle": words[1]}),
            "label:zone" => meta["labels"]["topology.kubernetes.io/zone"] = json!(value),
            _ => panic!("what is {key:?}?"),
        }
    }
    let volume = json!({"metadata": meta, "spec": spec, "status": {"phase": phase}});
    Arc::new(Volume::parse(&serde_json::from_value(volume).expect("a volume")).expect("node affinity"))
}

/// The claim that `line` (`claim c class=x size=1Gi volume=v bound`) describes; its uid is its name.
pub fn claim(line: &str) -> Arc<Claim> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut meta = json!({"name": words[1], "uid": words[1], "namespace": "default", "resourceVersion": "1"});
    let mut spec = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]});
    let mut phase = "Pending";
    for word in &words[2..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "class" => spec["storageClassName"] = json!(value),
            "size" => spec["resources"]["requests"]["storage"] = json!(value),
            "volume" => spec["volumeName"] = json!(value),
            "mode" => spec["accessModes"] = json!([value]),
            "selected" => meta["annotations"][crate::volumes::SELECTED_NODE] = json!(value),
            "bound" => meta["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes"),
            "lost" => phase = "Lost",
            "deleting" => meta["deletionTimestamp"] = json!("1970-01-01T00:00:00Z"),
            _ => panic!("what is {word:?}?"),
        }
    }
    let claim = json!({"metadata": meta, "spec": spec, "status": {"phase": phase}});
    Arc::new(Claim::parse(&serde_json::from_value(claim).expect("a claim")).expect("a selector"))
}

/// The class that `line` (`class c waits provisioner=p`) describes.
pub fn class(line: &str) -> (String, Arc<Class>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let provisioner = words.iter().find_map(|w| w.strip_prefix("provisioner=")).unwrap_or("kubernetes.io/no-provisioner");
    let mode = if words.contains(&"waits") { "WaitForFirstConsumer" } else { "Immediate" };
    let class = json!({"metadata": {"name": words[1]}, "provisioner": provisioner, "volumeBindingMode": mode});
    (words[1].to_owned(), Arc::new(Class::parse(&serde_json::from_value(class).expect("a class"))))
}
