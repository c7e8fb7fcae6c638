//! networking.k8s.io/v1 Ingress

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressSpec, IngressStatus};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::{items, or_none, text};
use crate::resources::network::validate_port;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .generation()
        .columns(vec![
            Column::name(),
            Column::compute("Class", |o, _| class(o).into()),
            Column::compute("Hosts", |o, _| hosts(o).into()),
            Column::compute("Address", |o, _| address(o).into()),
            Column::compute("Ports", |o, _| if items(o, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into()),
            Column::age(),
        ])
        .rules::<Ingress>(IngressRules)
}

fn class(o: &Value) -> &str {
    let annotation = o.pointer("/metadata/annotations").and_then(|a| a.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    match text(o, "/spec/ingressClassName") {
        "" => or_none(annotation.unwrap_or("")),
        class => class,
    }
}

fn hosts(o: &Value) -> String {
    let all: Vec<&str> = items(o, "/spec/rules").iter().map(|r| text(r, "/host")).filter(|h| !h.is_empty()).collect();
    match all.len() {
        0 => "*".to_owned(),
        n if n <= 3 => all.join(","),
        n => format!("{} + {} more...", all[..3].join(","), n - 3),
    }
}

fn address(o: &Value) -> String {
    let one = |i: &Value| if text(i, "/ip").is_empty() { text(i, "/hostname").to_owned() } else { text(i, "/ip").to_owned() };
    items(o, "/status/loadBalancer/ingress").iter().map(one).collect::<Vec<_>>().join(",")
}

struct IngressRules;

impl Rules<Ingress> for IngressRules {
    fn prepare_create(&self, ingress: &mut Ingress, _: Cx<'_>) {
        ingress.status = Some(IngressStatus { load_balancer: Some(Default::default()) });
    }
    fn prepare_update(&self, new: &mut Ingress, old: &Ingress, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut Ingress, old: &Ingress, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, ingress: &Ingress, errors: &mut Errors) {
        let path = Path::new("spec");
        let empty = IngressSpec::default();
        validate_spec(ingress.spec.as_ref().unwrap_or(&empty), &path, errors);
    }
    fn validate_create(&self, ingress: &Ingress, errors: &mut Errors) {
        let annotated = ingress.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION));
        let named = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_ref());
        if let (Some(value), Some(name)) = (annotated, named)
            && value != name
        {
            let path = Path::new("metadata").child("annotations").child(CLASS_ANNOTATION);
            errors.invalid(&path, value, "must match `ingressClassName` when both are specified");
        }
    }
}

fn validate_spec(spec: &IngressSpec, path: &Path, errors: &mut Errors) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        errors.invalid(path, &serde_json::json!(spec), "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = &spec.default_backend {
        validate_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(i);
        if let Some(host) = rule.host.as_ref().filter(|h| !h.is_empty()) {
            validate_host(host, &path.child("host"), errors);
        }
        let Some(http) = &rule.http else { continue };
        let paths = path.child("http").child("paths");
        if http.paths.is_empty() {
            errors.required(&paths, "");
        }
        for (j, one) in http.paths.iter().enumerate() {
            validate_path(one, &paths.index(j), errors);
        }
    }
    for (i, tls) in spec.tls.iter().flatten().enumerate() {
        for (j, host) in tls.hosts.iter().flatten().enumerate() {
            let path = path.child("tls").index(i).child("hosts").index(j);
            validate_name(host, &path, errors);
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        follows(class, names::dns1123_subdomain, &path.child("ingressClassName"), errors);
    }
}

fn validate_host(host: &str, path: &Path, errors: &mut Errors) {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
    validate_name(host, path, errors);
}

/// A host name, whose first label may be `*`.
fn validate_name(host: &str, path: &Path, errors: &mut Errors) {
    for wrong in names::dns1123_subdomain(host.strip_prefix("*.").unwrap_or(host)) {
        errors.invalid(path, host, &wrong);
    }
}

fn validate_path(one: &HTTPIngressPath, path: &Path, errors: &mut Errors) {
    let text = one.path.as_deref().unwrap_or("");
    let at = path.child("path");
    match one.path_type.as_str() {
        "" => errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&at, text, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|b| text.contains(**b)) {
                errors.invalid(&at, text, &format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].iter().filter(|b| text.ends_with(**b)) {
                errors.invalid(&at, text, &format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => errors.invalid(&at, text, "must be an absolute path"),
        other => one_of(other, &["Exact", "ImplementationSpecific", "Prefix"], &path.child("pathType"), errors),
    }
    validate_backend(&one.backend, &path.child("backend"), errors);
}

fn validate_backend(backend: &IngressBackend, path: &Path, errors: &mut Errors) {
    match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errors.required(path, "resource or service backend is required"),
        (None, Some(resource)) => {
            for (name, value) in [("kind", &resource.kind), ("name", &resource.name)] {
                if value.is_empty() {
                    errors.required(&path.child("resource").child(name), "");
                }
            }
        }
        (Some(service), None) => {
            let path = path.child("service");
            if service.name.is_empty() {
                errors.required(&path.child("name"), "");
            } else {
                follows(&service.name, names::dns1035_label, &path.child("name"), errors);
            }
            let port = service.port.clone().unwrap_or_default();
            match (port.name.filter(|n| !n.is_empty()), port.number.filter(|n| *n != 0)) {
                (Some(_), Some(_)) => errors.invalid(&path, "", "cannot set both port name & port number"),
                (None, None) => errors.required(&path, "port name or number is required"),
                (Some(name), None) => follows(&name, names::port_name, &path.child("port").child("name"), errors),
                (None, Some(number)) => validate_port(number, &path.child("port").child("number"), errors),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    fn ingress(spec: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}")
    }

    #[test]
    fn table() {
        let spec = "ingressClassName: c, tls: [{hosts: [x.io]}], rules: [{host: x.io}, {host: '*.y.io'}]";
        assert_eq!(cells(row(), &ingress(spec)), "a | c | x.io,*.y.io |  | 80, 443 | <unknown>");
    }

    #[test]
    fn rules() {
        expect!["spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified"]
            .assert_eq(&errors(row(), "{metadata: {name: a}}"));
        expect![[r#"
            spec.defaultBackend.service: Invalid value: "": cannot set both port name & port number
            spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path
            spec.rules[0].http.paths[0].backend: Required value: resource or service backend is required
            spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified"#]].assert_eq(&errors(
            row(),
            &ingress("defaultBackend: {service: {name: s, port: {name: p, number: 1}}}, rules: [{host: 10.0.0.1, http: {paths: [{path: x, pathType: Prefix, backend: {}}, {path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]"),
        ));
    }
}
