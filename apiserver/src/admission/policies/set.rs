//! All policies, compiled: kept until one of them or of their bindings changes, and then only what changed is compiled again.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::compile::{Binding, MutatingPolicy, Named, ValidatingPolicy};
use crate::storage::{Entry, Hub};

/// Policies, each with the bindings that put it to work. Both in the order of their names.
pub type Bound<P> = Arc<[(Arc<P>, Vec<Arc<Binding>>)]>;

/// Compiled policies.
#[derive(Debug)]
pub struct Policies {
    validating: Mutex<Kept<ValidatingPolicy>>,
    mutating: Mutex<Kept<MutatingPolicy>>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { validating: Mutex::new(Kept::default()), mutating: Mutex::new(Kept::default()) }
    }
}

#[derive(Debug)]
struct Kept<P> {
    /// How far the caches were when this was read.
    read: Option<(u64, u64)>,
    policies: BTreeMap<String, (u64, Arc<P>)>,
    bindings: BTreeMap<String, (u64, Arc<Binding>)>,
    all: Bound<P>,
}

impl<P> Default for Kept<P> {
    fn default() -> Self {
        Self { read: None, policies: BTreeMap::new(), bindings: BTreeMap::new(), all: Arc::new([]) }
    }
}

impl<P: Named> Kept<P> {
    fn read(&mut self, hub: &Hub, policies: &str, bindings: &str, compile: fn(&Value) -> P) -> Bound<P> {
        let cache = |plural: &str| hub.cache(&format!("/registry/admissionregistration.k8s.io/{plural}/"));
        let (policies, bindings) = (cache(policies), cache(bindings));
        // Looked at before what is read, so that a change in between is read again.
        let now = (policies.sequence(), bindings.sequence());
        if self.read != Some(now) {
            self.policies = following(&self.policies, &policies.snapshot("", 0).0, compile);
            self.bindings = following(&self.bindings, &bindings.snapshot("", 0).0, Binding::parse);
            self.all = joined(self.policies.values().map(|(_, p)| p), self.bindings.values().map(|(_, b)| b));
            self.read = Some(now);
        }
        self.all.clone()
    }
}

impl Policies {
    /// The validating policies as the caches have them.
    #[must_use]
    pub fn validating(&self, hub: &Hub) -> Bound<ValidatingPolicy> {
        self.validating.lock().read(hub, "validatingadmissionpolicies", "validatingadmissionpolicybindings", ValidatingPolicy::compile)
    }

    /// The mutating policies as the caches have them.
    #[must_use]
    pub fn mutating(&self, hub: &Hub) -> Bound<MutatingPolicy> {
        self.mutating.lock().read(hub, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", MutatingPolicy::compile)
    }
}

/// What is kept of what did not change, and the rest made anew.
fn following<T>(
    before: &BTreeMap<String, (u64, Arc<T>)>,
    entries: &[Arc<Entry>],
    make: fn(&Value) -> T,
) -> BTreeMap<String, (u64, Arc<T>)> {
    let one = |entry: &Arc<Entry>| {
        let name = entry.name().to_owned();
        if let Some(same) = before.get(&name).filter(|(revision, _)| *revision == entry.revision) {
            return Some((name, same.clone()));
        }
        match entry.tree() {
            Ok(tree) => Some((name, (entry.revision, Arc::new(make(&tree))))),
            Err(error) => {
                tracing::error!(%name, %error, "a policy in the storage is no JSON");
                None
            }
        }
    };
    entries.iter().filter_map(one).collect()
}

/// Policies with their bindings; those without any have nothing to say.
pub fn joined<'p, P: Named + 'p>(policies: impl Iterator<Item = &'p Arc<P>>, bindings: impl Iterator<Item = &'p Arc<Binding>>) -> Bound<P> {
    let mut by_policy: BTreeMap<&str, Vec<Arc<Binding>>> = BTreeMap::new();
    for binding in bindings {
        by_policy.entry(&binding.policy).or_default().push(binding.clone());
    }
    policies.filter_map(|p| Some((p.clone(), by_policy.remove(p.name())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::entry;

    #[test]
    fn what_did_not_change_is_not_compiled_again() {
        let stored = |name: &str, revision| {
            let text = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"policyName":"p"}}}}"#);
            Arc::new(Entry::new(name, text.as_bytes(), revision, entry::Kind::Added, &[]))
        };
        let first = following(&BTreeMap::new(), &[stored("a", 5), stored("b", 6)], Binding::parse);
        let second = following(&first, &[stored("a", 5), stored("b", 7)], Binding::parse);
        assert!(Arc::ptr_eq(&first["a"].1, &second["a"].1) && !Arc::ptr_eq(&first["b"].1, &second["b"].1));
    }
}
