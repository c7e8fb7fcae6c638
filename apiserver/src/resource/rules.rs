//! The rules of a kind: what its author writes ([`Rules`]) and what the verbs call ([`Strategy`]).
//!
//! Hooks are pure and synchronous and cannot see the store: what needs another object is an admission step.

use api::field::Errors;
use jiff::Timestamp;
use serde_json::Value;

use crate::auth::User;

/// What a hook may know besides the object.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// Who makes it.
    pub user: &'a User,
}

/// How an object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// At once, unless `metadata.finalizers` hold it.
    Now,
    /// After so many seconds, or when its keeper says so by deleting it with grace period 0.
    Graceful(i64),
    /// When the object's own finalizers (a namespace's `spec.finalizers`) are gone.
    Finalized,
}

/// The rules of a kind over JSON trees: what the verbs call. Every method is pure.
///
/// An `Err` of the decoding kind means that the tree does not fit the kind's type; its text is the decoder's. What is left of the tree then
/// means nothing.
pub trait Strategy: Send + Sync {
    /// Fills in what the client may leave out.
    fn default(&self, obj: &mut Value) -> Result<(), String>;
    /// Clears what a client may not set and sets what the server sets, then checks.
    fn create(&self, obj: &mut Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// As `create`, for a change of the whole object.
    fn update(&self, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// As `update`, for a change of `status` or another part.
    fn update_part(&self, part: &str, new: &mut Value, old: &Value, cx: Cx<'_>) -> Result<Errors, String>;
    /// What the client should be told though it is no error.
    fn warnings(&self, obj: &Value) -> Vec<String>;
    /// [`Strategy::create`] and [`Strategy::warnings`] at once.
    fn create_and_warn(&self, obj: &mut Value, cx: Cx<'_>, warnings: &mut Vec<String>) -> Result<Errors, String> {
        let errors = self.create(obj, cx)?;
        warnings.extend(self.warnings(obj));
        Ok(errors)
    }
    /// [`Strategy::update`] and [`Strategy::warnings`] at once.
    fn update_and_warn(&self, new: &mut Value, old: &Value, cx: Cx<'_>, warnings: &mut Vec<String>) -> Result<Errors, String> {
        let errors = self.update(new, old, cx)?;
        warnings.extend(self.warnings(new));
        Ok(errors)
    }
    /// How the object goes, marking it when it goes slowly. `requested` is the client's grace period.
    fn deletion(&self, obj: &mut Value, requested: Option<i64>, cx: Cx<'_>) -> Result<Deletion, String>;
}

/// The rules of a kind over its type: what a row's author writes. Every method has a default that does nothing.
#[allow(unused_variables)]
pub trait Rules<K>: Send + Sync + 'static {
    /// Fills in what the client may leave out. Runs on each write, also on objects that are stored already.
    fn default(&self, obj: &mut K) {}
    /// Before an object is created: clears what the client may not set (such as `status`).
    fn prepare_create(&self, obj: &mut K, cx: Cx<'_>) {}
    /// Before an object is changed: puts back what the client may not change.
    fn prepare_update(&self, new: &mut K, old: &K, cx: Cx<'_>) {}
    /// Checks an object on its own; on create and on update.
    fn validate(&self, obj: &K, errors: &mut Errors) {}
    /// Checks what must hold on create alone.
    fn validate_create(&self, obj: &K, errors: &mut Errors) {}
    /// Checks a change.
    fn validate_update(&self, new: &K, old: &K, errors: &mut Errors) {}
    /// Before `status` or another part is changed: puts back what that may not change beyond the part.
    fn prepare_part(&self, part: &str, new: &mut K, old: &K, cx: Cx<'_>) {}
    /// Checks a change of `status` or another part.
    fn validate_part(&self, part: &str, new: &K, old: &K, errors: &mut Errors) {}
    /// What the client should be told though it is no error.
    fn warnings(&self, obj: &K) -> Vec<String> {
        vec![]
    }
    /// How the object goes.
    fn deletion(&self, obj: &mut K, requested: Option<i64>, cx: Cx<'_>) -> Deletion {
        Deletion::Now
    }
}

/// Rules of a kind that has none, over its type: the shape alone is checked.
impl<K> Rules<K> for () {}

/// Rules of a kind without a type.
pub struct NoRules;

impl Strategy for NoRules {
    fn default(&self, _: &mut Value) -> Result<(), String> {
        Ok(())
    }
    fn create(&self, _: &mut Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn update(&self, _: &mut Value, _: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn update_part(&self, _: &str, _: &mut Value, _: &Value, _: Cx<'_>) -> Result<Errors, String> {
        Ok(Errors::new())
    }
    fn warnings(&self, _: &Value) -> Vec<String> {
        vec![]
    }
    fn deletion(&self, _: &mut Value, _: Option<i64>, _: Cx<'_>) -> Result<Deletion, String> {
        Ok(Deletion::Now)
    }
}
