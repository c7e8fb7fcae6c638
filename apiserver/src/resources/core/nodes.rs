//! v1 Node

use std::collections::BTreeSet;

use api::field::{Errors, Path};
use api::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, required_one_of};
use crate::resources::cells::{flag, items, map, or_none, text};
use crate::resources::network::validate_cidr;
use crate::resources::quantities::canonical_list;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("", "v1", "Node", "nodes")
        .short(&["no"])
        .status()
        .custom("proxy", ("", "v1", "NodeProxyOptions"), &["create", "delete", "get", "patch", "update"])
        .columns(vec![
            Column::name(),
            Column::compute("Status", status),
            Column::compute("Roles", roles),
            Column::age(),
            Column::text("Version", "/status/nodeInfo/kubeletVersion"),
            Column::compute("Internal-IP", |o, _| address(o, "InternalIP")).wide(),
            Column::compute("External-IP", |o, _| address(o, "ExternalIP")).wide(),
            Column::compute("OS-Image", |o, _| or_unknown(o, "/status/nodeInfo/osImage")).wide(),
            Column::compute("Kernel-Version", |o, _| or_unknown(o, "/status/nodeInfo/kernelVersion")).wide(),
            Column::compute("Container-Runtime", |o, _| or_unknown(o, "/status/nodeInfo/containerRuntimeVersion")).wide(),
        ])
        .selectable(&[("spec.unschedulable", "false")])
        .rules::<Node>(NodeRules)
}

fn status(o: &Value, _: Timestamp) -> Value {
    let ready = items(o, "/status/conditions").iter().find(|c| c["type"] == "Ready").map(|c| c["status"] == "True");
    let ready = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    if flag(o, "/spec/unschedulable") { format!("{ready},SchedulingDisabled").into() } else { ready.into() }
}

fn roles(o: &Value, _: Timestamp) -> Value {
    let mut roles = BTreeSet::new();
    for (key, value) in map(o, "/metadata/labels") {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.insert(role.to_owned()),
            None if key == "kubernetes.io/role" && !value.is_empty() => roles.insert(value),
            _ => false,
        };
    }
    or_none(&roles.into_iter().collect::<Vec<_>>().join(",")).into()
}

fn address(o: &Value, kind: &str) -> Value {
    let found = items(o, "/status/addresses").iter().find(|a| a["type"] == kind);
    or_none(found.map_or("", |a| text(a, "/address"))).into()
}

fn or_unknown(o: &Value, pointer: &str) -> Value {
    match text(o, pointer) {
        "" => "<unknown>".into(),
        s => s.into(),
    }
}

struct NodeRules;

impl Rules<Node> for NodeRules {
    fn default(&self, node: &mut Node) {
        if let Some(status) = &mut node.status {
            canonical_list(&mut status.capacity);
            canonical_list(&mut status.allocatable);
            if status.allocatable.is_none() {
                status.allocatable.clone_from(&status.capacity);
            }
        }
        // Both fields say the same; the plural one came later.
        let Some(spec) = &mut node.spec else { return };
        if spec.pod_cidrs.as_ref().is_none_or(Vec::is_empty) {
            spec.pod_cidrs = spec.pod_cidr.clone().filter(|c| !c.is_empty()).map(|c| vec![c]);
        } else if spec.pod_cidr.as_deref().unwrap_or("").is_empty() {
            spec.pod_cidr = spec.pod_cidrs.as_ref().and_then(|c| c.first().cloned());
        }
    }
    fn prepare_update(&self, new: &mut Node, old: &Node, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut Node, old: &Node, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, node: &Node, errors: &mut Errors) {
        let Some(spec) = &node.spec else { return };
        let path = Path::new("spec");
        let taints: Vec<&Taint> = spec.taints.iter().flatten().collect();
        for (i, taint) in taints.iter().enumerate() {
            validate_taint(taint, &path.child("taints").index(i), errors);
            if taints[..i].iter().any(|t| t.key == taint.key && t.effect == taint.effect) {
                errors.duplicate(&path.child("taints").index(i), &serde_json::json!(taint));
            }
        }
        validate_pod_cidrs(spec, &path.child("podCIDRs"), errors);
    }
    fn validate_update(&self, new: &Node, old: &Node, errors: &mut Errors) {
        let empty = NodeSpec::default();
        let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        let path = Path::new("spec");
        if old.pod_cidrs.as_ref().is_some_and(|c| !c.is_empty()) && old.pod_cidrs != new.pod_cidrs {
            errors.forbidden(&path.child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
        }
        if old.provider_id.as_ref().is_some_and(|p| !p.is_empty()) && old.provider_id != new.provider_id {
            errors.forbidden(&path.child("providerID"), "node updates may not change providerID except from \"\" to valid");
        }
    }
}

fn validate_taint(taint: &Taint, path: &Path, errors: &mut Errors) {
    follows(&taint.key, names::qualified_name, &path.child("key"), errors);
    let value = taint.value.as_deref().unwrap_or("");
    follows(value, names::label_value, &path.child("value"), errors);
    required_one_of(&taint.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path.child("effect"), errors);
}

fn validate_pod_cidrs(spec: &NodeSpec, path: &Path, errors: &mut Errors) {
    let cidrs: Vec<&String> = spec.pod_cidrs.iter().flatten().collect();
    for (i, cidr) in cidrs.iter().enumerate() {
        validate_cidr(cidr, &path.index(i), errors);
        if cidrs[..i].contains(cidr) {
            errors.duplicate(&path.index(i), *cidr);
        }
    }
    let shown = serde_json::json!(cidrs);
    if cidrs.len() > 2 {
        errors.invalid(path, &shown, "may specify no more than one CIDR for each IP family");
    } else if let [a, b] = cidrs[..]
        && a.contains(':') == b.contains(':')
    {
        errors.invalid(path, &shown, "may specify no more than one CIDR for each IP family");
    }
    if let (Some(one), Some(first)) = (&spec.pod_cidr, cidrs.first())
        && one != *first
    {
        errors.invalid(path, &shown, "must contain podCIDR as its first value");
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn table() {
        expect!["a | Ready,SchedulingDisabled | control-plane,x | 5m | v1.35.0 | 10.0.0.1 | <none> | Debian | <unknown> | <unknown>"].assert_eq(&cells(
            super::row(),
            "{metadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z', labels: {node-role.kubernetes.io/control-plane: '', kubernetes.io/role: x}},
              spec: {unschedulable: true},
              status: {conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 10.0.0.1}],
                nodeInfo: {kubeletVersion: v1.35.0, osImage: Debian}}}",
        ));
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.taints[0].effect: Unsupported value: "Often": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.taints[2]: Duplicate value: {"effect":"NoSchedule","key":"b"}
            spec.podCIDRs[0]: Invalid value: "nonsense": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#]]
        .assert_eq(&errors(
            super::row(),
            "{metadata: {name: a}, spec: {podCIDR: nonsense, taints: [{key: a, effect: Often}, {key: b, effect: NoSchedule}, {key: b, effect: NoSchedule}]}}",
        ));
        expect![[r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#]].assert_eq(&update_errors(
            super::row(),
            "{metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24}}",
            "{metadata: {name: a}, spec: {podCIDR: 10.0.1.0/24}}",
        ));
    }
}
