//! What a changed Service keeps of what it had, and what it lets go (upstream's `patchAllocatedValues`, `dropTypeDependentFields`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceSpec;

use super::ServiceType;

fn is_empty(s: &Option<String>) -> bool {
    s.as_ref().is_none_or(String::is_empty)
}

fn list(l: &Option<Vec<String>>) -> &[String] {
    l.as_deref().unwrap_or_default()
}

/// Puts in values that were allocated before and that the client left out.
pub(super) fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if old.needs_cluster_ip() && new.needs_cluster_ip() {
        if is_empty(&new.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if list(&new.cluster_ips).is_empty() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if list(&new.ip_families).is_empty() && new.ip_family_policy.is_none() {
            new.ip_families.clone_from(&old.ip_families);
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if old.needs_node_port() && new.needs_node_port() {
        keep_node_ports(new, old);
    }
    if old.needs_health_check_port() && new.needs_health_check_port() && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|p| p.node_port).filter(|p| *p != 0).collect()
}

/// A port that keeps its name keeps its node port, unless another port has taken that.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    let by_name: BTreeMap<Option<&str>, i32> = old.ports.iter().flatten().filter_map(|p| Some((p.name.as_deref(), p.node_port?))).collect();
    for port in new.ports.iter_mut().flatten().filter(|p| p.node_port.unwrap_or(0) == 0) {
        if let Some(before) = by_name.get(&port.name.as_deref()).filter(|p| **p != 0)
            && used.insert(*before)
        {
            port.node_port = Some(*before);
        }
    }
}

/// `clusterIP` is the first of `clusterIPs`; a client that knows only the old field changes both by it.
pub(super) fn normalize_cluster_ips(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let Some(old) = old else {
        if !is_empty(&new.cluster_ip) && list(&new.cluster_ips).is_empty() {
            new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
        }
        return;
    };
    if new.cluster_ip == old.cluster_ip || new.cluster_ips != old.cluster_ips {
        return;
    }
    new.cluster_ips = match &new.cluster_ip {
        Some(ip) if !ip.is_empty() => {
            let rest = list(&old.cluster_ips).iter().skip(1).cloned();
            Some(std::iter::once(ip.clone()).chain(rest).collect())
        }
        _ => None,
    };
}

/// Lets go what the new type has no use for, where the client only repeats what was there.
pub(super) fn drop_what_the_type_does_not_need(new: &mut ServiceSpec, old: &ServiceSpec) {
    if old.needs_cluster_ip() && !new.needs_cluster_ip() {
        if new.cluster_ip == old.cluster_ip || new.cluster_ips == old.cluster_ips {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if old.needs_node_port() && !new.needs_node_port() && node_ports(new).is_subset(&node_ports(old)) {
        for port in new.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if old.needs_health_check_port() && !new.needs_health_check_port() && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
    }
    if old.kind() == "LoadBalancer" && new.kind() != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if old.is_external() && !new.is_external() && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
    if old.kind() != "ExternalName" && new.kind() == "ExternalName" && new.internal_traffic_policy == old.internal_traffic_policy {
        new.internal_traffic_policy = None;
    }
}

/// The address families of a cluster that has IPv4 alone.
pub(super) fn default_families(spec: &mut ServiceSpec) {
    if !spec.needs_cluster_ip() {
        return;
    }
    let two = list(&spec.ip_families).len() == 2 || list(&spec.cluster_ips).len() == 2;
    if spec.ip_family_policy.is_none() && two {
        spec.ip_family_policy = Some("RequireDualStack".to_owned());
    }
    if spec.is_headless() && spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
        // Nothing is routed, so both families do; upstream gives both where nothing else is said.
        let policy = spec.ip_family_policy.get_or_insert_with(|| "RequireDualStack".to_owned()).clone();
        let families = spec.ip_families.get_or_insert_default();
        if families.is_empty() {
            families.push("IPv4".to_owned());
        }
        if policy != "SingleStack" && families.len() == 1 {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            families.push(other.to_owned());
        }
        return;
    }
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    if list(&spec.ip_families).is_empty() {
        spec.ip_families = Some(vec!["IPv4".to_owned()]);
    }
}
