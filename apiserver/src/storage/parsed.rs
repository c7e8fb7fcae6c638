//! Trees of the objects that other writes look at again and again (namespaces, accounts, quotas, classes): parsed once a version.
//!
//! Bounded, and never older than the entry that is asked for. Reads, lists and watches have no use for it: they pass bytes through.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::entry::Entry;

/// Trees kept for each resource. Beyond that all are forgotten: what is still looked at is parsed once more.
const MOST: usize = 256;

/// The trees of one resource, by key.
#[derive(Debug, Default)]
pub struct Parsed(Mutex<HashMap<Box<str>, Tree>>);

/// A tree, and the revision whose it is.
type Tree = (u64, Arc<Value>);

impl Parsed {
    /// The tree of an entry.
    ///
    /// # Errors
    /// Bytes in etcd that are no JSON.
    pub fn tree(&self, entry: &Entry) -> Result<Arc<Value>, serde_json::Error> {
        if let Some((revision, tree)) = self.0.lock().get(&*entry.key)
            && *revision == entry.revision
        {
            return Ok(tree.clone());
        }
        let tree = Arc::new(entry.tree()?);
        let mut trees = self.0.lock();
        if trees.len() >= MOST {
            trees.clear();
        }
        trees.insert(entry.key.clone(), (entry.revision, tree.clone()));
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Kind;
    use super::*;

    #[test]
    fn a_new_version_is_parsed_anew_and_an_old_one_shared() {
        let version = |revision: u64| {
            let stored = format!(r#"{{"metadata":{{"name":"x","uid":"{revision}"}}}}"#);
            Entry::new("x", stored.as_bytes(), revision, Kind::Added, &[])
        };
        let parsed = Parsed::default();
        let first = parsed.tree(&version(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &parsed.tree(&version(1)).unwrap()));
        assert_eq!(parsed.tree(&version(2)).unwrap()["metadata"]["uid"], "2");
        assert_eq!(parsed.tree(&version(1)).unwrap()["metadata"]["uid"], "1", "what is asked for, not what was seen last");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let parsed = Parsed::default();
        for i in 0..3 * MOST {
            let entry = Entry::new(&format!("x{i}"), br#"{"metadata":{"name":"x"}}"#, 1, Kind::Added, &[]);
            parsed.tree(&entry).unwrap();
        }
        assert!(parsed.0.lock().len() <= MOST);
    }
}
