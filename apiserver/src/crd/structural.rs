//! What makes a schema structural (KEP-20190425), and what else a definition's schema may not say.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use serde_json::{Value, json};

use super::schema::{Node, flag};
use super::{defaults, validate};

/// Where in the schema a place is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Keywords that are not taken at all.
const UNSUPPORTED: [&str; 5] = ["definitions", "dependencies", "patternProperties", "additionalItems", "id"];
/// Keywords that only the structure itself may have, not what is combined.
const STRUCTURE: [&str; 9] = [
    "title",
    "description",
    "externalDocs",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Checks a schema; the errors are in the order of their text, as upstream's.
pub fn check(schema: &Value, path: &Path, errors: &mut Errors) {
    let mut found = Errors::new();
    structure(schema, Level::Root, path, &mut found);
    found.0.sort_by_key(ToString::to_string);
    errors.0.extend(found.0);
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema.get(key).and_then(Value::as_str).unwrap_or("")
}

fn each<'s>(schema: &'s Value, key: &str) -> impl Iterator<Item = (&'s String, &'s Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn list<'s>(schema: &'s Value, key: &str) -> &'s [Value] {
    schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn structure(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let ty = text(schema, "type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    keywords(schema, path, errors);
    match schema.get("items") {
        Some(Value::Array(_)) => errors.forbidden(&path.child("items"), "items must be a schema object and not an array"),
        Some(items) if !items.is_null() => structure(items, Level::Item, &path.child("items"), errors),
        _ if ty == "array" => errors.required(&path.child("items"), "must be specified"),
        _ => {}
    }
    for (name, property) in each(schema, "properties") {
        structure(property, Level::Field, &path.child("properties").key(name), errors);
    }
    additional(schema, level, path, errors);
    if int_or_string && preserves {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), true, "must be false if x-kubernetes-int-or-string is true");
    }
    if int_or_string && embedded {
        errors.invalid(&path.child("x-kubernetes-embedded-resource"), true, "must be false if x-kubernetes-int-or-string is true");
    }
    combined(schema, schema, path, errors);
    if embedded && ty != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        if ty.is_empty() { errors.required(&path.child("type"), why) } else { errors.invalid(&path.child("type"), ty, why) }
    } else if ty.is_empty() && !int_or_string && !preserves {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path.child("type"), why);
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.invalid(&path.child("type"), ty, "must be object at the root");
    }
    if level == Level::Root || embedded {
        resource(schema, level, path, errors);
    }
    if embedded && !preserves && each(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), why);
    }
    list_type(schema, path, errors);
    default(schema, path, errors);
}

/// What is wrong with single keywords, wherever they stand in the structure.
fn keywords(schema: &Value, path: &Path, errors: &mut Errors) {
    match text(schema, "type") {
        "" => {}
        "null" => errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative"),
        ty if !TYPES.contains(&ty) => errors.not_supported(&path.child("type"), ty, &TYPES),
        _ => {}
    }
    if flag(schema, "uniqueItems") {
        errors.forbidden(&path.child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    if schema.get("$ref").is_some() {
        errors.forbidden(&path.child("$ref"), "$ref is not supported");
    }
    for keyword in UNSUPPORTED.iter().filter(|k| schema.get(**k).is_some()) {
        errors.forbidden(&path.child(keyword), &format!("{keyword} is not supported"));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = regex::Regex::new(pattern) {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        errors.invalid(&path.child("pattern"), pattern, &format!("must be a valid regular expression, but isn't: {last}"));
    }
}

fn additional(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let at = path.child("additionalProperties");
    match schema.get("additionalProperties") {
        None | Some(Value::Null) => return,
        Some(Value::Bool(false)) => errors.forbidden(&at, "additionalProperties cannot be set to false"),
        Some(inner @ Value::Object(_)) => structure(inner, Level::Field, &at, errors),
        _ => {}
    }
    if each(schema, "properties").next().is_some() {
        errors.forbidden(&at, "additionalProperties and properties are mutual exclusive");
    }
    if level == Level::Root {
        errors.forbidden(&at, "must not be used at the root");
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        errors.forbidden(&at, "must not be used if x-kubernetes-embedded-resource is set");
    }
}

/// `apiVersion`, `kind` and `metadata` of a resource are Kubernetes' own.
fn resource(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let properties: BTreeMap<_, _> = each(schema, "properties").map(|(k, v)| (k.as_str(), v)).collect();
    let at = |name: &str| path.child("properties").key(name);
    for field in ["apiVersion", "kind"] {
        if let Some(property) = properties.get(field).filter(|p| text(p, "type") != "string") {
            errors.invalid(&at(field).child("type"), text(property, "type"), "must be string");
        }
    }
    let Some(metadata) = properties.get("metadata") else { return };
    if text(metadata, "type") != "object" {
        errors.invalid(&at("metadata").child("type"), text(metadata, "type"), "must be object");
    }
    if level == Level::Root {
        let known = |key: &String| matches!(key.as_str(), "type" | "description" | "properties");
        let names = |key: &String| matches!(key.as_str(), "name" | "generateName");
        let other = metadata.as_object().is_some_and(|m| !m.keys().all(known)) || !each(metadata, "properties").all(|(k, _)| names(k));
        if other {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.forbidden(&at("metadata"), why);
        }
    }
}

fn is_int_or_string(any_of: &[Value]) -> bool {
    any_of == [json!({"type": "integer"}), json!({"type": "string"})]
}

/// What is combined says nothing but value rules, about fields that the structure has.
fn combined(value: &Value, structural: &Value, path: &Path, errors: &mut Errors) {
    let int_or_string = flag(structural, "x-kubernetes-int-or-string");
    for keyword in ["anyOf", "allOf", "oneOf"] {
        let parts = list(value, keyword);
        if keyword == "anyOf" && int_or_string && is_int_or_string(parts) {
            continue;
        }
        for (i, part) in parts.iter().enumerate() {
            if keyword == "allOf" && i == 0 && int_or_string && is_int_or_string(list(part, "anyOf")) {
                continue;
            }
            nested(part, Some(structural), &path.child(keyword).index(i), errors);
        }
    }
    if let Some(not) = value.get("not").filter(|n| n.is_object()) {
        nested(not, Some(structural), &path.child("not"), errors);
    }
}

fn nested(value: &Value, structural: Option<&Value>, path: &Path, errors: &mut Errors) {
    if !text(value, "type").is_empty() {
        errors.forbidden(&path.child("type"), "must be empty to be structural");
    }
    for keyword in ["additionalProperties", "default"] {
        if value.get(keyword).is_some_and(|v| !v.is_null()) {
            errors.forbidden(&path.child(keyword), "must be undefined to be structural");
        }
    }
    if flag(value, "nullable") {
        errors.forbidden(&path.child("nullable"), "must be false to be structural");
    }
    for keyword in STRUCTURE.iter().filter(|k| value.get(**k).is_some_and(|v| *v != Value::Bool(false))) {
        let why = match *keyword {
            "title" | "description" | "x-kubernetes-list-map-keys" => "must be empty to be structural",
            "externalDocs" | "x-kubernetes-list-type" | "x-kubernetes-map-type" => "must be undefined to be structural",
            _ => "must be false to be structural",
        };
        errors.forbidden(&path.child(keyword), why);
    }
    // Rules within `allOf` hold like any others.
    let elsewhere = [".anyOf[", ".oneOf[", ".not"].iter().any(|k| path.as_str().contains(k));
    if elsewhere && !list(value, "x-kubernetes-validations").is_empty() {
        errors.forbidden(&path.child("x-kubernetes-validations"), "must be empty to be structural");
    }
    let properties = structural.and_then(|s| s.get("properties"));
    for (name, property) in each(value, "properties") {
        let at = path.child("properties").key(name);
        if name == "metadata" {
            errors.forbidden(&at, "must not be specified in a nested context");
        }
        let inner = properties.and_then(|p| p.get(name));
        if let (Some(_), None) = (structural, inner) {
            let whole = structural_path(path).child("properties").key(name);
            errors.required(&whole, &format!("because it is defined in {at}"));
        }
        nested(property, inner, &at, errors);
    }
    if let Some(items) = value.get("items").filter(|i| i.is_object()) {
        let inner = structural.and_then(|s| s.get("items"));
        if let (Some(_), None) = (structural, inner) {
            errors.required(&structural_path(path).child("items"), &format!("because it is defined in {}", path.child("items")));
        }
        nested(items, inner, &path.child("items"), errors);
    }
    // Where the structure is lost, the loss was said above.
    combined(value, structural.unwrap_or(&Value::Null), path, errors);
}

/// The path without the combinations in it: where the structure should have said it.
fn structural_path(path: &Path) -> Path {
    let keep = |part: &&str| !["anyOf[", "allOf[", "oneOf["].iter().any(|k| part.starts_with(k)) && *part != "not";
    let parts: Vec<&str> = path.as_str().split('.').filter(keep).collect();
    Path::root().child(&parts.join("."))
}

fn list_type(schema: &Value, path: &Path, errors: &mut Errors) {
    let (ty, kind) = (text(schema, "type"), text(schema, "x-kubernetes-list-type"));
    let keys = list(schema, "x-kubernetes-list-map-keys");
    if !kind.is_empty() {
        let why = "must be array if x-kubernetes-list-type is specified";
        match ty {
            "array" => {}
            "" => errors.required(&path.child("type"), why),
            other => errors.invalid(&path.child("type"), other, why),
        }
        if !["atomic", "map", "set"].contains(&kind) {
            errors.not_supported(&path.child("x-kubernetes-list-type"), kind, &["atomic", "map", "set"]);
        }
    }
    let map_type = text(schema, "x-kubernetes-map-type");
    if !map_type.is_empty() {
        if !["", "object"].contains(&ty) {
            errors.invalid(&path.child("type"), ty, "must be object if x-kubernetes-map-type is specified");
        }
        if !["atomic", "granular"].contains(&map_type) {
            errors.not_supported(&path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
        }
    }
    if !keys.is_empty() && kind != "map" {
        errors.invalid(&path.child("x-kubernetes-list-type"), kind, "must be map if x-kubernetes-list-map-keys is non-empty");
    }
    if kind != "map" {
        return;
    }
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    let Some(items) = schema.get("items").filter(|i| i.is_object()) else {
        return errors.required(&path.child("items"), "must have a schema if x-kubernetes-list-type is map");
    };
    if text(items, "type") != "object" {
        errors.invalid(
            &path.child("items").child("type"),
            text(items, "type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        );
    }
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let Some(property) = items.get("properties").and_then(|p| p.get(key)) else {
            errors.invalid(&at.index(i), key, "entries must all be names of item properties");
            continue;
        };
        if !list(items, "required").iter().any(|r| r == key) && property.get("default").is_none() {
            let whole = path.child("items").child("properties").key(key).child("default");
            errors.required(&whole, "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
        }
    }
}

/// A default is a value of the place it is for.
fn default(schema: &Value, path: &Path, errors: &mut Errors) {
    let Some(value) = schema.get("default") else { return };
    let node = Node::parse(schema);
    let mut filled = value.clone();
    defaults::apply(&mut filled, &node);
    let mut found = Errors::new();
    validate::validate(&node, &filled, None, &mut found);
    for mut error in found.0 {
        let inner = error.path.as_str().to_owned();
        error.path = if inner.is_empty() { path.child("default") } else { path.child("default").child(&inner) };
        errors.0.push(error);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn errors(schema: Value, expect: Expect) {
        let mut errors = Errors::new();
        check(&schema, &Path::new("s"), &mut errors);
        expect.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_structural_schema_passes() {
        errors(
            json!({"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"type": "object", "properties": {
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "a": {"type": "string", "default": "x"}, "b": {"type": "string"},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
            }, "oneOf": [{"required": ["a"]}, {"properties": {"b": {"minLength": 1}}}]}}}),
            expect![""],
        );
    }

    #[test]
    fn types_are_said_everywhere() {
        errors(
            json!({"properties": {"a": {}, "l": {"type": "array"}, "m": {"type": "array", "items": {}}, "n": {"type": "text"}}}),
            expect![[r#"
                s.properties[a].type: Required value: must not be empty for specified object fields
                s.properties[l].items: Required value: must be specified
                s.properties[m].items.type: Required value: must not be empty for specified array items
                s.properties[n].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"
                s.type: Required value: must not be empty at the root"#]],
        );
    }

    #[test]
    fn combinations_say_value_rules_alone() {
        errors(
            json!({"type": "object", "properties": {"a": {"type": "string"}},
                "anyOf": [{"type": "object", "description": "d", "properties": {"z": {"minLength": 1}}}], "not": {"nullable": true}}),
            expect![[r#"
                s.anyOf[0].description: Forbidden: must be empty to be structural
                s.anyOf[0].type: Forbidden: must be empty to be structural
                s.not.nullable: Forbidden: must be false to be structural
                s.properties[z]: Required value: because it is defined in s.anyOf[0].properties[z]"#]],
        );
    }

    #[test]
    fn keywords_have_rules() {
        errors(
            json!({"type": "object", "additionalProperties": false, "properties": {
                "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
                "p": {"type": "string", "pattern": "("}, "u": {"type": "array", "uniqueItems": true, "items": {"type": "string"}},
                "r": {"type": "object", "$ref": "#/x"}, "d": {"type": "integer", "default": "x"},
                "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
            expect![[r#"
                s.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
                s.additionalProperties: Forbidden: additionalProperties cannot be set to false
                s.additionalProperties: Forbidden: must not be used at the root
                s.properties[d].default: Invalid value: "string":  in body must be of type integer: "string"
                s.properties[l].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
                s.properties[l].x-kubernetes-list-map-keys[1]: Invalid value: "z": entries must all be names of item properties
                s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
                s.properties[p].pattern: Invalid value: "(": must be a valid regular expression, but isn't: unclosed group
                s.properties[r].$ref: Forbidden: $ref is not supported
                s.properties[u].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"#]],
        );
    }
}
