//! From the API's objects to [`crate::model`]. An object that is none of our business becomes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::labels::Selector;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::{Endpoint, HostPort, Pod, Protocol, Service, ServicePort, Slice};
use crate::policy::{Allow, Peer, Policy, PolicyPort};

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: i32 = 10_800;

fn ips<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.into_iter().filter_map(|t| t.parse().ok()).collect()
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|p| *p > 0)
}

/// A Service; none when it has no cluster address.
#[must_use]
pub fn service(service: &core::Service) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    let cluster_ips =
        ips(spec.cluster_ips.iter().flatten().chain(spec.cluster_ips.is_none().then_some(&spec.cluster_ip).into_iter().flatten()));
    if cluster_ips.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let ingress = service.status.iter().filter_map(|s| s.load_balancer.as_ref()).flat_map(|l| l.ingress.iter().flatten());
    let by_address = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref());
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
        u32::try_from(configured.unwrap_or(AFFINITY_SECONDS)).unwrap_or(1).max(1)
    });
    Some(Service {
        cluster_ips,
        external_ips: ips(spec.external_ips.iter().flatten()),
        load_balancer_ips: if is_balanced { ips(by_address) } else { vec![] },
        source_ranges: spec.load_balancer_source_ranges.iter().flatten().filter_map(|r| r.trim().parse().ok()).collect(),
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        affinity,
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        health_check_node_port: spec.health_check_node_port.and_then(port).filter(|_| is_balanced),
    })
}

fn service_port(p: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: p.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(p.protocol.as_deref())?,
        port: port(p.port)?,
        node_port: p.node_port.and_then(port),
    })
}

/// An EndpointSlice; none when it belongs to no Service or holds names.
#[must_use]
pub fn slice(slice: &EndpointSlice) -> Option<Slice> {
    let service = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
    if slice.address_type != "IPv4" && slice.address_type != "IPv6" {
        return None;
    }
    let ports = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|p| Some((p.name.clone().unwrap_or_default(), Protocol::parse(p.protocol.as_deref())?, port(p.port?)?)));
    let endpoints = slice.endpoints.iter().filter_map(|e| {
        let conditions = e.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let hints = e.hints.as_ref();
        Some(Endpoint {
            address: e.addresses.first()?.parse().ok()?,
            ready,
            serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
            node: e.node_name.clone(),
            zones: hints.iter().flat_map(|h| h.for_zones.iter().flatten()).map(|z| z.name.clone()).collect(),
            nodes: hints.iter().flat_map(|h| h.for_nodes.iter().flatten()).map(|n| n.name.clone()).collect(),
        })
    });
    Some(Slice { service, ports: ports.collect(), endpoints: endpoints.collect() })
}

/// A pod with an address of its own; none when it uses its node's, or has ended.
#[must_use]
pub fn pod(pod: &core::Pod, node: &str) -> Option<Pod> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let mut addresses = ips(status.pod_ips.iter().flatten().map(|p| &p.ip));
    if addresses.is_empty() {
        addresses = ips(status.pod_ip.as_ref());
    }
    if addresses.is_empty() {
        return None;
    }
    let restartable = |c: &&core::Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(restartable));
    let mut found = Pod {
        ips: addresses,
        local: spec.node_name.as_deref() == Some(node),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ..Pod::default()
    };
    for p in containers.flat_map(|c| c.ports.iter().flatten()) {
        let (Some(protocol), Some(number)) = (Protocol::parse(p.protocol.as_deref()), port(p.container_port)) else { continue };
        if let Some(name) = &p.name {
            found.named_ports.push((name.clone(), protocol, number));
        }
        if let Some(host_port) = p.host_port.and_then(port).filter(|_| found.local) {
            let host_ip = p.host_ip.as_ref().and_then(|ip| ip.parse().ok());
            found.host_ports.push(HostPort { host_ip, protocol, host_port, container_port: number });
        }
    }
    Some(found)
}

/// A NetworkPolicy; none when one of its selectors cannot be read, which the apiserver does not let pass.
#[must_use]
pub fn policy(policy: &NetworkPolicy) -> Option<Policy> {
    let spec = policy.spec.as_ref()?;
    // Unsaid, a policy is about what comes in, and about what goes out only when it has rules for that.
    let said = |word: &str| spec.policy_types.iter().flatten().any(|t| t == word);
    let unsaid = spec.policy_types.iter().flatten().next().is_none();
    let ingress = spec.ingress.iter().flatten().map(|r| allow(r.from.as_deref(), r.ports.as_deref())).collect::<Option<Vec<_>>>()?;
    let egress = spec.egress.iter().flatten().map(|r| allow(r.to.as_deref(), r.ports.as_deref())).collect::<Option<Vec<_>>>()?;
    Some(Policy {
        pods: spec.pod_selector.as_ref().map_or_else(|| Some(Selector::everything()), selector)?,
        ingress: (said("Ingress") || unsaid).then_some(ingress),
        egress: (said("Egress") || (unsaid && spec.egress.is_some())).then_some(egress),
    })
}

fn allow(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Option<Allow> {
    Some(Allow {
        peers: peers.unwrap_or_default().iter().map(peer).collect::<Option<_>>()?,
        ports: ports.unwrap_or_default().iter().map(policy_port).collect::<Option<_>>()?,
    })
}

fn peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten().map(|e| e.parse().ok()).collect::<Option<_>>()?;
        return Some(Peer::Block(block.cidr.parse().ok()?, except));
    }
    Some(Peer::Pods {
        namespaces: match &peer.namespace_selector {
            Some(s) => Some(selector(s)?),
            None => None,
        },
        pods: peer.pod_selector.as_ref().map_or_else(|| Some(Selector::everything()), selector)?,
    })
}

fn policy_port(p: &NetworkPolicyPort) -> Option<PolicyPort> {
    let protocol = Protocol::parse(p.protocol.as_deref())?;
    Some(match &p.port {
        None => PolicyPort::All(protocol),
        Some(IntOrString::String(name)) => PolicyPort::Named(protocol, name.clone()),
        Some(IntOrString::Int(first)) => {
            let first = port(*first)?;
            PolicyPort::Range(protocol, first, p.end_port.and_then(port).unwrap_or(first).max(first))
        }
    })
}

fn selector(s: &LabelSelector) -> Option<Selector> {
    let expressions = s.match_expressions.iter().flatten();
    let parts = expressions.map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    Selector::from_parts(s.match_labels.as_ref(), parts).ok()
}

/// Labels of a namespace.
#[must_use]
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    labels.cloned().unwrap_or_default()
}
