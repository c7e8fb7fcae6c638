//! Whether this node can take a pod that was bound to it. What it cannot take fails at once, with upstream's reasons.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::labels::Selector;
use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, PodSpec};

use crate::pod::{Verdict, host_network};
use crate::resources::{self, milli, pod_milli};

/// Sysctls that are namespaced and cannot harm other pods (the list of the pod security standards).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The node's judgement on `pod`, given the pods it has taken; `None` when it takes it.
#[must_use]
pub fn admit(pod: &Pod, others: &[Arc<Pod>], node: &Node, unsafe_sysctls: &[String]) -> Option<Verdict> {
    let (reason, message) = refusal(pod, others, node, unsafe_sysctls)?;
    Some(Verdict { reason, message: format!("Pod was rejected: {message}"), disruption: false, rejected: true })
}

/// Why the node refuses `pod`, in a word and in a sentence.
#[must_use]
pub fn refusal(pod: &Pod, others: &[Arc<Pod>], node: &Node, unsafe_sysctls: &[String]) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    let refused = |reason: &str, message: String| Some((reason.to_owned(), message));
    if let Some(sysctl) = forbidden_sysctl(spec, unsafe_sysctls) {
        return refused("SysctlForbidden", format!("forbidden sysctl: {sysctl:?} not allowlisted"));
    }
    if spec.security_context.as_ref().and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict") && !has_strict_groups(node) {
        // Other runtimes take the field and give the groups of the image all the same (KEP-3619).
        return refused("SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node".into());
    }
    if !selects(spec, node) {
        return refused("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".into());
    }
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let most = resources::whole(allocatable, "pods").unwrap_or(i64::MAX);
    let taken = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if taken >= most {
        return refused("OutOfpods", format!("Node didn't have enough resource: pods, requested: 1, used: {taken}, capacity: {most}"));
    }
    let mut names: Vec<&str> = vec!["cpu", "memory", "ephemeral-storage"];
    let extended =
        spec.containers.iter().flat_map(|c| c.resources.iter()).flat_map(|r| r.requests.iter().flatten().map(|(n, _)| n.as_str()));
    names.extend(extended.filter(|n| n.contains('/') || n.starts_with("hugepages-")));
    for name in names {
        let wanted = pod_milli(spec, name, resources::requests);
        let used: i64 =
            others.iter().filter_map(|p| p.spec.as_ref()).map(|s| pod_milli(s, name, resources::requests)).fold(0, i64::saturating_add);
        let capacity = milli(allocatable, name).unwrap_or(0);
        if wanted > 0 && used.saturating_add(wanted) > capacity {
            // CPU is counted in thousandths, everything else in units.
            let unit = if name == "cpu" { 1 } else { 1000 };
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                wanted / unit,
                used / unit,
                capacity / unit
            );
            return refused(&format!("OutOf{name}"), message);
        }
    }
    if let Some(port) = conflicting_port(spec, others) {
        return refused(
            "NodePorts",
            format!("Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports ({port})"),
        );
    }
    untolerated(spec, node)
        .and_then(|taint| refused("TaintToleration", format!("Predicate TaintToleration failed: node(s) had untolerated taint {taint}")))
}

fn forbidden_sysctl<'a>(spec: &'a PodSpec, allowed: &[String]) -> Option<&'a str> {
    let wanted = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    wanted.map(|s| s.name.as_str()).find(|name| {
        let dotted = name.replace('/', ".");
        let on_list = allowed.iter().any(|a| a.strip_suffix('*').map_or(*a == dotted, |prefix| dotted.starts_with(prefix)));
        let of_network = dotted.starts_with("net.") && host_network(spec);
        of_network || !(SAFE_SYSCTLS.contains(&dotted.as_str()) || on_list)
    })
}

/// Whether the node's runtime has said that it can keep a container to the groups that its pod names.
fn has_strict_groups(node: &Node) -> bool {
    let features = node.status.as_ref().and_then(|s| s.features.as_ref());
    features.and_then(|f| f.supplemental_groups_policy) == Some(true)
}

fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let plain = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    plain && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, &labels, node)))
}

fn term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let fields: BTreeMap<String, String> = node.metadata.name.iter().map(|n| ("metadata.name".to_owned(), n.clone())).collect();
    let holds = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>, against: &BTreeMap<String, String>| {
        let parts = list.iter().flatten().map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
        Selector::from_parts(None, parts).is_ok_and(|s| s.matches(against))
    };
    let empty = term.match_expressions.as_ref().is_none_or(Vec::is_empty) && term.match_fields.as_ref().is_none_or(Vec::is_empty);
    !empty && holds(&term.match_expressions, labels) && holds(&term.match_fields, &fields)
}

fn conflicting_port(spec: &PodSpec, others: &[Arc<Pod>]) -> Option<i32> {
    let ports = |s: &PodSpec| -> Vec<(i32, String, String)> {
        let all = s.containers.iter().flat_map(|c| c.ports.clone().unwrap_or_default());
        let used = all.filter(|p| p.host_port.unwrap_or(0) > 0);
        used.map(|p| (p.host_port.unwrap_or(0), p.protocol.unwrap_or_else(|| "TCP".into()), p.host_ip.unwrap_or_default())).collect()
    };
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    let taken: Vec<_> = others.iter().filter_map(|p| p.spec.as_ref()).flat_map(ports).collect();
    let clash = |a: &(i32, String, String)| taken.iter().any(|b| a.0 == b.0 && a.1 == b.1 && (a.2 == b.2 || any(&a.2) || any(&b.2)));
    ports(spec).into_iter().find(clash).map(|p| p.0)
}

/// A NoExecute taint that the pod does not tolerate: it would be evicted at once.
fn untolerated(spec: &PodSpec, node: &Node) -> Option<String> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let found = taints.into_iter().flatten().filter(|t| t.effect == "NoExecute").find(|taint| {
        !spec.tolerations.iter().flatten().any(|t| {
            let effect = t.effect.as_deref().is_none_or(|e| e.is_empty() || e == taint.effect);
            let key = t.key.as_deref().is_none_or(|k| k.is_empty() || k == taint.key);
            let value = t.operator.as_deref() == Some("Exists")
                || t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
            effect && key && value
        })
    })?;
    Some(format!("{{{}: {}}}", found.key, found.value.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[track_caller]
    fn check(spec: serde_json::Value, expected: Expect) {
        let pod = |spec| Pod { spec: Some(serde_json::from_value(spec).expect("a spec")), ..Pod::default() };
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}}
        }))
        .expect("a node");
        let other = pod(
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}], "resources": {"requests": {"cpu": "600m"}}}]}),
        );
        let verdict = admit(&pod(spec), &[Arc::new(other)], &node, &["kernel.msg*".into()]);
        expected.assert_eq(&verdict.map_or("taken".into(), |v| format!("{}: {}", v.reason, v.message)));
    }

    fn tolerant(mut spec: serde_json::Value) -> serde_json::Value {
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        spec
    }

    #[test]
    fn refusals() {
        check(tolerant(json!({"containers": [{"name": "a"}], "nodeSelector": {"disk": "ssd"}})), expect!["taken"]);
        check(
            tolerant(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}}}]})),
            expect!["OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"],
        );
        check(
            tolerant(json!({"containers": [{"name": "a"}], "nodeSelector": {"disk": "hdd"}})),
            expect!["NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"],
        );
        check(
            tolerant(json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 8080}]}]})),
            expect![
                "NodePorts: Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports (8080)"
            ],
        );
        check(
            json!({"containers": [{"name": "a"}]}),
            expect!["TaintToleration: Pod was rejected: Predicate TaintToleration failed: node(s) had untolerated taint {k: v}"],
        );
        check(
            tolerant(json!({"containers": [{"name": "a"}], "securityContext": {"supplementalGroupsPolicy": "Strict"}})),
            expect![
                "SupplementalGroupsPolicyNotSupported: Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node"
            ],
        );
        check(
            json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}, {"name": "kernel.pid_max", "value": "1"}]}}),
            expect![[r#"SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.pid_max" not allowlisted"#]],
        );
    }
}
