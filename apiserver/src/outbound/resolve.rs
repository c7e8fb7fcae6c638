//! Where a Service is: the addresses of its ready endpoints, as its EndpointSlices have them.
//!
//! Endpoints are called, and not the cluster IP: the machine of an apiserver need not have Services' rules. Pure.

use serde_json::Value;

use crate::resources::cells::{items, text};

/// An address and a port.
pub type Endpoint = (String, u16);

/// Why a Service leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nowhere {
    /// It has no such port.
    Port,
    /// Nothing behind it is ready.
    Endpoints,
}

/// The port of a Service that is meant: by number or name, or the only one when nothing is said.
#[must_use]
pub fn port<'a>(service: &'a Value, wanted: &str) -> Option<&'a Value> {
    let ports = items(service, "/spec/ports");
    match (wanted, ports) {
        ("", [only]) => Some(only),
        ("", _) => ports.iter().find(|p| text(p, "/name").is_empty()),
        _ => ports.iter().find(|p| p["name"] == wanted || wanted.parse::<u64>().is_ok_and(|n| p["port"].as_u64() == Some(n))),
    }
}

/// The ready endpoints of a Service's port. `slices` are those of the Service.
///
/// # Errors
/// Why there is none.
pub fn endpoints<'a>(service: &Value, slices: impl IntoIterator<Item = &'a Value>, wanted: &str) -> Result<Vec<Endpoint>, Nowhere> {
    let external = text(service, "/spec/externalName");
    if text(service, "/spec/type") == "ExternalName" && !external.is_empty() {
        return Ok(vec![(external.to_owned(), wanted.parse().map_err(|_| Nowhere::Port)?)]);
    }
    let name = text(port(service, wanted).ok_or(Nowhere::Port)?, "/name");
    let mut ready: Vec<Endpoint> = vec![];
    for slice in slices {
        let number = items(slice, "/ports").iter().find(|p| text(p, "/name") == name).and_then(|p| p["port"].as_u64());
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else { continue };
        let here = items(slice, "/endpoints").iter().filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
        ready.extend(here.filter_map(|e| Some((e.pointer("/addresses/0")?.as_str()?.to_owned(), number))));
    }
    if ready.is_empty() { Err(Nowhere::Endpoints) } else { Ok(ready) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;

    const SERVICE: &str = "{spec: {ports: [{name: https, port: 443}, {name: other, port: 80}]}}";

    #[track_caller]
    fn check(service: &str, slices: &[&str], wanted: &str, expected: Result<&[(&str, u16)], Nowhere>) {
        let slices: Vec<Value> = slices.iter().map(|s| yaml(s)).collect();
        let expected = expected.map(|all| all.iter().map(|(a, p)| ((*a).to_owned(), *p)).collect());
        assert_eq!(endpoints(&yaml(service), &slices, wanted), expected);
    }

    #[test]
    fn ready_endpoints_of_the_port_are_found() {
        let slice = "{ports: [{name: https, port: 8443}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]}";
        let other = "{ports: [{name: other, port: 8080}], endpoints: [{addresses: [10.0.0.3], conditions: {ready: true}}]}";
        check(SERVICE, &[slice, other], "443", Ok(&[("10.0.0.1", 8443)]));
        check(SERVICE, &[slice, other], "other", Ok(&[("10.0.0.3", 8080)]));
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        check(SERVICE, &[], "444", Err(Nowhere::Port));
        check(SERVICE, &[], "443", Err(Nowhere::Endpoints));
        check("{spec: {ports: [{port: 1}]}}", &["{ports: [{port: 2}], endpoints: []}"], "", Err(Nowhere::Endpoints));
    }

    #[test]
    fn an_external_name_is_its_own_endpoint() {
        check("{spec: {type: ExternalName, externalName: a.b}}", &[], "443", Ok(&[("a.b", 443)]));
    }
}
