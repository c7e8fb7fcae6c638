//! `/stats/summary`: use as JSON, in the form of `stats.kubelet.k8s.io/v1alpha1`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::usage::{ContainerUse, Interface, PodUse, Space, Usage, Use};

/// The whole answer.
#[must_use]
pub fn render(usage: &Usage) -> Value {
    let mut node = json!({
        "nodeName": usage.node,
        "cpu": cpu(&usage.used),
        "memory": memory(&usage.used),
        "network": network(&usage.network, usage.at),
        "fs": space(&usage.fs, usage.fs.used, usage.fs.inodes_used, usage.at),
        "runtime": {
            "imageFs": space(&usage.image_fs, usage.images.0, usage.images.1, usage.at),
            "containerFs": space(&usage.image_fs, usage.images.0, usage.images.1, usage.at),
        },
    });
    if let Some(booted) = usage.booted {
        node["startTime"] = time(booted);
    }
    if let Some((most, now)) = usage.processes {
        node["rlimit"] = json!({"time": time(usage.at), "maxpid": most, "curproc": now});
    }
    json!({"node": node, "pods": usage.pods.iter().map(|p| pod(usage, p)).collect::<Vec<_>>()})
}

fn pod(usage: &Usage, pod: &PodUse) -> Value {
    let stored = pod.containers.iter().map(|c| c.logs + c.layer.map_or(0, |(bytes, _)| bytes)).sum();
    let mut out = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "containers": pod.containers.iter().map(|c| container(usage, c)).collect::<Vec<_>>(),
        "cpu": cpu(&pod.used),
        "memory": memory(&pod.used),
        "ephemeral-storage": space(&usage.fs, stored, 0, usage.at),
    });
    if let Some(started) = pod.started {
        out["startTime"] = time(started);
    }
    if !pod.network.is_empty() {
        out["network"] = network(&pod.network, usage.at);
    }
    if let Some(count) = pod.processes {
        out["process_stats"] = json!({"process_count": count});
    }
    out
}

fn container(usage: &Usage, container: &ContainerUse) -> Value {
    let (bytes, inodes) = container.layer.unwrap_or_default();
    let mut out = json!({
        "name": container.name,
        "cpu": cpu(&container.used),
        "memory": memory(&container.used),
        "rootfs": space(&usage.image_fs, bytes, inodes, usage.at),
        "logs": space(&usage.fs, container.logs, 0, usage.at),
        "swap": {"time": at(container.used.at), "swapUsageBytes": container.used.swap},
    });
    if let Some(started) = container.started {
        out["startTime"] = time(started);
    }
    out
}

fn cpu(used: &Use) -> Value {
    with(json!({"time": at(used.at), "usageCoreNanoSeconds": used.cpu}), [("usageNanoCores", used.cpu_rate)])
}

fn memory(used: &Use) -> Value {
    let more = [
        ("availableBytes", used.available),
        ("usageBytes", used.memory),
        ("rssBytes", used.rss),
        ("pageFaults", used.faults),
        ("majorPageFaults", used.major_faults),
    ];
    with(json!({"time": at(used.at), "workingSetBytes": used.working_set}), more)
}

fn with<const N: usize>(mut object: Value, more: [(&str, Option<u64>); N]) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    }
    object
}

fn network(interfaces: &[Interface], at: Timestamp) -> Value {
    let one = |i: &Interface| json!({"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors});
    let mut out = interfaces.first().map_or_else(|| Value::Object(Map::new()), one);
    out["time"] = time(at);
    out["interfaces"] = interfaces.iter().map(one).collect();
    out
}

fn space(fs: &Space, used: u64, inodes_used: u64, at: Timestamp) -> Value {
    json!({
        "time": time(at), "availableBytes": fs.available, "capacityBytes": fs.capacity, "usedBytes": used,
        "inodesFree": fs.inodes_free, "inodes": fs.inodes, "inodesUsed": inodes_used,
    })
}

/// A time in whole seconds, as the API writes it.
fn time(time: Timestamp) -> Value {
    Value::String(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn at(nanos: i64) -> Value {
    time(Timestamp::from_nanosecond(nanos.into()).unwrap_or(Timestamp::UNIX_EPOCH))
}
