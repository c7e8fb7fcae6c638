//! What is wrong with a Service.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::ServiceType;
use crate::resources::bounds::{NOT_NEGATIVE, follows, one_of, required_one_of};
use crate::resources::metadata::validate_labels;
use crate::resources::network::{validate_cidr, validate_ip, validate_non_special_ip, validate_port, validate_protocol};

/// Load balancers would publish the kubelet there.
const KUBELET_PORT: i32 = 10_250;
const MAX_AFFINITY_SECONDS: i32 = 86_400;
const ONLY_FOR_LOAD_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn validate(spec: &ServiceSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !spec.is_headless() && spec.kind() != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    validate_type(spec, &path, errors);
    for (i, port) in ports.iter().enumerate() {
        validate_service_port(port, &ports[..i], ports.len() > 1, spec.is_headless(), &path.child("ports").index(i), errors);
    }
    validate_labels(spec.selector.as_ref(), &path.child("selector"), errors);
    validate_affinity(spec, &path, errors);
    validate_cluster_ips(spec, &path, errors);
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        validate_non_special_ip(ip, &path.child("externalIPs").index(i), errors);
    }
    validate_node_ports(spec, ports, &path, errors);
    validate_load_balancer(spec, &path, errors);
    validate_traffic_policies(spec, &path, errors);
}

fn validate_type(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let headless = |what: &str| format!("may not be set to 'None' for {what} services");
    required_one_of(spec.kind(), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path.child("type"), errors);
    match spec.kind() {
        "LoadBalancer" => {
            for (i, _) in spec.ports.iter().flatten().enumerate().filter(|(_, p)| p.port == KUBELET_PORT) {
                let why = "may not expose port 10250 externally since it is used by kubelet";
                errors.invalid(&path.child("ports").index(i), KUBELET_PORT, why);
            }
            if spec.is_headless() {
                errors.invalid(&path.child("clusterIPs").index(0), "None", &headless("LoadBalancer"));
            }
        }
        "NodePort" if spec.is_headless() => errors.invalid(&path.child("clusterIPs").index(0), "None", &headless("NodePort")),
        "ExternalName" => {
            if spec.cluster_ips.as_ref().is_some_and(|c| !c.is_empty()) {
                errors.forbidden(&path.child("clusterIPs"), "may not be set for ExternalName services");
            }
            let name = spec.external_name.as_deref().unwrap_or("");
            let path = path.child("externalName");
            if name.is_empty() {
                errors.required(&path, "");
            } else {
                for wrong in names::dns1123_subdomain(name.strip_suffix('.').unwrap_or(name)) {
                    errors.invalid(&path, name, &wrong);
                }
            }
        }
        _ => {}
    }
}

fn validate_service_port(port: &ServicePort, before: &[ServicePort], named: bool, headless: bool, path: &Path, errors: &mut Errors) {
    let name = port.name.as_deref().unwrap_or("");
    if name.is_empty() && named {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        for wrong in names::dns1123_label(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
        if before.iter().any(|p| p.name.as_deref() == Some(name)) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    validate_port(port.port, &path.child("port"), errors);
    validate_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
    let target = path.child("targetPort");
    match &port.target_port {
        Some(IntOrString::Int(n)) => {
            for wrong in names::port_number((*n).into()) {
                errors.invalid(&target, *n, &wrong);
            }
            if headless && *n != port.port {
                errors.invalid(&path.child("port"), port.port, "must be equal to targetPort when clusterIP = None");
            }
        }
        Some(IntOrString::String(s)) => {
            follows(s, names::port_name, &target, errors);
        }
        None => {}
    }
    if let Some(protocol) = &port.app_protocol {
        follows(protocol, names::qualified_name, &path.child("appProtocol"), errors);
    }
    if before.iter().any(|p| p.protocol == port.protocol && p.port == port.port) {
        errors.duplicate(path, &json!({"port": port.port, "protocol": port.protocol}));
    }
}

fn validate_affinity(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let kind = spec.session_affinity.as_deref().unwrap_or("");
    required_one_of(kind, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let path = path.child("sessionAffinityConfig");
    match (kind, &spec.session_affinity_config) {
        ("None", Some(_)) => errors.forbidden(&path, "must not be set when session affinity is None"),
        ("ClientIP", config) => {
            let path = path.child("clientIP").child("timeoutSeconds");
            match config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds) {
                None => errors.required(&path, "when session affinity type is ClientIP"),
                Some(n) if n <= 0 || n > MAX_AFFINITY_SECONDS => {
                    errors.invalid(&path, n, &format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"));
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

fn validate_cluster_ips(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    if spec.kind() == "ExternalName" {
        if spec.ip_families.as_ref().is_some_and(|f| !f.is_empty()) {
            errors.forbidden(&path.child("ipFamilies"), "may not be set for ExternalName services");
        }
        if spec.ip_family_policy.is_some() {
            errors.forbidden(&path.child("ipFamilyPolicy"), "may not be set for ExternalName services");
        }
        return;
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (i, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies").index(i);
        one_of(family, &["IPv4", "IPv6"], &path, errors);
        if families[..i].contains(family) {
            errors.duplicate(&path, family);
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        one_of(policy, &["PreferDualStack", "RequireDualStack", "SingleStack"], &path.child("ipFamilyPolicy"), errors);
    }
    validate_stack(spec, families, path, errors);
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let plural = path.child("clusterIPs");
    if ips.is_empty() {
        if spec.cluster_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            errors.required(&plural, "");
        }
        return;
    }
    if spec.cluster_ip.as_ref() != ips.first() {
        errors.invalid(&plural, &json!(ips), "first value must match `clusterIP`");
    }
    if ips.len() > 2 {
        errors.invalid(&plural, &json!(ips), "may only hold up to 2 values");
    }
    for (i, ip) in ips.iter().enumerate() {
        match ip.as_str() {
            "None" if ips.len() > 1 => errors.invalid(&plural.index(i), ip, "'None' must be the first and only value"),
            "None" | "" => {}
            ip => validate_ip(ip, &plural.index(i), errors),
        }
        let v6 = ip.contains(':');
        let wrong = families.get(i).is_some_and(|f| ip != "None" && (f == "IPv6") != v6);
        if wrong {
            let why = format!("expected an {} value as indicated by `ipFamilies[{i}]`", families[i]);
            errors.invalid(&plural.index(i), ip, &why);
        }
    }
}

/// The cluster has one family; a Service that nothing routes may name the other.
fn validate_stack(spec: &ServiceSpec, families: &[String], path: &Path, errors: &mut Errors) {
    if spec.is_headless() && spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
        return;
    }
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", why);
    }
    for (i, _) in families.iter().enumerate().filter(|(_, f)| *f == "IPv6") {
        errors.invalid(&path.child("ipFamilies").index(i), "IPv6", "not configured on this cluster");
    }
}

fn validate_node_ports(spec: &ServiceSpec, ports: &[ServicePort], path: &Path, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let Some(node_port) = port.node_port.filter(|p| *p != 0) else { continue };
        let path = path.child("ports").index(i).child("nodePort");
        if matches!(spec.kind(), "ClusterIP" | "ExternalName") {
            errors.forbidden(&path, &format!("may not be used when `type` is '{}'", spec.kind()));
        }
        if ports[..i].iter().any(|p| p.node_port == Some(node_port) && p.protocol == port.protocol) {
            errors.duplicate(&path, node_port);
        }
    }
}

fn validate_load_balancer(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let is = spec.kind() == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() && !is {
        errors.forbidden(&path.child("loadBalancerSourceRanges"), ONLY_FOR_LOAD_BALANCERS);
    }
    for (i, range) in ranges.iter().enumerate() {
        validate_cidr(range.trim(), &path.child("loadBalancerSourceRanges").index(i), errors);
    }
    match (is, spec.allocate_load_balancer_node_ports) {
        (true, None) => errors.required(&path.child("allocateLoadBalancerNodePorts"), ""),
        (false, Some(_)) => errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_FOR_LOAD_BALANCERS),
        _ => {}
    }
    match &spec.load_balancer_class {
        Some(_) if !is => errors.forbidden(&path.child("loadBalancerClass"), ONLY_FOR_LOAD_BALANCERS),
        Some(class) => {
            follows(class, names::qualified_name, &path.child("loadBalancerClass"), errors);
        }
        None => {}
    }
}

fn validate_traffic_policies(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let external = path.child("externalTrafficPolicy");
    let health = path.child("healthCheckNodePort");
    match spec.external_traffic_policy.as_deref().filter(|p| !p.is_empty()) {
        Some(policy) if !spec.is_external() => errors.invalid(&external, policy, "may only be set for externally-accessible services"),
        Some(policy) => one_of(policy, &["Cluster", "Local"], &external, errors),
        None if spec.is_external() => errors.required(&external, "for externally-accessible services"),
        None => {}
    }
    match spec.health_check_node_port {
        Some(n) if n < 0 => errors.invalid(&health, n, NOT_NEGATIVE),
        Some(n) if n > 0 && !spec.needs_health_check_port() => {
            errors.invalid(&health, n, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
        }
        _ => {}
    }
    let internal = path.child("internalTrafficPolicy");
    match &spec.internal_traffic_policy {
        Some(policy) => one_of(policy, &["Cluster", "Local"], &internal, errors),
        None if spec.needs_cluster_ip() => errors.required(&internal, ""),
        None => {}
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = &["PreferClose", "PreferSameNode", "PreferSameZone"];
        one_of(distribution, known, &path.child("trafficDistribution"), errors);
    }
}

pub(super) fn validate_update(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    if old.kind() == "ExternalName" || new.kind() == "ExternalName" {
        return;
    }
    let (before, after) = (old.cluster_ips.as_deref().unwrap_or_default(), new.cluster_ips.as_deref().unwrap_or_default());
    let first = path.child("clusterIPs").index(0);
    match (before.first(), after.first()) {
        (Some(_), None) => errors.invalid(&first, &json!(after), "primary clusterIP can not be unset"),
        (Some(b), Some(a)) if b != a => errors.invalid(&first, &json!(after), "may not change once set"),
        _ => {}
    }
    let family = |spec: &ServiceSpec| spec.ip_families.iter().flatten().next().cloned();
    match (family(old), family(new)) {
        (Some(b), Some(a)) if b != a => {
            errors.invalid(&path.child("ipFamilies").index(0), &a, "may not change once set");
        }
        _ => {}
    }
    if old.kind() == "LoadBalancer" && new.kind() == "LoadBalancer" && old.load_balancer_class != new.load_balancer_class {
        let shown = new.load_balancer_class.clone().unwrap_or_default();
        errors.invalid(&path.child("loadBalancerClass"), shown, "may not change once set");
    }
}

#[cfg(test)]
mod tests {
    use super::super::row;
    use crate::resources::rows_in_tests::{errors, update_errors};
    use expect_test::{Expect, expect};

    fn service(spec: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}")
    }

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        expected.assert_eq(&errors(row(), &service(spec)));
    }

    #[test]
    fn ports() {
        check("", expect!["spec.ports: Required value"]);
        check("clusterIP: None", expect![""]);
        check(
            "ports: [{port: 80}, {port: 80}]",
            expect![[r#"
                spec.ports[0].name: Required value
                spec.ports[1].name: Required value
                spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#]],
        );
        check(
            "ports: [{name: a, port: 0, targetPort: 'A_'}, {name: a, port: 1, protocol: ICMP, nodePort: 30000}]",
            expect![[r#"
                spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[0].targetPort: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
                spec.ports[0].targetPort: Invalid value: "A_": must contain at least one letter (a-z)
                spec.ports[1].name: Duplicate value: "a"
                spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
                spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"#]],
        );
        check(
            "type: NodePort, ports: [{name: a, port: 53, nodePort: 30053}, {name: b, port: 53, protocol: UDP, nodePort: 30053}]",
            expect![""],
        );
    }

    #[test]
    fn kinds_and_policies() {
        check("type: ExternalName", expect!["spec.externalName: Required value"]);
        check(
            "type: ExternalName, externalName: a.b, clusterIP: 10.96.0.1",
            expect!["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
        );
        check(
            "clusterIP: None, type: NodePort, ports: [{port: 80}], healthCheckNodePort: 1",
            expect![[r#"
                spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
                spec.healthCheckNodePort: Invalid value: 1: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"#]],
        );
        check(
            "ports: [{port: 80}], ipFamilyPolicy: RequireDualStack, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            expect![[r#"
                spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
                spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#]],
        );
    }

    #[test]
    fn the_address_stays() {
        let with = |ip: &str| service(&format!("ports: [{{port: 80}}], clusterIP: {ip}, clusterIPs: [{ip}]"));
        expect![[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set"#]].assert_eq(&update_errors(
            row(),
            &with("10.96.0.9"),
            &with("10.96.0.8"),
        ));
        assert_eq!(update_errors(row(), &with("10.96.0.9"), &service("ports: [{port: 80}]")), "");
    }
}
