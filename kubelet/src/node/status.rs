//! The Node's status, worked out from what is known. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::machine::Machine;
use crate::cri;
use crate::eviction::Pressure;
use crate::resources::Amounts;

/// Images that a Node lists (upstream's `nodeStatusMaxImages`): the largest.
const MAX_IMAGES: usize = 50;
/// Names listed for one image.
const MAX_NAMES: usize = 5;

/// What the runtime says of itself: why the node is not ready (nothing when it is), and what it can do.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    /// In upstream's words.
    pub reasons: Vec<String>,
    /// What the runtime says that it can do; none when it says nothing.
    pub features: Option<NodeFeatures>,
}

/// The status of this node.
#[must_use]
pub fn status(node: &Node, machine: &Machine, pressure: &Pressure, ready: &Ready, images: &[cri::Image], now: Timestamp) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> =
        machine.ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.clone() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: machine.name.clone() });
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(with(&machine.capacity, extended(node))),
        allocatable: Some(with(&machine.allocatable, extended(node))),
        conditions: Some(conditions(node, pressure, ready, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: machine.port.into() }) }),
        images: Some(image_list(images)),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.clone(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: machine.runtime.clone(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: daemon::KUBERNETES_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            swap: None,
            system_uuid: machine.system_uuid.clone(),
        }),
        features: ready.features.clone(),
        ..NodeStatus::default()
    }
}

/// Resources that are no business of the machine's: somebody wrote into the Node that it has them, and what it has it can give.
fn extended(node: &Node) -> impl Iterator<Item = (&String, &Text)> {
    let capacity = node.status.as_ref().and_then(|s| s.capacity.as_ref());
    capacity.into_iter().flatten().filter(|(name, _)| name.contains('/') && !name.contains("kubernetes.io/"))
}

fn with<'a>(own: &'a Amounts, others: impl Iterator<Item = (&'a String, &'a Text)>) -> Amounts {
    own.iter().chain(others).map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// The patch that makes a Node's status this one. Patches add to maps: what can be given no more has to be said.
#[must_use]
pub fn patch(node: &Node, new: &NodeStatus) -> Value {
    let mut patch = json!({"metadata": {"uid": node.metadata.uid}, "status": new});
    let stored = node.status.iter().flat_map(|s| s.allocatable.iter().flatten());
    for (name, _) in stored.filter(|(name, _)| new.allocatable.as_ref().is_some_and(|now| !now.contains_key(*name))) {
        patch["status"]["allocatable"][name] = Value::Null;
    }
    patch
}

fn conditions(node: &Node, pressure: &Pressure, ready: &Ready, now: Timestamp) -> Vec<NodeCondition> {
    let old = |type_: &str| node.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten().find(|c| c.type_ == type_);
    let make = |type_: &str, is: bool, reason: &str, message: &str| {
        let status = if is { "True" } else { "False" };
        let since = old(type_).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: since.or(Some(Time(now))),
        }
    };
    let pick = |is: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| if is { yes } else { no };
    let memory = pick(
        pressure.memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let disk = pick(
        pressure.disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let pids = pick(
        pressure.pids,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    let ready = match ready.reasons.as_slice() {
        [] => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        [one] => (false, "KubeletNotReady", one.clone()),
        many => (false, "KubeletNotReady", format!("[{}]", many.join(", "))),
    };
    vec![
        make("MemoryPressure", pressure.memory, memory.0, memory.1),
        make("DiskPressure", pressure.disk, disk.0, disk.1),
        make("PIDPressure", pressure.pids, pids.0, pids.1),
        make("Ready", ready.0, ready.1, &ready.2),
    ]
}

fn image_list(images: &[cri::Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&cri::Image> = images.iter().collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let list = images.into_iter().take(MAX_IMAGES).map(|image| ContainerImage {
        names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    list.filter(|i| i.names.as_ref().is_some_and(|n| !n.is_empty())).collect()
}

/// Whether two statuses differ in more than the time of the heartbeat, as far as the kubelet owns them.
#[must_use]
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let bare = |s: &NodeStatus| -> Vec<(String, String, Option<String>, Option<String>)> {
        s.conditions.iter().flatten().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone())).collect()
    };
    let (ours, theirs) = (bare(b), bare(a));
    ours.iter().any(|c| !theirs.contains(c))
        || a.addresses != b.addresses
        || a.capacity != b.capacity
        || a.allocatable != b.allocatable
        || a.node_info != b.node_info
        || a.images != b.images
        || a.daemon_endpoints != b.daemon_endpoints
        || a.features != b.features
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(pressure: Pressure, reasons: &[&str], expected: Expect) {
        let ready = Ready { reasons: reasons.iter().map(|r| (*r).to_owned()).collect(), features: None };
        let s = status(&Node::default(), &Machine::default(), &pressure, &ready, &[], Timestamp::UNIX_EPOCH);
        let lines = s.conditions.into_iter().flatten();
        let text: String = lines
            .map(|c| format!("{}={} {}: {}\n", c.type_, c.status, c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
            .collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn a_healthy_node() {
        check(
            Pressure::default(),
            &[],
            expect![[r#"
                MemoryPressure=False KubeletHasSufficientMemory: kubelet has sufficient memory available
                DiskPressure=False KubeletHasNoDiskPressure: kubelet has no disk pressure
                PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available
                Ready=True KubeletReady: kubelet is posting ready status
            "#]],
        );
    }

    #[test]
    fn a_node_in_trouble() {
        check(
            Pressure { memory: true, disk: true, pids: false },
            &["a", "b"],
            expect![[r#"
                MemoryPressure=True KubeletHasInsufficientMemory: kubelet has insufficient memory available
                DiskPressure=True KubeletHasDiskPressure: kubelet has disk pressure
                PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available
                Ready=False KubeletNotReady: [a, b]
            "#]],
        );
    }

    #[test]
    fn what_others_say_that_the_node_has_it_gives() {
        let machine = Machine { capacity: [("cpu".to_owned(), Text("2".into()))].into(), ..Machine::default() };
        let machine = Machine { allocatable: machine.capacity.clone(), ..machine };
        let node = |status: Value| serde_json::from_value::<Node>(json!({"metadata": {}, "status": status})).unwrap();
        let of = |node: &Node| status(node, &machine, &Pressure::default(), &Ready::default(), &[], Timestamp::UNIX_EPOCH);
        let given = node(json!({"capacity": {"cpu": "9", "example.com/foo": "5", "requests.kubernetes.io/x": "1"}}));
        let now = of(&given);
        let both = json!({"cpu": "2", "example.com/foo": "5"});
        assert_eq!(json!([now.capacity, now.allocatable]), json!([both, both]));
        assert!(!differs(&now, &of(&node(json!(now)))), "it is said once");
        let taken = node(json!({"capacity": {"cpu": "2"}, "allocatable": both}));
        assert_eq!(patch(&taken, &of(&taken))["status"]["allocatable"], json!({"cpu": "2", "example.com/foo": null}));
    }

    #[test]
    fn a_heartbeat_is_no_difference() {
        let at = |t| status(&Node::default(), &Machine::default(), &Pressure::default(), &Ready::default(), &[], t);
        let (a, b) = (at(Timestamp::UNIX_EPOCH), at(Timestamp::MAX));
        assert!(!differs(&a, &b));
        let c = status(
            &Node::default(),
            &Machine { port: 1, ..Machine::default() },
            &Pressure::default(),
            &Ready::default(),
            &[],
            Timestamp::MAX,
        );
        assert!(differs(&a, &c));
    }
}
