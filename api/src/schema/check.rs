//! Takes an object in beside its schema: JSON bytes, or a tree that came by another way (YAML, protobuf, a patch).
//!
//! One pass does what upstream's decoder into Go types does. It keeps true, of the tree it returns:
//! - each value has the type the schema gives it; the first that has not is the error, in Go's words;
//! - fields the schema does not know are gone, and named in [`Decoded::strict`], as are duplicate ones, in the order of the document;
//! - nulls are gone, quantities are canonical strings, times are UTC.
//!
//! It never invents a value: defaulting is not done here.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Kind, SchemaNode, go};
use crate::quantity::Quantity;

/// Unknown and duplicate fields named at most, as upstream.
const MAX_STRICT: usize = 100;

/// An object taken in.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// What strict decoding would refuse: `unknown field "spec.foo"`, `duplicate field "metadata.name"`.
    pub strict: Vec<String>,
}

impl Decoded {
    /// What `fieldValidation=Strict` answers, when there is something to refuse.
    #[must_use]
    pub fn strict_error(&self) -> Option<String> {
        (!self.strict.is_empty()).then(|| format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

/// Decodes JSON. With no schema everything is kept and only duplicates are looked for.
///
/// # Errors
/// The words of Go's decoder: malformed JSON, or the first value of a wrong type.
pub fn decode(bytes: &[u8], node: Option<SchemaNode<'_>>) -> Result<Decoded, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let result = run(&mut deserializer, node).map_err(|e| go::syntax_error(bytes, &e))?;
    deserializer.end().map_err(|e| go::syntax_error(bytes, &e))?;
    result
}

/// Brings a tree into the form [`decode`] gives.
///
/// # Errors
/// The first value of a wrong type, in Go's words.
pub fn conform(mut value: Value, node: SchemaNode<'_>) -> Result<Decoded, String> {
    let mut pass = Pass::default();
    let kept = Place { pass: &mut pass, how: How::Typed(node) }.settle(&mut value);
    match pass.error {
        Some(error) => Err(error),
        None => Ok(Decoded { value: if kept { value } else { Value::Null }, strict: pass.strict }),
    }
}

/// The fields of a tree that the schema does not know: `unknown field "spec.foo"`.
///
/// # Errors
/// The first value of a wrong type, in Go's words.
pub fn unknown_fields(value: &Value, node: SchemaNode<'_>) -> Result<Vec<String>, String> {
    run(value, Some(node)).map_err(|e| e.to_string())?.map(|d| d.strict)
}

fn run<'de, D: Deserializer<'de>>(deserializer: D, node: Option<SchemaNode<'_>>) -> Result<Result<Decoded, String>, D::Error> {
    let mut pass = Pass::default();
    let how = node.map_or(How::Untyped, How::Typed);
    let value = Place { pass: &mut pass, how }.deserialize(deserializer)?;
    Ok(match pass.error {
        Some(error) => Err(error),
        None => Ok(Decoded { value: value.unwrap_or(Value::Null), strict: pass.strict }),
    })
}

/// What is known on the way through one document.
#[derive(Default)]
struct Pass<'s> {
    strict: Vec<String>,
    error: Option<String>,
    /// With indices and keys of maps, as strict errors say it: `.spec.containers[0].image`.
    path: String,
    /// Fields only, as type errors say it: `spec.containers.image`.
    fields: String,
    /// The innermost struct: `Container`.
    structure: &'s str,
    /// It is a custom resource's: what does not fit is kept.
    custom: bool,
}

impl Pass<'_> {
    fn strict(&mut self, what: &str, key: &str) {
        let path = format!("{}.{key}", self.path);
        let error = format!("{what} field {:?}", path.trim_start_matches('.'));
        if self.strict.len() < MAX_STRICT && !self.strict.contains(&error) {
            self.strict.push(error);
        }
    }

    fn fail(&mut self, error: String) {
        self.error.get_or_insert(error);
    }

    fn mismatch(&mut self, found: &str, node: SchemaNode<'_>) {
        let wanted = node.describe();
        self.fail(if self.structure.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            format!("json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}", self.structure, self.fields)
        });
    }
}

#[derive(Clone, Copy)]
enum How<'s> {
    /// By this schema.
    Typed(SchemaNode<'s>),
    /// Anything; duplicates are named.
    Untyped,
    /// Anything; nothing is named.
    Raw,
}

/// One place of the document. `None` stands for a null that is dropped.
struct Place<'p, 's> {
    pass: &'p mut Pass<'s>,
    how: How<'s>,
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'s> Place<'_, 's> {
    fn scalar(self, value: Value) -> Option<Value> {
        let How::Typed(node) = self.how else { return Some(value) };
        match scalar(&value, node) {
            Ok(None) => Some(value),
            Ok(replaced) => replaced,
            Err(_) if self.pass.custom => Some(value),
            Err(Wrong::Type) => {
                self.pass.mismatch(&go::kind_of(&value, node.kind()), node);
                None
            }
            Err(Wrong::Value(error)) => {
                self.pass.fail(error);
                None
            }
        }
    }

    /// How what is inside an object or list is taken in; `None`: this place holds no such thing.
    fn inside(&self, list: bool) -> Option<How<'s>> {
        let How::Typed(node) = self.how else { return Some(self.how) };
        match (node.kind(), list) {
            (Kind::Any | Kind::SchemaOrBool, _) => Some(How::Raw),
            (Kind::SchemaOrArray | Kind::SchemaOrStrings, _) => Some(How::Raw),
            (Kind::List(_), true) => node.item().map(How::Typed),
            (Kind::Message(_) | Kind::Map(_), false) => Some(self.how),
            _ => self.pass.custom.then_some(How::Untyped),
        }
    }

    fn settle_items(self, items: &mut [Value], how: How<'s>) {
        use fmt::Write as _;
        let length = self.pass.path.len();
        for (i, item) in items.iter_mut().enumerate() {
            write!(self.pass.path, "[{i}]").expect("a String takes everything");
            let kept = Place { pass: &mut *self.pass, how }.settle(item);
            self.pass.path.truncate(length);
            if !kept {
                *item = zero(how);
            }
        }
    }

    fn settle_fields(self, map: &mut Map<String, Value>, node: SchemaNode<'s>) {
        let message = node.message();
        let (path, fields) = (self.pass.path.len(), self.pass.fields.len());
        let pass = self.pass;
        map.retain(|key, value| {
            let inner = match (node.child(key), message) {
                (Some(child), _) => How::Typed(child),
                (None, Some(message)) if message.preserve_unknown => How::Untyped,
                (None, _) => {
                    pass.strict("unknown", key);
                    return false;
                }
            };
            pass.path.push('.');
            pass.path.push_str(key);
            let outer = message.map(|m| {
                if !pass.fields.is_empty() {
                    pass.fields.push('.');
                }
                pass.fields.push_str(key);
                (std::mem::replace(&mut pass.structure, m.short_name()), std::mem::replace(&mut pass.custom, m.custom))
            });
            let kept = Place { pass: &mut *pass, how: inner }.settle(value);
            pass.path.truncate(path);
            if let Some(outer) = outer {
                pass.fields.truncate(fields);
                (pass.structure, pass.custom) = outer;
            }
            if !kept && message.is_none() {
                *value = zero(inner);
            }
            kept || message.is_none()
        });
    }
}

enum Wrong {
    Type,
    Value(String),
}

/// Checks a scalar; `Some` when another form of it is to be stored.
fn scalar(value: &Value, node: SchemaNode<'_>) -> Result<Option<Value>, Wrong> {
    let of = |ok: bool| if ok { Ok(None) } else { Err(Wrong::Type) };
    let into_value = |error: String| Err(Wrong::Value(error));
    match node.kind() {
        Kind::String => of(value.is_string()),
        Kind::Boolean => of(value.is_boolean()),
        Kind::Int64 => of(value.is_i64()),
        Kind::Int32 => of(value.as_i64().is_some_and(|i| i32::try_from(i).is_ok())),
        Kind::Number => of(value.is_number()),
        Kind::Any | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => Ok(None),
        Kind::Bytes => match value {
            Value::String(text) => go::check_base64(text).map(|()| None).map_err(Wrong::Value),
            _ => Err(Wrong::Type),
        },
        Kind::IntOrString => match value {
            Value::String(_) => Ok(None),
            Value::Number(n) if n.as_i64().is_some_and(|i| i32::try_from(i).is_ok()) => Ok(None),
            other => into_value(format!("json: cannot unmarshal {} into Go value of type int32", go::kind_of(other, node.kind()))),
        },
        Kind::Quantity => {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => {
                    return into_value(format!("json: cannot unmarshal {} into Go value of type string", go::kind_of(other, node.kind())));
                }
            };
            let canonical = match text.parse::<Quantity>() {
                Ok(quantity) => quantity.to_string(),
                Err(error) => return into_value(error.to_string()),
            };
            Ok((value.as_str() != Some(&*canonical)).then_some(Value::String(canonical)))
        }
        Kind::Time | Kind::MicroTime => {
            let Value::String(text) = value else {
                return into_value(format!("json: cannot unmarshal {} into Go value of type string", go::kind_of(value, node.kind())));
            };
            let time: Timestamp = match text.parse() {
                Ok(time) => time,
                Err(_) => return into_value(go::time_error(text, *node.kind() == Kind::MicroTime)),
            };
            let canonical = match node.kind() {
                Kind::Time => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                _ => time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            };
            Ok((*text != canonical).then_some(Value::String(canonical)))
        }
        Kind::Message(_) | Kind::List(_) | Kind::Map(_) => Err(Wrong::Type),
    }
}

/// What Go leaves where a list or map holds a null.
fn zero(how: How<'_>) -> Value {
    let How::Typed(node) = how else { return Value::Null };
    match node.kind() {
        Kind::String | Kind::Bytes => Value::String(String::new()),
        Kind::Boolean => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Number | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::String("0".into()),
        Kind::Message(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Option<Value>, E> {
        Ok(self.scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Option<Value>, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Option<Value>, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Option<Value>, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Option<Value>, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_string<E>(self, v: String) -> Result<Option<Value>, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(match self.how {
            How::Typed(node) => (node.ty().nullable || self.pass.custom).then_some(Value::Null),
            How::Untyped | How::Raw => Some(Value::Null),
        })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Option<Value>, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Value>, A::Error> {
        let Some(how) = self.inside(true) else {
            self.not_that("array");
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut items = Vec::new();
        let length = self.pass.path.len();
        loop {
            use fmt::Write as _;
            write!(self.pass.path, "[{}]", items.len()).expect("a String takes everything");
            let item = seq.next_element_seed(Place { pass: self.pass, how })?;
            self.pass.path.truncate(length);
            match item {
                Some(item) => items.push(item.unwrap_or_else(|| zero(how))),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Option<Value>, A::Error> {
        let Some(how) = self.inside(false) else {
            self.not_that("object");
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut map = Map::new();
        let mut dropped = BTreeSet::new();
        let (message, values) = match how {
            How::Typed(node) => (node.message(), node.message().is_none().then(|| node.child("")).flatten()),
            _ => (None, None),
        };
        let (path, fields) = (self.pass.path.len(), self.pass.fields.len());
        while let Some(key) = access.next_key::<String>()? {
            let inner = match (how, message, values) {
                (How::Typed(_), _, Some(value)) => How::Typed(value),
                (How::Typed(node), Some(message), _) => match node.child(&key) {
                    Some(child) => How::Typed(child),
                    None if message.preserve_unknown => How::Untyped,
                    None => {
                        self.pass.strict("unknown", &key);
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    }
                },
                _ => how,
            };
            if !matches!(how, How::Raw) && (map.contains_key(&key) || dropped.contains(&key)) {
                self.pass.strict("duplicate", &key);
            }
            self.pass.path.push('.');
            self.pass.path.push_str(&key);
            let outer = message.map(|m| {
                if !self.pass.fields.is_empty() {
                    self.pass.fields.push('.');
                }
                self.pass.fields.push_str(&key);
                let custom = std::mem::replace(&mut self.pass.custom, m.custom);
                (std::mem::replace(&mut self.pass.structure, m.short_name()), custom)
            });
            let value = access.next_value_seed(Place { pass: self.pass, how: inner })?;
            self.pass.path.truncate(path);
            if let Some(outer) = outer {
                self.pass.fields.truncate(fields);
                (self.pass.structure, self.pass.custom) = outer;
            }
            match value {
                Some(value) => drop(map.insert(key, value)),
                None if message.is_none() => drop(map.insert(key, zero(inner))),
                None => {
                    map.remove(&key);
                    dropped.insert(key);
                }
            }
        }
        Ok(Some(Value::Object(map)))
    }
}

impl Place<'_, '_> {
    /// Does to a tree, in place, what the visitor does to a document; `false` when nothing of it stays. What comes by a patch is mostly
    /// what was stored, and stays as it is.
    fn settle(self, value: &mut Value) -> bool {
        match value {
            Value::Null => match self.how {
                How::Typed(node) => node.ty().nullable || self.pass.custom,
                How::Untyped | How::Raw => true,
            },
            Value::Array(items) => {
                let Some(how) = self.inside(true) else {
                    self.not_that("array");
                    return false;
                };
                if matches!(how, How::Typed(_)) {
                    self.settle_items(items, how);
                }
                true
            }
            Value::Object(map) => match (self.inside(false), self.how) {
                (None, _) => {
                    self.not_that("object");
                    false
                }
                (Some(How::Typed(_)), How::Typed(node)) => {
                    self.settle_fields(map, node);
                    true
                }
                // Of what has no schema, duplicates alone are of interest, and a tree has none.
                _ => true,
            },
            scalar_value => {
                let How::Typed(node) = self.how else { return true };
                match scalar(scalar_value, node) {
                    Ok(None) => true,
                    Ok(Some(replaced)) => {
                        *scalar_value = replaced;
                        true
                    }
                    Err(_) if self.pass.custom => true,
                    Err(Wrong::Type) => {
                        self.pass.mismatch(&go::kind_of(scalar_value, node.kind()), node);
                        false
                    }
                    Err(Wrong::Value(error)) => {
                        self.pass.fail(error);
                        false
                    }
                }
            }
        }
    }
    fn not_that(self, found: &str) {
        let How::Typed(node) = self.how else { return };
        match node.kind() {
            Kind::Quantity | Kind::Time | Kind::MicroTime => {
                self.pass.fail(format!("json: cannot unmarshal {found} into Go value of type string"));
            }
            Kind::IntOrString => self.pass.fail(format!("json: cannot unmarshal {found} into Go value of type int32")),
            _ => self.pass.mismatch(found, node),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::schema::Schema;

    fn check(kind: &str, json: &str, expect: Expect) {
        let schema = Schema::builtin();
        let node = schema.messages().iter().find(|m| m.kinds.iter().any(|k| k.kind == kind)).and_then(|m| schema.node(&m.name)).unwrap();
        let text = match decode(json.as_bytes(), Some(node)) {
            Ok(decoded) => {
                assert_eq!(conform(decoded.value.clone(), node).unwrap(), Decoded { value: decoded.value.clone(), strict: vec![] });
                // A tree is taken in as the document is; it cannot have a field twice.
                let tree: Value = serde_json::from_str(json).unwrap();
                let once = decode(tree.to_string().as_bytes(), Some(node)).unwrap();
                assert_eq!(conform(tree, node).unwrap(), once);
                let strict = decoded.strict_error().map(|e| format!("\n{e}")).unwrap_or_default();
                format!("{}{strict}", decoded.value)
            }
            Err(error) => {
                if let Ok(tree) = serde_json::from_str::<Value>(json) {
                    assert_eq!(conform(tree, node).unwrap_err(), error);
                }
                error
            }
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named_in_order() {
        check(
            "Pod",
            r#"{"spec":{"foo":1,"foo":2,"containers":[{"name":"a","bar":{},"name":"b"}]},"metadata":{"labels":{"x":"1","x":"2"}},"top":1}"#,
            expect![[r#"
                {"metadata":{"labels":{"x":"2"}},"spec":{"containers":[{"name":"b"}]}}
                strict decoding error: unknown field "spec.foo", unknown field "spec.containers[0].bar", duplicate field "spec.containers[0].name", duplicate field "metadata.labels.x", unknown field "top""#]],
        );
    }

    #[test]
    fn wrong_types_have_gos_words() {
        check(
            "Deployment",
            r#"{"spec":{"replicas":"x"}}"#,
            expect!["json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
        );
        check(
            "Deployment",
            r#"{"spec":{"replicas":1.5}}"#,
            expect!["json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"],
        );
        check(
            "Pod",
            r#"{"spec":{"containers":[{"name":"a"},{"name":7}]}}"#,
            expect!["json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string"],
        );
        check(
            "Pod",
            r#"{"spec":{"containers":{}}}"#,
            expect!["json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"],
        );
        check(
            "Pod",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            expect!["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"],
        );
        check("Pod", "[]", expect!["json: cannot unmarshal array into Go value of type v1.Pod"]);
        check("Secret", r#"{"data":{"a":"YWJj","b":"Y$=="}}"#, expect!["illegal base64 data at input byte 1"]);
    }

    #[test]
    fn values_get_their_canonical_form() {
        check(
            "Pod",
            r#"{"metadata":{"creationTimestamp":null,"annotations":{"a":null},"deletionTimestamp":"2020-01-01T00:00:00.5+01:00"},
                "spec":{"containers":[{"resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x":2}},"livenessProbe":{"httpGet":{"port":80}}}]}}"#,
            expect![[
                r#"{"metadata":{"annotations":{"a":""},"deletionTimestamp":"2019-12-31T23:00:00Z"},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":80}},"resources":{"limits":{"cpu":"500m","memory":"1Gi","x":"2"}}}]}}"#
            ]],
        );
        check(
            "Pod",
            r#"{"metadata":{"deletionTimestamp":"soon"}}"#,
            expect![[r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#]],
        );
    }

    #[test]
    fn raw_json_is_left_alone() {
        check(
            "ControllerRevision",
            r#"{"data":{"b":null,"a":{"x":[1,2.5]}},"revision":1}"#,
            expect![[r#"{"data":{"a":{"x":[1,2.5]},"b":null},"revision":1}"#]],
        );
    }

    #[test]
    fn malformed_json_has_gos_words() {
        check("Pod", r#"{"spec":"#, expect!["unexpected end of JSON input"]);
        check("Pod", "hello", expect!["invalid character 'h' looking for beginning of value"]);
        check("Pod", r#"{"a":1 "b"}"#, expect![[r#"invalid character '"' after object key:value pair"#]]);
        check("Pod", "{} x", expect!["invalid character 'x' after top-level value"]);
        check("Pod", "{a:1}", expect!["invalid character 'a' looking for beginning of object key string"]);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(decode(deep.as_bytes(), None).is_err());
    }
}
