//! OpenAPI 2 as protobuf, in the messages of google/gnostic's `OpenAPIv2.proto`. It encodes the pieces that [`super::render`] writes as
//! JSON, so that the two forms cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Value, json};

use super::ResourceDoc;
use super::definitions::Definitions;
use super::render::{self, Dialect};

/// Writes the document of these rows.
pub(super) fn document(rows: &[&ResourceDoc], group_versions: &BTreeSet<(String, String)>, out: &mut impl Write) -> io::Result<()> {
    let mut head = Vec::new();
    string(&mut head, 1, "2.0");
    message(&mut head, 2, |info| {
        string(info, 1, "Kubernetes");
        string(info, 2, "v1.35.0");
    });
    out.write_all(&head)?;
    let mut paths = Vec::new();
    for (path, item) in render::paths(Dialect::V2, rows) {
        named(&mut paths, 2, &path, |out| path_item(out, &item));
    }
    write_message(out, 8, &paths)?;
    drop(paths);
    let mut definitions = Vec::new();
    for (name, definition) in Definitions::new(Dialect::V2, rows, group_versions).entries() {
        named(&mut definitions, 1, &name, |out| schema(out, &definition));
    }
    write_message(out, 9, &definitions)?;
    let mut tail = Vec::new();
    message(&mut tail, 12, |requirement| named(requirement, 1, "BearerToken", |_| {}));
    message(&mut tail, 13, |all| {
        named(all, 1, "BearerToken", |item| {
            message(item, 2, |key| {
                for (tag, text) in [(1, "apiKey"), (2, "authorization"), (3, "header"), (4, "Bearer Token authentication")] {
                    string(key, tag, text);
                }
            });
        });
    });
    out.write_all(&tail)
}

/// Paths and definitions that a document gets besides, to be appended to it.
pub(super) fn addition(paths: &BTreeMap<&str, &Value>, definitions: &BTreeMap<&str, &Value>) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 8, |all| paths.iter().for_each(|(path, item)| named(all, 2, path, |out| path_item(out, item))));
    message(&mut out, 9, |all| definitions.iter().for_each(|(name, found)| named(all, 1, name, |out| schema(out, found))));
    out
}

fn path_item(out: &mut Vec<u8>, item: &Value) {
    for (method, tag) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)] {
        if let Some(value) = item.get(method) {
            message(out, tag, |out| operation(out, value));
        }
    }
    items(item, "parameters", |value| parameters_item(out, 9, value));
}

fn operation(out: &mut Vec<u8>, value: &Value) {
    strings(out, 1, value, "tags");
    text(out, 3, value, "description");
    text(out, 5, value, "operationId");
    strings(out, 6, value, "produces");
    strings(out, 7, value, "consumes");
    items(value, "parameters", |parameter| parameters_item(out, 8, parameter));
    message(out, 9, |responses| {
        for (code, response) in value["responses"].as_object().into_iter().flatten() {
            named(responses, 1, code, |out| {
                message(out, 1, |out| {
                    text(out, 1, response, "description");
                    if let Some(found) = response.get("schema") {
                        message(out, 2, |item| message(item, 1, |out| schema(out, found)));
                    }
                });
            });
        }
    });
    strings(out, 10, value, "schemes");
    extensions(out, 13, value);
}

/// A `ParametersItem` that holds the parameter itself.
fn parameters_item(out: &mut Vec<u8>, tag: u32, value: &Value) {
    message(out, tag, |item| {
        message(item, 1, |parameter| match value["in"].as_str() {
            Some("body") => message(parameter, 1, |out| {
                text(out, 2, value, "name");
                text(out, 3, value, "in");
                boolean(out, 4, value, "required");
                if let Some(found) = value.get("schema") {
                    message(out, 5, |out| schema(out, found));
                }
            }),
            place => message(parameter, 2, |non_body| {
                // Tags differ by one after `name`: only a query parameter has allow_empty_value.
                let (which, shift) = if place == Some("path") { (4, 0) } else { (3, 1) };
                message(non_body, which, |out| {
                    boolean(out, 1, value, "required");
                    text(out, 2, value, "in");
                    text(out, 3, value, "description");
                    text(out, 4, value, "name");
                    text(out, 5 + shift, value, "type");
                    boolean(out, 19 + shift, value, "uniqueItems");
                });
            }),
        });
    });
}

fn schema(out: &mut Vec<u8>, value: &Value) {
    text(out, 1, value, "$ref");
    text(out, 2, value, "format");
    text(out, 3, value, "title");
    text(out, 4, value, "description");
    if let Some(default) = value.get("default") {
        any(out, 5, default);
    }
    for (key, tag) in [("multipleOf", 6), ("maximum", 7), ("minimum", 9)] {
        if let Some(number) = value.get(key).and_then(Value::as_f64) {
            encode_key(tag, WireType::SixtyFourBit, out);
            out.extend(number.to_le_bytes());
        }
    }
    boolean(out, 8, value, "exclusiveMaximum");
    boolean(out, 10, value, "exclusiveMinimum");
    let counts = [("maxLength", 11), ("minLength", 12), ("maxItems", 14), ("minItems", 15), ("maxProperties", 17), ("minProperties", 18)];
    for (key, tag) in counts {
        if let Some(count) = value.get(key).and_then(Value::as_u64) {
            encode_key(tag, WireType::Varint, out);
            encode_varint(count, out);
        }
    }
    text(out, 13, value, "pattern");
    boolean(out, 16, value, "uniqueItems");
    strings(out, 19, value, "required");
    items(value, "enum", |item| any(out, 20, item));
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => message(out, 21, |item| {
            encode_key(2, WireType::Varint, item);
            encode_varint(u64::from(*allowed), item);
        }),
        Some(found) => message(out, 21, |item| message(item, 1, |out| schema(out, found))),
        None => {}
    }
    if let Some(ty) = value.get("type").and_then(Value::as_str) {
        message(out, 22, |item| string(item, 1, ty));
    }
    if let Some(found) = value.get("items") {
        message(out, 23, |item| message(item, 1, |out| schema(out, found)));
    }
    if let Some(properties) = value.get("properties").and_then(Value::as_object) {
        message(out, 25, |out| {
            for (name, property) in properties {
                named(out, 1, name, |out| schema(out, property));
            }
        });
    }
    extensions(out, 31, value);
}

fn extensions(out: &mut Vec<u8>, tag: u32, value: &Value) {
    for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        message(out, tag, |out| {
            string(out, 1, name);
            any(out, 2, extension);
        });
    }
}

/// An `Any`: the value as YAML, of which JSON is a part.
fn any(out: &mut Vec<u8>, tag: u32, value: &Value) {
    message(out, tag, |out| string(out, 2, &format!("{}\n", json!(value))));
}

fn items<'v>(value: &'v Value, key: &str, each: impl FnMut(&'v Value)) {
    value.get(key).and_then(Value::as_array).into_iter().flatten().for_each(each);
}

fn strings(out: &mut Vec<u8>, tag: u32, value: &Value, key: &str) {
    items(value, key, |item| string(out, tag, item.as_str().unwrap_or_default()));
}

fn text(out: &mut Vec<u8>, tag: u32, value: &Value, key: &str) {
    if let Some(found) = value.get(key).and_then(Value::as_str) {
        string(out, tag, found);
    }
}

fn boolean(out: &mut Vec<u8>, tag: u32, value: &Value, key: &str) {
    if value.get(key) == Some(&Value::Bool(true)) {
        encode_key(tag, WireType::Varint, out);
        encode_varint(1, out);
    }
}

fn string(out: &mut Vec<u8>, tag: u32, text: &str) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(text.len() as u64, out);
    out.extend(text.as_bytes());
}

fn message(out: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(inner.len() as u64, out);
    out.extend(inner);
}

/// An entry of a map: name at 1, value at 2.
fn named(out: &mut Vec<u8>, tag: u32, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    message(out, tag, |entry| {
        string(entry, 1, name);
        message(entry, 2, fill);
    });
}

fn write_message(out: &mut impl Write, tag: u32, body: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut head);
    encode_varint(body.len() as u64, &mut head);
    out.write_all(&head)?;
    out.write_all(body)
}
