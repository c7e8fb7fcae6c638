//! Kubernetes' protobuf beside JSON: `application/vnd.kubernetes.protobuf`.
//!
//! Objects are trees everywhere in the server; here they are turned into bytes and back by the tags in the facts table, without a type for
//! each kind. On the wire an object is the four bytes `k8s\0` and a `runtime.Unknown`, which names the kind and holds the message.
//! Tables and custom resources have no such form.
//!
//! It keeps true: what is decoded from what was encoded is the same tree, bar empty strings and zeros that say nothing ([`Wire`]).
//!
//! [`Wire`]: api::schema::Wire

mod decode;
mod encode;
mod scalars;

use api::object::split_api_version;
use api::schema::{Message, Schema, SchemaNode};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::Value;

/// The media type of objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch: frames of four bytes of length and an event.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// What every object begins with.
const PREFIX: &[u8] = b"k8s\0";
/// Tags of `runtime.Unknown` and of its `TypeMeta`.
const UNKNOWN_TYPE: u32 = 1;
const UNKNOWN_RAW: u32 = 2;
const TYPE_API_VERSION: u32 = 1;
const TYPE_KIND: u32 = 2;
/// Tags that all lists have.
const LIST_METADATA: u32 = 1;
const LIST_ITEMS: u32 = 2;

/// The tree of an object, with `apiVersion` and `kind`.
///
/// # Errors
/// The bytes are no such object, or of a kind that has no message.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    decode::object(bytes, 0)
}

/// The bytes of an object; `None` when its kind has no message.
#[must_use]
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let body = encode_message(object, message_of(api_version, kind)?);
    Some(envelope(api_version, kind, &body))
}

/// The message of an object, without the envelope: an item of a list.
#[must_use]
pub fn encode_message(object: &Value, message: &Message) -> Vec<u8> {
    SchemaNode::new(Schema::builtin(), &message.ty).message().map(|m| encode::message(object, m)).unwrap_or_default()
}

/// The bytes of a list whose items are encoded already. `kind` is that of the list.
#[must_use]
pub fn encode_list<I: AsRef<[u8]>>(api_version: &str, kind: &str, metadata: &Value, items: &[I]) -> Vec<u8> {
    let meta = Schema::builtin().message("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta").expect("it is in the facts");
    let metadata = encode::message(metadata, meta);
    let mut body = Vec::with_capacity(metadata.len() + items.iter().map(|i| i.as_ref().len() + 6).sum::<usize>() + 6);
    put_bytes(&mut body, LIST_METADATA, &metadata);
    for item in items {
        put_bytes(&mut body, LIST_ITEMS, item.as_ref());
    }
    envelope(api_version, kind, &body)
}

/// A frame of a watch; `object` is what [`encode`] gives.
#[must_use]
pub fn watch_event(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 6);
    put_bytes(&mut raw, 1, object);
    let mut frame = vec![0; 4];
    put_bytes(&mut frame, 1, event.as_bytes());
    put_bytes(&mut frame, 2, &raw);
    let length = u32::try_from(frame.len() - 4).expect("objects are far smaller");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = split_api_version(api_version);
    Schema::builtin().kind_of(group, version, kind)
}

fn envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, TYPE_API_VERSION, api_version.as_bytes());
    put_bytes(&mut type_meta, TYPE_KIND, kind.as_bytes());
    let mut out = Vec::with_capacity(PREFIX.len() + type_meta.len() + body.len() + 12);
    out.extend(PREFIX);
    put_bytes(&mut out, UNKNOWN_TYPE, &type_meta);
    put_bytes(&mut out, UNKNOWN_RAW, body);
    out
}

fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

#[cfg(test)]
mod tests;
