//! Objects beside their schema, as server-side apply sees them: what is one value, what has parts, and what tells list items apart.

use std::collections::BTreeMap;

use api::schema::{Kind, ListType, SchemaNode};
use serde_json::{Map, Value};

use super::path::{Element, Scalar, show};
use super::set::Set;

type Node<'s> = Option<SchemaNode<'s>>;

/// What a value is made of.
enum Shape {
    /// One value, owned as a whole.
    Leaf,
    /// Fields or keys.
    Map,
    /// Scalars.
    Set,
    /// Objects told apart by some of their fields.
    Keyed,
}

/// Without a schema a place is judged by its value: objects have parts, lists are one value.
fn shape(node: Node<'_>, value: &Value) -> Shape {
    let Some(node) = node.filter(|n| *n.kind() != Kind::Any || n.is_atomic()) else {
        return if value.is_object() { Shape::Map } else { Shape::Leaf };
    };
    match (node.kind(), value) {
        _ if node.is_atomic() => Shape::Leaf,
        (Kind::Message(_) | Kind::Map(_), Value::Object(_)) => Shape::Map,
        (Kind::List(list), Value::Array(_)) => match &list.list_type {
            ListType::Atomic => Shape::Leaf,
            ListType::Set => Shape::Set,
            ListType::Map(_) => Shape::Keyed,
        },
        _ => Shape::Leaf,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

/// A field that the schema names, not the key of a map.
fn is_named(node: Node<'_>, key: &str) -> bool {
    node.and_then(|n| n.field(key)).is_some()
}

/// The parts of a value with their elements and places; items that cannot be told apart are left out.
fn parts<'v, 's>(node: Node<'s>, value: &'v Value) -> Vec<(Element, &'v Value, Node<'s>)> {
    match (shape(node, value), value) {
        (Shape::Map, Value::Object(map)) => {
            map.iter().map(|(key, value)| (Element::field(key), value, node.and_then(|n| n.child(key)))).collect()
        }
        (Shape::Set | Shape::Keyed, Value::Array(items)) => {
            let inner = node.and_then(SchemaNode::item);
            items.iter().filter_map(|item| Some((element_of(node, item).ok()?, item, inner))).collect()
        }
        _ => Vec::new(),
    }
}

/// What an item of a set or list map is found by.
fn element_of(list: Node<'_>, item: &Value) -> Result<Element, String> {
    let Some(list) = list else { return Err("a list without a schema has no keys".into()) };
    match (list.list_type(), item) {
        (ListType::Map(keys), Value::Object(object)) => {
            let inner = list.item();
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let value = match object.get(&**key) {
                    Some(value) if !value.is_null() => value.clone(),
                    _ => inner.and_then(|i| default_of(i, key)).ok_or_else(|| {
                        format!("associative list with keys has an element that omits key field {key:?} (and doesn't have default value)")
                    })?,
                };
                found.push((key.to_string(), Scalar(value)));
            }
            found.sort();
            Ok(Element::Key(found))
        }
        (ListType::Map(_), _) => Err("associative list with keys may not have non-map elements".into()),
        (ListType::Set, Value::Object(_) | Value::Array(_)) => {
            Err("associative list without keys has an element that's a map or list type".into())
        }
        (ListType::Set, scalar) => Ok(Element::Value(Scalar(scalar.clone()))),
        (ListType::Atomic, _) => Err("an atomic list has no keys".into()),
    }
}

/// What stands for a key that is not there: its default, or, of a required one, what Go's zero value is.
fn default_of(item: SchemaNode<'_>, key: &str) -> Option<Value> {
    let (field, node) = item.field(key)?;
    field.default.as_deref().cloned().or_else(|| {
        let zero = match node.kind() {
            Kind::String => Value::from(""),
            Kind::Int32 | Kind::Int64 => Value::from(0),
            _ => return None,
        };
        field.required.then_some(zero)
    })
}

/// Every path that a configuration sets, which is what its applier owns.
pub fn to_set(value: &Value, node: Node<'_>) -> Set {
    collect(value, node).unwrap_or_default()
}

/// What is set in a place; `None` when it is one value.
fn collect(value: &Value, node: Node<'_>) -> Option<Set> {
    if matches!(shape(node, value), Shape::Leaf) {
        return None;
    }
    let mut set = Set::default();
    for (element, part, inner) in parts(node, value) {
        let member = match &element {
            Element::Field(key) => !is_named(node, key) || part.is_null() || part.as_object().is_some_and(Map::is_empty),
            _ => true,
        };
        match collect(part, inner) {
            Some(below) => set.put(element, member, below),
            None => set.put(element, true, Set::default()),
        }
    }
    Some(set)
}

/// What is different between two objects.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Only in the second.
    pub added: Set,
    /// In both, and not the same.
    pub modified: Set,
    /// Only in the first.
    pub removed: Set,
}

impl Comparison {
    /// Adds what was found at an element.
    fn put(&mut self, (became, below): (Became, Self), element: impl Fn() -> Element) {
        let sets = [
            (&mut self.added, below.added, Became::Added),
            (&mut self.modified, below.modified, Became::Modified),
            (&mut self.removed, below.removed, Became::Removed),
        ];
        for (set, below, kind) in sets {
            if became == kind || !below.is_empty() {
                set.put(element(), became == kind, below);
            }
        }
    }

    /// Without what is in or below these paths.
    #[must_use]
    pub fn without(self, ignored: &Set) -> Self {
        let [added, modified, removed] = [self.added, self.modified, self.removed].map(|set| set.without(ignored));
        Self { added, modified, removed }
    }
}

/// Structs that are part of their parent in Go, not behind a pointer: an object has them even when nothing in them is set, so nobody adds
/// them. The schema does not tell; this list does, for the places where it shows in `managedFields`.
const ALWAYS_THERE: &[&str] = &[
    "acceptedNames",
    "daemonEndpoints",
    "involvedObject",
    "jobTemplate",
    "kubeletEndpoint",
    "loadBalancer",
    "metadata",
    "names",
    "nodeInfo",
    "regarding",
    "roleRef",
    "scaleTargetRef",
    "spec",
    "status",
    "strategy",
    "template",
    "updateStrategy",
];

/// Compares two objects; their entries of `managedFields` are no part of it. `builtin`: upstream holds them in Go structs.
pub fn compare(old: Option<&Value>, new: Option<&Value>, node: Node<'_>, builtin: bool) -> Comparison {
    let empty = Value::Object(Map::new());
    let there = if builtin { There::Inline } else { There::No };
    differ(Some(old.unwrap_or(&empty)), Some(new.unwrap_or(&empty)), node, there, Depth::Object).1
}

/// Whether a place is there in Go although nothing is set in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// It is not.
    No,
    /// As a null: fields that are always written.
    Null,
    /// As a struct inside its parent.
    Inline,
}

impl There {
    /// For a part of a place.
    fn field(self, node: Node<'_>, name: &str) -> Self {
        if self != Self::Inline {
            return Self::No;
        }
        match node.and_then(|n| n.field(name)) {
            Some(_) if ALWAYS_THERE.contains(&name) => Self::Inline,
            Some((field, _)) if field.required => Self::Null,
            _ => Self::No,
        }
    }
}

/// Where in an object the comparison is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Object,
    Metadata,
    Deeper,
}

/// What became of a place itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Became {
    Same,
    Added,
    Modified,
    Removed,
}

fn became(old: Option<&Value>, new: Option<&Value>) -> Became {
    match (old, new) {
        (None, Some(_)) => Became::Added,
        (Some(_), None) => Became::Removed,
        _ => Became::Same,
    }
}

/// What became of a place, and what is different in it.
fn differ(old: Option<&Value>, new: Option<&Value>, node: Node<'_>, there: There, depth: Depth) -> (Became, Comparison) {
    let mut out = Comparison::default();
    if old.is_some() && old == new {
        return (Became::Same, out);
    }
    let leaf =
        [old, new].into_iter().flatten().any(|v| matches!(shape(node, v), Shape::Leaf)) || [old, new].into_iter().flatten().all(is_empty);
    if leaf {
        let both = old.is_some() && new.is_some();
        return (if both { Became::Modified } else { became(old, new) }, out);
    }
    let object = |v: Option<&'_ Value>| v.is_some_and(Value::is_object);
    if object(old) || object(new) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let in_new = new.into_iter().flatten().map(|(key, value)| (key, old.and_then(|o| o.get(key)), Some(value)));
        let gone = old.into_iter().flatten().filter(|(key, _)| new.is_none_or(|n| !n.contains_key(*key)));
        for (key, old, new) in in_new.chain(gone.map(|(key, value)| (key, Some(value), None))) {
            let inside = match depth {
                Depth::Object if key == "metadata" => Depth::Metadata,
                Depth::Metadata if key == super::managers::ENTRIES => continue,
                _ => Depth::Deeper,
            };
            let found = differ(old, new, node.and_then(|n| n.child(key)), there.field(node, key), inside);
            out.put(found, || Element::field(key));
        }
    } else {
        let inner = node.and_then(SchemaNode::item);
        let index = |v: Option<&'_ Value>| -> BTreeMap<Element, usize> {
            let items = v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            // The first of equal items counts.
            items.iter().enumerate().rev().filter_map(|(i, item)| Some((element_of(node, item).ok()?, i))).collect()
        };
        let (old_index, new_index) = (index(old), index(new));
        for (element, i) in &new_index {
            let before = old_index.get(element).and_then(|i| old?.get(*i));
            out.put(differ(before, new.and_then(|n| n.get(*i)), inner, There::No, Depth::Deeper), || element.clone());
        }
        for (element, i) in old_index.iter().filter(|(element, _)| !new_index.contains_key(element)) {
            out.put(differ(old.and_then(|o| o.get(*i)), None, inner, There::No, Depth::Deeper), || element.clone());
        }
    }
    (if there == There::No { became(old, new) } else { Became::Same }, out)
}

/// The live object with a configuration merged into it.
pub fn merge(live: Option<&Value>, applied: &Value, node: Node<'_>) -> Value {
    let Some(live) = live else { return applied.clone() };
    match (shape(node, live), shape(node, applied), live, applied) {
        (Shape::Map, Shape::Map, Value::Object(old), Value::Object(new)) => {
            let mut merged = old.clone();
            for (key, value) in new {
                let value = merge(old.get(key), value, node.and_then(|n| n.child(key)));
                merged.insert(key.clone(), value);
            }
            merged.into()
        }
        (Shape::Set | Shape::Keyed, Shape::Set | Shape::Keyed, Value::Array(_), Value::Array(_)) => merge_lists(live, applied, node),
        _ => applied.clone(),
    }
}

/// Items in the order of the configuration; those only in the live list stay where they are among those before them.
fn merge_lists(live: &Value, applied: &Value, node: Node<'_>) -> Value {
    let (old, new) = (parts(node, live), parts(node, applied));
    let find = |parts: &[(Element, &Value, Node<'_>)], element: &Element| parts.iter().position(|(e, ..)| e == element);
    let in_new: Vec<Option<usize>> = old.iter().map(|(element, ..)| find(&new, element)).collect();
    let in_old: Vec<Option<usize>> = new.iter().map(|(element, ..)| find(&old, element)).collect();
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let (mut l, mut r) = (0, 0);
    while l < old.len() || r < new.len() {
        match in_new.get(l) {
            // Only live.
            Some(None) => {
                merged.push(old[l].1.clone());
                l += 1;
            }
            // Its turn comes with the configuration's order.
            Some(Some(at)) if *at != r || r >= new.len() => {
                if *at < r || new[r..*at].iter().zip(&in_old[r..*at]).any(|(_, shared)| shared.is_some()) {
                    l += 1;
                } else {
                    merged.push(merge(in_old[r].map(|i| old[i].1), new[r].1, new[r].2));
                    r += 1;
                }
            }
            Some(Some(_)) => {
                merged.push(merge(Some(old[l].1), new[r].1, new[r].2));
                l += 1;
                r += 1;
            }
            None => {
                merged.push(merge(in_old[r].map(|i| old[i].1), new[r].1, new[r].2));
                r += 1;
            }
        }
    }
    merged.into()
}

/// The object without what is at these paths.
pub fn remove(value: &Value, gone: &Set, node: Node<'_>) -> Option<Value> {
    match (shape(node, value), value) {
        (Shape::Leaf, Value::Object(_) | Value::Array(_)) if node.is_some() => None,
        (Shape::Leaf, scalar) => Some(scalar.clone()),
        (Shape::Map, Value::Object(map)) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let element = Element::field(key);
                if gone.has(&element) {
                    continue;
                }
                let value = match gone.below(&element) {
                    Some(below) => remove(value, below, node.and_then(|n| n.child(key))),
                    None => Some(value.clone()),
                };
                kept.extend(value.map(|value| (key.clone(), value)));
            }
            (!kept.is_empty()).then_some(kept.into())
        }
        (_, Value::Array(items)) => {
            let inner = node.and_then(SchemaNode::item);
            let kept: Vec<_> = items
                .iter()
                .filter_map(|item| {
                    let Ok(element) = element_of(node, item) else { return Some(item.clone()) };
                    if gone.has(&element) {
                        return None;
                    }
                    match gone.below(&element) {
                        Some(below) => Some(remove(item, below, inner).unwrap_or(Value::Null)),
                        None => Some(item.clone()),
                    }
                })
                .collect();
            (!kept.is_empty()).then_some(kept.into())
        }
        (_, other) => Some(other.clone()),
    }
}

/// Checks a configuration: fields must be known, values of their type, list items distinct.
///
/// # Errors
/// The mistakes, in upstream's words.
pub fn validate(value: &Value, node: Node<'_>) -> Result<(), String> {
    let mut errors = Vec::new();
    check(value, node, &mut Vec::new(), &mut errors);
    match &errors[..] {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n{}", many.iter().map(|e| format!("  {e}")).collect::<Vec<_>>().join("\n"))),
    }
}

fn check(value: &Value, node: Node<'_>, path: &mut Vec<Element>, errors: &mut Vec<String>) {
    let Some(place) = node else { return };
    if value.is_null() {
        return;
    }
    let wanted = match place.kind() {
        Kind::String | Kind::Bytes | Kind::Time | Kind::MicroTime => (!value.is_string()).then_some("string"),
        Kind::Boolean => (!value.is_boolean()).then_some("boolean"),
        Kind::Int32 | Kind::Int64 | Kind::Number => (!value.is_number()).then_some("numeric (int or float)"),
        Kind::Message(_) | Kind::Map(_) => (!value.is_object()).then_some("map"),
        Kind::List(_) => (!value.is_array()).then_some("list"),
        Kind::IntOrString | Kind::Quantity => (value.is_object() || value.is_array()).then_some("scalar"),
        Kind::Any | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => None,
    };
    if let Some(wanted) = wanted {
        let found = match value {
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) => if n.is_f64() { "float64" } else { "int64" }.to_owned(),
            Value::String(_) => "string".to_owned(),
            other => format!("&{{{other}}}"),
        };
        errors.push(format!("{}: expected {wanted}, got {found}", show(path)));
        return;
    }
    match (place.kind(), value) {
        (Kind::Message(_) | Kind::Map(_), Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::field(key));
                match place.child(key) {
                    Some(inner) => check(value, Some(inner), path, errors),
                    None if place.message().is_some_and(|m| m.preserve_unknown) => {}
                    None => errors.push(format!("{}: field not declared in schema", show(path))),
                }
                path.pop();
            }
        }
        (Kind::List(list), Value::Array(items)) => {
            let mut seen = std::collections::BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let element = match (&list.list_type, element_of(node, item)) {
                    (ListType::Atomic, _) => Element::Index(i),
                    (_, Ok(element)) => {
                        if !seen.insert(element.clone()) {
                            errors.push(format!("{}: duplicate entries for key {element}", show(path)));
                            continue;
                        }
                        element
                    }
                    (_, Err(error)) => {
                        errors.push(format!("{}: element {i}: {error}", show(path)));
                        continue;
                    }
                };
                path.push(element);
                check(item, place.item(), path, errors);
                path.pop();
            }
        }
        _ => {}
    }
}
