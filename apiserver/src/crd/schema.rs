//! `openAPIV3Schema`, compiled once for a definition's version: what defaulting and validation walk beside an object.
//!
//! Parsing is lenient: what a schema may not say is found by [`super::structural`] when the definition is written.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// What a list's items are told apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListType {
    /// Nothing: one value.
    #[default]
    Atomic,
    /// Themselves.
    Set,
    /// These fields.
    Map(Vec<String>),
}

/// Values of fields that no property names.
#[derive(Debug, Clone, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// Whether there may be any.
    Allowed(bool),
    /// What they must be.
    Of(Box<Node>),
}

/// One place of a schema.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `string`, `integer`, ...; both of them for `x-kubernetes-int-or-string`; empty for anything.
    pub types: Vec<String>,
    /// `null` is a value.
    pub nullable: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// The value of a field that is not there.
    pub default: Option<Value>,
    /// Fields by name.
    pub properties: BTreeMap<String, Node>,
    /// Other fields.
    pub additional: Additional,
    /// The items of a list.
    pub items: Option<Box<Node>>,
    /// How a list's items are told apart.
    pub list_type: ListType,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The values there are; empty for any.
    pub values: Vec<Value>,
    /// A regular expression, as written and compiled.
    pub pattern: Option<(String, Option<Regex>)>,
    /// A format of text or numbers.
    pub format: Option<String>,
    /// The least number.
    pub minimum: Option<f64>,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// The least number itself is too small.
    pub exclusive_minimum: bool,
    /// The greatest number itself is too great.
    pub exclusive_maximum: bool,
    /// A number must be so many times something.
    pub multiple_of: Option<f64>,
    /// Characters at least.
    pub min_length: Option<u64>,
    /// Characters at most.
    pub max_length: Option<u64>,
    /// Items at least.
    pub min_items: Option<u64>,
    /// Items at most.
    pub max_items: Option<u64>,
    /// Fields at least.
    pub min_properties: Option<u64>,
    /// Fields at most.
    pub max_properties: Option<u64>,
    /// No two items are equal.
    pub unique_items: bool,
    /// All of these hold.
    pub all_of: Vec<Node>,
    /// At least one of these holds.
    pub any_of: Vec<Node>,
    /// Exactly one of these holds.
    pub one_of: Vec<Node>,
    /// This does not hold.
    pub not: Option<Box<Node>>,
}

/// A boolean of a schema.
#[must_use]
pub fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

impl Node {
    /// Compiles a schema.
    #[must_use]
    pub fn parse(schema: &Value) -> Self {
        let text = |key: &str| schema.get(key).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        let list = |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let texts = |key: &str| list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let schemas = |key: &str| list(key).iter().map(Self::parse).collect::<Vec<_>>();
        let inner = |key: &str| schema.get(key).filter(|s| s.is_object()).map(|s| Box::new(Self::parse(s)));
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        Self {
            types: match flag(schema, "x-kubernetes-int-or-string") {
                true => vec!["integer".into(), "string".into()],
                false => text("type").into_iter().collect(),
            },
            nullable: flag(schema, "nullable"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            default: schema.get("default").cloned(),
            properties: properties.map(|(k, v)| (k.clone(), Self::parse(v))).collect(),
            additional: match schema.get("additionalProperties") {
                Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(schema @ Value::Object(_)) => Additional::Of(Box::new(Self::parse(schema))),
                _ => Additional::Unsaid,
            },
            items: inner("items"),
            list_type: match text("x-kubernetes-list-type").as_deref() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts("x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            required: texts("required"),
            values: list("enum").to_vec(),
            pattern: text("pattern").map(|p| (p.clone(), Regex::new(&p).ok())),
            format: text("format"),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: flag(schema, "exclusiveMinimum"),
            exclusive_maximum: flag(schema, "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            unique_items: flag(schema, "uniqueItems"),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: inner("not"),
        }
    }

    /// The place of a field: its property, or what other fields are held to.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Of(node)) => Some(node),
            _ => None,
        }
    }

    /// `x-kubernetes-int-or-string`
    #[must_use]
    pub fn int_or_string(&self) -> bool {
        self.types.len() == 2
    }

    /// Whether it, or a place inside, has a default.
    #[must_use]
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.properties.values().any(Self::has_defaults)
            || self.items.as_deref().is_some_and(Self::has_defaults)
            || matches!(&self.additional, Additional::Of(node) if node.has_defaults())
    }
}
