//! networking.k8s.io/v1 NetworkPolicy

use api::field::{Errors, Path};
use api::names;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resource::{Column, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::selector;
use crate::resources::label_selector;
use crate::resources::network::{PROTOCOLS, validate_cidr, validate_port};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .generation()
        .columns(vec![Column::name(), Column::compute("Pod-Selector", |o, _| selector(o, "/spec/podSelector").into()), Column::age()])
        .rules::<NetworkPolicy>(PolicyRules)
}

struct PolicyRules;

fn ports(spec: &mut NetworkPolicySpec) -> impl Iterator<Item = &mut NetworkPolicyPort> {
    let ingress = spec.ingress.iter_mut().flatten().flat_map(|r| r.ports.iter_mut().flatten());
    ingress.chain(spec.egress.iter_mut().flatten().flat_map(|r| r.ports.iter_mut().flatten()))
}

impl Rules<NetworkPolicy> for PolicyRules {
    fn default(&self, policy: &mut NetworkPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.pod_selector.get_or_insert_default();
        for port in ports(spec) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec.egress.as_ref().is_some_and(|e| !e.is_empty());
            let types = std::iter::once("Ingress").chain(egress.then_some("Egress"));
            spec.policy_types = Some(types.map(str::to_owned).collect());
        }
    }
    fn validate(&self, policy: &NetworkPolicy, errors: &mut Errors) {
        let (Some(spec), path) = (&policy.spec, Path::new("spec")) else { return };
        if let Some(selector) = &spec.pod_selector {
            label_selector::validate(selector, &path.child("podSelector"), errors);
        }
        for (i, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(i);
            validate_rule(rule.ports.as_deref(), rule.from.as_deref(), "from", &path, errors);
        }
        for (i, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(i);
            validate_rule(rule.ports.as_deref(), rule.to.as_deref(), "to", &path, errors);
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            return errors.invalid(&path.child("policyTypes"), &serde_json::json!(types), "may not specify more than two policyTypes");
        }
        for (i, one) in types.iter().enumerate() {
            one_of(one, &["Egress", "Ingress"], &path.child("policyTypes").index(i), errors);
        }
    }
}

fn validate_rule(ports: Option<&[NetworkPolicyPort]>, peers: Option<&[NetworkPolicyPeer]>, field: &str, path: &Path, errors: &mut Errors) {
    for (i, port) in ports.into_iter().flatten().enumerate() {
        validate_policy_port(port, &path.child("ports").index(i), errors);
    }
    for (i, peer) in peers.into_iter().flatten().enumerate() {
        validate_peer(peer, &path.child(field).index(i), errors);
    }
}

fn validate_policy_port(port: &NetworkPolicyPort, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = &port.protocol {
        one_of(protocol, PROTOCOLS, &path.child("protocol"), errors);
    }
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(first)), last) => {
            validate_port(*first, &path.child("port"), errors);
            if let Some(last) = last {
                if last < *first {
                    errors.invalid(&path.child("endPort"), last, "must be greater than or equal to `port`");
                }
                validate_port(last, &path.child("endPort"), errors);
            }
        }
        (Some(IntOrString::String(name)), last) => {
            if let Some(last) = last {
                errors.invalid(&path.child("endPort"), last, "may not be specified when `port` is non-numeric");
            }
            follows(name, names::port_name, &path.child("port"), errors);
        }
        (None, Some(last)) => errors.invalid(&path.child("endPort"), last, "may not be specified when `port` is not specified"),
        (None, None) => {}
    }
}

fn validate_peer(peer: &NetworkPolicyPeer, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for (name, selector) in [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)] {
        if let Some(selector) = selector {
            count += 1;
            label_selector::validate(selector, &path.child(name), errors);
        }
    }
    match &peer.ip_block {
        Some(_) if count > 0 => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        Some(block) => validate_block(block, &path.child("ipBlock"), errors),
        None if count == 0 => errors.required(path, "must specify a peer"),
        None => {}
    }
}

fn validate_block(block: &IPBlock, path: &Path, errors: &mut Errors) {
    if block.cidr.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    validate_cidr(&block.cidr, &path.child("cidr"), errors);
    let Ok(whole) = block.cidr.parse::<IpNet>() else { return };
    for (i, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(i);
        match except.parse::<IpNet>() {
            Ok(part) if !whole.trunc().contains(&part.trunc()) || part.prefix_len() <= whole.prefix_len() => {
                errors.invalid(&path, except, "must be a strict subset of `cidr`");
            }
            Ok(_) => {}
            Err(_) => validate_cidr(except, &path, errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, created, errors};
    use expect_test::expect;

    fn policy(spec: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}")
    }

    #[test]
    fn defaults_and_table() {
        expect![[r#"
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata:
              name: a
            spec:
              egress:
              - ports:
                - port: 53
                  protocol: TCP
              podSelector: {}
              policyTypes:
              - Ingress
              - Egress
        "#]]
        .assert_eq(&created(row(), &policy("egress: [{ports: [{port: 53}]}]")));
        assert_eq!(cells(row(), &policy("podSelector: {matchLabels: {a: b}}")), "a | a=b | <unknown>");
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ingress[0].ports[1].endPort: Invalid value: 79: must be greater than or equal to `port`
            spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified
            spec.ingress[0].ports[3].port: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ingress[0].ports[3].port: Invalid value: "A_": must contain at least one letter (a-z)
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1].ipBlock.except[1]: Invalid value: "11.0.0.0/8": must be a strict subset of `cidr`
            spec.ingress[0].from[2]: Forbidden: may not specify both ipBlock and another peer
            spec.policyTypes[0]: Unsupported value: "Sideways": supported values: "Egress", "Ingress""#]].assert_eq(&errors(
            row(),
            &policy("ingress: [{ports: [{port: 0}, {port: 80, endPort: 79}, {endPort: 1}, {port: A_}], from: [{}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/8]}}, {podSelector: {}, ipBlock: {cidr: x}}]}], policyTypes: [Sideways]"),
        ));
    }
}
