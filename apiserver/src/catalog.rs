//! The resources that are served: the rows with their caches, looked up by URL.
//!
//! Immutable; when a CustomResourceDefinition changes, a new catalog takes the place of the old one.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::resource::{Resource, Selectable};
use crate::storage::{Cache, Hub};

/// A row that is served.
#[derive(Debug)]
pub struct Served {
    /// The row.
    pub resource: Resource,
    /// The prefix of its objects' keys in etcd.
    pub prefix: String,
    /// Where its objects are cached.
    pub cache: Arc<Cache>,
}

impl Deref for Served {
    type Target = Resource;
    fn deref(&self) -> &Resource {
        &self.resource
    }
}

impl Served {
    /// The key in etcd of an object of this resource.
    #[must_use]
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{}", self.prefix, self.rest(namespace, name))
    }

    /// The part of the key after the prefix.
    #[must_use]
    pub fn rest(&self, namespace: &str, name: &str) -> String {
        if self.is_namespaced() { format!("{namespace}/{name}") } else { name.to_owned() }
    }
}

/// Every resource that is served.
#[derive(Debug, Default)]
pub struct Catalog {
    rows: Vec<Arc<Served>>,
    by_url: HashMap<(String, String, String), Arc<Served>>,
}

impl Catalog {
    /// A catalog of these rows, whose objects `hub` caches.
    #[must_use]
    pub fn new(rows: Vec<Resource>, hub: &Hub) -> Self {
        let mut catalog = Self::default();
        // Rows that share stored objects share a cache; the one that stores them says what they are selected by.
        let mut selectable: HashMap<String, Vec<Selectable>> = HashMap::new();
        for row in rows.iter().filter(|r| !r.virtual_kind) {
            let fields = selectable.entry(row.storage_prefix()).or_default();
            if row.schema.is_some() {
                // Of a custom kind, each version has fields of its own.
                for field in row.selectable.iter().filter(|f| !fields.contains(f)).cloned().collect::<Vec<_>>() {
                    fields.push(field);
                }
            } else if row.conversion.is_none() && !row.selectable.is_empty() {
                fields.clone_from(&row.selectable);
            }
        }
        for (prefix, fields) in selectable {
            if **hub.cache(&prefix).selectable() != *fields {
                hub.set_selectable(&prefix, fields);
            }
        }
        for resource in rows {
            let prefix = resource.storage_prefix();
            let served = Arc::new(Served { cache: hub.cache(&prefix), prefix, resource });
            let url = (served.group.to_string(), served.version.to_string(), served.plural.to_string());
            catalog.by_url.insert(url, served.clone());
            catalog.rows.push(served);
        }
        catalog
    }

    /// A catalog of these rows with caches of its own, which stay empty.
    #[cfg(test)]
    pub fn in_tests(rows: Vec<Resource>) -> Self {
        let served = |resource: Resource| {
            let (prefix, cache) = (resource.storage_prefix(), Arc::new(Cache::new(vec![], 0)));
            Arc::new(Served { cache, prefix, resource })
        };
        let rows: Vec<Arc<Served>> = rows.into_iter().map(served).collect();
        let url = |r: &Arc<Served>| ((r.group.to_string(), r.version.to_string(), r.plural.to_string()), r.clone());
        Self { by_url: rows.iter().map(url).collect(), rows }
    }

    /// The row behind a URL.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_url.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The row that stores objects of a group's plural, in whatever version.
    #[must_use]
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Served>> {
        let mut rows = self.rows.iter().filter(|r| r.group == group && r.plural == plural);
        // Rows of a custom kind begin with the stored version, which too has a conversion when older forms are stored.
        rows.find(|r| r.conversion.is_none() || r.schema.is_some())
    }

    /// The row of a kind.
    #[must_use]
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Served>> {
        self.rows.iter().find(|r| r.group == group && r.version == version && r.kind == kind)
    }

    /// All rows, in the order of discovery.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Served>] {
        &self.rows
    }
}
