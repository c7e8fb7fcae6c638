//! Sets of paths: what a manager owns. A path may be in the set without the paths below it, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use api::schema::SchemaNode;
use serde_json::{Map, Value};

use super::path::Element;

/// How deep a `fieldsV1` may be; a CRD's objects are no deeper.
const MAX_DEPTH: usize = 128;

/// A set of paths. No empty children are kept, so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    members: BTreeSet<Element>,
    children: BTreeMap<Element, Set>,
}

impl Set {
    /// The set of these paths.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p [&'p str]>) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Adds a path; the root is no path.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => drop(self.members.insert(last.clone())),
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// The path of this one element is in it.
    #[must_use]
    pub fn has(&self, element: &Element) -> bool {
        self.members.contains(element)
    }

    /// What is below an element.
    #[must_use]
    pub fn below(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    /// Both together.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.members.extend(other.members.iter().cloned());
        for (element, theirs) in &other.children {
            let ours = self.children.remove(element).unwrap_or_default();
            self.children.insert(element.clone(), ours.union(theirs));
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, ours)| {
            let both = ours.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members: &self.members & &other.members, children: children.collect() }
    }

    /// What is only in this one. A path taken out does not take those below it.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, ours)| {
            let rest = other.children.get(element).map_or_else(|| ours.clone(), |theirs| ours.difference(theirs));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self { members: &self.members - &other.members, children: children.collect() }
    }

    /// What is neither in the other one nor below something in it.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let children = self.children.iter().filter(|(element, _)| !other.has(element)).filter_map(|(element, ours)| {
            let rest = other.children.get(element).map_or_else(|| ours.clone(), |theirs| ours.without(theirs));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self { members: &self.members - &other.members, children: children.collect() }
    }

    /// With the fields of structs on the way to its members. A set does not hold them otherwise, as a struct is there when its fields are.
    #[must_use]
    pub fn with_named_fields(&self, node: Option<SchemaNode<'_>>) -> Self {
        let mut members = self.members.clone();
        let children = self.children.iter().map(|(element, below)| {
            let inner = match element {
                Element::Field(name) => {
                    if node.and_then(|n| n.field(name)).is_some() {
                        members.insert(element.clone());
                    }
                    node.and_then(|n| n.child(name))
                }
                _ => node.and_then(SchemaNode::item),
            };
            (element.clone(), below.with_named_fields(inner))
        });
        let children = children.collect();
        Self { members, children }
    }

    /// Every path, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut all = Vec::new();
        self.walk(&mut Vec::new(), &mut all);
        all
    }

    fn walk(&self, prefix: &mut Vec<Element>, all: &mut Vec<Vec<Element>>) {
        let elements: BTreeSet<&Element> = self.members.iter().chain(self.children.keys()).collect();
        for element in elements {
            prefix.push(element.clone());
            if self.members.contains(element) {
                all.push(prefix.clone());
            }
            if let Some(below) = self.children.get(element) {
                below.walk(prefix, all);
            }
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        for element in &self.members {
            out.insert(element.to_key(), Value::Object(Map::new()));
        }
        for (element, below) in &self.children {
            let mut inner = below.to_json();
            if self.members.contains(element) {
                inner["."] = Value::Object(Map::new());
            }
            out.insert(element.to_key(), inner);
        }
        out.into()
    }

    /// Reads a `fieldsV1`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &Value) -> Result<Self, String> {
        Self::parse_at(json, 0)
    }

    fn parse_at(json: &Value, depth: usize) -> Result<Self, String> {
        let Value::Object(map) = json else { return Err("fields are no object".into()) };
        if depth > MAX_DEPTH {
            return Err("fields are too deep".into());
        }
        let mut set = Self::default();
        for (key, below) in map {
            if key == "." {
                continue; // The parent has seen it.
            }
            let element = Element::parse(key)?;
            let inner = Self::parse_at(below, depth + 1)?;
            if inner.is_empty() || below.get(".").is_some() {
                set.members.insert(element.clone());
            }
            if !inner.is_empty() {
                set.children.insert(element, inner);
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::path::{Scalar, show};
    use super::*;

    #[test]
    fn fields_v1_is_read_and_written() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}, "f:finalizers": {"v:\"x\"": {}}},
        });
        let set = Set::parse(&fields).unwrap();
        assert_eq!(set.to_json(), fields);
        let paths: Vec<_> = set.paths().iter().map(|p| show(p)).collect();
        assert_eq!(
            paths,
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.finalizers[=\"x\"]"
            ]
        );
        assert!(Set::parse(&json!({"x": {}})).is_err());
        assert!(Set::parse(&json!({"k:[]": {}})).is_err());
    }

    fn element() -> impl Strategy<Value = Element> {
        prop_oneof![
            "[ab]".prop_map(Element::Field),
            "[ab]".prop_map(|name| Element::Key(vec![("name".into(), Scalar(name.into()))])),
            (0..2i64).prop_map(|n| Element::Value(Scalar(n.into()))),
        ]
    }

    fn set() -> impl Strategy<Value = Set> {
        prop::collection::vec(prop::collection::vec(element(), 1..4), 0..8).prop_map(|paths| {
            let mut set = Set::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    proptest! {
        #[test]
        fn sets_are_an_algebra(a in set(), b in set()) {
            prop_assert_eq!(Set::parse(&a.to_json()).unwrap(), a.clone());
            let union = a.clone().union(&b);
            prop_assert_eq!(&union, &b.clone().union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(union.difference(&b), a.difference(&b));
            prop_assert!(a.without(&a).is_empty());
            prop_assert!(a.without(&b).difference(&a).is_empty());
        }
    }
}
