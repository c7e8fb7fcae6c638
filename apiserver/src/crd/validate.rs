//! The value rules of a schema, in upstream's words.
//!
//! Ratcheting (KEP-4008): on an update, what is the same as before is not looked at, so that a definition may become stricter without locking
//! out the objects there are. Values correspond by field name, and by key in lists of type map.

use api::field::{Errors, Path};
use serde_json::Value;

use super::formats;
use super::schema::{Additional, ListType, Node};

/// Replicas at most, as upstream's scale allows.
const MOST_REPLICAS: i64 = i32::MAX as i64;

/// Checks an object; `old` is what it was before an update.
pub fn validate(node: &Node, value: &Value, old: Option<&Value>, errors: &mut Errors) {
    place(node, value, old, "", errors);
    embedded(node, value, old, "", errors);
    let mut duplicates = Errors::new();
    unique_items(node, value, "", &mut duplicates);
    let mut before = Errors::new();
    if let (false, Some(old)) = (duplicates.is_empty(), old) {
        unique_items(node, old, "", &mut before);
    }
    if before.is_empty() {
        errors.0.append(&mut duplicates.0);
    }
}

/// Checks the replicas of an object with `/scale`, given as JSON pointers.
pub fn scale(object: &Value, spec: &str, status: &str, errors: &mut Errors) {
    for pointer in [spec, status] {
        let path = at(&pointer.replace('/', "."));
        match object.pointer(pointer).and_then(Value::as_i64) {
            Some(replicas) if replicas < 0 => errors.invalid(&path, replicas, "should be a non-negative integer"),
            Some(replicas) if replicas > MOST_REPLICAS => {
                errors.invalid(&path, replicas, &format!("should be less than or equal to {MOST_REPLICAS}"));
            }
            _ => {}
        }
    }
}

fn at(path: &str) -> Path {
    Path::root().child(path.trim_start_matches('.'))
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The type of a value, as schemas name it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.as_f64().is_some_and(|f| f.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn place(node: &Node, value: &Value, old: Option<&Value>, path: &str, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    let found = type_of(value);
    let fits = node.types.is_empty() || node.types.iter().any(|t| t == found || (t == "number" && found == "integer"));
    if value.is_null() && node.nullable {
        return;
    }
    if !fits {
        let why = format!("{path} in body must be of type {}: {found:?}", node.types.join(","));
        errors.type_invalid(&at(path), found, &why);
    }
    if !value.is_null() {
        combined(node, value, path, errors);
    }
    match value {
        Value::String(text) => string(node, text, path, errors),
        Value::Number(_) => number(node, value, path, errors),
        Value::Array(list) => array(node, list, old, path, errors),
        _ => {}
    }
    if !node.values.is_empty() && !node.values.iter().any(|v| same(v, value)) {
        let shown: Vec<String> = node.values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        errors.not_supported(&at(path), value, &shown.iter().map(String::as_str).collect::<Vec<_>>());
    }
    if let Value::Object(map) = value {
        object(node, map, old, path, errors);
    }
}

/// Equality that takes 1 and 1.0 for the same.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

fn errors_of(node: &Node, value: &Value, path: &str) -> Errors {
    let mut errors = Errors::new();
    place(node, value, None, path, &mut errors);
    errors
}

/// `allOf`, `anyOf`, `oneOf`, `not`. What they say is about no field (upstream's own error has none either).
fn combined(node: &Node, value: &Value, path: &str, errors: &mut Errors) {
    let mut say = |why: String, more: Option<Errors>| {
        errors.invalid(&Path::root(), "", &why);
        errors.0.extend(more.unwrap_or_default().0);
    };
    let best = |tried: Vec<Errors>| tried.into_iter().min_by_key(|e| e.0.len());
    if !node.any_of.is_empty() {
        let tried: Vec<Errors> = node.any_of.iter().map(|n| errors_of(n, value, path)).collect();
        if !tried.iter().any(Errors::is_empty) {
            say(format!("{path:?} must validate at least one schema (anyOf)"), best(tried));
        }
    }
    if !node.one_of.is_empty() {
        let tried: Vec<Errors> = node.one_of.iter().map(|n| errors_of(n, value, path)).collect();
        match tried.iter().filter(|e| e.is_empty()).count() {
            1 => {}
            0 => say(format!("{path:?} must validate one and only one schema (oneOf). Found none valid"), best(tried)),
            n => say(format!("{path:?} must validate one and only one schema (oneOf). Found {n} valid alternatives"), None),
        }
    }
    if !node.all_of.is_empty() {
        let tried: Vec<Errors> = node.all_of.iter().map(|n| errors_of(n, value, path)).collect();
        let valid = tried.iter().filter(|e| e.is_empty()).count();
        if valid < tried.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            let all = Errors(tried.into_iter().flat_map(|e| e.0).collect());
            say(format!("{path:?} must validate all the schemas (allOf){none}"), Some(all));
        }
    }
    if node.not.as_deref().is_some_and(|not| errors_of(not, value, path).is_empty()) {
        say(format!("{path:?} must not validate the schema (not)"), None);
    }
}

fn string(node: &Node, text: &str, path: &str, errors: &mut Errors) {
    let length = text.chars().count() as u64;
    if let Some(most) = node.max_length.filter(|m| length > *m) {
        errors.too_long(&at(path), usize::try_from(most).unwrap_or(usize::MAX));
    }
    if let Some(least) = node.min_length.filter(|m| length < *m) {
        errors.invalid(&at(path), text, &format!("{path} in body should be at least {least} chars long"));
    }
    if let Some((pattern, compiled)) = &node.pattern
        && !compiled.as_ref().is_some_and(|r| r.is_match(text))
    {
        errors.invalid(&at(path), text, &format!("{path} in body should match '{pattern}'"));
    }
    if let Some(format) = node.format.as_deref().filter(|f| !formats::holds(f, text)) {
        errors.type_invalid(&at(path), text, &format!("{path} in body must be of type {format}: {text:?}"));
    }
}

fn number(node: &Node, value: &Value, path: &str, errors: &mut Errors) {
    let Some(number) = value.as_f64() else { return };
    if let Some(factor) = node.multiple_of.filter(|f| *f > 0.0 && (number / f).fract() != 0.0) {
        errors.invalid(&at(path), value, &format!("{path} in body should be a multiple of {factor}"));
    }
    if let Some(most) = node.maximum {
        let (beyond, words) = if node.exclusive_maximum { (number >= most, "less than") } else { (number > most, "less than or equal to") };
        if beyond {
            errors.invalid(&at(path), value, &format!("{path} in body should be {words} {most}"));
        }
    }
    if let Some(least) = node.minimum {
        let (below, words) =
            if node.exclusive_minimum { (number <= least, "greater than") } else { (number < least, "greater than or equal to") };
        if below {
            errors.invalid(&at(path), value, &format!("{path} in body should be {words} {least}"));
        }
    }
    let fits = match node.format.as_deref() {
        Some("int32") => value.as_i64().is_some_and(|i| i32::try_from(i).is_ok()),
        Some("int64") => value.is_i64() || number.fract() == 0.0 && number.abs() < 9.3e18,
        _ => true,
    };
    if let (false, Some(format)) = (fits, &node.format) {
        errors.type_invalid(&at(path), value, &format!("{path} in body must be of type {format}: \"{}\"", type_of(value)));
    }
}

fn array(node: &Node, list: &[Value], old: Option<&Value>, path: &str, errors: &mut Errors) {
    let length = list.len();
    if let Some(least) = node.min_items.filter(|m| (length as u64) < *m) {
        errors.invalid(&at(path), length, &format!("{path} in body should have at least {least} items"));
    }
    if let Some(most) = node.max_items.filter(|m| length as u64 > *m) {
        errors.too_many(&at(path), length, usize::try_from(most).unwrap_or(usize::MAX));
    }
    if node.unique_items && (1..length).any(|i| list[..i].contains(&list[i])) {
        errors.invalid(&at(path), "", &format!("{path} in body shouldn't contain duplicates"));
    }
    let Some(items) = &node.items else { return };
    for (i, item) in list.iter().enumerate() {
        place(items, item, counterpart(node, item, old), &format!("{path}[{i}]"), errors);
    }
}

/// What an item of a list of type map was before.
fn counterpart<'v>(node: &Node, item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
    let ListType::Map(keys) = &node.list_type else { return None };
    let key = |v: &Value| -> Vec<Value> { keys.iter().map(|k| v.get(k).cloned().unwrap_or_default()).collect() };
    let wanted = key(item);
    let mut matching = old?.as_array()?.iter().filter(|o| key(o) == wanted);
    match (matching.next(), matching.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

fn object(node: &Node, map: &serde_json::Map<String, Value>, old: Option<&Value>, path: &str, errors: &mut Errors) {
    let fields = map.len();
    if let Some(least) = node.min_properties.filter(|m| (fields as u64) < *m) {
        errors.invalid(&at(path), fields, &format!("{path} in body should have at least {least} properties"));
    }
    if let Some(most) = node.max_properties.filter(|m| fields as u64 > *m) {
        errors.too_many(&at(path), fields, usize::try_from(most).unwrap_or(usize::MAX));
    }
    for name in node.required.iter().filter(|r| !map.contains_key(*r)) {
        errors.required(&at(&child(path, name)), "");
    }
    for (name, value) in map {
        match node.field(name) {
            // Metadata of the object itself has rules of its own.
            Some(field) => place(field, value, old.and_then(|o| o.get(name)), &child(path, name), errors),
            None if matches!(node.additional, Additional::Allowed(false)) => {
                errors.invalid(&at(path), "", &format!("{} in body is a forbidden property", child(path, name)));
            }
            None => {}
        }
    }
}

/// An embedded resource says what it is.
fn embedded(node: &Node, value: &Value, old: Option<&Value>, path: &str, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            if node.embedded {
                for field in ["apiVersion", "kind"] {
                    if map.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                        errors.required(&at(&child(path, field)), "must not be empty");
                    }
                }
            }
            for (name, value) in map {
                if let Some(field) = node.field(name) {
                    embedded(field, value, old.and_then(|o| o.get(name)), &child(path, name), errors);
                }
            }
        }
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                if let Some(items) = &node.items {
                    embedded(items, item, counterpart(node, item, old), &format!("{path}[{i}]"), errors);
                }
            }
        }
        _ => {}
    }
}

/// Lists of type set and map have each item once.
fn unique_items(node: &Node, value: &Value, path: &str, errors: &mut Errors) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(field) = node.field(name) {
                    unique_items(field, value, &child(path, name), errors);
                }
            }
        }
        Value::Array(list) => {
            let key = |item: &Value| match &node.list_type {
                ListType::Atomic => None,
                ListType::Set => Some(item.clone()),
                ListType::Map(keys) => {
                    Some(keys.iter().filter_map(|k| Some((k.clone(), item.get(k)?.clone()))).collect::<serde_json::Map<_, _>>().into())
                }
            };
            let mut seen = std::collections::BTreeSet::new();
            for (i, item) in list.iter().enumerate() {
                if let Some(key) = key(item)
                    && !seen.insert(key.to_string())
                {
                    errors.duplicate(&at(&format!("{path}[{i}]")), &key);
                }
                if let Some(items) = &node.items {
                    unique_items(items, item, &format!("{path}[{i}]"), errors);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(schema: Value, value: Value, expect: Expect) {
        changed(schema, None, value, expect);
    }

    fn changed(schema: Value, old: Option<Value>, value: Value, expect: Expect) {
        let node = Node::parse(&json!({"type": "object", "properties": {"spec": schema}}));
        let mut errors = Errors::new();
        let old = old.map(|o| json!({"spec": o}));
        validate(&node, &json!({"spec": value}), old.as_ref(), &mut errors);
        expect.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn types() {
        check(json!({"type": "integer"}), json!(1), expect![""]);
        check(json!({"type": "integer"}), json!(1.0), expect![""]);
        check(json!({"type": "number"}), json!(1), expect![""]);
        check(
            json!({"type": "integer"}),
            json!("x"),
            expect![[r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#]],
        );
        check(
            json!({"type": "string"}),
            json!(null),
            expect![[r#"spec: Invalid value: "null": spec in body must be of type string: "null""#]],
        );
        check(json!({"type": "string", "nullable": true}), json!(null), expect![""]);
        check(
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            expect![[r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#]],
        );
    }

    #[test]
    fn text_and_numbers() {
        let schema = json!({"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"});
        check(schema.clone(), json!("ab"), expect![""]);
        check(
            schema.clone(),
            json!("b"),
            expect![[r#"
                spec: Invalid value: "b": spec in body should be at least 2 chars long
                spec: Invalid value: "b": spec in body should match '^a'"#]],
        );
        check(schema, json!("abcd"), expect!["spec: Too long: may not be more than 3 bytes"]);
        check(
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            expect![[r#"spec: Invalid value: "x": spec in body must be of type date-time: "x""#]],
        );
        let schema = json!({"type": "integer", "minimum": 1, "maximum": 10, "exclusiveMaximum": true, "multipleOf": 2});
        check(schema.clone(), json!(4), expect![""]);
        check(
            schema.clone(),
            json!(-1),
            expect![[r#"
                spec: Invalid value: -1: spec in body should be a multiple of 2
                spec: Invalid value: -1: spec in body should be greater than or equal to 1"#]],
        );
        check(schema, json!(10), expect!["spec: Invalid value: 10: spec in body should be less than 10"]);
        check(
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            expect![[r#"spec: Invalid value: 3000000000: spec in body must be of type int32: "integer""#]],
        );
        check(json!({"enum": ["a", 1]}), json!("b"), expect![[r#"spec: Unsupported value: "b": supported values: "a", "1""#]]);
    }

    #[test]
    fn lists_and_objects() {
        let schema = json!({"type": "object", "required": ["image"], "minProperties": 1, "maxProperties": 2, "properties": {
            "image": {"type": "string"}, "ports": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}}},
            "additionalProperties": false});
        check(schema.clone(), json!({"image": "a", "ports": [1]}), expect![""]);
        check(
            schema.clone(),
            json!({}),
            expect![[r#"
                spec: Invalid value: 0: spec in body should have at least 1 properties
                spec.image: Required value"#]],
        );
        check(
            schema,
            json!({"image": "a", "ports": [1, "b", 3], "more": 1}),
            expect![[r#"
                spec: Too many: 3: must have at most 2 items
                spec: Invalid value: "": spec.more in body is a forbidden property
                spec.ports: Too many: 3: must have at most 2 items
                spec.ports[1]: Invalid value: "string": spec.ports[1] in body must be of type integer: "string""#]],
        );
        check(
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": "x", "b": 1}),
            expect![[r#"spec.b: Invalid value: "integer": spec.b in body must be of type string: "integer""#]],
        );
    }

    #[test]
    fn combinations() {
        let schema = json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        check(schema.clone(), json!({"a": 1}), expect![""]);
        check(
            schema.clone(),
            json!({}),
            expect![[r#"
                <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid
                spec.a: Required value"#]],
        );
        check(
            schema,
            json!({"a": 1, "b": 1}),
            expect![[r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#]],
        );
        check(
            json!({"anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            expect![[r#"
                <nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)
                spec: Invalid value: 3: spec in body should be greater than or equal to 5"#]],
        );
        check(
            json!({"allOf": [{"minimum": 5}, {"maximum": 9}]}),
            json!(3),
            expect![[r#"
                <nil>: Invalid value: "": "spec" must validate all the schemas (allOf)
                spec: Invalid value: 3: spec in body should be greater than or equal to 5"#]],
        );
        check(
            json!({"not": {"enum": ["a"]}}),
            json!("a"),
            expect![[r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#]],
        );
    }

    #[test]
    fn items_are_told_apart() {
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 5}}}});
        check(map.clone(), json!([{"name": "a"}, {"name": "b"}, {"name": "a"}]), expect![[r#"spec[2]: Duplicate value: {"name":"a"}"#]]);
        check(json!({"type": "array", "x-kubernetes-list-type": "set"}), json!([1, 2, 1]), expect!["spec[2]: Duplicate value: 1"]);
        // What was wrong before may stay, what changes must be right.
        changed(map.clone(), Some(json!([{"name": "a", "n": 9}])), json!([{"name": "b", "n": 1}, {"name": "a", "n": 9}]), expect![""]);
        changed(
            map,
            Some(json!([{"name": "a", "n": 9}])),
            json!([{"name": "a", "n": 8}]),
            expect!["spec[0].n: Invalid value: 8: spec[0].n in body should be less than or equal to 5"],
        );
    }

    #[test]
    fn embedded_resources_say_what_they_are() {
        check(
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"kind": "Pod"}),
            expect!["spec.apiVersion: Required value: must not be empty"],
        );
    }

    #[test]
    fn replicas_are_numbers() {
        let mut errors = Errors::new();
        scale(&json!({"spec": {"replicas": -1}}), "/spec/replicas", "/status/replicas", &mut errors);
        assert_eq!(errors.0[0].to_string(), "spec.replicas: Invalid value: -1: should be a non-negative integer");
    }
}
