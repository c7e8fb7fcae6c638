//! What an aggregated server's document adds to `/openapi/v2`: the paths of its group version, and the definitions that these need and we
//! lack. Both forms of the document take further entries without being taken apart: JSON by a splice, protobuf by appending, since a message
//! that comes twice is merged.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{gnostic, hex};

/// The additions of one group version.
#[derive(Debug, Clone, PartialEq)]
pub struct Addition {
    paths: BTreeMap<String, Value>,
    definitions: BTreeMap<String, Value>,
    /// Tells one content from another.
    pub hash: String,
}

const REFERENCE: &str = "#/definitions/";

impl Addition {
    /// What of an OpenAPI 2 document is below `root`, such as `/apis/x.io/v1`.
    #[must_use]
    pub fn of(document: &Value, root: &str) -> Self {
        let below = format!("{}/", root.trim_end_matches('/'));
        let all = document.get("paths").and_then(Value::as_object);
        let own = all.into_iter().flatten().filter(|(path, _)| *path == root || path.starts_with(&below));
        let paths: BTreeMap<String, Value> = own.map(|(path, item)| (path.clone(), item.clone())).collect();
        let mut definitions = BTreeMap::new();
        let mut needed: Vec<String> = paths.values().flat_map(references).collect();
        while let Some(name) = needed.pop() {
            let Some(found) = document.get("definitions").and_then(|d| d.get(&name)) else { continue };
            if let Entry::Vacant(place) = definitions.entry(name) {
                needed.extend(references(found));
                place.insert(found.clone());
            }
        }
        let said = serde_json::to_vec(&(&paths, &definitions)).unwrap_or_default();
        Self { paths, definitions, hash: hex(Sha256::new_with_prefix(said)) }
    }

    /// Whether it adds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// The names of the definitions that a value refers to directly.
fn references(value: &Value) -> Vec<String> {
    let mut out = vec![];
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(map) => {
                out.extend(map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REFERENCE)).map(str::to_owned));
                left.extend(map.values());
            }
            Value::Array(list) => left.extend(list),
            _ => {}
        }
    }
    out
}

fn entries<'a>(maps: impl Iterator<Item = &'a BTreeMap<String, Value>>, lacking: impl Fn(&str) -> bool) -> BTreeMap<&'a str, &'a Value> {
    maps.flatten().filter(|(name, _)| lacking(name)).map(|(name, value)| (name.as_str(), value)).collect()
}

/// Our document as JSON with the additions.
pub(super) fn json(own: &str, additions: &[&Addition]) -> String {
    let mut out = own.to_owned();
    splice(&mut out, "definitions", additions.iter().map(|a| &a.definitions));
    splice(&mut out, "paths", additions.iter().map(|a| &a.paths));
    out
}

/// Puts entries that it lacks into the first member of that name: the document's own, since what stands before has no such member.
fn splice<'a>(out: &mut String, member: &str, maps: impl Iterator<Item = &'a BTreeMap<String, Value>>) {
    let mark = format!("\"{member}\":{{");
    let Some(at) = out.find(&mark).map(|at| at + mark.len()) else { return };
    let found = entries(maps, |name| !out.contains(&format!("{}:{{", Value::from(name))));
    let text: String = found.iter().map(|(name, value)| format!("{}:{value},", Value::from(*name))).collect();
    let empty = out[at..].starts_with('}');
    out.insert_str(at, if empty { text.trim_end_matches(',') } else { &text });
}

/// Our document as protobuf with the additions.
pub(super) fn protobuf(own: &[u8], additions: &[&Addition]) -> Vec<u8> {
    let known = |name: &str| own.windows(name.len()).any(|w| w == name.as_bytes());
    let paths = entries(additions.iter().map(|a| &a.paths), |name| !known(name));
    let definitions = entries(additions.iter().map(|a| &a.definitions), |name| !known(name));
    [own.to_vec(), gnostic::addition(&paths, &definitions)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn addition() -> Addition {
        let reference = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        Addition::of(
            &json!({
                "paths": {"/apis/x.io/v1/": {"get": {"responses": {"200": {"schema": reference("A")}}}}, "/apis/y.io/v1/": {}},
                "definitions": {"A": {"properties": {"b": reference("B")}}, "B": {"type": "string"}, "C": {}},
            }),
            "/apis/x.io/v1",
        )
    }

    #[test]
    fn a_group_version_comes_with_what_it_needs() {
        let addition = addition();
        assert_eq!(addition.paths.keys().collect::<Vec<_>>(), ["/apis/x.io/v1/"]);
        assert_eq!(addition.definitions.keys().collect::<Vec<_>>(), ["A", "B"]);
        assert!(!addition.is_empty());
        assert!(Addition::of(&json!({}), "/apis/x.io/v1").is_empty());
    }

    #[test]
    fn what_is_there_already_stays() {
        let own = r#"{"swagger":"2.0","paths":{"/api/":{}},"definitions":{"B":{"type":"integer"}},"security":[]}"#;
        let merged: Value = serde_json::from_str(&json(own, &[&addition()])).unwrap();
        assert_eq!(merged["paths"].as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(merged["definitions"]["B"]["type"], "integer");
        assert_eq!(merged["definitions"]["A"]["properties"]["b"]["$ref"], "#/definitions/B");
        let bare: Value = serde_json::from_str(&json(r#"{"paths":{},"definitions":{}}"#, &[&addition()])).unwrap();
        assert_eq!(bare["definitions"].as_object().map(serde_json::Map::len), Some(2));
    }

    #[test]
    fn protobuf_is_appended_to() {
        let merged = protobuf(b"own", &[&addition()]);
        assert!(merged.starts_with(b"own"));
        assert!(merged.windows(14).any(|w| w == b"/apis/x.io/v1/"));
    }
}
