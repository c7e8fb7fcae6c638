//! What both kinds of webhook configurations share. Rules run over trees: the two kinds of webhooks differ in one field.

use api::field::{Errors, Path};
use api::names;
use serde_json::{Value, json};

use crate::resource::{Column, Rules};
use crate::resources::bounds::{one_of, required_one_of};
use crate::resources::cells::{count, int, items, text};

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column { kind: "integer".into(), ..Column::compute("Webhooks", |o, _| count(o, "/webhooks").into()) },
        Column::age(),
    ]
}

/// The rules of a kind of webhooks.
pub(super) struct Webhooks {
    /// Whether they may change objects.
    pub mutating: bool,
}

fn set(o: &mut Value, field: &str, value: Value) {
    if o.get(field).is_none_or(Value::is_null) {
        o[field] = value;
    }
}

/// Fills in the scope of rules.
pub(super) fn default_rules(rules: Option<&mut Value>) {
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten().filter(|r| r.is_object()) {
        set(rule, "scope", "*".into());
    }
}

impl Rules<Value> for Webhooks {
    fn default(&self, configuration: &mut Value) {
        for webhook in configuration.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten().filter(|w| w.is_object()) {
            set(webhook, "failurePolicy", "Fail".into());
            set(webhook, "matchPolicy", "Equivalent".into());
            set(webhook, "namespaceSelector", json!({}));
            set(webhook, "objectSelector", json!({}));
            set(webhook, "timeoutSeconds", 10.into());
            if self.mutating {
                set(webhook, "reinvocationPolicy", "Never".into());
            }
            default_rules(webhook.get_mut("rules"));
            if let Some(service) = webhook.pointer_mut("/clientConfig/service").filter(|s| s.is_object()) {
                set(service, "port", 443.into());
            }
        }
    }
    fn validate(&self, configuration: &Value, errors: &mut Errors) {
        let webhooks = items(configuration, "/webhooks");
        for (i, webhook) in webhooks.iter().enumerate() {
            let path = Path::new("webhooks").index(i);
            validate_webhook(webhook, self.mutating, &path, errors);
            if webhooks[..i].iter().any(|w| w["name"] == webhook["name"]) {
                errors.duplicate(&path.child("name"), text(webhook, "/name"));
            }
        }
    }
}

fn validate_webhook(webhook: &Value, mutating: bool, path: &Path, errors: &mut Errors) {
    let name = text(webhook, "/name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for wrong in names::dns1123_subdomain(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
        if name.split('.').count() < 3 {
            errors.invalid(&path.child("name"), name, "should be a domain with at least three segments separated by dots");
        }
    }
    let versions: Vec<&str> = items(webhook, "/admissionReviewVersions").iter().filter_map(Value::as_str).collect();
    let at = path.child("admissionReviewVersions");
    if versions.is_empty() {
        errors.required(&at, "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        errors.invalid(&at, &json!(versions), "must include at least one of v1, v1beta1");
    }
    validate_operations(webhook, path, errors);
    one_of(text(webhook, "/failurePolicy"), &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
    one_of(text(webhook, "/matchPolicy"), &["Equivalent", "Exact"], &path.child("matchPolicy"), errors);
    required_one_of(text(webhook, "/sideEffects"), &["None", "NoneOnDryRun"], &path.child("sideEffects"), errors);
    let timeout = int(webhook, "/timeoutSeconds");
    if !(1..=30).contains(&timeout) {
        errors.invalid(&path.child("timeoutSeconds"), timeout, "the timeout value must be between 1 and 30 seconds");
    }
    if mutating {
        one_of(text(webhook, "/reinvocationPolicy"), &["IfNeeded", "Never"], &path.child("reinvocationPolicy"), errors);
    }
    validate_client(&webhook["clientConfig"], &path.child("clientConfig"), errors);
    crate::cel::conditions::validate(items(webhook, "/matchConditions"), &path.child("matchConditions"), errors);
}

/// Checks what requests a webhook or policy is asked about.
pub(super) fn validate_operations(webhook: &Value, path: &Path, errors: &mut Errors) {
    for (i, rule) in items(webhook, "/rules").iter().enumerate() {
        let path = path.child("rules").index(i);
        for field in ["apiGroups", "apiVersions", "resources", "operations"] {
            let list = items(rule, &format!("/{field}"));
            let path = path.child(field);
            if list.is_empty() {
                errors.required(&path, "");
            }
            if list.len() > 1 && list.iter().any(|v| v == "*") && field != "resources" {
                errors.invalid(&path, &json!(list), "if '*' is present, must not specify other values");
            }
        }
        for (j, operation) in items(rule, "/operations").iter().enumerate() {
            let known = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
            one_of(operation.as_str().unwrap_or(""), known, &path.child("operations").index(j), errors);
        }
        one_of(text(rule, "/scope"), &["*", "Cluster", "Namespaced"], &path.child("scope"), errors);
    }
}

/// Checks how something outside is reached: by URL or as a Service.
pub(crate) fn validate_client(client: &Value, path: &Path, errors: &mut Errors) {
    let (url, service) = (client.get("url").and_then(Value::as_str), client.get("service").filter(|s| !s.is_null()));
    match (url, service) {
        (Some(_), Some(_)) | (None, None) => errors.required(path, "exactly one of url or service is required"),
        (Some(url), None) => {
            let at = path.child("url");
            match url.strip_prefix("https://") {
                None => errors.invalid(&at, url, "'https' is the only allowed URL scheme"),
                Some(rest) if rest.starts_with('/') || rest.is_empty() => {
                    errors.invalid(&at, url, "host must be specified; desired format: https://host[/path]")
                }
                Some(rest) => {
                    for (mark, what) in [('@', "user information"), ('#', "fragments"), ('?', "query parameters")] {
                        if rest.contains(mark) {
                            errors.invalid(&at, url, &format!("{what} not permitted in the URL"));
                        }
                    }
                }
            }
        }
        (None, Some(service)) => {
            let path = path.child("service");
            for field in ["name", "namespace"] {
                if text(service, &format!("/{field}")).is_empty() {
                    errors.required(&path.child(field), &format!("service {field} is required"));
                }
            }
            for wrong in names::port_number(int(service, "/port")) {
                errors.invalid(&path.child("port"), int(service, "/port"), &format!("port is not valid: {wrong}"));
            }
            let at = text(service, "/path");
            if !at.is_empty() && !at.starts_with('/') {
                errors.invalid(&path.child("path"), at, "must start with a '/'");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{mutatingwebhookconfigurations, validatingwebhookconfigurations};
    use crate::resources::rows_in_tests::{created, errors};
    use expect_test::expect;

    #[test]
    fn defaults() {
        let hook = "{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {name: s, namespace: x}}, rules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}";
        expect![[r#"
            apiVersion: admissionregistration.k8s.io/v1
            kind: MutatingWebhookConfiguration
            metadata:
              name: a
            webhooks:
            - admissionReviewVersions:
              - v1
              clientConfig:
                service:
                  name: s
                  namespace: x
                  port: 443
              failurePolicy: Fail
              matchPolicy: Equivalent
              name: a.b.c
              namespaceSelector: {}
              objectSelector: {}
              reinvocationPolicy: Never
              rules:
              - apiGroups:
                - ''
                apiVersions:
                - v1
                operations:
                - CREATE
                resources:
                - pods
                scope: *
              sideEffects: None
              timeoutSeconds: 10
        "#]]
        .assert_eq(&created(mutatingwebhookconfigurations::row(), &format!("{{metadata: {{name: a}}, webhooks: [{hook}]}}")));
    }

    #[test]
    fn rules() {
        let hook = "{name: a.b, admissionReviewVersions: [v9], timeoutSeconds: 60, clientConfig: {url: 'http://x'}, rules: [{operations: [READ]}]}";
        expect![[r#"
            webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[0].admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1
            webhooks[0].rules[0].apiGroups: Required value
            webhooks[0].rules[0].apiVersions: Required value
            webhooks[0].rules[0].resources: Required value
            webhooks[0].rules[0].operations[0]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
            webhooks[0].sideEffects: Required value
            webhooks[0].timeoutSeconds: Invalid value: 60: the timeout value must be between 1 and 30 seconds
            webhooks[0].clientConfig.url: Invalid value: "http://x": 'https' is the only allowed URL scheme"#]]
        .assert_eq(&errors(validatingwebhookconfigurations::row(), &format!("{{metadata: {{name: a}}, webhooks: [{hook}]}}")));
    }
}
