//! Who controls what: finding, adopting and releasing the objects that a selector claims.
//!
//! The rules are upstream's `BaseControllerRefManager`: an object with a controller belongs to it and to no other; an orphan
//! that matches is adopted, while the owner is alive by a fresh read; one of ours that no longer matches is released.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};

/// The owner reference that says who controls the object.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|o| o.controller == Some(true))
}

/// Whether `owner` controls `object`.
pub fn controls<O: Object, K: Object>(owner: &O, object: &K) -> bool {
    controller_of(object.meta()).is_some_and(|o| o.uid == owner.uid())
}

/// The key of the controller of `object`, when it is of this kind.
pub fn controller_key<O: Object>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller_of(meta).filter(|o| o.kind == O::KIND.kind && group(&o.api_version) == group(O::KIND.api_version))?;
    Some(Key::new(if O::KIND.namespaced { meta.namespace.clone().unwrap_or_default() } else { String::new() }, &owner.name))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The selector of a spec. One that cannot be read matches nothing, and the apiserver does not accept such.
#[must_use]
pub fn selector(spec: &LabelSelector) -> Selector {
    let expressions = spec.match_expressions.iter().flatten();
    let parts = expressions.map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    Selector::from_parts(spec.match_labels.as_ref(), parts).unwrap_or_else(|error| {
        tracing::error!(error, "a label selector cannot be read");
        Selector::nothing()
    })
}

/// Whether the labels match.
pub fn matches<K: Object>(selector: &Selector, object: &K) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(object.meta().labels.as_ref().unwrap_or(&NONE))
}

/// Those of `candidates` that belong to `owner`, with the patches that adopt and release put into `plan`.
///
/// `adoptable` says which orphans may be adopted besides matching.
pub fn claim<O: Object, K: Object>(
    owner: &O,
    selector: &Selector,
    candidates: &[Arc<K>],
    adoptable: impl Fn(&K) -> bool,
    plan: &mut Plan,
) -> Vec<Arc<K>> {
    claim_held(owner, selector, candidates, adoptable, None, plan)
}

/// As [`claim`], of objects that the owner keeps with a finalizer of its own: what is released is let go of altogether.
pub fn claim_held<O: Object, K: Object>(
    owner: &O,
    selector: &Selector,
    candidates: &[Arc<K>],
    adoptable: impl Fn(&K) -> bool,
    finalizer: Option<&str>,
    plan: &mut Plan,
) -> Vec<Arc<K>> {
    let mut ours = Vec::new();
    for object in candidates {
        let matching = matches(selector, object.as_ref());
        match controller_of(object.meta()) {
            Some(controller) if controller.uid != owner.uid() => {}
            Some(_) if matching => ours.push(object.clone()),
            Some(_) if owner.deleting() || object.deleting() => {}
            Some(_) => plan.push(release(owner, object.as_ref(), finalizer)),
            None if matching && !owner.deleting() && !object.deleting() && adoptable(object) => {
                plan.push(adopt(owner, object.as_ref()));
                ours.push(object.clone());
            }
            None => {}
        }
    }
    ours
}

fn adopt<O: Object, K: Object>(owner: &O, object: &K) -> Option<Action> {
    let mut adopted = object.clone();
    let owners = adopted.meta_mut().owner_references.get_or_insert_default();
    owners.retain(|o| o.uid != owner.uid());
    owners.push(owner.controller_ref());
    Action::update(object, &adopted).map(|action| action.while_alive(owner))
}

fn release<O: Object, K: Object>(owner: &O, object: &K, finalizer: Option<&str>) -> Option<Action> {
    let mut released = object.clone();
    let meta = released.meta_mut();
    meta.owner_references.iter_mut().for_each(|all| all.retain(|o| o.uid != owner.uid()));
    meta.owner_references = meta.owner_references.take().filter(|all| !all.is_empty());
    meta.finalizers.iter_mut().for_each(|all| all.retain(|f| Some(f.as_str()) != finalizer));
    meta.finalizers = meta.finalizers.take().filter(|all| !all.is_empty());
    Action::update(object, &released)
}
