//! Trees to protobuf. The tree has been checked beside its schema; what does not fit its type all the same is left out.

use std::collections::BTreeMap;

use api::schema::{Field, Kind, ListOf, Message, Schema, Type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, encode_key};
use serde_json::Value;

use super::scalars::parse_time;
use super::{put_bytes, put_varint};

/// The body of a message.
pub(super) fn message(object: &Value, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    // Fields that JSON shows inline belong to messages inside this one.
    let mut inside: BTreeMap<[u8; 2], Vec<u8>> = BTreeMap::new();
    let Value::Object(map) = object else { return out };
    for (field, value) in map.iter().filter_map(|(key, value)| Some((message.field(key)?, value))) {
        if field.wire.tag == 0 || value.is_null() {
            continue;
        }
        match field.wire.inside {
            [0, 0] => put_field(&mut out, field, value),
            path => put_field(inside.entry(path).or_default(), field, value),
        }
    }
    let nested: Vec<[u8; 2]> = inside.keys().copied().filter(|path| path[1] != 0).collect();
    for path in nested {
        let body = inside.remove(&path).unwrap_or_default();
        put_bytes(inside.entry([path[0], 0]).or_default(), path[1].into(), &body);
    }
    for ([tag, _], body) in inside {
        put_bytes(&mut out, tag.into(), &body);
    }
    out
}

fn put_field(out: &mut Vec<u8>, field: &Field, value: &Value) {
    let tag = field.wire.tag.into();
    match (&field.ty.kind, value) {
        (Kind::List(list), Value::Array(items)) if field.wire.wrapped => put_bytes(out, tag, &wrapped(list, items)),
        (Kind::List(list), Value::Array(items)) => items.iter().for_each(|item| put(out, tag, &list.item, item)),
        (Kind::Map(of), Value::Object(map)) => {
            for (key, value) in map {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                match (&of.kind, value) {
                    (Kind::List(list), Value::Array(items)) if field.wire.wrapped => put_bytes(&mut entry, 2, &wrapped(list, items)),
                    _ => put(&mut entry, 2, of, value),
                }
                put_bytes(out, tag, &entry);
            }
        }
        _ => put(out, tag, &field.ty, value),
    }
}

/// A list in a message of its own.
fn wrapped(list: &ListOf, items: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| put(&mut out, 1, &list.item, item));
    out
}

fn put(out: &mut Vec<u8>, tag: u32, ty: &Type, value: &Value) {
    match (&ty.kind, value) {
        (Kind::String, Value::String(text)) => put_bytes(out, tag, text.as_bytes()),
        (Kind::Bytes, Value::String(text)) => {
            let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            if let Ok(bytes) = STANDARD.decode(text) {
                put_bytes(out, tag, &bytes);
            }
        }
        (Kind::Boolean, Value::Bool(on)) => put_varint(out, tag, u64::from(*on)),
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => {
            if let Some(number) = number.as_i64() {
                // As two's complement of 64 bits, also what is declared with 32.
                put_varint(out, tag, number as u64);
            }
        }
        (Kind::Number, Value::Number(number)) => {
            if let Some(number) = number.as_f64() {
                encode_key(tag, WireType::SixtyFourBit, out);
                out.extend(number.to_le_bytes());
            }
        }
        (Kind::Quantity, Value::String(text)) => put_message(out, tag, |out| put_bytes(out, 1, text.as_bytes())),
        (Kind::IntOrString, value) => put_message(out, tag, |out| {
            let (text, number) = (value.as_str(), value.as_i64().unwrap_or_default());
            put_varint(out, 1, u64::from(text.is_some()));
            put_varint(out, 2, number as u64);
            put_bytes(out, 3, text.unwrap_or_default().as_bytes());
        }),
        (Kind::Time | Kind::MicroTime, Value::String(text)) => {
            if let Some((seconds, nanos)) = parse_time(text) {
                put_message(out, tag, |out| {
                    put_varint(out, 1, seconds as u64);
                    let nanos = if ty.kind == Kind::Time { 0 } else { nanos };
                    put_varint(out, 2, nanos as u64);
                });
            }
        }
        (Kind::Any, value) => put_message(out, tag, |out| put_bytes(out, 1, value.to_string().as_bytes())),
        (Kind::SchemaOrArray, Value::Array(items)) => put_message(out, tag, |out| items.iter().for_each(|item| put_schema(out, 2, item))),
        (Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Object(_)) => put_message(out, tag, |out| put_schema(out, 1, value)),
        (Kind::SchemaOrStrings, Value::Array(items)) => put_message(out, tag, |out| {
            items.iter().filter_map(Value::as_str).for_each(|item| put_bytes(out, 2, item.as_bytes()));
        }),
        (Kind::SchemaOrBool, Value::Bool(allowed)) => put_message(out, tag, |out| put_varint(out, 1, u64::from(*allowed))),
        (Kind::SchemaOrBool, Value::Object(_)) => put_message(out, tag, |out| {
            put_varint(out, 1, 1);
            put_schema(out, 2, value);
        }),
        (Kind::Message(id), value) => put_bytes(out, tag, &message(value, Schema::builtin().get(*id))),
        _ => {}
    }
}

fn put_schema(out: &mut Vec<u8>, tag: u32, value: &Value) {
    put_bytes(out, tag, &message(value, super::decode::json_schema()));
}

fn put_message(out: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put_bytes(out, tag, &inner);
}
