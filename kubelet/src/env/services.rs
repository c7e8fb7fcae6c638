//! The variables that tell a container where Services are, in the form Docker links once had.
//!
//! `default/kubernetes` is told to every container; the Services of the pod's own namespace when it has `enableServiceLinks`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// Where the Services that everybody is told about live.
const MASTER_NAMESPACE: &str = "default";
const MASTER_SERVICES: [&str; 1] = ["kubernetes"];

/// Variables for the Services that a pod of `namespace` is told about, sorted by Service name.
#[must_use]
pub fn service_variables(services: &[Service], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut told: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        if of == namespace && links {
            told.insert(name, service);
        } else if of == MASTER_NAMESPACE && MASTER_SERVICES.contains(&name) {
            told.entry(name).or_insert(service);
        }
    }
    told.into_iter().flat_map(|(name, service)| variables(name, service)).collect()
}

fn variables(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return vec![] };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return vec![] };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return vec![] };
    let prefix = variable_name(name);
    let mut out = vec![(format!("{prefix}_SERVICE_HOST"), ip.to_owned()), (format!("{prefix}_SERVICE_PORT"), first.port.to_string())];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.push((format!("{prefix}_PORT"), url.clone()));
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.push((port_prefix.clone(), url));
        out.push((format!("{port_prefix}_PROTO"), protocol.to_lowercase()));
        out.push((format!("{port_prefix}_PORT"), port.port.to_string()));
        out.push((format!("{port_prefix}_ADDR"), ip.to_owned()));
    }
    out
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
