//! What is known of a JSON value before it is there: its type in CEL, the names of its fields, and how large it may get.
//!
//! Made of a structural schema (custom resources), of the built-in facts (`api::schema`), or by hand (requests). A shape walks beside the
//! value it describes: it says that a string is a timestamp, or that a list is a set.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::schema::{Kind as Facts, MessageId, SchemaNode};
use serde_json::Value;

use super::parser::RESERVED;
use super::types::Type;
use crate::crd::schema::{Additional, ListType, Node};

/// Bytes of a request at most, as upstream's estimates have it.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
const MAX_DURATION: u64 = 32;
const MAX_DATE_TIME: u64 = 27;
const MAX_DATE: u64 = 10;
/// The words of CEL with a meaning of their own; like the reserved ones, no field can be called so: they are escaped.
const WITH_MEANING: [&str; 4] = ["true", "false", "null", "in"];

fn is_keyword(name: &str) -> bool {
    WITH_MEANING.contains(&name) || RESERVED.contains(&name)
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Form {
    /// Anything, or an int-or-string.
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    /// A day.
    Date,
    Timestamp,
    List(Arc<Shape>, ListType),
    Map(Arc<Shape>),
    Object(BTreeMap<String, Field>),
}

/// A field of an object, under its escaped name.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub json: String,
    /// What it is.
    pub shape: Arc<Shape>,
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    name: String,
    /// What it is.
    pub form: Form,
    /// Characters, items or entries at most.
    pub most: u64,
    /// Bytes of its JSON at least.
    least_bytes: u64,
}

impl Shape {
    /// A shape that says no more than what it is.
    #[must_use]
    pub fn new(name: &str, form: Form) -> Arc<Self> {
        Self::sized(name, form, u64::MAX, 1)
    }

    fn sized(name: &str, form: Form, most: u64, least_bytes: u64) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), form, most, least_bytes })
    }

    /// An object of these fields.
    #[must_use]
    pub fn object(name: &str, fields: &[(&str, Arc<Self>)]) -> Arc<Self> {
        let field = |(json, shape): &(&str, Arc<Self>)| Some((escape(json)?, Field { json: (*json).to_owned(), shape: shape.clone() }));
        Self::new(name, Form::Object(fields.iter().filter_map(field).collect()))
    }

    /// A list of these.
    #[must_use]
    pub fn list(item: &Arc<Self>) -> Arc<Self> {
        Self::new("", Form::List(item.clone(), ListType::Atomic))
    }

    /// The type's name, of an object.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type in CEL.
    #[must_use]
    pub fn ty(self: &Arc<Self>) -> Type {
        match &self.form {
            Form::Dyn => Type::Dyn,
            Form::Bool => Type::Bool,
            Form::Int => Type::Int,
            Form::Double => Type::Double,
            Form::String => Type::String,
            Form::Bytes => Type::Bytes,
            Form::Duration => Type::Duration,
            Form::Date | Form::Timestamp => Type::Timestamp,
            Form::List(item, _) => Type::list(item.ty()),
            Form::Map(value) => Type::map(Type::String, value.ty()),
            Form::Object(_) => Type::Object(self.clone()),
        }
    }

    /// The field of that name in CEL.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        match &self.form {
            Form::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The shape of items or of a map's values.
    #[must_use]
    pub fn item(&self) -> Option<&Arc<Self>> {
        match &self.form {
            Form::List(item, _) | Form::Map(item) => Some(item),
            _ => None,
        }
    }

    /// How many of these at most there can be in one object, however many lists hold them.
    #[must_use]
    pub const fn most_of_them(&self) -> u64 {
        MAX_REQUEST / (self.least_bytes + 1)
    }

    /// The shape of what a structural schema describes; nothing where rules cannot see it. `root` is a resource's root.
    #[must_use]
    pub fn of_schema(node: &Node, name: &str, root: bool) -> Option<Arc<Self>> {
        let most = |given: Option<u64>, otherwise: u64| given.unwrap_or(otherwise);
        if node.int_or_string() {
            return Some(Self::sized(name, Form::Dyn, node.max_length.map_or(MAX_REQUEST - 2, |m| m.saturating_mul(4)), 1));
        }
        match node.types.first().map(String::as_str)? {
            "boolean" => Some(Self::sized(name, Form::Bool, 0, 4)),
            "integer" => Some(Self::sized(name, Form::Int, 0, 1)),
            "number" => Some(Self::sized(name, Form::Double, 0, 1)),
            "string" => Some(Self::string(node, name)),
            "array" => {
                let items = node.items.as_deref()?;
                let item = Self::of_schema(items, &format!("{name}.@idx"), items.embedded)?;
                let most = most(node.max_items, (MAX_REQUEST - 2) / (item.least_bytes + 1));
                Some(Self::sized(name, Form::List(item, node.list_type.clone()), most, 2))
            }
            "object" => {
                if let Additional::Of(values) = &node.additional {
                    let value = Self::of_schema(values, &format!("{name}.@elem"), values.embedded)?;
                    let most = most(node.max_properties, (MAX_REQUEST - 2) / (value.least_bytes + 6));
                    return Some(Self::sized(name, Form::Map(value), most, 2));
                }
                Some(Self::properties(node, name, root))
            }
            _ => None,
        }
    }

    /// The shape of a place in the built-in facts, or in a custom resource's schema.
    #[must_use]
    pub fn of_facts(node: SchemaNode<'_>, name: &str) -> Arc<Self> {
        Self::fact(node, name, &mut vec![])
    }

    /// `inside` are the messages around: one that holds itself is anything, from there on.
    fn fact(node: SchemaNode<'_>, name: &str, inside: &mut Vec<MessageId>) -> Arc<Self> {
        let form = match node.kind() {
            Facts::String | Facts::Quantity => Form::String,
            Facts::Boolean => Form::Bool,
            Facts::Int32 | Facts::Int64 => Form::Int,
            Facts::Number => Form::Double,
            Facts::Bytes => Form::Bytes,
            Facts::Time | Facts::MicroTime => Form::Timestamp,
            Facts::List(_) => match node.item() {
                Some(item) => Form::List(Self::fact(item, &format!("{name}.@idx"), inside), ListType::Atomic),
                None => Form::Dyn,
            },
            Facts::Map(_) => match node.child("") {
                Some(value) => Form::Map(Self::fact(value, &format!("{name}.@elem"), inside)),
                None => Form::Dyn,
            },
            Facts::Message(id) if !inside.contains(id) => {
                inside.push(*id);
                let message = node.message();
                let mut fields = BTreeMap::new();
                for field in message.iter().flat_map(|m| &m.fields) {
                    if let (Some(escaped), Some(child)) = (escape(&field.name), node.child(&field.name)) {
                        let shape = Self::fact(child, &format!("{name}.{}", field.name), inside);
                        fields.insert(escaped, Field { json: field.name.to_string(), shape });
                    }
                }
                inside.pop();
                Form::Object(fields)
            }
            _ => Form::Dyn,
        };
        Self::new(name, form)
    }

    fn string(node: &Node, name: &str) -> Arc<Self> {
        let longest = |most: u64| node.max_length.map_or(most, |m| m.saturating_mul(4));
        match node.format.as_deref() {
            Some("byte") => Self::sized(name, Form::Bytes, node.max_length.unwrap_or(MAX_REQUEST - 2), 2),
            Some("duration") => Self::sized(name, Form::Duration, MAX_DURATION, 4),
            Some("date") => Self::sized(name, Form::Date, MAX_DATE, MAX_DATE),
            Some("date-time") => Self::sized(name, Form::Timestamp, MAX_DATE_TIME, 21),
            _ => {
                let values = node.values.iter().filter_map(Value::as_str).map(|v| v.len() as u64).max();
                Self::sized(name, Form::String, longest(values.unwrap_or(MAX_REQUEST - 2)), 2)
            }
        }
    }

    fn properties(node: &Node, name: &str, root: bool) -> Arc<Self> {
        let mut fields = BTreeMap::new();
        let mut least = 2;
        for (json, property) in &node.properties {
            if root && matches!(json.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let Some(shape) = Self::of_schema(property, &format!("{name}.{json}"), property.embedded) else { continue };
            if node.required.contains(json) && property.default.is_none() {
                least += json.len() as u64 + shape.least_bytes + 4;
            }
            if let Some(escaped) = escape(json) {
                fields.insert(escaped, Field { json: json.clone(), shape });
            }
        }
        if root {
            let text = || Self::sized("", Form::String, MAX_REQUEST - 2, 2);
            let named = |json: &str, shape| (json.to_owned(), Field { json: json.to_owned(), shape });
            let metadata = Form::Object([named("name", text()), named("generateName", text())].into());
            let metadata = Self::sized(&format!("{name}.metadata"), metadata, 0, 2);
            fields.extend([named("apiVersion", text()), named("kind", text()), named("metadata", metadata)]);
        }
        // Upstream's estimates take objects for nothing, which rules such as `self == oldSelf` live by.
        Self::sized(name, Form::Object(fields), 0, least)
    }
}

/// The name of a field in an expression; nothing for one that cannot be said.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if is_keyword(name) {
        return Some(format!("__{name}__"));
    }
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')) {
        return None;
    }
    Some(name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

/// The name of a field, as an expression has it.
#[must_use]
pub fn unescape(name: &str) -> String {
    let bare = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    if let Some(keyword) = bare.filter(|n| is_keyword(n)) {
        return keyword.to_owned();
    }
    name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/").replace("__underscores__", "__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_escaped() {
        for (name, escaped) in [
            ("a", Some("a")),
            ("namespace", Some("__namespace__")),
            ("a.b-c/d__e_f", Some("a__dot__b__dash__c__slash__d__underscores__e_f")),
            ("1a", None),
            ("a$", None),
            ("", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
            assert!(escaped.is_none_or(|e| unescape(e) == name), "{name}");
        }
    }

    #[test]
    fn schemas_have_types_and_bounds() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 3}},
                "m": {"type": "object", "additionalProperties": {"type": "integer"}},
                "x": {"x-kubernetes-preserve-unknown-fields": true}, "i": {"x-kubernetes-int-or-string": true}}}}});
        let shape = Shape::of_schema(&Node::parse(&schema), "self", true).unwrap();
        let spec = &shape.field("spec").unwrap().shape;
        let types: Vec<String> = ["a", "m", "i"].iter().map(|f| spec.field(f).unwrap().shape.ty().to_string()).collect();
        assert_eq!(types, ["list(string)", "map(string, int)", "dyn"]);
        assert!(spec.field("x").is_none());
        assert_eq!((spec.field("a").unwrap().shape.most, spec.field("a").unwrap().shape.item().unwrap().most), (5, 12));
        assert_eq!(shape.field("metadata").unwrap().shape.field("name").unwrap().shape.ty().to_string(), "string");
    }
}
