//! networking.k8s.io/v1 IPAddress: an address of the cluster that is taken. Services' are made with the Service (`allocate/cluster_ip`).

use std::net::IpAddr;

use api::field::{Errors, Path};
use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::Value;

use crate::resource::{Column, Resource, Rules};
use crate::resources::cells::text;

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut row = Resource::cluster(super::GROUP, "v1", "IPAddress", "ipaddresses")
        .short(&["ip"])
        .names(name_rule)
        .columns(vec![Column::name(), Column::compute("ParentRef", |o, _| parent(o).into()), Column::age()])
        .selectable(&[
            ("spec.parentRef.group", ""),
            ("spec.parentRef.resource", ""),
            ("spec.parentRef.name", ""),
            ("spec.parentRef.namespace", ""),
        ])
        .rules::<IPAddress>(AddressRules);
    // The pool of cluster IPs is these objects.
    row.stored_as = ("".into(), "ipaddresses".into());
    row
}

fn name_rule(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(ip) if ip.to_string() == name => vec![],
        Ok(ip) => vec![format!("must be in canonical form ({:?})", ip.to_string())],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

fn parent(o: &Value) -> String {
    let parts = ["/spec/parentRef/resource", "/spec/parentRef/group"].map(|p| text(o, p));
    let resource = if parts[1].is_empty() { parts[0].to_owned() } else { format!("{}.{}", parts[0], parts[1]) };
    let name = [text(o, "/spec/parentRef/namespace"), text(o, "/spec/parentRef/name")];
    let name: Vec<&str> = name.into_iter().filter(|p| !p.is_empty()).collect();
    format!("{resource}/{}", name.join("/"))
}

struct AddressRules;

impl Rules<IPAddress> for AddressRules {
    fn validate(&self, address: &IPAddress, errors: &mut Errors) {
        let path = Path::new("spec").child("parentRef");
        let Some(parent) = address.spec.as_ref().map(|s| &s.parent_ref) else { return errors.required(&path, "") };
        for (name, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            if value.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
    }
    fn validate_update(&self, new: &IPAddress, old: &IPAddress, errors: &mut Errors) {
        let parent = |a: &IPAddress| a.spec.as_ref().map(|s| s.parent_ref.clone());
        errors.immutable(&Path::new("spec").child("parentRef"), &parent(new), &parent(old));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::cells;

    #[test]
    fn stands_where_the_pool_looks() {
        assert_eq!(row().storage_prefix(), crate::allocate::cluster_ip::PREFIX);
        let address = "{metadata: {name: 10.96.0.1}, spec: {parentRef: {resource: services, namespace: default, name: kubernetes}}}";
        assert_eq!(cells(row(), address), "10.96.0.1 | services/default/kubernetes | <unknown>");
        assert!(name_rule("10.96.0.1").is_empty() && !name_rule("010.96.0.1").is_empty());
    }
}
