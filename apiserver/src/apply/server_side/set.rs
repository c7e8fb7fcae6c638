//! Sets of paths: what a manager owns. A path may be in the set without the paths below it, and the other way round.

use api::schema::SchemaNode;
use serde_json::{Map, Value};

use super::path::Element;

/// How deep a `fieldsV1` may be; a CRD's objects are no deeper.
const MAX_DEPTH: usize = 128;

/// A set of paths. Nothing stands in it that is neither a path nor has one below it, so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(Vec<Node>);

/// An element: sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    element: Element,
    /// The path that ends here is in the set.
    member: bool,
    below: Set,
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
        self.0.is_empty()
    }

    /// Adds a path; the root is no path.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((last, way)) = path.split_last() else { return };
        let mut one = Self(vec![Node { element: last.clone(), member: true, below: Self::default() }]);
        for element in way.iter().rev() {
            one = Self(vec![Node { element: element.clone(), member: false, below: one }]);
        }
        *self = std::mem::take(self).union(&one);
    }

    /// Adds what is at and below an element. Cheap when elements come in their order.
    pub fn put(&mut self, element: Element, member: bool, below: Self) {
        if !member && below.is_empty() {
            return;
        }
        if self.0.last().is_none_or(|last| last.element < element) {
            self.0.push(Node { element, member, below });
            return;
        }
        match self.find(&element) {
            Ok(at) => {
                let node = &mut self.0[at];
                node.member |= member;
                node.below = std::mem::take(&mut node.below).union(&below);
            }
            Err(at) => self.0.insert(at, Node { element, member, below }),
        }
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.0.binary_search_by(|node| node.element.cmp(element))
    }

    fn node(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.0[at])
    }

    /// The path of this one element is in it.
    #[must_use]
    pub fn has(&self, element: &Element) -> bool {
        self.node(element).is_some_and(|node| node.member)
    }

    /// What is below an element.
    #[must_use]
    pub fn below(&self, element: &Element) -> Option<&Self> {
        self.node(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// Both together.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        let mut theirs = other.0.iter().peekable();
        let mut all = Vec::with_capacity(self.0.len() + other.0.len());
        for mut ours in self.0 {
            while let Some(node) = theirs.next_if(|node| node.element < ours.element) {
                all.push(node.clone());
            }
            if let Some(node) = theirs.next_if(|node| node.element == ours.element) {
                ours.member |= node.member;
                ours.below = ours.below.union(&node.below);
            }
            all.push(ours);
        }
        all.extend(theirs.cloned());
        Self(all)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for ours in &self.0 {
            if let Some(theirs) = other.node(&ours.element) {
                let below = ours.below.intersection(&theirs.below);
                if (ours.member && theirs.member) || !below.is_empty() {
                    both.0.push(Node { element: ours.element.clone(), member: ours.member && theirs.member, below });
                }
            }
        }
        both
    }

    /// What is only in this one. A path taken out does not take those below it.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        if !other.is_empty() {
            self.0.retain_mut(|ours| {
                if let Some(theirs) = other.node(&ours.element) {
                    ours.member &= !theirs.member;
                    ours.below = std::mem::take(&mut ours.below).difference(&theirs.below);
                }
                ours.member || !ours.below.is_empty()
            });
        }
        self
    }

    /// What is neither in the other one nor below something in it.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        if !other.is_empty() {
            self.0.retain_mut(|ours| match other.node(&ours.element) {
                Some(theirs) if theirs.member => false,
                Some(theirs) => {
                    ours.below = std::mem::take(&mut ours.below).without(&theirs.below);
                    ours.member || !ours.below.is_empty()
                }
                None => true,
            });
        }
        self
    }

    /// With the fields of structs on the way to its members. A set does not hold them otherwise, as a struct is there when its fields are.
    #[must_use]
    pub fn with_named_fields(&self, node: Option<SchemaNode<'_>>) -> Self {
        let nodes = self.0.iter().map(|Node { element, member, below }| {
            let (named, inner) = match element {
                Element::Field(name) => {
                    let on_the_way = !below.is_empty() && node.and_then(|n| n.field(name)).is_some();
                    (on_the_way, node.and_then(|n| n.child(name)))
                }
                _ => (false, node.and_then(SchemaNode::item)),
            };
            Node { element: element.clone(), member: *member || named, below: below.with_named_fields(inner) }
        });
        Self(nodes.collect())
    }

    /// Every path, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut all = Vec::new();
        self.walk(&mut Vec::new(), &mut all);
        all
    }

    fn walk(&self, prefix: &mut Vec<Element>, all: &mut Vec<Vec<Element>>) {
        for node in &self.0 {
            prefix.push(node.element.clone());
            if node.member {
                all.push(prefix.clone());
            }
            node.below.walk(prefix, all);
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields(false))
    }

    fn fields(&self, member: bool) -> Map<String, Value> {
        let itself = member.then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self.0.iter().map(|node| {
            // What has nothing below it is a member: that is all there is to say.
            let inner = if node.below.is_empty() { Map::new() } else { node.below.fields(node.member) };
            (node.element.to_key(), Value::Object(inner))
        });
        itself.into_iter().chain(below).collect()
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
            let member = inner.is_empty() || below.get(".").is_some();
            set.put(element, member, inner);
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
            prop_assert_eq!(a.clone().difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.clone().difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(union.difference(&b), a.clone().difference(&b));
            prop_assert!(a.clone().without(&a).is_empty());
            prop_assert!(a.clone().without(&b).difference(&a).is_empty());
            let paths = |set: &Set| set.paths().into_iter().collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(paths(&a.clone().union(&b)), &paths(&a) | &paths(&b));
            prop_assert_eq!(paths(&a.clone().difference(&b)), &paths(&a) - &paths(&b));
            prop_assert_eq!(paths(&a.intersection(&b)), &paths(&a) & &paths(&b));
        }
    }
}
