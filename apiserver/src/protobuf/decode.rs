//! Protobuf to trees. The bytes come from outside: lengths and depth are checked, unknown tags are passed over.

use api::schema::{Field, Kind, Message, Schema, Type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value};

use super::scalars::show_time;
use super::{PREFIX, TYPE_API_VERSION, TYPE_KIND, UNKNOWN_RAW, UNKNOWN_TYPE, message_of};

/// Messages inside messages at most.
const MAX_DEPTH: usize = 100;

/// The message of a JSON schema, which refers to itself.
pub(super) fn json_schema() -> &'static Message {
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    Schema::builtin().message(name).expect("it is in the facts")
}

/// A value on the wire.
#[derive(Clone, Copy)]
enum Raw<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl<'b> Raw<'b> {
    fn bytes(self) -> Result<&'b [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err("wrong wire type: a number in place of bytes".into()),
        }
    }

    fn text(self) -> Result<Value, String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into())
    }
}

/// Calls `each` with every tag and value of a message.
fn fields<'b>(mut rest: &'b [u8], mut each: impl FnMut(u32, Raw<'b>) -> Result<(), String>) -> Result<(), String> {
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(|e| e.to_string())?;
        let mut take = |length: usize| -> Result<&'b [u8], String> {
            let (taken, after) = rest.split_at_checked(length).ok_or("unexpected EOF")?;
            rest = after;
            Ok(taken)
        };
        let value = match wire {
            WireType::Varint => Raw::Number(decode_varint(&mut rest).map_err(|e| e.to_string())?),
            WireType::SixtyFourBit => Raw::Number(u64::from_le_bytes(take(8)?.try_into().map_err(|_| "unexpected EOF")?)),
            WireType::ThirtyTwoBit => Raw::Number(u32::from_le_bytes(take(4)?.try_into().map_err(|_| "unexpected EOF")?).into()),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(|e| e.to_string())?;
                let length = usize::try_from(length).map_err(|_| "unexpected EOF")?;
                let (taken, after) = rest.split_at_checked(length).ok_or("unexpected EOF")?;
                rest = after;
                Raw::Bytes(taken)
            }
            WireType::StartGroup | WireType::EndGroup => return Err("groups are not supported".into()),
        };
        each(tag, value)?;
    }
    Ok(())
}

/// An object with its envelope.
pub(super) fn object(bytes: &[u8], depth: usize) -> Result<Value, String> {
    let not = || format!("provided data does not appear to be a protobuf message, expected prefix {PREFIX:?}");
    let unknown = bytes.strip_prefix(PREFIX).ok_or_else(not)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    fields(unknown, |tag, value| {
        match tag {
            UNKNOWN_TYPE => fields(value.bytes()?, |tag, value| {
                let text = String::from_utf8_lossy(value.bytes()?).into_owned();
                match tag {
                    TYPE_API_VERSION => api_version = text,
                    TYPE_KIND => kind = text,
                    _ => {}
                }
                Ok(())
            })?,
            UNKNOWN_RAW => raw = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    let found = message_of(&api_version, &kind).ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    let mut map = message(raw, found, depth)?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(map.into())
}

fn message(bytes: &[u8], message: &Message, depth: usize) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    level(bytes, message, [0, 0], depth, &mut map)?;
    Ok(map)
}

/// Reads the fields that are at `inside`, a place among the inline messages.
fn level(bytes: &[u8], message: &Message, inside: [u8; 2], depth: usize, map: &mut Map<String, Value>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    fields(bytes, |tag, value| {
        let known = message.fields.iter().find(|f| u32::from(f.wire.tag) == tag && f.wire.tag != 0 && f.wire.inside == inside);
        if let Some(field) = known {
            return read_field(map, field, value, depth).map_err(|e| format!("{}.{}: {e}", message.short_name(), field.name));
        }
        let Ok(tag) = u8::try_from(tag) else { return Ok(()) };
        let next = if inside[0] == 0 { [tag, 0] } else { [inside[0], tag] };
        let inline = inside[1] == 0 && message.fields.iter().any(|f| f.wire.inside == next || (next[1] == 0 && f.wire.inside[0] == tag));
        if inline { level(value.bytes()?, message, next, depth + 1, map) } else { Ok(()) }
    })
}

fn read_field(map: &mut Map<String, Value>, field: &Field, value: Raw<'_>, depth: usize) -> Result<(), String> {
    match &field.ty.kind {
        Kind::List(list) if field.wire.wrapped => drop(map.insert(field.name.to_string(), wrapped(value.bytes()?, &list.item, depth)?)),
        Kind::List(list) => {
            let entry = map.entry(field.name.to_string()).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = entry else { return Ok(()) };
            match (&list.item.kind, value) {
                // Scalars may be packed into one value.
                (Kind::Int32 | Kind::Int64 | Kind::Boolean, Raw::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let number = decode_varint(&mut packed).map_err(|e| e.to_string())?;
                        items.extend(read(&list.item, Raw::Number(number), depth)?);
                    }
                }
                _ => items.push(read(&list.item, value, depth)?.unwrap_or(Value::Null)),
            }
        }
        Kind::Map(of) => {
            let entry = map.entry(field.name.to_string()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = entry else { return Ok(()) };
            let (mut key, mut found) = (String::new(), None);
            fields(value.bytes()?, |tag, value| {
                match (tag, &of.kind) {
                    (1, _) => key = String::from_utf8_lossy(value.bytes()?).into_owned(),
                    (2, Kind::List(list)) if field.wire.wrapped => found = Some(wrapped(value.bytes()?, &list.item, depth)?),
                    (2, _) => found = read(of, value, depth)?,
                    _ => {}
                }
                Ok(())
            })?;
            // An entry without a value holds the empty one.
            let found = match (found, &of.kind) {
                (Some(found), _) => found,
                (None, Kind::Message(_)) => Value::Object(Map::new()),
                (None, _) => read(of, Raw::Bytes(&[]), depth).ok().flatten().unwrap_or_default(),
            };
            entries.insert(key, found);
        }
        _ => {
            if let Some(found) = read(&field.ty, value, depth)?
                && !(field.wire.zero_is_unset && is_zero(&found))
            {
                map.insert(field.name.to_string(), found);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(on) => !on,
        _ => false,
    }
}

fn wrapped(bytes: &[u8], item: &Type, depth: usize) -> Result<Value, String> {
    let mut items = Vec::new();
    fields(bytes, |tag, value| {
        if tag == 1 {
            items.extend(read(item, value, depth)?);
        }
        Ok(())
    })?;
    Ok(items.into())
}

/// One value; `None` for what is not set, such as the zero time.
fn read(ty: &Type, value: Raw<'_>, depth: usize) -> Result<Option<Value>, String> {
    let number = || match value {
        Raw::Number(number) => Ok(number as i64),
        Raw::Bytes(_) => Err("wrong wire type: bytes in place of a number".to_owned()),
    };
    Ok(Some(match &ty.kind {
        Kind::String => value.text()?,
        Kind::Bytes => STANDARD.encode(value.bytes()?).into(),
        Kind::Boolean => (number()? != 0).into(),
        Kind::Int32 => (number()? as i32).into(),
        Kind::Int64 => number()?.into(),
        Kind::Number => f64::from_bits(number()? as u64).into(),
        Kind::Quantity => {
            let mut text = Value::from("0");
            fields(value.bytes()?, |tag, value| {
                if tag == 1 {
                    text = value.text()?;
                }
                Ok(())
            })?;
            text
        }
        Kind::IntOrString => {
            let (mut is_text, mut number, mut text) = (false, 0, Value::from(""));
            fields(value.bytes()?, |tag, value| {
                match (tag, value) {
                    (1, Raw::Number(kind)) => is_text = kind == 1,
                    (2, Raw::Number(n)) => number = n as i32,
                    (3, value) => text = value.text()?,
                    _ => {}
                }
                Ok(())
            })?;
            if is_text { text } else { number.into() }
        }
        Kind::Time | Kind::MicroTime => {
            let bytes = value.bytes()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let (mut seconds, mut nanos) = (0, 0);
            fields(bytes, |tag, value| {
                match (tag, value) {
                    (1, Raw::Number(n)) => seconds = n as i64,
                    (2, Raw::Number(n)) => nanos = n as i32,
                    _ => {}
                }
                Ok(())
            })?;
            show_time(seconds, nanos, ty.kind == Kind::MicroTime).ok_or("time is out of range")?.into()
        }
        Kind::Any => {
            let mut raw: &[u8] = &[];
            fields(value.bytes()?, |tag, value| {
                if tag == 1 {
                    raw = value.bytes()?;
                }
                Ok(())
            })?;
            match raw {
                [] => return Ok(None),
                raw if raw.starts_with(PREFIX) => object(raw, deeper(depth)?)?,
                raw => serde_json::from_slice(raw).map_err(|e| e.to_string())?,
            }
        }
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => return schema_or(&ty.kind, value.bytes()?, deeper(depth)?),
        Kind::Message(id) => message(value.bytes()?, Schema::builtin().get(*id), deeper(depth)?)?.into(),
        Kind::List(_) | Kind::Map(_) => return Err("lists of lists are not supported".into()),
    }))
}

fn schema_or(kind: &Kind, bytes: &[u8], depth: usize) -> Result<Option<Value>, String> {
    let (mut schema, mut items, mut allowed) = (None, Vec::new(), None);
    fields(bytes, |tag, value| {
        match (kind, tag) {
            (Kind::SchemaOrBool, 1) => allowed = Some(matches!(value, Raw::Number(n) if n != 0)),
            (Kind::SchemaOrBool, 2) | (_, 1) => schema = Some(message(value.bytes()?, json_schema(), depth)?),
            (Kind::SchemaOrArray, 2) => items.push(message(value.bytes()?, json_schema(), depth)?.into()),
            (Kind::SchemaOrStrings, 2) => items.push(value.text()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (schema, allowed) {
        (Some(schema), _) => Some(schema.into()),
        (None, Some(allowed)) => Some(allowed.into()),
        (None, None) if *kind == Kind::SchemaOrBool => Some(false.into()),
        (None, None) => Some(items.into()),
    })
}

fn deeper(depth: usize) -> Result<usize, String> {
    if depth >= MAX_DEPTH { Err("exceeded max depth".into()) } else { Ok(depth + 1) }
}
