//! v1 Service

mod transitions;
mod validation;

use api::names;
use k8s_openapi::api::core::v1::{ClientIPConfig, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use api::field::Errors;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::cells::{int, items, labels, or_none, text};

/// How long `sessionAffinity: ClientIP` lasts.
const AFFINITY_SECONDS: i32 = 10_800;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "Service", "services")
        .returns_deleted()
        .short(&["svc"])
        .in_all()
        .status()
        .create_on_update()
        .names(names::dns1035_label)
        .custom("proxy", ("", "v1", "ServiceProxyOptions"), &["create", "delete", "get", "patch", "update"])
        .columns(vec![
            Column::name(),
            Column::text("Type", "/spec/type"),
            Column::compute("Cluster-IP", |o, _| cluster_ip(o).into()),
            Column::compute("External-IP", |o, _| external_ip(o).into()),
            Column::compute("Port(s)", |o, _| ports(o).into()),
            Column::age(),
            Column::compute("Selector", |o, _| labels(o, "/spec/selector").into()).wide(),
        ])
        .selectable(&[("spec.clusterIP", ""), ("spec.type", "")])
        .rules::<Service>(ServiceRules)
}

fn cluster_ip(o: &Value) -> &str {
    let first = items(o, "/spec/clusterIPs").first().and_then(Value::as_str);
    or_none(first.unwrap_or_else(|| text(o, "/spec/clusterIP")))
}

fn external_ip(o: &Value) -> String {
    let external: Vec<&str> = items(o, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(o, "/spec/type") {
        "ClusterIP" | "NodePort" => or_none(&external.join(",")).to_owned(),
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(o, "/status/loadBalancer/ingress").iter();
            let mut all: Vec<&str> =
                ingress.map(|i| if text(i, "/ip").is_empty() { text(i, "/hostname") } else { text(i, "/ip") }).collect();
            all.extend(external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => "<unknown>".to_owned(),
    }
}

fn ports(o: &Value) -> String {
    let one = |p: &Value| match int(p, "/nodePort") {
        0 => format!("{}/{}", int(p, "/port"), text(p, "/protocol")),
        node => format!("{}:{node}/{}", int(p, "/port"), text(p, "/protocol")),
    };
    or_none(&items(o, "/spec/ports").iter().map(one).collect::<Vec<_>>().join(",")).to_owned()
}

/// What a Service's type asks for.
pub(crate) trait ServiceType {
    /// The type's name.
    fn kind(&self) -> &str;
    /// `clusterIP: None`
    fn is_headless(&self) -> bool;
    /// Whether it has an address of the cluster (`None` included).
    fn needs_cluster_ip(&self) -> bool {
        matches!(self.kind(), "ClusterIP" | "NodePort" | "LoadBalancer")
    }
    /// Whether a port of every node is its own.
    fn needs_node_port(&self) -> bool;
    /// Whether nodes answer a load balancer's health checks.
    fn needs_health_check_port(&self) -> bool;
    /// Whether it is reached from outside the cluster.
    fn is_external(&self) -> bool;
}

impl ServiceType for ServiceSpec {
    fn kind(&self) -> &str {
        self.type_.as_deref().unwrap_or("")
    }
    fn is_headless(&self) -> bool {
        let first = self.cluster_ips.iter().flatten().next().or(self.cluster_ip.as_ref());
        first.is_some_and(|ip| ip == "None")
    }
    fn needs_node_port(&self) -> bool {
        self.kind() == "NodePort" || (self.kind() == "LoadBalancer" && self.allocate_load_balancer_node_ports != Some(false))
    }
    fn needs_health_check_port(&self) -> bool {
        self.kind() == "LoadBalancer" && self.external_traffic_policy.as_deref() == Some("Local")
    }
    fn is_external(&self) -> bool {
        matches!(self.kind(), "NodePort" | "LoadBalancer")
            || (self.kind() == "ClusterIP" && self.external_ips.as_ref().is_some_and(|e| !e.is_empty()))
    }
}

struct ServiceRules;

impl Rules<Service> for ServiceRules {
    fn default(&self, service: &mut Service) {
        default_spec(service.spec.get_or_insert_default());
        let ingress = service.status.iter_mut().flat_map(|s| &mut s.load_balancer).flat_map(|l| l.ingress.iter_mut().flatten());
        for ingress in ingress.filter(|i| i.ip.as_ref().is_some_and(|ip| !ip.is_empty())) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
    fn prepare_create(&self, service: &mut Service, _: Cx<'_>) {
        service.status = Some(ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), conditions: None });
        let Some(spec) = &mut service.spec else { return };
        transitions::normalize_cluster_ips(spec, None);
        transitions::default_families(spec);
    }
    fn prepare_update(&self, new: &mut Service, old: &Service, _: Cx<'_>) {
        new.status.clone_from(&old.status);
        let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
        transitions::keep_allocated(new, old);
        transitions::normalize_cluster_ips(new, Some(old));
        transitions::drop_what_the_type_does_not_need(new, old);
        transitions::default_families(new);
    }
    fn prepare_part(&self, _: &str, new: &mut Service, old: &Service, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, service: &Service, errors: &mut Errors) {
        if let Some(spec) = &service.spec {
            validation::validate(spec, errors);
        }
    }
    fn warnings(&self, service: &Service) -> Vec<String> {
        let Some(spec) = &service.spec else { return vec![] };
        let mut out = Vec::new();
        if spec.is_headless() && spec.session_affinity.as_deref() == Some("ClientIP") {
            out.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
        if spec.is_headless() && spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            out.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if spec.kind() != "ExternalName" && spec.external_name.as_ref().is_some_and(|n| !n.is_empty()) {
            out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
        }
        out
    }
    fn validate_update(&self, new: &Service, old: &Service, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            validation::validate_update(new, old, errors);
        }
    }
}

fn default_spec(spec: &mut ServiceSpec) {
    fn set(field: &mut Option<String>, value: &str) {
        if field.as_ref().is_none_or(String::is_empty) {
            *field = Some(value.to_owned());
        }
    }
    set(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
        let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
        client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
    }
    set(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(s)) => s.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if spec.is_external() {
        set(&mut spec.external_traffic_policy, "Cluster");
    }
    if spec.needs_cluster_ip() {
        set(&mut spec.internal_traffic_policy, "Cluster");
    }
    if spec.kind() == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, created, updated};
    use expect_test::expect;

    #[test]
    fn table() {
        let spec = "type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]";
        assert_eq!(
            cells(super::row(), &format!("{{metadata: {{name: a}}, spec: {{{spec}, selector: {{a: b}}}}}}")),
            "a | NodePort | 10.96.0.9 | <none> | 80:30080/TCP,53/UDP | <unknown> | a=b"
        );
        assert_eq!(
            cells(super::row(), "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIPs: [None]}}"),
            "a | LoadBalancer | None | <pending> | <none> | <unknown> | <none>"
        );
    }

    #[test]
    fn defaults() {
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata:
              name: a
            spec:
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - port: 80
                protocol: TCP
                targetPort: 80
              selector:
                a: b
              sessionAffinity: ClientIP
              sessionAffinityConfig:
                clientIP:
                  timeoutSeconds: 10800
              type: ClusterIP
            status:
              loadBalancer: {}
        "#]]
        .assert_eq(&created(
            super::row(),
            "{metadata: {name: a}, spec: {sessionAffinity: ClientIP, selector: {a: b}, ports: [{port: 80}]}}",
        ));
    }

    #[test]
    fn a_changed_type_takes_along_what_goes_with_it() {
        let spec = |s: &str| format!("{{metadata: {{name: a}}, spec: {{{s}}}}}");
        let node_port =
            spec("type: NodePort, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ports: [{name: h, port: 80, nodePort: 30080}]");
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata:
              name: a
            spec:
              clusterIP: 10.96.0.9
              clusterIPs:
              - 10.96.0.9
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - name: h
                port: 80
                protocol: TCP
                targetPort: 80
              sessionAffinity: None
              type: ClusterIP
        "#]]
        .assert_eq(&updated(super::row(), &node_port, &spec("type: ClusterIP, ports: [{name: h, port: 80, nodePort: 30080}]")));
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata:
              name: a
            spec:
              externalName: a.b
              sessionAffinity: None
              type: ExternalName
        "#]]
        .assert_eq(&updated(
            super::row(),
            &node_port,
            &spec("type: ExternalName, externalName: a.b, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9]"),
        ));
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata:
              name: a
            spec:
              clusterIP: 10.96.0.9
              clusterIPs:
              - 10.96.0.9
              externalTrafficPolicy: Cluster
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - name: h
                nodePort: 30080
                port: 81
                protocol: TCP
                targetPort: 81
              sessionAffinity: None
              type: NodePort
        "#]]
        .assert_eq(&updated(super::row(), &node_port, &spec("type: NodePort, ports: [{name: h, port: 81}]")));
    }
}
