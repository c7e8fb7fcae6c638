//! Reads `api/schema/facts-1.35.txt`. The file is ours and checked by a test, so that what it cannot hold is a bug: reading panics on it.
//! What its lines mean is said in `api/schema/generate.py`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Field, Gvk, Kind, ListOf, ListType, MapType, Message, MessageId, PatchStrategy, Schema, Type, Wire};

pub(super) fn parse(text: &'static str) -> Schema {
    let mut packages: Vec<&str> = Vec::new();
    let mut ids: HashMap<&str, u32> = HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("p ") {
            packages.push(rest.split_once(' ').expect("a package line has a number and a name").1);
        } else if let Some(rest) = line.strip_prefix("m ") {
            let next = ids.len() as u32;
            ids.insert(rest.split(' ').next().unwrap_or(rest), next);
        }
    }
    let mut messages: Vec<Message> = Vec::with_capacity(ids.len());
    for line in text.lines() {
        if line.starts_with('#') || line.starts_with("p ") {
        } else if let Some(rest) = line.strip_prefix("m ") {
            messages.push(message(rest, &packages));
        } else {
            let field = field(line, &ids);
            messages.last_mut().expect("a field follows a message").fields.push(field);
        }
    }
    for message in &mut messages {
        message.fields.shrink_to_fit();
    }
    Schema::new(messages)
}

fn message(line: &'static str, packages: &[&str]) -> Message {
    let mut words = line.split(' ');
    let (package, name) = words.next().and_then(|w| w.split_once('.')).expect("NUMBER.Name");
    let package = packages[package.parse::<usize>().expect("a package's number")];
    let mut ty = Type::of(Kind::Any);
    let (mut kinds, mut everywhere) = (Vec::new(), false);
    for word in words {
        match word {
            "a" => ty.map_type = MapType::Atomic,
            "g=*" => everywhere = true,
            _ => {
                let mut parts = word.strip_prefix("g=").expect("a kind").split('/').map(Cow::Borrowed);
                let mut part = || parts.next().expect("GROUP/VERSION/KIND");
                kinds.push(Gvk { group: part(), version: part(), kind: part() });
            }
        }
    }
    Message {
        name: Cow::Owned(format!("{package}.{name}")),
        ty,
        kinds,
        everywhere,
        fields: Vec::new(),
        preserve_unknown: false,
        custom: false,
    }
}

fn field(line: &'static str, ids: &HashMap<&str, u32>) -> Field {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("NAME TYPE TAG");
    let (name, ty, tags) = (word(), word(), word());
    let mut field = Field {
        name: Cow::Borrowed(name),
        ty: type_of(ty, ids),
        required: false,
        default: None,
        merge_key: None,
        patch_strategy: PatchStrategy::default(),
        wire: wire(tags),
    };
    let mut pointer = false;
    for marker in words {
        match marker.split_once('=') {
            None => match marker {
                "r" => field.required = true,
                "w" => field.wire.wrapped = true,
                "z" => field.wire.zero_is_unset = true,
                "p" => pointer = true,
                "la" => set_list_type(&mut field.ty, ListType::Atomic),
                "ls" => set_list_type(&mut field.ty, ListType::Set),
                "ma" => field.ty.map_type = MapType::Atomic,
                "mg" => field.ty.map_type = MapType::Granular,
                _ => panic!("{line}: what is {marker}?"),
            },
            Some(("lm", keys)) => set_list_type(&mut field.ty, ListType::Map(keys.split(',').map(Cow::Borrowed).collect())),
            Some(("pk", key)) => field.merge_key = Some(Cow::Borrowed(key)),
            Some(("ps", strategies)) => field.patch_strategy = patch_strategy(strategies),
            Some(("d", json)) => field.default = Some(Box::new(serde_json::from_str(json).expect("a default is JSON"))),
            Some(_) => panic!("{line}: what is {marker}?"),
        }
    }
    if matches!(field.ty.kind, Kind::String | Kind::Bytes) {
        field.wire.zero_is_unset = !field.required && !pointer;
    }
    field
}

fn set_list_type(ty: &mut Type, list_type: ListType) {
    match &mut ty.kind {
        Kind::List(list) => (list.list_type, list.said) = (list_type, true),
        // Bytes are a list in Go, and marked so.
        Kind::Bytes => {}
        other => panic!("a list type on {other:?}"),
    }
}

fn patch_strategy(text: &str) -> PatchStrategy {
    let has = |word| text.split(',').any(|w| w == word);
    PatchStrategy { merge: has("merge"), replace: has("replace"), retain_keys: has("retainKeys") }
}

fn wire(text: &str) -> Wire {
    let mut wire = Wire::default();
    if text == "-" {
        return wire;
    }
    let (inside, tag) = text.rsplit_once('.').map_or((None, text), |(a, b)| (Some(a), b));
    for (slot, outer) in wire.inside.iter_mut().zip(inside.iter().flat_map(|t| t.split('.'))) {
        *slot = outer.parse().expect("a tag");
    }
    wire.tag = tag.parse().expect("a tag");
    wire
}

fn type_of(text: &str, ids: &HashMap<&str, u32>) -> Type {
    if let Some(item) = text.strip_prefix("[]") {
        return Type::of(Kind::List(Box::new(ListOf { item: type_of(item, ids), list_type: ListType::Atomic, said: false })));
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Type::of(Kind::Map(Box::new(type_of(value, ids))));
    }
    let mut ty = Type::of(match text {
        "s" => Kind::String,
        "b" => Kind::Boolean,
        "i32" => Kind::Int32,
        "i64" => Kind::Int64,
        "f64" => Kind::Number,
        "bytes" => Kind::Bytes,
        "ios" => Kind::IntOrString,
        "q" => Kind::Quantity,
        "t" => Kind::Time,
        "mt" => Kind::MicroTime,
        "any" => Kind::Any,
        "schemaOrArray" => Kind::SchemaOrArray,
        "schemaOrBool" => Kind::SchemaOrBool,
        "schemaOrStrings" => Kind::SchemaOrStrings,
        name => Kind::Message(MessageId(*ids.get(name).unwrap_or_else(|| panic!("no message {name}")))),
    });
    if ty.kind == Kind::Any {
        ty.map_type = MapType::Atomic;
    }
    ty
}
