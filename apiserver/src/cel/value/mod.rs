//! Values while an expression is evaluated: views of JSON as it stands, and what is made on the way.

mod list;
mod map;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::Value;

pub use list::{Items, List};
pub use map::{Key, Map};

use super::library::opaque::Opaque;
use super::shape::{Form, Shape};

/// Text that is borrowed from an object or made on the way.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// An object of a type by name, made in an expression: `Object.spec{..}`.
#[derive(Debug, Clone)]
pub struct Made<'a> {
    /// The type.
    pub name: &'a str,
    /// Its fields.
    pub fields: BTreeMap<String, Val<'a>>,
    /// Its weight.
    pub weight: u64,
}

/// A value.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Text<'a>),
    Bytes(Rc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    /// A type, by its name.
    Type(Text<'a>),
    Optional(Option<Rc<Val<'a>>>),
    Struct(Rc<Made<'a>>),
    Opaque(Opaque<'a>),
}

/// The weight of what is made of these.
pub fn weigh<'v, 'a: 'v>(parts: impl Iterator<Item = &'v Val<'a>>) -> u64 {
    parts.fold(1, |sum, part| sum.saturating_add(part.weight()))
}

impl<'a> Val<'a> {
    /// JSON as it is seen with a shape beside it, or without.
    #[must_use]
    pub fn of(value: &'a Value, shape: Option<&'a Shape>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => match (shape.map(|s| &s.form), n.as_i64()) {
                (Some(Form::Double), _) => Self::Double(n.as_f64().unwrap_or(0.0)),
                (_, Some(i)) => Self::Int(i),
                (form, None) => match n.as_f64().unwrap_or(0.0) {
                    whole if form == Some(&Form::Int) && whole.fract() == 0.0 && whole.abs() < 9.0e18 => Self::Int(whole as i64),
                    double => Self::Double(double),
                },
            },
            Value::String(text) => Self::text_of(text, shape),
            Value::Array(items) => {
                let (item, kind) = match shape.map(|s| &s.form) {
                    Some(Form::List(item, kind)) => (Some(&**item), Some(kind)),
                    _ => (None, None),
                };
                Self::List(List { items: Items::Json(items, item), kind })
            }
            Value::Object(map) => Self::Map(Map::Json(map, shape)),
        }
    }

    /// Text in a format is what the format says; what is not in its format is an error elsewhere, and text here.
    fn text_of(text: &'a str, shape: Option<&'a Shape>) -> Self {
        let parsed = match shape.map(|s| &s.form) {
            Some(Form::Bytes) => super::library::base64_bytes(text).map(|b| Self::Bytes(b.into())),
            Some(Form::Duration) => super::library::time::parse_duration(text).map(Self::Duration),
            Some(Form::Timestamp) => super::library::time::parse_timestamp(text).map(Self::Timestamp),
            Some(Form::Date) => super::library::time::parse_timestamp(&format!("{text}T00:00:00Z")).map(Self::Timestamp),
            _ => None,
        };
        parsed.unwrap_or(Self::Str(Text::Borrowed(text)))
    }

    /// Text.
    #[must_use]
    pub fn str(text: impl Into<Cow<'a, str>>) -> Self {
        match text.into() {
            Cow::Borrowed(text) => Self::Str(Text::Borrowed(text)),
            Cow::Owned(text) => Self::Str(Text::Made(text.into())),
        }
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'a str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(Map::Json(_, Some(shape))) if matches!(shape.form, Form::Object(_)) => shape.name(),
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Struct(made) => made.name,
            Self::Opaque(opaque) => opaque.type_name(),
        }
    }

    /// How large it is, as costs have it: characters, bytes, items or entries; 1 for what has no size.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::Str(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Opaque(opaque) => opaque.size(),
            _ => 1,
        };
        size as u64
    }

    /// How much there is to walk through, counting twice what is held twice: what is made of small parts may be far larger than what it is made of.
    #[must_use]
    pub fn weight(&self) -> u64 {
        match self {
            Self::List(List { items: Items::Made(_, weight), .. }) | Self::Map(Map::Made(_, weight)) => *weight,
            Self::List(List { items: Items::Json(items, _), .. }) => 1 + items.len() as u64,
            Self::Map(Map::Json(map, _)) => 1 + map.len() as u64,
            Self::Struct(made) => made.weight,
            Self::Optional(Some(inner)) => inner.weight().saturating_add(1),
            _ => 1,
        }
    }

    /// Whether it is the zero value of its type, which `optional.ofNonZeroValue` and `?` of messages leave out.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) | Self::Int(0) | Self::Uint(0) | Self::Duration(0) | Self::Optional(None) => true,
            Self::Double(d) => *d == 0.0,
            Self::Str(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Struct(made) => made.fields.is_empty(),
            _ => false,
        }
    }

    /// As JSON; nothing for what JSON has no form for (types, authorizers).
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Null | Self::Optional(None) => Value::Null,
            Self::Bool(b) => (*b).into(),
            Self::Int(i) => (*i).into(),
            Self::Uint(u) => (*u).into(),
            Self::Double(d) => serde_json::Number::from_f64(*d)?.into(),
            Self::Str(text) => text[..].into(),
            Self::Bytes(bytes) => super::library::base64_text(bytes).into(),
            Self::Timestamp(t) => super::library::time::show_timestamp(*t).into(),
            Self::Duration(d) => super::library::time::show_duration(*d).into(),
            Self::List(list) => list.iter().map(|v| v.to_json()).collect::<Option<Vec<_>>>()?.into(),
            Self::Map(Map::Json(map, _)) => Value::Object((*map).clone()),
            Self::Map(map) => {
                let one = |(k, v): (Key<'a>, Val<'a>)| match k {
                    Key::Str(name) => Some((name.to_string(), v.to_json()?)),
                    _ => None,
                };
                Value::Object(map.entries().map(one).collect::<Option<_>>()?)
            }
            Self::Optional(Some(inner)) => inner.to_json()?,
            Self::Struct(made) => {
                Value::Object(made.fields.iter().map(|(k, v)| Some((super::shape::unescape(k), v.to_json()?))).collect::<Option<_>>()?)
            }
            Self::Type(_) | Self::Opaque(_) => return None,
        })
    }

    /// The order of two values; nothing where there is none.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Str(a), Self::Str(b)) => Some(a[..].cmp(&b[..])),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Opaque(a), Self::Opaque(b)) => a.order(b),
            _ => numbers(self, other),
        }
    }
}

/// The order of two numbers, whatever their types. What is no number (NaN) has none.
fn numbers(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let whole = |v: &Val<'_>| match v {
        Val::Int(i) => Some(i128::from(*i)),
        Val::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (whole(a), whole(b), a, b) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (_, _, Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Some(a), _, _, Val::Double(b)) => whole_and_double(a, *b),
        (_, Some(b), Val::Double(a), _) => whole_and_double(b, *a).map(Ordering::reverse),
        _ => None,
    }
}

fn whole_and_double(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Beyond 2^64 every whole number is on the same side.
    if b.abs() > 1.9e19 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = b.floor();
    Some(a.cmp(&(floor as i128)).then(if b > floor { Ordering::Less } else { Ordering::Equal }))
}

impl PartialEq for Val<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Str(a), Self::Str(b)) | (Self::Type(a), Self::Type(b)) => a[..] == b[..],
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Struct(a), Self::Struct(b)) => a.name == b.name && a.fields == b.fields,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            _ => numbers(self, other) == Some(Ordering::Equal),
        }
    }
}
