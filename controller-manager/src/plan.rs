//! A plan: what a controller wants done about one object, as data.
//!
//! Writes are JSON merge patches computed from the object as seen and as wanted, so that a field this program does not know
//! is never touched. Each carries the uid and resourceVersion it was planned on: a stale plan is refused, not obeyed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Map, Value, json};

use crate::kind::{Key, Kind, Object};

/// What to do, and when to look again even if nothing changes.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do. Each is attempted, whether or not an earlier one failed, except that creations stop after a failed batch.
    pub actions: Vec<Action>,
    /// When to plan anew at the latest.
    pub recheck_at: Option<Timestamp>,
}

impl Plan {
    /// Look again at `at`, or earlier if that was wished before.
    pub fn recheck(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |other| other.min(at)));
    }

    /// Adds an action, if there is one.
    pub fn push(&mut self, action: impl Into<Option<Action>>) {
        self.actions.extend(action.into());
    }

    /// Adds the patch that makes `old` into `new`, status aside, if they differ.
    pub fn update<K: Object>(&mut self, old: &K, new: &K) {
        self.push(Action::update(old, new));
    }

    /// Adds the patch of the status that makes `old` into `new`, if they differ.
    pub fn update_status<K: Object>(&mut self, old: &K, new: &K) {
        self.push(Action::update_status(old, new));
    }
}

/// An object that exists, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub kind: &'static Kind,
    /// Namespace and name.
    pub key: Key,
    /// The uid it must still have.
    pub uid: String,
    /// The resourceVersion it must still have, where that matters.
    pub resource_version: String,
}

impl Target {
    /// The target that `object` is.
    pub fn of<K: Object>(object: &K) -> Self {
        Self {
            kind: K::KIND,
            key: object.key(),
            uid: object.uid().to_owned(),
            resource_version: object.meta().resource_version.clone().unwrap_or_default(),
        }
    }
}

/// How dependents fare when their owner is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// As the kind's default says.
    Default,
    /// The garbage collector deletes them afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// One request.
#[derive(Debug)]
pub enum Op {
    /// Creates an object.
    Create {
        /// Its kind.
        kind: &'static Kind,
        /// Its namespace; empty for none.
        namespace: String,
        /// The whole of it.
        object: Value,
    },
    /// Merge-patches an object or a subresource of it, if it is still as it was seen.
    Patch {
        /// The object.
        target: Target,
        /// `status` or another subresource, or empty.
        subresource: &'static str,
        /// The patch, without preconditions.
        patch: Value,
    },
    /// Deletes an object, if it still has the uid.
    Delete {
        /// The object.
        target: Target,
        /// What becomes of dependents.
        propagation: Propagation,
        /// Grace period in seconds; the object's own when absent.
        grace: Option<i64>,
    },
    /// Records an event and does nothing else.
    Tell {
        /// Whether the event is a warning.
        warning: bool,
        /// Reason.
        reason: &'static str,
        /// Message.
        message: String,
    },
}

/// A request, and what is to be told about it.
#[derive(Debug)]
pub struct Action {
    /// The request.
    pub op: Op,
    /// The object that events are about.
    pub about: Option<ObjectReference>,
    /// Reason and message of a Normal event when it worked; `{}` in the message stands for the name of the object written.
    pub done: Option<(&'static str, String)>,
    /// Reason and message of a Warning event when it failed; `{}` stands for the error.
    pub failed: Option<(&'static str, String)>,
    /// An object that must, by a fresh read, still exist and not be deleting: whoever adopts must itself be alive.
    pub while_alive: Option<Target>,
}

impl From<Op> for Action {
    fn from(op: Op) -> Self {
        Self { op, about: None, done: None, failed: None, while_alive: None }
    }
}

impl Action {
    /// Creates `object`.
    pub fn create<K: Object>(object: &K) -> Self {
        Op::Create { kind: K::KIND, namespace: object.namespace().to_owned(), object: to_json(object) }.into()
    }

    /// The object that is changed or deleted.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        match &self.op {
            Op::Patch { target, .. } | Op::Delete { target, .. } => Some(target),
            Op::Create { .. } | Op::Tell { .. } => None,
        }
    }

    /// Patches everything but the status of `old` into that of `new`; nothing when they are equal.
    pub fn update<K: Object>(old: &K, new: &K) -> Option<Self> {
        let (mut old_json, mut new_json) = (to_json(old), to_json(new));
        for side in [&mut old_json, &mut new_json] {
            if let Some(map) = side.as_object_mut() {
                map.remove("status");
            }
        }
        Some(Op::Patch { target: Target::of(old), subresource: "", patch: diff(&old_json, &new_json)? }.into())
    }

    /// Patches the status of `old` into that of `new`; nothing when they are equal.
    pub fn update_status<K: Object>(old: &K, new: &K) -> Option<Self> {
        Self::update_status_by(old, new, "status")
    }

    /// Patches the status of `old` into that of `new` through another subresource than `status`; nothing when they are equal.
    pub fn update_status_by<K: Object>(old: &K, new: &K, subresource: &'static str) -> Option<Self> {
        let (old_json, new_json) = (to_json(old), to_json(new));
        let patch = json!({ "status": diff(&old_json["status"], &new_json["status"])? });
        Some(Op::Patch { target: Target::of(old), subresource, patch }.into())
    }

    /// As [`Action::update_status`], with annotations: where they are the controller's word too, and no change of the object.
    pub fn update_status_and_annotations<K: Object>(old: &K, new: &K) -> Option<Self> {
        let (old_json, new_json) = (to_json(old), to_json(new));
        let mut patch = json!({});
        if let Some(status) = diff(&old_json["status"], &new_json["status"]) {
            patch["status"] = status;
        }
        let annotations = |o: &Value| o.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
        if let Some(changed) = diff(&annotations(&old_json), &annotations(&new_json)) {
            patch["metadata"] = json!({ "annotations": changed });
        }
        let changed = patch.as_object().is_some_and(|p| !p.is_empty());
        changed.then(|| Op::Patch { target: Target::of(old), subresource: "status", patch }.into())
    }

    /// Deletes `object`.
    pub fn delete<K: Object>(object: &K, propagation: Propagation) -> Self {
        Op::Delete { target: Target::of(object), propagation, grace: None }.into()
    }

    /// Deletes `object` at once.
    pub fn delete_now<K: Object>(object: &K) -> Self {
        Op::Delete { target: Target::of(object), propagation: Propagation::Default, grace: Some(0) }.into()
    }

    /// A Normal event about `object`.
    pub fn tell<K: Object>(object: &K, reason: &'static str, message: String) -> Self {
        Self { about: Some(object.reference()), ..Op::Tell { warning: false, reason, message }.into() }
    }

    /// A Warning event about `object`.
    pub fn warn<K: Object>(object: &K, reason: &'static str, message: String) -> Self {
        Self { about: Some(object.reference()), ..Op::Tell { warning: true, reason, message }.into() }
    }

    /// Tells about `object` whether this worked.
    #[must_use]
    pub fn about<K: Object>(
        mut self,
        object: &K,
        done: impl Into<Option<(&'static str, String)>>,
        failed: impl Into<Option<(&'static str, String)>>,
    ) -> Self {
        self.about = Some(object.reference());
        self.done = done.into();
        self.failed = failed.into();
        self
    }

    /// Only while `owner` is alive by a fresh read.
    #[must_use]
    pub fn while_alive<K: Object>(mut self, owner: &K) -> Self {
        self.while_alive = Some(Target::of(owner));
        self
    }
}

/// Why a plan could not be carried out: what a controller may show in a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason of the failed action's event, such as `FailedCreate`; empty when it has none.
    pub reason: &'static str,
    /// The error.
    pub message: String,
}

/// JSON of an object of ours.
#[must_use]
pub fn to_json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| {
        // Only a timestamp outside of years 0..9999 cannot be written, and those are not read either.
        tracing::error!(%error, "an object cannot be written as JSON");
        Value::Null
    })
}

/// The JSON merge patch (RFC 7386) that makes `old` into `new`; nothing when they are equal.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (key, value) in after {
        if let Some(change) = before.get(key).map_or_else(|| Some(value.clone()), |old| diff(old, value)) {
            patch.insert(key.clone(), change);
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// `patch` with the preconditions of `target`.
#[must_use]
pub fn guarded(patch: &Value, uid: &str, resource_version: &str) -> Value {
    let mut patch = patch.clone();
    if !patch["metadata"].is_object() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = uid.into();
    if !resource_version.is_empty() {
        patch["metadata"]["resourceVersion"] = resource_version.into();
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_patch_says_only_what_changed() {
        let old = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3});
        let new = json!({"a": 1, "b": {"c": [2], "d": 2}});
        assert_eq!(diff(&old, &new), Some(json!({"b": {"c": [2]}, "e": null})));
        assert_eq!(diff(&new, &new), None);
    }

    /// RFC 7386's algorithm, for checking.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else { return *target = patch.clone() };
        if !target.is_object() {
            *target = json!({});
        }
        let Some(target) = target.as_object_mut() else { return };
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0..3i32).prop_map(Value::from), proptest::collection::vec(0..2i32, 0..2).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            proptest::collection::btree_map("[ab]", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn applying_a_patch_gives_the_new_object(a in tree(), b in tree()) {
            let (old, new) = (json!({"x": a}), json!({"x": b}));
            let mut out = old.clone();
            if let Some(patch) = diff(&old, &new) {
                merge(&mut out, &patch);
            }
            prop_assert_eq!(out, new);
        }
    }
}
