//! A kind's rules over its type as rules over trees: decoded, worked on, put back. Only writes come through here.

use std::marker::PhantomData;

use api::field::Errors;
use api::object::Meta as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::apply::server_side::managers;
use crate::overwrite::overwrite;
use crate::resource::{Cx, Deletion, Rules, Strategy};

/// Rules over the type `K`.
pub struct Typed<K, R> {
    rules: R,
    kind: PhantomData<fn() -> K>,
}

impl<K, R> Typed<K, R> {
    /// These rules.
    pub fn new(rules: R) -> Self {
        Self { rules, kind: PhantomData }
    }
}

impl<K, R: Rules<K>> Typed<K, R> {
    fn created(&self, k: &mut K, cx: Cx<'_>) -> Errors {
        self.rules.prepare_create(k, cx);
        let mut errors = Errors::new();
        self.rules.validate(k, &mut errors);
        self.rules.validate_create(k, &mut errors);
        errors
    }

    fn updated(&self, k: &mut K, old: &K, cx: Cx<'_>) -> Errors {
        self.rules.prepare_update(k, old, cx);
        let mut errors = Errors::new();
        self.rules.validate(k, &mut errors);
        self.rules.validate_update(k, old, &mut errors);
        errors
    }
}

fn decode<K: DeserializeOwned>(tree: &Value) -> Result<K, String> {
    K::deserialize(tree).map_err(|e| e.to_string())
}

/// Lets rules work on the typed form of a tree, and puts what becomes of it back. Types know everything of a built-in kind. The entries of
/// `managedFields` are no rule's business, and a good part of many objects: they are left out.
fn through<K: Serialize + DeserializeOwned, T>(tree: &mut Value, rules: impl FnOnce(&mut K) -> Result<T, String>) -> Result<T, String> {
    let entries = managers::take(tree);
    let mut typed = decode(tree)?;
    let outcome = rules(&mut typed)?;
    overwrite(tree, &typed).map_err(|e| e.to_string())?;
    if let Some(entries) = entries {
        tree.set_meta(managers::ENTRIES, entries);
    }
    Ok(outcome)
}

impl<K, R> Strategy for Typed<K, R>
where
    K: Serialize + DeserializeOwned + Send + Sync,
    R: Rules<K>,
{
    fn default(&self, obj: &mut Value) -> Result<(), String> {
        through(obj, |k: &mut K| {
            self.rules.default(k);
            Ok(())
        })
    }
    fn create(&self, obj: &mut Value, cx: Cx<'_>) -> Result<Errors, String> {
        through(obj, |k: &mut K| Ok(self.created(k, cx)))
    }
    fn update(&self, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        through(new, |k: &mut K| Ok(self.updated(k, &decode(old)?, cx)))
    }
    fn create_and_warn(&self, obj: &mut Value, cx: Cx<'_>, warnings: &mut Vec<String>) -> Result<Errors, String> {
        through(obj, |k: &mut K| {
            let errors = self.created(k, cx);
            warnings.extend(self.rules.warnings(k));
            Ok(errors)
        })
    }
    fn update_and_warn(&self, new: &mut Value, old: &Value, cx: Cx<'_>, warnings: &mut Vec<String>) -> Result<Errors, String> {
        through(new, |k: &mut K| {
            let errors = self.updated(k, &decode(old)?, cx);
            warnings.extend(self.rules.warnings(k));
            Ok(errors)
        })
    }
    fn update_part(&self, part: &str, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String> {
        through(new, |k: &mut K| {
            let old: K = decode(old)?;
            self.rules.prepare_part(part, k, &old, cx);
            let mut errors = Errors::new();
            self.rules.validate_part(part, k, &old, &mut errors);
            Ok(errors)
        })
    }
    fn warnings(&self, obj: &Value) -> Vec<String> {
        decode::<K>(obj).map(|k| self.rules.warnings(&k)).unwrap_or_default()
    }
    fn deletion(&self, obj: &mut Value, requested: Option<i64>, cx: Cx<'_>) -> Result<Deletion, String> {
        through(obj, |k: &mut K| Ok(self.rules.deletion(k, requested, cx)))
    }
}
