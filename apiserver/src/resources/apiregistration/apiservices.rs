//! apiregistration.k8s.io/v1 APIService: who serves a group version. Rules run over the tree.

use api::field::{Errors, Path};
use api::names;
use serde_json::{Value, json};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::follows;
use crate::resources::cells::{flag, int, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("apiregistration.k8s.io", "v1", "APIService", "apiservices")
        .category("api-extensions")
        .status()
        .conditional_update()
        .names(names::path_segment)
        .columns(vec![
            Column::name(),
            Column::compute("Service", |o, _| service(o).into()),
            Column::compute("Available", |o, _| available(o).into()),
            Column::age(),
        ])
        .rules::<Value>(ServiceRules)
}

fn service(o: &Value) -> String {
    match text(o, "/spec/service/name") {
        "" => "Local".to_owned(),
        name => format!("{}/{name}", text(o, "/spec/service/namespace")),
    }
}

fn available(o: &Value) -> String {
    match items(o, "/status/conditions").iter().find(|c| c["type"] == "Available") {
        None => "Unknown".to_owned(),
        Some(c) if c["status"] == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", text(c, "/status"), text(c, "/reason")),
    }
}

struct ServiceRules;

impl Rules<Value> for ServiceRules {
    fn default(&self, service: &mut Value) {
        if let Some(service) = service.pointer_mut("/spec/service").filter(|s| s.is_object())
            && service.get("port").is_none_or(Value::is_null)
        {
            service["port"] = 443.into();
        }
    }
    fn prepare_create(&self, service: &mut Value, cx: Cx<'_>) {
        service["status"] = json!({});
        // What this server serves itself is there.
        if service["spec"].get("service").is_none_or(Value::is_null) {
            let now = crate::verbs::metadata::timestamp(cx.now);
            let local = json!({"type": "Available", "status": "True", "reason": "Local", "message": "Local APIServices are always available", "lastTransitionTime": now});
            service["status"] = json!({"conditions": [local]});
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value, _: Cx<'_>) {
        new["status"] = old.get("status").cloned().unwrap_or_else(|| json!({}));
    }
    fn validate(&self, service: &Value, errors: &mut Errors) {
        let (spec, path) = (&service["spec"], Path::new("spec"));
        let (group, version) = (text(spec, "/group"), text(spec, "/version"));
        let name = text(service, "/metadata/name");
        let expected = format!("{version}.{group}");
        if name != expected {
            errors.invalid(&Path::new("metadata").child("name"), name, &format!("must be `spec.version+\".\"+spec.group`: {expected:?}"));
        }
        if group.is_empty() {
            if version != "v1" {
                errors.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
            }
        } else {
            follows(group, names::dns1123_subdomain, &path.child("group"), errors);
        }
        follows(version, names::dns1035_label, &path.child("version"), errors);
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let n = int(spec, &format!("/{field}"));
            if n <= 0 || n > most {
                errors.invalid(&path.child(field), n, &format!("must be positive and less than {most}"));
            }
        }
        let insecure = flag(spec, "/insecureSkipTLSVerify");
        let at = path.child("insecureSkipTLSVerify");
        match spec.get("service").filter(|s| s.is_object()) {
            None if !text(spec, "/caBundle").is_empty() => {
                errors.invalid(&path.child("caBundle"), text(spec, "/caBundle"), "local APIServices may not have a caBundle");
            }
            None if insecure => errors.invalid(&at, true, "local APIServices may not have insecureSkipTLSVerify"),
            None => {}
            Some(service) => {
                let path = path.child("service");
                for field in ["namespace", "name"] {
                    if text(service, &format!("/{field}")).is_empty() {
                        errors.required(&path.child(field), "");
                    }
                }
                for wrong in names::port_number(int(service, "/port")) {
                    errors.invalid(&path.child("port"), int(service, "/port"), &format!("port is not valid: {wrong}"));
                }
                if insecure && !text(spec, "/caBundle").is_empty() {
                    errors.invalid(&at, true, "may not be true if caBundle is present");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let remote = "{metadata: {name: v1.x.io}, spec: {group: x.io, version: v1, groupPriorityMinimum: 100, versionPriority: 10, service: {name: s, namespace: n1}}, status: {conditions: [{type: Available, status: 'False', reason: Missing}]}}";
        assert_eq!(cells(row(), remote), "v1.x.io | n1/s | False (Missing) | <unknown>");
        assert_eq!(errors(row(), remote), "");
        let legacy = "{metadata: {name: v1.}, spec: {version: v1, groupPriorityMinimum: 18000, versionPriority: 1}}";
        assert_eq!(errors(row(), legacy), "");
        expect![[r#"
            metadata.name: Invalid value: "a": must be `spec.version+"."+spec.group`: "v1.x.io"
            spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
            spec.versionPriority: Invalid value: 0: must be positive and less than 1000
            spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"#]]
        .assert_eq(&errors(row(), "{metadata: {name: a}, spec: {group: x.io, version: v1, insecureSkipTLSVerify: true}}"));
    }
}
