//! What has to change for one table to become another, in an order that the kernel takes.

use crate::ruleset::{Hook, Key, Rule, Ruleset, Set, Value};

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Whether the table is made anew, whatever it was: then the changes build all of it.
    pub replace: bool,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new set, empty; its declaration is the given set's.
    AddSet(String, Set),
    /// A new chain, empty.
    AddChain(String, Option<Hook>),
    /// The rules of a chain become these.
    SetRules(String, Vec<Rule>),
    /// Elements leave a set.
    DeleteElements(String, Vec<Key>),
    /// Elements enter a set that does not have their keys.
    AddElements(String, Vec<(Key, Value)>),
    /// A chain to which nothing leads any more goes.
    DeleteChain(String),
    /// A set in which nothing is looked up any more goes.
    DeleteSet(String),
}

impl Transaction {
    /// The whole table, whatever was there.
    #[must_use]
    pub fn replace(with: &Ruleset) -> Self {
        Self { replace: true, ..diff(&Ruleset::default(), with) }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.replace && self.changes.is_empty()
    }
}

/// The changes that make `new` of `old`.
#[must_use]
pub fn diff(old: &Ruleset, new: &Ruleset) -> Transaction {
    let redeclared = new.sets.iter().any(|(name, set)| old.sets.get(name).is_some_and(|o| !o.same_declaration(set)))
        || new.chains.iter().any(|(name, chain)| old.chains.get(name).is_some_and(|o| o.hook != chain.hook));
    if redeclared {
        return Transaction::replace(new);
    }
    let mut changes = Vec::new();
    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        changes.push(Change::AddSet(name.clone(), Set { elements: [].into(), ..set.clone() }));
    }
    for (name, chain) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        changes.push(Change::AddChain(name.clone(), chain.hook));
    }
    for (name, chain) in &new.chains {
        let before = old.chains.get(name).map_or(&[][..], |o| &o.rules);
        if before != chain.rules {
            changes.push(Change::SetRules(name.clone(), chain.rules.clone()));
        }
    }
    let gone = || old.chains.iter().filter(|(name, _)| !new.chains.contains_key(*name));
    for (name, _) in gone().filter(|(_, chain)| !chain.rules.is_empty()) {
        changes.push(Change::SetRules(name.clone(), vec![]));
    }
    let empty = std::collections::BTreeMap::new();
    for (name, set) in &old.sets {
        let after = new.sets.get(name).map_or(&empty, |n| &n.elements);
        let leaving: Vec<Key> = set.elements.iter().filter(|(k, v)| after.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect();
        if !leaving.is_empty() {
            changes.push(Change::DeleteElements(name.clone(), leaving));
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map_or(&empty, |o| &o.elements);
        let entering: Vec<_> =
            set.elements.iter().filter(|(k, v)| before.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !entering.is_empty() {
            changes.push(Change::AddElements(name.clone(), entering));
        }
    }
    changes.extend(gone().map(|(name, _)| Change::DeleteChain(name.clone())));
    changes.extend(old.sets.keys().filter(|name| !new.sets.contains_key(*name)).map(|name| Change::DeleteSet(name.clone())));
    Transaction { replace: false, changes }
}
