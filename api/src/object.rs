//! The identity of objects, and the parts of `metadata` that machinery reads, over JSON trees.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// An object within its resource: a namespace (none for cluster-scoped objects) and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object in a namespace.
    #[must_use]
    pub fn namespaced(namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// The key of a cluster-scoped object.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self { namespace: None, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A group, version and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// `apps/v1` from a group and a version; `v1` for the core group.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Group and version of an `apiVersion`.
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Reading and writing `metadata` of an object that is a JSON tree.
///
/// A tree whose `metadata` is absent or no map reads as having none of it.
pub trait Meta {
    /// The `metadata` map.
    fn meta(&self) -> Option<&Map<String, Value>>;
    /// The `metadata` map, made when absent. `None` when the tree is no object.
    fn meta_mut(&mut self) -> Option<&mut Map<String, Value>>;

    /// A string of `metadata`; empty when absent.
    fn meta_str(&self, field: &str) -> &str {
        self.meta().and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
    }
    /// `metadata.name`
    fn name(&self) -> &str {
        self.meta_str("name")
    }
    /// `metadata.namespace`
    fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }
    /// `metadata.uid`
    fn uid(&self) -> &str {
        self.meta_str("uid")
    }
    /// `metadata.resourceVersion`
    fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }
    /// Whether `metadata.deletionTimestamp` is set.
    fn is_deleting(&self) -> bool {
        !self.meta_str("deletionTimestamp").is_empty()
    }
    /// `metadata.labels`
    fn labels(&self) -> BTreeMap<String, String> {
        string_map(self.meta().and_then(|m| m.get("labels")))
    }
    /// `metadata.annotations`
    fn annotations(&self) -> BTreeMap<String, String> {
        string_map(self.meta().and_then(|m| m.get("annotations")))
    }
    /// `metadata.finalizers`
    fn finalizers(&self) -> Vec<&str> {
        let list = self.meta().and_then(|m| m.get("finalizers")).and_then(Value::as_array);
        list.map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }
    /// Sets a field of `metadata`; null removes it.
    fn set_meta(&mut self, field: &str, value: Value) {
        if let Some(meta) = self.meta_mut() {
            if value.is_null() {
                meta.remove(field);
            } else {
                meta.insert(field.to_owned(), value);
            }
        }
    }
}

impl Meta for Value {
    fn meta(&self) -> Option<&Map<String, Value>> {
        self.get("metadata")?.as_object()
    }
    fn meta_mut(&mut self) -> Option<&mut Map<String, Value>> {
        let object = self.as_object_mut()?;
        let meta = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !meta.is_object() {
            *meta = Value::Object(Map::new());
        }
        meta.as_object_mut()
    }
}

/// A JSON map of strings; entries that are no strings are left out.
#[must_use]
pub fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object);
    let entries = map.into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}
