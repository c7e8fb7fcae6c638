//! Who owns whom, among all objects of all resources. Pure.
//!
//! The graph is a hint of what to look at: nothing is deleted on its word alone. An owner that it does not know is asked for
//! at the apiserver, by uid.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::discovery::{Resource, group};
use crate::kind::Key;

/// The finalizer of an owner whose dependents shall stay.
pub const ORPHAN: &str = "orphan";
/// The finalizer of an owner whose dependents shall go first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// A reference to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Group and version.
    #[serde(default)]
    pub api_version: String,
    /// Kind.
    #[serde(default)]
    pub kind: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Uid.
    #[serde(default)]
    pub uid: String,
    /// Whether the owner, deleted in the foreground, waits for this dependent.
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
}

/// The metadata that garbage collection reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Uid.
    #[serde(default)]
    pub uid: String,
    /// ResourceVersion.
    #[serde(default)]
    pub resource_version: String,
    /// Owners.
    #[serde(default)]
    pub owner_references: Vec<Owner>,
    /// Finalizers.
    #[serde(default)]
    pub finalizers: Vec<String>,
    /// Set when it is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
}

impl Meta {
    /// Whether its deletion waits for its dependents.
    #[must_use]
    pub fn waits_for_dependents(&self) -> bool {
        self.deletion_timestamp.is_some() && self.finalizers.iter().any(|f| f == FOREGROUND)
    }
}

/// An object.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is an object of.
    pub resource: Arc<Resource>,
    /// Namespace and name.
    pub key: Key,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it has the finalizer [`ORPHAN`].
    pub orphan: bool,
    /// Whether it has the finalizer [`FOREGROUND`].
    pub foreground: bool,
}

impl Node {
    /// The node of an object.
    #[must_use]
    pub fn new(resource: Arc<Resource>, meta: Meta) -> Self {
        let has = |finalizer: &str| meta.finalizers.iter().any(|f| f == finalizer);
        Self {
            resource,
            key: Key::new(&meta.namespace, &meta.name),
            deleting: meta.deletion_timestamp.is_some(),
            orphan: has(ORPHAN),
            foreground: has(FOREGROUND),
            owners: meta.owner_references,
        }
    }

    /// Whether it is being deleted and waits for its dependents to go first.
    #[must_use]
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// Whether it is what `owner`, a reference of an object in `namespace`, means.
    #[must_use]
    pub fn is(&self, owner: &Owner, namespace: &str) -> bool {
        self.resource.kind == owner.kind
            && self.resource.group() == group(&owner.api_version)
            && self.key.name == owner.name
            && (!self.resource.namespaced || self.key.namespace == namespace)
    }
}

/// All objects, by uid.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The object.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The uids of what names `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &str> {
        self.dependents.get(uid).into_iter().flatten().map(String::as_str)
    }

    /// Adds or changes an object. Gives back what should be looked at.
    pub fn put(&mut self, uid: String, node: Node) -> Vec<String> {
        let old_owners = self.nodes.get(&uid).map(|n| n.owners.clone()).unwrap_or_default();
        for owner in &old_owners {
            if !node.owners.iter().any(|o| o.uid == owner.uid) {
                self.unlink(&owner.uid, &uid);
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let mut look = self.waiting_owners(node.owners.iter().chain(&old_owners));
        self.nodes.insert(uid.clone(), node);
        if self.needs_look(&uid) {
            look.push(uid);
        }
        look
    }

    /// Whether there is something to decide about an object as it is.
    #[must_use]
    pub fn needs_look(&self, uid: &str) -> bool {
        let Some(node) = self.nodes.get(uid) else { return false };
        if node.deleting {
            return node.orphan || node.foreground;
        }
        let settled = |o: &Owner| self.nodes.get(&o.uid).is_some_and(|n| n.is(o, &node.key.namespace) && !n.waits_for_dependents());
        !node.owners.iter().all(settled)
    }

    /// Everything that [`Graph::needs_look`].
    #[must_use]
    pub fn all_to_look_at(&self) -> Vec<String> {
        self.nodes.keys().filter(|uid| self.needs_look(uid)).cloned().collect()
    }

    /// An object is gone. Gives back what should be looked at: its dependents, and owners that waited for it.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return vec![] };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let mut look = self.waiting_owners(node.owners.iter());
        look.extend(self.dependents(uid).map(str::to_owned));
        look
    }

    /// The uids of the objects of a resource.
    #[must_use]
    pub fn of(&self, resource: &Resource) -> Vec<String> {
        let same = |n: &&Node| n.resource.plural == resource.plural && n.resource.group() == resource.group();
        self.nodes.iter().filter(|(_, n)| same(n)).map(|(uid, _)| uid.clone()).collect()
    }

    /// The dependents of `uid` for which its deletion in the foreground waits.
    #[must_use]
    pub fn blocking(&self, uid: &str) -> Vec<(String, bool)> {
        let blocks = |n: &&Node| n.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
        let all = self.dependents(uid).filter_map(|d| Some((d, self.nodes.get(d)?)));
        all.filter(|(_, n)| blocks(n)).map(|(d, n)| (d.to_owned(), n.waits_for_dependents())).collect()
    }

    fn waiting_owners<'a>(&self, owners: impl Iterator<Item = &'a Owner>) -> Vec<String> {
        owners.filter(|o| self.nodes.get(&o.uid).is_some_and(Node::waits_for_dependents)).map(|o| o.uid.clone()).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// What is known, by a fresh look, of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It exists.
    Solid,
    /// It does not.
    Absent,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What is to be done about a dependent.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Keep,
    /// References that lead nowhere go; the object stays, because somebody else owns it.
    Drop(Vec<String>),
    /// It goes, and its own dependents are treated so.
    Delete(&'static str),
}

/// Decides over an object from what is known of its owners.
///
/// `dependents` says whether it has dependents of its own; `finalizers` are its own.
#[must_use]
pub fn decide(owners: &[(Owner, Verdict)], dependents: bool, finalizers: &[String]) -> Decision {
    let any = |verdict: Verdict| owners.iter().any(|(_, v)| *v == verdict);
    if owners.is_empty() {
        return Decision::Keep;
    }
    if any(Verdict::Solid) {
        let gone: Vec<String> = owners.iter().filter(|(_, v)| *v != Verdict::Solid).map(|(o, _)| o.uid.clone()).collect();
        return if gone.is_empty() { Decision::Keep } else { Decision::Drop(gone) };
    }
    if any(Verdict::Waiting) && dependents {
        return Decision::Delete("Foreground");
    }
    let has = |finalizer: &str| finalizers.iter().any(|f| f == finalizer);
    match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Decision::Delete("Orphan"),
        (_, true) => Decision::Delete("Foreground"),
        _ => Decision::Delete("Background"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(kind: &str, namespaced: bool) -> Arc<Resource> {
        Arc::new(Resource { api_version: "v1".into(), kind: kind.into(), plural: kind.to_lowercase(), namespaced, verbs: vec![] })
    }

    fn owner(uid: &str, block: bool) -> Owner {
        Owner { api_version: "v1".into(), kind: "Thing".into(), name: uid.into(), uid: uid.into(), block_owner_deletion: Some(block) }
    }

    fn node(uid: &str, owners: &[Owner], finalizer: &str) -> Node {
        let deletion_timestamp = (!finalizer.is_empty()).then(|| "now".to_owned());
        let finalizers = if finalizer.is_empty() { vec![] } else { vec![finalizer.to_owned()] };
        let meta = Meta {
            name: uid.into(),
            namespace: "ns".into(),
            owner_references: owners.to_vec(),
            finalizers,
            deletion_timestamp,
            ..Meta::default()
        };
        Node::new(resource("Thing", true), meta)
    }

    #[test]
    fn an_unknown_owner_is_a_reason_to_look_and_a_known_one_is_not() {
        let mut graph = Graph::default();
        assert_eq!(graph.put("child".into(), node("child", &[owner("parent", false)], "")), ["child"]);
        assert!(graph.put("parent".into(), node("parent", &[], "")).is_empty());
        assert!(graph.all_to_look_at().is_empty());
        assert_eq!(graph.remove("parent"), ["child"]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_not_the_one_meant() {
        let mut graph = Graph::default();
        let mut parent = node("parent", &[], "");
        parent.key.namespace = "other".into();
        graph.put("parent".into(), parent);
        assert_eq!(graph.put("child".into(), node("child", &[owner("parent", false)], "")), ["child"]);
    }

    #[test]
    fn an_owner_deleted_in_the_foreground_waits_for_those_that_block_it() {
        let mut graph = Graph::default();
        graph.put("parent".into(), node("parent", &[], FOREGROUND));
        graph.put("blocks".into(), node("blocks", &[owner("parent", true)], ""));
        graph.put("does-not".into(), node("does-not", &[owner("parent", false)], ""));
        assert_eq!(graph.blocking("parent"), [("blocks".to_owned(), false)]);
        assert_eq!(graph.remove("blocks"), ["parent"]);
        assert!(graph.blocking("parent").is_empty());
    }

    #[test]
    fn decisions_follow_the_owners() {
        use Verdict::{Absent, Solid, Waiting};
        let owners =
            |verdicts: &[Verdict]| verdicts.iter().enumerate().map(|(i, v)| (owner(&i.to_string(), false), *v)).collect::<Vec<_>>();
        assert_eq!(decide(&[], false, &[]), Decision::Keep);
        assert_eq!(decide(&owners(&[Solid]), false, &[]), Decision::Keep);
        assert_eq!(decide(&owners(&[Solid, Absent, Waiting]), true, &[]), Decision::Drop(vec!["1".into(), "2".into()]));
        assert_eq!(decide(&owners(&[Absent]), true, &[]), Decision::Delete("Background"));
        assert_eq!(decide(&owners(&[Absent, Waiting]), true, &[]), Decision::Delete("Foreground"));
        assert_eq!(decide(&owners(&[Waiting]), false, &[]), Decision::Delete("Background"));
        assert_eq!(decide(&owners(&[Absent]), false, &[ORPHAN.to_owned()]), Decision::Delete("Orphan"));
    }
}
