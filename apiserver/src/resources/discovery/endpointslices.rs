//! discovery.k8s.io/v1 EndpointSlice

use std::net::IpAddr;

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{follows, one_of, required_one_of};
use crate::resources::cells::items;
use crate::resources::core::endpoints::shortened;
use crate::resources::network::{PROTOCOLS, validate_ip, validate_non_special_ip};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .generation()
        .columns(vec![
            Column::name(),
            Column::text("AddressType", "/addressType"),
            Column::compute("Ports", |o, _| ports(o).into()),
            Column::compute("Endpoints", |o, _| endpoints(o).into()),
            Column::age(),
        ])
        .rules::<EndpointSlice>(EndpointSliceRules)
}

fn ports(o: &Value) -> String {
    let number = |p: &Value| p.get("port").and_then(Value::as_i64).map_or("*".to_owned(), |n| n.to_string());
    shortened(&items(o, "/ports").iter().map(number).collect::<Vec<_>>(), "<unset>")
}

fn endpoints(o: &Value) -> String {
    let addresses = items(o, "/endpoints").iter().flat_map(|e| items(e, "/addresses"));
    let all: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    shortened(&all, "<unset>")
}

struct EndpointSliceRules;

impl Rules<EndpointSlice> for EndpointSliceRules {
    fn default(&self, slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    fn validate(&self, slice: &EndpointSlice, errors: &mut Errors) {
        required_one_of(&slice.address_type, &["FQDN", "IPv4", "IPv6"], &Path::new("addressType"), errors);
        let path = Path::new("endpoints");
        if slice.endpoints.len() > MAX_ENDPOINTS {
            return errors.too_many(&path, slice.endpoints.len(), MAX_ENDPOINTS);
        }
        for (i, endpoint) in slice.endpoints.iter().enumerate() {
            validate_endpoint(endpoint, &slice.address_type, &path.index(i), errors);
        }
        let (ports, path) = (slice.ports.as_deref().unwrap_or_default(), Path::new("ports"));
        if ports.len() > MAX_PORTS {
            return errors.too_many(&path, ports.len(), MAX_PORTS);
        }
        for (i, port) in ports.iter().enumerate() {
            validate_port(port, &ports[..i], &path.index(i), errors);
        }
    }
    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice, errors: &mut Errors) {
        errors.immutable(&Path::new("addressType"), &new.address_type, &old.address_type);
    }
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, path: &Path, errors: &mut Errors) {
    let addresses = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.required(&addresses, "must contain at least 1 address"),
        n if n > MAX_ADDRESSES => errors.too_many(&addresses, n, MAX_ADDRESSES),
        _ => {}
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        validate_address(address, kind, &addresses.index(i), errors);
    }
    if let Some(node) = &endpoint.node_name {
        for wrong in names::dns1123_subdomain(node) {
            errors.invalid(&path.child("nodeName"), node, &wrong);
        }
    }
    let topology = endpoint.deprecated_topology.iter().flatten();
    if topology.count() > MAX_TOPOLOGY {
        errors.too_many(&path.child("deprecatedTopology"), MAX_TOPOLOGY + 1, MAX_TOPOLOGY);
    }
    if let Some(hostname) = &endpoint.hostname {
        for wrong in names::dns1123_label(hostname) {
            errors.invalid(&path.child("hostname"), hostname, &wrong);
        }
    }
    for (i, zone) in endpoint.hints.iter().flat_map(|h| h.for_zones.iter().flatten()).enumerate() {
        follows(&zone.name, names::label_value, &path.child("hints").child("forZones").index(i).child("name"), errors);
    }
}

fn validate_address(address: &str, kind: &str, path: &Path, errors: &mut Errors) {
    let parsed = address.parse::<IpAddr>();
    match (kind, parsed) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => validate_non_special_ip(address, path, errors),
        ("IPv4", Ok(_)) => errors.invalid(path, address, "must be a valid IPv4 address"),
        ("IPv6", Ok(_)) => errors.invalid(path, address, "must be a valid IPv6 address"),
        ("IPv4" | "IPv6", Err(_)) => validate_ip(address, path, errors),
        ("FQDN", _) => {
            let name = address.strip_suffix('.').unwrap_or(address);
            for wrong in names::dns1123_subdomain(name) {
                errors.invalid(path, address, &wrong);
            }
            if !name.contains('.') {
                errors.invalid(path, address, "should be a domain with at least two segments separated by dots");
            }
        }
        _ => {}
    }
}

fn validate_port(port: &EndpointPort, before: &[EndpointPort], path: &Path, errors: &mut Errors) {
    let name = port.name.as_deref().unwrap_or("");
    if !name.is_empty() {
        for wrong in names::dns1123_label(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
    }
    if before.iter().any(|p| p.name.as_deref().unwrap_or("") == name) {
        errors.duplicate(&path.child("name"), name);
    }
    one_of(port.protocol.as_deref().unwrap_or(""), PROTOCOLS, &path.child("protocol"), errors);
    if let Some(number) = port.port {
        for wrong in names::port_number(number.into()) {
            errors.invalid(&path.child("port"), number, &wrong);
        }
    }
    if let Some(protocol) = &port.app_protocol {
        follows(protocol, names::qualified_name, &path.child("appProtocol"), errors);
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table() {
        let slice =
            "{metadata: {name: a}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}";
        assert_eq!(cells(super::row(), slice), "a | IPv4 | 80 | 10.0.0.1,10.0.0.2 | <unknown>");
        assert_eq!(
            cells(super::row(), "{metadata: {name: a}, addressType: IPv4, endpoints: []}"),
            "a | IPv4 | <unset> | <unset> | <unknown>"
        );
    }

    #[test]
    fn rules() {
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address
            endpoints[1].addresses: Required value: must contain at least 1 address
            ports[1].name: Duplicate value: """#]]
        .assert_eq(&errors(
            super::row(),
            "{metadata: {name: a}, addressType: IPv4, endpoints: [{addresses: ['fd00::1']}, {addresses: []}], ports: [{port: 1}, {port: 2}]}",
        ));
        expect![[r#"addressType: Unsupported value: "IPX": supported values: "FQDN", "IPv4", "IPv6""#]]
            .assert_eq(&errors(super::row(), "{metadata: {name: a}, addressType: IPX, endpoints: []}"));
    }
}
