//! v1 Endpoints

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::cells::{int, items, text};
use crate::resources::network::{validate_non_special_ip, validate_port, validate_protocol};

/// How many addresses a cell shows.
const SHOWN: usize = 3;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .create_on_update()
        .columns(vec![Column::name(), Column::compute("Endpoints", |o, _| addresses(o).into()), Column::age()])
        .rules::<Endpoints>(EndpointsRules)
}

fn addresses(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(o, "/subsets") {
        let ips = items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            all.extend(ips.clone().map(str::to_owned));
        }
        for port in ports {
            all.extend(ips.clone().map(|ip| join_host_port(ip, int(port, "/port"))));
        }
    }
    shortened(&all, "<none>")
}

fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The first few of a list, and how many there are besides.
pub(crate) fn shortened(all: &[String], none: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        n if n <= SHOWN => all.join(","),
        n => format!("{} + {} more...", all[..SHOWN].join(","), n - SHOWN),
    }
}

struct EndpointsRules;

impl Rules<Endpoints> for EndpointsRules {
    fn default(&self, endpoints: &mut Endpoints) {
        for port in endpoints.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten()) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    fn validate(&self, endpoints: &Endpoints, errors: &mut Errors) {
        for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(i);
            let (ready, unready) = (subset.addresses.iter().flatten(), subset.not_ready_addresses.iter().flatten());
            if ready.clone().chain(unready.clone()).next().is_none() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (j, address) in ready.enumerate() {
                validate_address(address, &path.child("addresses").index(j), errors);
            }
            for (j, address) in unready.enumerate() {
                validate_address(address, &path.child("notReadyAddresses").index(j), errors);
            }
            let ports: Vec<_> = subset.ports.iter().flatten().collect();
            for (j, port) in ports.iter().enumerate() {
                validate_endpoint_port(port, ports.len() > 1, &path.child("ports").index(j), errors);
            }
        }
    }
}

fn validate_address(address: &EndpointAddress, path: &Path, errors: &mut Errors) {
    validate_non_special_ip(&address.ip, &path.child("ip"), errors);
    for hostname in address.hostname.iter().filter(|h| !h.is_empty()) {
        for wrong in names::dns1123_label(hostname) {
            errors.invalid(&path.child("hostname"), hostname, &wrong);
        }
    }
    if let Some(node) = &address.node_name {
        for wrong in names::dns1123_subdomain(node) {
            errors.invalid(&path.child("nodeName"), node, &wrong);
        }
    }
}

fn validate_endpoint_port(port: &EndpointPort, named: bool, path: &Path, errors: &mut Errors) {
    let name = port.name.as_deref().unwrap_or("");
    if name.is_empty() && named {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        for wrong in names::dns1123_label(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
    }
    validate_port(port.port, &path.child("port"), errors);
    validate_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
    for wrong in port.app_protocol.iter().flat_map(|a| names::qualified_name(a)) {
        errors.invalid(&path.child("appProtocol"), port.app_protocol.as_deref().unwrap_or(""), &wrong);
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table() {
        let four = "{metadata: {name: a}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 443}]}]}";
        assert_eq!(cells(super::row(), four), "a | 10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more... | <unknown>");
        assert_eq!(cells(super::row(), "{metadata: {name: a}}"), "a | <none> | <unknown>");
    }

    #[test]
    fn rules() {
        expect![[r#"
            subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[0].ports[0].name: Required value
            subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
            subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`"#]]
        .assert_eq(&errors(
            super::row(),
            "{metadata: {name: a}, subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 80}, {name: b, port: 0}]}, {}]}",
        ));
    }
}
