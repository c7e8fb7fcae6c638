//! What each field of the API is: its type, whether it is required, how lists and maps merge, where it is on the wire.
//!
//! A [`Schema`] is a set of messages that refer to each other. [`Schema::builtin`] is Kubernetes 1.35, read once from
//! `api/schema/facts-1.35.txt`, whose strings it borrows. The schema of a custom resource is the same type, built at run time with
//! [`Schema::structural`]. What walks an object beside its schema (patch, apply, pruning) holds a [`SchemaNode`] and never asks which of
//! the two it is. Start reading there.

pub mod check;
mod facts;
pub mod go;
mod node;
mod structural;

use std::borrow::Cow;
use std::sync::LazyLock;

pub use node::SchemaNode;
use serde_json::Value;

/// A string of a schema: borrowed from the built-in facts, owned in a schema built at run time.
pub type Name = Cow<'static, str>;

/// A message's place in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u32);

/// Group, version and kind; the core group is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// `apps`, or empty.
    pub group: Name,
    /// `v1`.
    pub version: Name,
    /// `Deployment`.
    pub kind: Name,
}

/// What values a place in an object may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A string.
    String,
    /// Bytes, in JSON as base64.
    Bytes,
    /// `true` or `false`.
    Boolean,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// A floating-point number.
    Number,
    /// An integer of 32 bits, or a string.
    IntOrString,
    /// A quantity such as `500m`; JSON numbers are taken too.
    Quantity,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    /// Any JSON, kept as it is.
    Any,
    /// A JSON schema, or a list of them (`JSONSchemaProps.items`).
    SchemaOrArray,
    /// A JSON schema, or a boolean (`JSONSchemaProps.additionalProperties`).
    SchemaOrBool,
    /// A JSON schema, or a list of strings (`JSONSchemaProps.dependencies`).
    SchemaOrStrings,
    /// An object with known fields.
    Message(MessageId),
    /// A list.
    List(Box<ListOf>),
    /// A map from any string.
    Map(Box<Type>),
}

/// A list's items and what makes two of them the same.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOf {
    /// The type of each item.
    pub item: Type,
    /// How server-side apply sees the list.
    pub list_type: ListType,
    /// The list type is written down, and not what lists are by default.
    pub said: bool,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// One value, replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects told apart by these fields.
    Map(Vec<Name>),
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    /// What the message says; granular when it says nothing.
    #[default]
    Unsaid,
    /// Each field has its own owners.
    Granular,
    /// One value, replaced as a whole.
    Atomic,
}

/// The type of one place in an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// What it may hold.
    pub kind: Kind,
    /// For messages and maps.
    pub map_type: MapType,
    /// `null` is a value here, not an absence (custom resources).
    pub nullable: bool,
}

impl Type {
    /// A type with nothing special about it.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self { kind, map_type: MapType::Unsaid, nullable: false }
    }
}

/// Where a field is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The tags of the messages around it that JSON shows inline, outermost first; 0 = none.
    pub inside: [u8; 2],
    /// Its tag; 0 = it is not on the wire.
    pub tag: u16,
    /// Its list sits alone in a message of its own, at tag 1.
    pub wrapped: bool,
    /// Zero, or an empty string, is how the wire says that it is not set.
    pub zero_is_unset: bool,
}

/// `x-kubernetes-patch-strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged: by the merge key, or as sets of scalars.
    pub merge: bool,
    /// The patch's value takes the place of the whole.
    pub replace: bool,
    /// `$retainKeys` is heeded.
    pub retain_keys: bool,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// It must be there.
    pub required: bool,
    /// The value that stands for its absence.
    pub default: Option<Box<Value>>,
    /// What strategic merge patch tells list items apart by.
    pub merge_key: Option<Name>,
    /// How strategic merge patch treats it.
    pub patch_strategy: PatchStrategy,
    /// Where it is in protobuf.
    pub wire: Wire,
}

/// An object with known fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its full name, such as `io.k8s.api.core.v1.Pod`.
    pub name: Name,
    /// The type of a place that holds it.
    pub ty: Type,
    /// The kinds it is served as.
    pub kinds: Vec<Gvk>,
    /// It is a kind of every group and version (`DeleteOptions`).
    pub everywhere: bool,
    /// In the order of their names.
    pub fields: Vec<Field>,
    /// Fields that are not listed are kept (custom resources).
    pub preserve_unknown: bool,
    /// Of a custom resource: what does not fit its type is kept, for validation to name.
    pub custom: bool,
}

impl Message {
    /// The field of that JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok().map(|i| &self.fields[i])
    }

    /// The last part of the name: `Pod`.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// Messages that refer to each other.
#[derive(Debug)]
pub struct Schema {
    messages: Vec<Message>,
    by_kind: Vec<(Gvk, MessageId)>,
}

static BUILTIN: LazyLock<Schema> = LazyLock::new(|| facts::parse(include_str!("../../schema/facts-1.35.txt")));

impl Schema {
    /// Kubernetes 1.35.
    #[must_use]
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// A schema of these messages. A [`MessageId`] is an index into them.
    #[must_use]
    pub fn new(mut messages: Vec<Message>) -> Self {
        for (i, message) in messages.iter_mut().enumerate() {
            message.ty.kind = Kind::Message(MessageId(i as u32));
            message.fields.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let mut by_kind: Vec<_> =
            messages.iter().enumerate().flat_map(|(i, m)| m.kinds.iter().map(move |k| (k.clone(), MessageId(i as u32)))).collect();
        by_kind.sort();
        Self { messages, by_kind }
    }

    /// Every message.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The message at that place.
    #[must_use]
    pub fn get(&self, id: MessageId) -> &Message {
        &self.messages[id.0 as usize]
    }

    /// The message of that full name. The built-in messages are in the order of their names; others are few.
    #[must_use]
    pub fn message(&self, name: &str) -> Option<&Message> {
        match self.messages.binary_search_by(|m| m.name.as_ref().cmp(name)) {
            Ok(i) => Some(&self.messages[i]),
            Err(_) => self.messages.iter().find(|m| m.name == name),
        }
    }

    /// The message of that kind; the core group is "".
    #[must_use]
    pub fn kind_of(&self, group: &str, version: &str, kind: &str) -> Option<&Message> {
        let found = self.by_kind.binary_search_by(|(k, _)| (&*k.group, &*k.version, &*k.kind).cmp(&(group, version, kind)));
        match found {
            Ok(i) => Some(self.get(self.by_kind[i].1)),
            Err(_) => self.messages.iter().find(|m| m.everywhere && m.short_name() == kind),
        }
    }

    /// Where to begin walking an object of the message of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<SchemaNode<'_>> {
        self.message(name).map(|m| SchemaNode::new(self, &m.ty))
    }

    /// Where to begin walking an object of that kind.
    #[must_use]
    pub fn node_of(&self, group: &str, version: &str, kind: &str) -> Option<SchemaNode<'_>> {
        self.kind_of(group, version, kind).map(|m| SchemaNode::new(self, &m.ty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_fields_are_found() {
        let schema = Schema::builtin();
        let pod = schema.kind_of("", "v1", "Pod").unwrap();
        assert_eq!(pod.name, "io.k8s.api.core.v1.Pod");
        assert_eq!(schema.message(&pod.name), Some(pod));
        assert!(schema.kind_of("", "v1", "Nonsense").is_none());
        assert_eq!(schema.kind_of("apps", "v1", "DeleteOptions").unwrap().short_name(), "DeleteOptions");
        let containers = schema.node("io.k8s.api.core.v1.PodSpec").unwrap().field("containers").unwrap().0;
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        assert!(containers.required && containers.patch_strategy.merge);
    }

    #[test]
    fn every_reference_resolves_and_every_message_is_walked() {
        let schema = Schema::builtin();
        assert!(schema.messages().len() > 700);
        for message in schema.messages() {
            for field in &message.fields {
                assert!(SchemaNode::new(schema, &field.ty).describe().len() > 1, "{} {}", message.name, field.name);
            }
        }
    }
}
