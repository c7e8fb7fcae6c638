//! A schema from a CustomResourceDefinition: `openAPIV3Schema` in its structural form.
//!
//! What is in `metadata` is Kubernetes' own and held to it; everything else is [`Message::custom`]: values of a wrong type are kept for
//! validation to name, since it speaks of all of them and in its own words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::{Field, Gvk, Kind, ListOf, ListType, MapType, Message, MessageId, Name, PatchStrategy, Schema, Type, Wire};

/// Objects inside objects at most; what is deeper is kept as it is. The API server refuses such definitions long before.
const MAX_DEPTH: usize = 100;

impl Schema {
    /// The schema of a custom resource. Its first message is the resource.
    #[must_use]
    pub fn structural(kind: Gvk, openapi: &Value) -> Self {
        let mut builder = Builder::default();
        let name = kind.kind.clone();
        let root = builder.message(name, openapi, true, 0);
        builder.messages[root.0 as usize].kinds.push(kind);
        Self::new(builder.messages)
    }
}

#[derive(Default)]
struct Builder {
    messages: Vec<Message>,
    /// Messages of Kubernetes' own that were taken over.
    copied: BTreeMap<MessageId, MessageId>,
}

fn is(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

impl Builder {
    /// An object; one that is a resource has the fields of every resource.
    fn message(&mut self, name: Name, schema: &Value, resource: bool, depth: usize) -> MessageId {
        let id = MessageId(self.messages.len() as u32);
        self.messages.push(Message {
            name,
            ty: Type { map_type: map_type(schema), ..Type::of(Kind::Message(id)) },
            kinds: Vec::new(),
            everywhere: false,
            fields: Vec::new(),
            preserve_unknown: is(schema, "x-kubernetes-preserve-unknown-fields"),
            custom: true,
        });
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            fields.push(Field {
                name: Cow::Owned(key.clone()),
                ty: self.type_of(key, property, depth + 1),
                required: required.contains(&key.as_str()),
                default: property.get("default").cloned().map(Box::new),
                merge_key: None,
                patch_strategy: PatchStrategy::default(),
                wire: Wire::default(),
            });
        }
        if resource {
            let of = |key: &'static str, ty| Field {
                name: Cow::Borrowed(key),
                ty,
                required: false,
                default: None,
                merge_key: None,
                patch_strategy: PatchStrategy::default(),
                wire: Wire::default(),
            };
            let builtin = Schema::builtin();
            let meta = builtin.message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("it is in the facts");
            let meta = self.copy(&meta.ty);
            fields.extend([of("apiVersion", Type::of(Kind::String)), of("kind", Type::of(Kind::String)), of("metadata", meta)]);
        }
        self.messages[id.0 as usize].fields = fields;
        id
    }

    fn type_of(&mut self, name: &str, schema: &Value, depth: usize) -> Type {
        let keep = || Kind::Any;
        let object = |key: &str| schema.get(key).is_some_and(Value::is_object);
        let kind = match schema.get("type").and_then(Value::as_str) {
            _ if depth > MAX_DEPTH => keep(),
            _ if is(schema, "x-kubernetes-int-or-string") => Kind::IntOrString,
            Some("string") => Kind::String,
            Some("integer") => Kind::Int64,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            Some("array") => {
                let item = self.type_of(name, schema.get("items").unwrap_or(&Value::Null), depth + 1);
                let list_type = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("set") => ListType::Set,
                    Some("map") => {
                        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
                        ListType::Map(keys.filter_map(Value::as_str).map(|k| Cow::Owned(k.to_owned())).collect())
                    }
                    _ => ListType::Atomic,
                };
                Kind::List(Box::new(ListOf { item, list_type, said: schema.get("x-kubernetes-list-type").is_some() }))
            }
            Some("object") if is(schema, "x-kubernetes-embedded-resource") || object("properties") => {
                let resource = is(schema, "x-kubernetes-embedded-resource");
                Kind::Message(self.message(Cow::Owned(name.to_owned()), schema, resource, depth))
            }
            Some("object") if object("additionalProperties") => {
                Kind::Map(Box::new(self.type_of(name, &schema["additionalProperties"], depth + 1)))
            }
            Some("object") if is(schema, "x-kubernetes-preserve-unknown-fields") || is(schema, "additionalProperties") => keep(),
            Some("object") => Kind::Message(self.message(Cow::Owned(name.to_owned()), schema, false, depth)),
            _ => keep(),
        };
        Type { kind, map_type: map_type(schema), nullable: is(schema, "nullable") }
    }

    /// A type of Kubernetes' own, with the messages it refers to.
    fn copy(&mut self, ty: &Type) -> Type {
        let kind = match &ty.kind {
            Kind::Message(id) => Kind::Message(self.copy_message(*id)),
            Kind::List(list) => Kind::List(Box::new(ListOf { item: self.copy(&list.item), ..(**list).clone() })),
            Kind::Map(value) => Kind::Map(Box::new(self.copy(value))),
            scalar => scalar.clone(),
        };
        Type { kind, ..ty.clone() }
    }

    fn copy_message(&mut self, id: MessageId) -> MessageId {
        if let Some(copied) = self.copied.get(&id) {
            return *copied;
        }
        let message = Schema::builtin().get(id);
        let copy = MessageId(self.messages.len() as u32);
        self.copied.insert(id, copy);
        self.messages.push(Message { kinds: Vec::new(), fields: Vec::new(), ..message.clone() });
        let fields = message.fields.iter().map(|f| Field { ty: self.copy(&f.ty), ..f.clone() }).collect();
        self.messages[copy.0 as usize].fields = fields;
        copy
    }
}

fn map_type(schema: &Value) -> MapType {
    match schema.get("x-kubernetes-map-type").and_then(Value::as_str) {
        Some("atomic") => MapType::Atomic,
        Some("granular") => MapType::Granular,
        _ => MapType::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::schema::check;

    fn tab() -> Schema {
        let kind = Gvk { group: "stable.example.com".into(), version: "v1".into(), kind: "CronTab".into() };
        Schema::structural(
            kind,
            &json!({"type": "object", "properties": {
                "metadata": {"type": "object"},
                "spec": {"type": "object", "required": ["image"], "properties": {
                    "image": {"type": "string"},
                    "replicas": {"type": "integer", "default": 1},
                    "port": {"x-kubernetes-int-or-string": true},
                    "note": {"type": "string", "nullable": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "some": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "object"}}},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                    "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                }},
            }}),
        )
    }

    fn check(json: &str, expect: Expect) {
        let schema = tab();
        let node = schema.node_of("stable.example.com", "v1", "CronTab").unwrap();
        let text = match check::decode(json.as_bytes(), Some(node)) {
            Ok(decoded) => format!("{}\n{}", decoded.value, decoded.strict.join("\n")),
            Err(error) => error,
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn unknown_fields_are_pruned_where_they_are_not_preserved() {
        check(
            r#"{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"a","foo":1},"x":1,"spec":{"y":1,
                "any":{"b":{"c":null}},"some":{"a":{"gone":1},"kept":{"d":1,"d":2}},"pod":{"metadata":{"bar":2,"name":"p"},"spec":{}},
                "items":[{"name":"n","z":1}],"labels":{"l":"v"}}}"#,
            expect![[r#"
                {"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"a"},"spec":{"any":{"b":{"c":null}},"items":[{"name":"n"}],"labels":{"l":"v"},"pod":{"metadata":{"name":"p"},"spec":{}},"some":{"a":{},"kept":{"d":2}}}}
                unknown field "metadata.foo"
                unknown field "x"
                unknown field "spec.y"
                unknown field "spec.some.a.gone"
                duplicate field "spec.some.kept.d"
                unknown field "spec.pod.metadata.bar"
                unknown field "spec.items[0].z""#]],
        );
    }

    #[test]
    fn wrong_types_are_left_to_validation_but_not_in_metadata() {
        check(
            r#"{"spec":{"image":7,"replicas":"x","port":{},"labels":[1],"items":{"a":1},"note":null}}"#,
            expect![[r#"
                {"spec":{"image":7,"items":{"a":1},"labels":[1],"note":null,"port":{},"replicas":"x"}}
            "#]],
        );
        check(
            r#"{"metadata":{"labels":{"a":1}}}"#,
            expect!["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"],
        );
    }

    #[test]
    fn fields_have_what_apply_needs() {
        let schema = tab();
        let spec = schema.node("CronTab").unwrap().child("spec").unwrap();
        assert_eq!(*spec.child("items").unwrap().list_type(), ListType::Map(vec!["name".into()]));
        assert_eq!(spec.field("replicas").unwrap().0.default.as_deref(), Some(&json!(1)));
        assert!(spec.field("image").unwrap().0.required);
        assert!(!spec.child("any").unwrap().is_atomic());
    }
}
