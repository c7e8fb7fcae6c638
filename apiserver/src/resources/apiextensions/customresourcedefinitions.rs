//! apiextensions.k8s.io/v1 CustomResourceDefinition. Rules run over the tree; what makes a schema structural is `crd/`'s to say.

use api::field::{Errors, Path};
use api::names;
use serde_json::{Value, json};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::admissionregistration::webhooks::validate_client;
use crate::resources::bounds::{one_of, required_one_of};
use crate::resources::cells::{flag, items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .category("api-extensions")
        .status()
        .generation()
        .conditional_update()
        .columns(vec![Column::name(), Column::text("Created At", "/metadata/creationTimestamp")])
        .rules::<Value>(DefinitionRules)
}

struct DefinitionRules;

fn set(o: &mut Value, field: &str, value: Value) {
    if o.get(field).is_none_or(|v| v.is_null() || v == "") {
        o[field] = value;
    }
}

impl Rules<Value> for DefinitionRules {
    fn default(&self, crd: &mut Value) {
        let Some(spec) = crd.get_mut("spec").filter(|s| s.is_object()) else { return };
        let kind = text(spec, "/names/kind").to_owned();
        if let Some(names) = spec.get_mut("names").filter(|n| n.is_object() && !kind.is_empty()) {
            set(names, "singular", kind.to_lowercase().into());
            set(names, "listKind", format!("{kind}List").into());
        }
        set(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service").filter(|s| s.is_object()) {
            set(service, "port", 443.into());
        }
    }
    fn prepare_create(&self, crd: &mut Value, _: Cx<'_>) {
        let stored: Vec<Value> = items(crd, "/spec/versions").iter().filter(|v| flag(v, "/storage")).map(|v| v["name"].clone()).collect();
        crd["status"] = json!({"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
    }
    fn prepare_update(&self, new: &mut Value, old: &Value, _: Cx<'_>) {
        if let Some(status) = old.get("status") {
            new["status"] = status.clone();
        }
        // A version that objects may be stored in stays noted until somebody says that none are.
        for version in items(new, "/spec/versions").to_vec().iter().filter(|v| flag(v, "/storage")) {
            let noted = items(new, "/status/storedVersions").contains(&version["name"]);
            if let (false, Some(list)) = (noted, new.pointer_mut("/status/storedVersions").and_then(Value::as_array_mut)) {
                list.push(version["name"].clone());
            }
        }
    }
    fn prepare_part(&self, _: &str, new: &mut Value, old: &Value, _: Cx<'_>) {
        if let Some(spec) = old.get("spec") {
            new["spec"] = spec.clone();
        }
    }
    fn validate(&self, crd: &Value, errors: &mut Errors) {
        let (spec, path) = (&crd["spec"], Path::new("spec"));
        let expected = format!("{}.{}", text(spec, "/names/plural"), text(spec, "/group"));
        let name = text(crd, "/metadata/name");
        if name != expected {
            errors.invalid(&Path::new("metadata").child("name"), name, "must be spec.names.plural+\".\"+spec.group");
        }
        validate_group(text(spec, "/group"), &path.child("group"), errors);
        required_one_of(text(spec, "/scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
        validate_names(&spec["names"], &path.child("names"), errors);
        validate_versions(spec, &path.child("versions"), errors);
        validate_conversion(&spec["conversion"], &path.child("conversion"), errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        errors.immutable(&path.child("group"), &new["spec"]["group"], &old["spec"]["group"]);
        errors.immutable(&path.child("names").child("plural"), &new["spec"]["names"]["plural"], &old["spec"]["names"]["plural"]);
        let established = items(old, "/status/conditions").iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        if established {
            errors.immutable(&path.child("scope"), &new["spec"]["scope"], &old["spec"]["scope"]);
            errors.immutable(&path.child("names").child("kind"), &new["spec"]["names"]["kind"], &old["spec"]["names"]["kind"]);
        }
        let versions: Vec<&Value> = items(new, "/spec/versions").iter().map(|v| &v["name"]).collect();
        for (i, stored) in items(old, "/status/storedVersions").iter().enumerate().filter(|(_, s)| !versions.contains(s)) {
            let at = Path::new("status").child("storedVersions").index(i);
            let why = format!(
                "missing from spec.versions; {} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions",
                stored.as_str().unwrap_or("")
            );
            errors.invalid(&at, stored, &why);
        }
    }
    fn validate_part(&self, _: &str, new: &Value, _: &Value, errors: &mut Errors) {
        let path = Path::new("status").child("storedVersions");
        let stored = items(new, "/status/storedVersions");
        if stored.is_empty() {
            errors.invalid(&path, &json!(stored), "must have at least one stored version");
        }
        let storage = items(new, "/spec/versions").iter().find(|v| flag(v, "/storage")).map(|v| &v["name"]);
        if let Some(storage) = storage.filter(|s| !stored.contains(s)) {
            errors.invalid(&path, &json!(stored), &format!("must have the storage version {}", storage.as_str().unwrap_or("")));
        }
    }
}

fn validate_group(group: &str, path: &Path, errors: &mut Errors) {
    if group.is_empty() {
        return errors.required(path, "");
    }
    for wrong in names::dns1123_subdomain(group) {
        errors.invalid(path, group, &wrong);
    }
    if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

fn validate_names(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let value = text(names, &format!("/{field}"));
        if value.is_empty() {
            errors.required(&path.child(field), "");
            continue;
        }
        for wrong in names::dns1035_label(&value.to_lowercase()) {
            errors.invalid(&path.child(field), value, &wrong);
        }
        if matches!(field, "plural" | "singular") && value.chars().any(|c| c.is_ascii_uppercase()) {
            errors.invalid(&path.child(field), value, "must be lower case");
        }
    }
    if text(names, "/kind") == text(names, "/listKind") && !text(names, "/kind").is_empty() {
        errors.invalid(&path.child("listKind"), text(names, "/listKind"), "kind and listKind may not be the same");
    }
    for field in ["shortNames", "categories"] {
        for (i, value) in items(names, &format!("/{field}")).iter().filter_map(Value::as_str).enumerate() {
            for wrong in names::dns1035_label(value) {
                errors.invalid(&path.child(field).index(i), value, &wrong);
            }
        }
    }
}

fn validate_versions(spec: &Value, path: &Path, errors: &mut Errors) {
    let versions = items(spec, "/versions");
    let preserves = flag(spec, "/preserveUnknownFields");
    if preserves {
        errors.invalid(&Path::new("spec").child("preserveUnknownFields"), true, "must be false");
    }
    for (i, version) in versions.iter().enumerate() {
        let path = path.index(i);
        let name = text(version, "/name");
        for wrong in names::dns1035_label(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
        if versions[..i].iter().any(|v| v["name"] == version["name"]) {
            errors.invalid(&path.child("name"), name, "must be unique");
        }
        if version.pointer("/schema/openAPIV3Schema").is_none_or(Value::is_null) {
            errors.required(&path.child("schema").child("openAPIV3Schema"), "schemas are required");
        }
        if let Some(scale) = version.pointer("/subresources/scale").filter(|s| s.is_object()) {
            for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
                let value = text(scale, &format!("/{field}"));
                let at = path.child("subresources").child("scale").child(field);
                if value.is_empty() {
                    errors.required(&at, "");
                } else if !value.starts_with(root) {
                    errors.invalid(&at, value, &format!("should be a json path under {}", root.trim_end_matches('.')));
                }
            }
        }
        for (j, column) in items(version, "/additionalPrinterColumns").iter().enumerate() {
            validate_column(column, &path.child("additionalPrinterColumns").index(j), errors);
        }
    }
    let storage = versions.iter().filter(|v| flag(v, "/storage")).count();
    if storage != 1 {
        errors.invalid(
            path,
            &json!(versions.iter().map(|v| &v["name"]).collect::<Vec<_>>()),
            "must have exactly one version marked as storage version",
        );
    }
    if !versions.iter().any(|v| flag(v, "/served")) {
        let shown = json!(versions.iter().map(|v| &v["name"]).collect::<Vec<_>>());
        errors.invalid(path, &shown, "must have at least one version served");
    }
}

fn validate_column(column: &Value, path: &Path, errors: &mut Errors) {
    if text(column, "/name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    required_one_of(text(column, "/type"), &["boolean", "date", "integer", "number", "string"], &path.child("type"), errors);
    if text(column, "/jsonPath").is_empty() {
        errors.required(&path.child("jsonPath"), "");
    }
}

fn validate_conversion(conversion: &Value, path: &Path, errors: &mut Errors) {
    let strategy = text(conversion, "/strategy");
    let webhook = conversion.get("webhook").filter(|w| w.is_object());
    match (strategy, webhook) {
        ("None", Some(_)) => errors.forbidden(&path.child("webhook"), "should not be set when strategy is not set to Webhook"),
        ("None", None) => {}
        ("Webhook", None) => errors.required(&path.child("webhook").child("clientConfig"), "required when strategy is set to Webhook"),
        ("Webhook", Some(webhook)) => {
            let path = path.child("webhook");
            match webhook.get("clientConfig").filter(|c| c.is_object()) {
                Some(client) => validate_client(client, &path.child("clientConfig"), errors),
                None => errors.required(&path.child("clientConfig"), "required when strategy is set to Webhook"),
            }
            if items(webhook, "/conversionReviewVersions").is_empty() {
                errors.required(&path.child("conversionReviewVersions"), "");
            }
        }
        (other, _) => one_of(other, &["None", "Webhook"], &path.child("strategy"), errors),
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{created, errors};
    use expect_test::expect;

    fn crd(versions: &str) -> String {
        format!(
            "{{metadata: {{name: foos.x.io}}, spec: {{group: x.io, scope: Namespaced, names: {{plural: foos, kind: Foo}}, versions: [{versions}]}}}}"
        )
    }

    #[test]
    fn defaults() {
        expect![[r#"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata:
              name: foos.x.io
            spec:
              conversion:
                strategy: None
              group: x.io
              names:
                kind: Foo
                listKind: FooList
                plural: foos
                singular: foo
              scope: Namespaced
              versions:
              - name: v1
                schema:
                  openAPIV3Schema:
                    type: object
                served: true
                storage: true
            status:
              acceptedNames:
                kind: ''
                plural: ''
              storedVersions:
              - v1
        "#]]
        .assert_eq(&created(row(), &crd("{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}")));
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required
            spec.versions[1].name: Invalid value: "V2": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.versions: Invalid value: ["v1","V2"]: must have exactly one version marked as storage version
            spec.versions: Invalid value: ["v1","V2"]: must have at least one version served"#]].assert_eq(&errors(
            row(),
            &crd("{name: v1, served: false, storage: true}, {name: V2, storage: true, schema: {openAPIV3Schema: {}}}"),
        ));
        expect![[r#"
            metadata.name: Invalid value: "a": must be spec.names.plural+"."+spec.group
            spec.group: Invalid value: "x": should be a domain with at least one dot
            spec.scope: Required value
            spec.names.plural: Invalid value: "Foos": must be lower case
            spec.names.listKind: Invalid value: "Foo": kind and listKind may not be the same
            spec.versions: Invalid value: []: must have exactly one version marked as storage version
            spec.versions: Invalid value: []: must have at least one version served"#]]
        .assert_eq(&errors(
            row(),
            "{metadata: {name: a}, spec: {group: x, names: {plural: Foos, kind: Foo, listKind: Foo}, versions: []}}",
        ));
    }
}
