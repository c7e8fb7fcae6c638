//! What pods, Services and claims count for in a quota.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::kind::Object as _;
use crate::pod_state;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

fn read(amounts: Option<&BTreeMap<String, Written>>) -> Amounts {
    amounts.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.0.parse().ok()?))).collect()
}

fn one(name: &str, into: &mut Amounts) {
    *into.entry(name.to_owned()).or_default() += Quantity::from_units(1);
}

/// What a pod counts for; nothing when it has ended, or should have.
pub fn pod(pod: &Pod, now: Timestamp, into: &mut Amounts) {
    one("count/pods", into);
    let overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|at| {
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        at.0.checked_add(grace).is_ok_and(|end| end < now)
    });
    if pod_state::is_terminal(pod) || overdue {
        return;
    }
    one("pods", into);
    for (limits, prefix) in [(false, "requests."), (true, "limits.")] {
        for (name, amount) in total(pod, limits) {
            *into.entry(format!("{prefix}{name}")).or_default() += amount;
            if !limits && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                *into.entry(name).or_default() += amount;
            }
        }
    }
}

/// The sum over containers, or the largest init container where that is more, with the overhead.
fn total(pod: &Pod, limits: bool) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let of = |c: &Container| {
        let r = c.resources.as_ref();
        read(if limits { r.and_then(|r| r.limits.as_ref()) } else { r.and_then(|r| r.requests.as_ref()) })
    };
    let add = |into: &mut Amounts, more: Amounts| more.into_iter().for_each(|(k, v)| *into.entry(k).or_default() += v);
    let mut sum = Amounts::new();
    spec.containers.iter().for_each(|c| add(&mut sum, of(c)));
    // Sidecars run beside everything after them.
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, of(container));
            add(&mut sum, of(container));
        }
        let mut at_start = sidecars.clone();
        if container.restart_policy.as_deref() != Some("Always") {
            add(&mut at_start, of(container));
        }
        for (name, amount) in at_start {
            let most = most.entry(name).or_default();
            *most = (*most).max(amount);
        }
    }
    for (name, amount) in most {
        let sum = sum.entry(name).or_default();
        *sum = (*sum).max(amount);
    }
    add(&mut sum, read(spec.overhead.as_ref()));
    sum
}

/// What a Service counts for.
pub fn service(service: &Service, into: &mut Amounts) {
    one("services", into);
    one("count/services", into);
    let Some(spec) = &service.spec else { return };
    let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(0);
    match spec.type_.as_deref() {
        Some("LoadBalancer") => {
            one("services.loadbalancers", into);
            if spec.allocate_load_balancer_node_ports != Some(false) {
                *into.entry("services.nodeports".to_owned()).or_default() += Quantity::from_units(ports);
            }
        }
        Some("NodePort") => *into.entry("services.nodeports".to_owned()).or_default() += Quantity::from_units(ports),
        _ => {}
    }
}

/// What a claim counts for, on its own and in its storage class.
pub fn claim(claim: &PersistentVolumeClaim, into: &mut Amounts) {
    one("persistentvolumeclaims", into);
    one("count/persistentvolumeclaims", into);
    let Some(spec) = &claim.spec else { return };
    let storage = read(spec.resources.as_ref().and_then(|r| r.requests.as_ref())).get("storage").copied().unwrap_or_default();
    *into.entry("requests.storage".to_owned()).or_default() += storage;
    let class = spec.storage_class_name.as_deref().or(claim.annotation("volume.beta.kubernetes.io/storage-class"));
    if let Some(class) = class.filter(|c| !c.is_empty()) {
        one(&format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), into);
        *into.entry(format!("{class}.storageclass.storage.k8s.io/requests.storage")).or_default() += storage;
    }
}

/// Whether a quota's scopes include the pod.
#[must_use]
pub fn in_scope(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten().map(|name| (name.as_str(), "Exists", &[] as &[String]));
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    let selected = selected
        .map(|r: &ScopedResourceSelectorRequirement| (r.scope_name.as_str(), r.operator.as_str(), r.values.as_deref().unwrap_or_default()));
    plain.chain(selected).all(|(scope, operator, values)| fits(pod, scope, operator, values))
}

fn fits(pod: &Pod, scope: &str, operator: &str, values: &[String]) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let best_effort = || {
        let qos = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
        qos.map_or_else(|| total(pod, false).is_empty() && total(pod, true).is_empty(), |q| q == "BestEffort")
    };
    let class = spec.priority_class_name.as_deref().unwrap_or_default();
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some_and(|s| s >= 0),
        "NotTerminating" => spec.active_deadline_seconds.is_none(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => match operator {
            "Exists" => !class.is_empty(),
            "DoesNotExist" => class.is_empty(),
            "In" => values.iter().any(|v| v == class),
            "NotIn" => values.iter().all(|v| v != class),
            _ => false,
        },
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn crosses_namespaces(spec: &k8s_openapi::api::core::v1::PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let (with, against) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = with.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let preferred =
        with.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten()).map(|w| &w.pod_affinity_term);
    let not_required = against.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let not_preferred =
        against.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten()).map(|w| &w.pod_affinity_term);
    let mut terms = required.chain(preferred).chain(not_required).chain(not_preferred);
    terms.any(|t| t.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || t.namespace_selector.is_some())
}
