//! From the API's objects to what [`crate::zone`] keeps.

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::zone::{Endpoint, Kind, ObjectKey, Port, Service, Slice};

/// The label that names an EndpointSlice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn port(name: Option<&String>, protocol: Option<&String>, number: Option<i32>) -> Option<Port> {
    let protocol = match protocol.map_or("TCP", String::as_str) {
        "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        _ => return None,
    };
    let port = u16::try_from(number?).ok().filter(|p| *p > 0)?;
    Some(Port { name: name.map(|n| n.to_lowercase()).unwrap_or_default(), protocol, port })
}

/// A Service; none when its name stands for nothing.
#[must_use]
pub fn service(service: &core::Service) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), Some(p.port))).collect();
    let ips: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
    let ips = if ips.is_empty() { spec.cluster_ip.iter().collect() } else { ips };
    let kind = match spec.type_.as_deref() {
        Some("ExternalName") => {
            let mut target = Name::from_ascii(spec.external_name.as_deref()?).ok()?;
            target.set_fqdn(true);
            Kind::External(target)
        }
        _ if ips.iter().any(|ip| *ip == "None") => Kind::Headless,
        _ => Kind::ClusterIp(ips.iter().filter_map(|ip| ip.parse().ok()).collect()),
    };
    match &kind {
        Kind::ClusterIp(ips) if ips.is_empty() => None, // its address is not allocated yet
        _ => Some(Service { kind, ports }),
    }
}

/// An EndpointSlice with the Service it belongs to; none when it belongs to none.
#[must_use]
pub fn slice(slice: &EndpointSlice) -> Option<(ObjectKey, Slice)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_ref()?;
    let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    let endpoints = slice.endpoints.iter().filter(ready).map(|e| Endpoint {
        hostname: e.hostname.as_ref().map(|h| h.to_lowercase()),
        addresses: e.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
    });
    let ports = slice.ports.iter().flatten().filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), p.port));
    Some((ObjectKey::new(namespace, service), Slice { ports: ports.collect(), endpoints: endpoints.collect() }))
}
