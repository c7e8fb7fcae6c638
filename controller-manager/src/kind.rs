//! The kinds the controllers know, where they live in the API, and which objects of them are cached.
//!
//! One line in [`kinds!`](crate::caches) a kind; one [`Object`] impl says what a cache keeps of it.

use std::fmt;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Namespace and name of an object; the namespace is empty for what lives in none. A key is a reason to look.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    /// The namespace, or empty.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of something that lives in no namespace.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The key of the object with this metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// Where the objects of a kind are.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group and version, as objects carry it.
    pub api_version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The plural in paths.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// The path of one object, or of the collection when `name` is empty.
    #[must_use]
    pub fn path(&self, key: &Key, subresource: &str) -> String {
        path(self.api_version, self.plural, key, subresource)
    }
}

/// The path of an object, or of a collection when the key has no name; over all namespaces when it has no namespace either.
#[must_use]
pub fn path(api_version: &str, plural: &str, key: &Key, subresource: &str) -> String {
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    let mut out = format!("{root}/{api_version}");
    if !key.namespace.is_empty() {
        out.push_str(&format!("/namespaces/{}", key.namespace));
    }
    out.push_str(&format!("/{plural}"));
    for part in [key.name.as_str(), subresource] {
        if !part.is_empty() {
            out.push('/');
            out.push_str(part);
        }
    }
    out
}

/// An object that a controller caches, plans over and writes.
pub trait Object: Serialize + DeserializeOwned + Clone + Send + Sync + PartialEq + fmt::Debug + 'static {
    /// Where objects of this kind are.
    const KIND: &'static Kind;
    /// A field selector for the cached ones; empty for all.
    const FIELDS: &'static str = "";
    /// The only namespace that is cached; empty for all.
    const NAMESPACE: &'static str = "";

    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, for changing.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// Drops what no controller reads, so that the cache stays small. What is dropped must never be patched.
    fn slim(&mut self) {}
    /// A further value to find the object by, such as the node of a pod.
    fn index(&self) -> Option<String> {
        None
    }

    /// Namespace and name.
    fn key(&self) -> Key {
        Key::of(self.meta())
    }
    /// The name; empty before it has one.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    /// The namespace; empty for what lives in none.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    /// The uid; empty before it is created.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    /// Whether it is being deleted.
    fn deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
    /// The resourceVersion as a number: versions are comparable (KEP-5504). Zero when it is none.
    fn version(&self) -> u64 {
        self.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
    }
    /// The label `name`.
    fn label(&self, name: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(name).map(String::as_str)
    }
    /// The annotation `name`.
    fn annotation(&self, name: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(name).map(String::as_str)
    }
    /// What events about it refer to.
    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(Self::KIND.api_version.to_owned()),
            kind: Some(Self::KIND.kind.to_owned()),
            namespace: self.meta().namespace.clone(),
            name: self.meta().name.clone(),
            uid: self.meta().uid.clone(),
            resource_version: self.meta().resource_version.clone(),
            field_path: None,
        }
    }
    /// The reference by which it controls what it creates.
    fn controller_ref(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::KIND.api_version.to_owned(),
            kind: Self::KIND.kind.to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}
