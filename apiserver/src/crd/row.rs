//! A version of a definition as a row of the engine.

use std::sync::{Arc, OnceLock};

use api::field::Errors;
use api::object::Meta as _;
use api::schema::{Gvk, Schema};
use serde_json::Value;

use super::convert::Versions;
use super::rules::{self, Rules};
use super::schema::Node;
use super::{defaults, json_path, validate};
use crate::resource::{
    Cell, Column, Conversion, CustomSchema, Cx, Deletion, Generation, Resource, Scope, Selectable, Strategy, Subresource, Verb,
};
use crate::resources::cells::{flag, items, text};

/// The rows of a definition: one for each version that is served, the stored one first. Names are those that were accepted.
#[must_use]
pub fn rows(crd: &Value) -> Vec<Resource> {
    let mut versions: Vec<&Value> = items(crd, "/spec/versions").iter().filter(|v| flag(v, "/served")).collect();
    versions.sort_by_key(|v| !flag(v, "/storage"));
    versions.into_iter().map(|v| row(crd, v)).collect()
}

fn row(crd: &Value, version: &Value) -> Resource {
    let (group, names) = (text(crd, "/spec/group").to_owned(), &crd["status"]["acceptedNames"]);
    let (name, kind, plural) = (text(version, "/name").to_owned(), text(names, "/kind").to_owned(), text(names, "/plural").to_owned());
    let openapi = Arc::new(version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default());
    let gvk = Gvk { group: group.clone().into(), version: name.clone().into(), kind: kind.clone().into() };
    let schema = Arc::new(CustomSchema { schema: Schema::structural(gvk, &openapi), openapi: openapi.clone() });
    let node = Arc::new(Node::parse(&openapi));
    let subresources = subresources(version);
    let scale = subresources.iter().find_map(|s| match s {
        Subresource::Scale { spec, status, .. } => Some((spec.to_string(), status.to_string())),
        _ => None,
    });
    let has_status = subresources.iter().any(|s| matches!(s, Subresource::Status));
    let texts = |field: &str| items(names, field).iter().filter_map(Value::as_str).map(|s| s.to_owned().into()).collect();
    let mut verbs = Verb::ALL.to_vec();
    if crd.is_deleting() {
        // Nothing new while the old goes.
        verbs.retain(|v| *v != Verb::Create);
    }
    Resource {
        conversion: conversion(crd, version, &schema, &node),
        group: group.clone().into(),
        version: name.into(),
        list_kind: text(names, "/listKind").to_owned().into(),
        kind: kind.into(),
        singular: text(names, "/singular").to_owned().into(),
        short_names: texts("/shortNames"),
        categories: texts("/categories"),
        scope: if text(crd, "/spec/scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        verbs,
        subresources,
        columns: columns(version),
        selectable: selectable(version),
        generation: Generation::Spec,
        unconditional_update: false,
        stored_as: (group.into(), plural.clone().into()),
        plural: plural.into(),
        schema: Some(schema),
        hooks: Arc::new(CustomRules { node, openapi, rules: OnceLock::new(), has_status, scale }),
        ..Resource::namespaced("", "", "", "")
    }
}

fn subresources(version: &Value) -> Vec<Subresource> {
    let mut out = vec![];
    if version.pointer("/subresources/status").is_some_and(Value::is_object) {
        out.push(Subresource::Status);
    }
    if let Some(scale) = version.pointer("/subresources/scale").filter(|s| s.is_object()) {
        let pointer = |field: &str| json_path::pointer(text(scale, field));
        if let (Some(spec), Some(status)) = (pointer("/specReplicasPath"), pointer("/statusReplicasPath")) {
            let selector = pointer("/labelSelectorPath").map(Into::into);
            out.push(Subresource::Scale { spec: spec.into(), status: status.into(), selector });
        }
    }
    out
}

fn columns(version: &Value) -> Vec<Column> {
    let owned = |column: &Value, field: &str| text(column, field).to_owned().into();
    let one = |column: &Value| Column {
        name: owned(column, "/name"),
        kind: owned(column, "/type"),
        format: owned(column, "/format"),
        description: owned(column, "/description"),
        priority: column["priority"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        cell: Cell::JsonPath(owned(column, "/jsonPath")),
    };
    let given = items(version, "/additionalPrinterColumns");
    let mut out = vec![Column::name()];
    if given.is_empty() {
        out.push(Column::age());
    }
    out.extend(given.iter().map(one));
    out
}

/// The selectable fields of a version.
fn selectable(version: &Value) -> Vec<Selectable> {
    let mut out: Vec<Selectable> = vec![];
    for field in items(version, "/selectableFields") {
        let path = text(field, "/jsonPath");
        let Some(pointer) = json_path::pointer(path) else { continue };
        let one = Selectable {
            field: path.trim_start_matches('.').to_owned().into(),
            pointer: pointer.into(),
            absent: "".into(),
            instead: "".into(),
        };
        if !out.contains(&one) {
            out.push(one);
        }
    }
    out
}

/// What lies between the stored form and a version's. Nothing, as long as every object was written by this version's schema under this
/// definition; else what is read is converted, pruned and defaulted by the definition as it is now.
fn conversion(crd: &Value, version: &Value, schema: &Arc<CustomSchema>, node: &Arc<Node>) -> Option<Conversion> {
    let name = text(version, "/name");
    let stored = items(crd, "/spec/versions").iter().find(|v| flag(v, "/storage")).map_or(name, |v| text(v, "/name"));
    let first = crd.meta().and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(1) <= 1;
    let only = items(crd, "/status/storedVersions").iter().all(|v| v == stored);
    let mut others = items(crd, "/spec/versions").iter().filter(|v| flag(v, "/served"));
    if name == stored && first && only && others.all(|v| v["schema"] == version["schema"]) {
        return None;
    }
    let differs = name != stored || !only;
    Some(Conversion::Versions(Arc::new(
        Versions::new(crd, name, stored, differs, schema.clone(), node.clone()).selected_by(selectable(version)),
    )))
}

/// The rules of custom resources: their schema's.
struct CustomRules {
    node: Arc<Node>,
    openapi: Arc<Value>,
    /// The rules in CEL, compiled when the first object is written.
    rules: OnceLock<Rules>,
    has_status: bool,
    /// Where the replicas are.
    scale: Option<(String, String)>,
}

impl CustomRules {
    fn check(&self, new: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Errors::new();
        validate::validate(&self.node, new, old, &mut errors);
        if let Some((spec, status)) = &self.scale {
            validate::scale(new, spec, status, &mut errors);
        }
        let rules = self.rules.get_or_init(|| Rules::compile(&self.openapi));
        if !rules.is_empty() && !rules::blocked(&mut errors) {
            rules.evaluate(new, old, &mut errors);
        }
        errors
    }
}

impl Strategy for CustomRules {
    fn default(&self, obj: &mut Value) -> Result<(), String> {
        defaults::apply(obj, &self.node);
        Ok(())
    }
    fn create(&self, obj: &mut Value, _: Cx<'_>) -> Result<Errors, String> {
        if let (true, Some(map)) = (self.has_status, obj.as_object_mut()) {
            map.remove("status");
        }
        Ok(self.check(obj, None))
    }
    fn update(&self, new: &mut Value, old: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(self.check(new, Some(old)))
    }
    fn update_part(&self, _: &str, new: &mut Value, old: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(self.check(new, Some(old)))
    }
    fn warnings(&self, _: &Value) -> Vec<String> {
        vec![]
    }
    fn deletion(&self, _: &mut Value, _: Option<i64>, _: Cx<'_>) -> Result<Deletion, String> {
        Ok(Deletion::Now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::rows_in_tests::{created, part_errors, update_errors};
    use expect_test::expect;

    fn crd() -> Value {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["image"], "properties": {
                "image": {"type": "string", "maxLength": 5}, "replicas": {"type": "integer", "default": 1}}},
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
        let subresources = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
        json!({
            "metadata": {"name": "tabs.x.io", "generation": 1},
            "spec": {"group": "x.io", "scope": "Namespaced", "names": {"kind": "Tab", "plural": "tabs"}, "versions": [
                {"name": "v1beta1", "served": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": subresources,
                    "selectableFields": [{"jsonPath": ".spec.image"}],
                    "additionalPrinterColumns": [{"name": "Image", "type": "string", "jsonPath": ".spec.image"}]},
                {"name": "v2", "served": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"storedVersions": ["v1"],
                "acceptedNames": {"kind": "Tab", "plural": "tabs", "singular": "tab", "listKind": "TabList", "shortNames": ["t"]}},
        })
    }

    #[test]
    fn a_definition_makes_a_row_of_each_served_version() {
        let rows = rows(&crd());
        let shown: Vec<String> = rows.iter().map(|r| format!("{r:?} {} {}", r.kind, r.conversion.is_some())).collect();
        assert_eq!(shown, ["x.io/v1/tabs Tab true", "x.io/v1beta1/tabs Tab true"]);
        let row = &rows[0];
        assert_eq!((row.storage_prefix().as_str(), row.list_kind.as_ref(), row.short_names.len()), ("/registry/x.io/tabs/", "TabList", 1));
        assert_eq!(row.subresources.iter().map(Subresource::name).collect::<Vec<_>>(), ["status", "scale"]);
        assert_eq!(row.columns.iter().map(|c| c.name.as_ref()).collect::<Vec<_>>(), ["Name", "Image"]);
        assert_eq!((row.selectable[0].field.as_ref(), row.selectable[0].pointer.as_ref()), ("spec.image", "/spec/image"));
    }

    #[test]
    fn objects_are_defaulted_and_checked() {
        let row = || rows(&crd()).remove(0);
        expect![[r#"
            apiVersion: x.io/v1
            kind: Tab
            metadata: {}
            spec:
              image: a
              replicas: 1
        "#]]
        .assert_eq(&created(row(), "{metadata: {}, spec: {image: a}, status: {replicas: 1}}"));
        expect!["spec.image: Required value"].assert_eq(&created(row(), "{metadata: {}, spec: {}}"));
        expect![[r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#]]
            .assert_eq(&update_errors(row(), "{spec: {image: longer}}", "{spec: {image: longer, replicas: x}}"));
        expect!["status.replicas: Invalid value: -1: should be a non-negative integer"].assert_eq(&part_errors(
            row(),
            "status",
            "{spec: {image: a}}",
            "{spec: {image: a}, status: {replicas: -1}}",
        ));
    }

    #[test]
    fn what_was_stored_before_a_change_is_read_by_the_definition_as_it_is() {
        let mut changed = crd();
        changed["metadata"]["generation"] = 2.into();
        changed["status"]["storedVersions"] = json!(["v1beta1", "v1"]);
        let row = rows(&changed).remove(0);
        let read = row
            .versions()
            .unwrap()
            .settle(json!({"apiVersion": "x.io/v1beta1", "metadata": {"name": "a"}, "spec": {"image": "a", "gone": 1}}));
        assert_eq!(read.unwrap(), json!({"apiVersion": "x.io/v1", "metadata": {"name": "a"}, "spec": {"image": "a", "replicas": 1}}));
    }
}
