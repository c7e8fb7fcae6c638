//! Server-side apply: a configuration is merged into the live object, and each field knows who owns it.
//!
//! [`apply`] is the PATCH; [`update`] is what every other write does to `managedFields`. Both are upstream's: `structured-merge-diff` for
//! the sets of fields ([`set`], [`typed`]) and the field manager around it ([`managers`], KEP-555).
//!
//! It keeps true: an applier owns exactly the fields of its last configuration; what it no longer applies and nobody else applies is
//! removed; a field that another manager owns and that would change is a conflict, unless forced. Entries whose fields are gone are gone.

pub mod managers;
pub mod path;
pub mod set;
pub mod typed;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::schema::{Schema, SchemaNode, check};
use api::status::{Cause, Details, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::PatchError;
use managers::{Manager, Managers, Owned};
use path::Element;
use set::Set;
use typed::Comparison;

/// The manager of what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager for which ownership moves from client-side apply.
const KUBECTL: &str = "kubectl";
/// What client-side apply writes.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// A manager's name is cut off here.
const MAX_NAME: usize = 128;

/// Fields that nobody owns: the system's, and those that identify the object.
const NOBODYS: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

static NOBODYS_SET: LazyLock<Set> = LazyLock::new(|| Set::of(NOBODYS.iter().copied()));

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct ApplyOptions<'o> {
    /// The field manager, from [`manager_name`].
    pub manager: &'o str,
    /// Take over what others own. Apply only.
    pub force: bool,
    /// `status`; empty for the object itself.
    pub subresource: &'o str,
    /// The version of the request, such as `apps/v1`.
    pub api_version: &'o str,
    /// For the entry's time.
    pub now: Timestamp,
    /// Paths that this endpoint does not write (the strategy's reset fields), such as `["status"]`; they are not owned through it.
    pub reset_fields: &'o [&'o [&'o str]],
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// What would change.
    pub path: Vec<Element>,
}

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", conflict_message(.0))]
pub struct Conflicts(pub Vec<Conflict>);

impl From<Conflicts> for Status {
    fn from(conflicts: Conflicts) -> Self {
        let mut status = Self::new(409, "Conflict", conflicts.to_string());
        let causes = conflicts.0.iter().map(|conflict| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {}", conflict.manager.show()),
            field: path::show(&conflict.path),
        });
        status.details = Some(Box::new(Details { causes: causes.collect(), ..Details::default() }));
        status
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager.show(), path::show(&one.path));
    }
    let mut by_manager: BTreeMap<&Manager, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(format!("\n- {}", path::show(&conflict.path)));
    }
    let lists: Vec<_> = by_manager.iter().map(|(manager, paths)| format!("conflicts with {}:{}", manager.show(), paths.concat())).collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lists.join("\n"))
}

/// The manager's name: as given, or the first part of the client's user agent.
#[must_use]
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name
}

/// The object after a configuration was applied to it, with `managedFields`. `live` is `None` when it is created by this.
///
/// # Errors
/// The configuration is malformed, or fields it would change are owned by others.
pub fn apply(live: Option<&Value>, applied: &Value, options: &ApplyOptions<'_>, node: SchemaNode<'_>) -> Result<Value, PatchError> {
    let version = applied.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != options.api_version {
        let expected = options.api_version;
        let error = format!("Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}");
        return Err(PatchError::Malformed(error));
    }
    if applied.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(PatchError::Malformed("metadata.managedFields must be nil".into()));
    }
    typed::validate(applied, Some(node))
        .map_err(|e| PatchError::CannotMerge(format!("failed to create typed patch object ({}): {e}", describe(applied))))?;
    // In the form the live object has, so that `0.5` is no change of `500m`.
    let applied = &check::conform(applied.clone(), node).map_err(PatchError::Malformed)?.value;
    let mut live_object = live.cloned();
    let entries = live_object.as_mut().and_then(managers::take);
    let mut owners = managers::read(entries.as_ref().unwrap_or(&Value::Null))
        .map_err(|e| PatchError::CannotMerge(format!("failed to decode managed fields: {e}")))?;
    if owners.is_empty()
        && let Some(live) = &live_object
    {
        let before = ApplyOptions { manager: BEFORE_FIRST_APPLY, subresource: "", reset_fields: &[], ..options.clone() };
        owners = updated(None, live, owners, &before, node);
    }
    let outcome = match run(live_object.as_ref(), applied, owners.clone(), options, options.force, node) {
        Err(conflicts) if options.manager == KUBECTL => {
            let allowed = live_object.as_ref().map(|live| from_last_applied(live, node)).unwrap_or_default();
            let refused: Vec<_> = conflicts.0.into_iter().filter(|c| !contains(&allowed, &c.path)).collect();
            if !refused.is_empty() {
                return Err(PatchError::Conflicts(Conflicts(refused)));
            }
            run(live_object.as_ref(), applied, owners, options, true, node)
        }
        outcome => outcome,
    };
    let (mut object, owners) = outcome.map_err(PatchError::Conflicts)?;
    if options.manager == KUBECTL && last_applied(&object).is_some() {
        set_last_applied(&mut object, applied);
    }
    let before = entries.and_then(|entries| managers::read(&entries).ok());
    Ok(finish(live, object, owners, before))
}

/// An object with a configuration merged into it, as apply does it, without owners: what a mutating policy does. Lists, maps and objects that are
/// replaced as a whole are not touched, since what the configuration leaves out would be lost.
///
/// # Errors
/// What the configuration may not say.
pub fn merge_whole(object: &Value, applied: &Value, node: SchemaNode<'_>) -> Result<Value, String> {
    if let Some(path) = whole(applied, node, "") {
        return Err(format!("may not mutate atomic arrays, maps or structs: {path}"));
    }
    typed::validate(applied, Some(node))?;
    Ok(typed::merge(Some(object), applied, Some(node)))
}

/// The first place of a configuration that is a list, map or object replaced as a whole.
fn whole(applied: &Value, node: SchemaNode<'_>, path: &str) -> Option<String> {
    match applied {
        Value::Object(_) | Value::Array(_) if node.is_atomic() => Some(path.to_owned()),
        Value::Object(map) => map.iter().find_map(|(name, value)| whole(value, node.child(name)?, &format!("{path}.{name}"))),
        Value::Array(list) => list.iter().enumerate().find_map(|(i, value)| whole(value, node.item()?, &format!("{path}[{i}]"))),
        _ => None,
    }
}

/// The object with `managedFields` after a write that is no apply. `live` is `None` when it is created. The entries that `new` brings are
/// those it was read with, or a client's wish: an empty list resets them.
///
/// A live object without entries stays without them.
#[must_use]
pub fn update(live: Option<&Value>, mut new: Value, options: &ApplyOptions<'_>, node: SchemaNode<'_>) -> Value {
    let live_entries = live.and_then(managers::of);
    let new_entries = managers::take(&mut new);
    let before = live_entries.map(|entries| managers::read(entries).unwrap_or_default());
    let owners = match &new_entries {
        Some(Value::Array(entries)) if options.subresource.is_empty() && is_reset(entries) => Managers::new(),
        Some(entries) if options.subresource.is_empty() && live_entries != Some(entries) => match managers::read(entries) {
            Ok(owners) if !owners.is_empty() => owners,
            _ => before.clone().unwrap_or_default(),
        },
        _ => before.clone().unwrap_or_default(),
    };
    if owners.is_empty() && live.is_some() {
        return new;
    }
    let mut owners = updated(live, &new, owners, options, node);
    managers::cap(&mut owners);
    finish(live, new, owners, before)
}

/// `[]` or `[{}]`.
fn is_reset(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [one] => one.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

/// Merges, prunes, and says who owns what.
fn run(
    live: Option<&Value>,
    applied: &Value,
    mut owners: Managers,
    options: &ApplyOptions<'_>,
    force: bool,
    node: SchemaNode<'_>,
) -> Result<(Value, Managers), Conflicts> {
    let at = Some(node);
    let ignored = Set::of(options.reset_fields.iter().copied());
    let merged = typed::merge(live, applied, at);
    let me = Manager {
        applied: true,
        name: options.manager.to_owned(),
        api_version: String::new(),
        subresource: options.subresource.to_owned(),
    };
    let set = typed::to_set(applied, at).without(&ignored);
    let time = managers::time(options.now);
    let last = owners.insert(me.clone(), Owned { set, api_version: options.api_version.to_owned(), time });
    let object = match &last {
        // Pruning may empty a map that is applied as an empty one: it is put back.
        Some(last) if !last.set.is_empty() => typed::merge(Some(&prune(&merged, &last.set, &owners, node)), applied, at),
        _ => merged,
    };
    let comparison = typed::compare(live, Some(&object), at, is_builtin(node)).without(&ignored);
    give_up(&mut owners, &me, &comparison, force)?;
    strip(&mut owners, &me);
    Ok((object, owners))
}

/// Takes what the applier applied last time and nobody applies now.
fn prune(merged: &Value, last: &Set, owners: &Managers, node: SchemaNode<'_>) -> Value {
    let at = Some(node);
    let named = |set: &Set| set.with_named_fields(at);
    let without = |gone: &Set| typed::remove(merged, gone, at).unwrap_or_else(|| json!({}));
    let everything = named(&typed::to_set(merged, at));
    let last = named(last);
    // Removing an item removes what is in it; what anybody owns there comes back,
    let owned = owners.values().fold(Set::default(), |all, owned| all.union(&owned.set));
    let kept = named(&typed::to_set(&without(&last), at)).union(&named(&owned));
    let object = without(&everything.clone().difference(&kept));
    // and so does what the applier never owned.
    let kept = named(&typed::to_set(&object, at));
    without(&everything.difference(&kept).intersection(&last))
}

/// The other managers lose what changed and what is gone. What changed is a conflict, unless forced.
fn give_up(owners: &mut Managers, me: &Manager, comparison: &Comparison, force: bool) -> Result<(), Conflicts> {
    let changed = comparison.modified.clone().union(&comparison.added);
    if !force {
        let others = owners.iter().filter(|(manager, _)| *manager != me);
        let conflicts = others.flat_map(|(manager, owned)| {
            owned.set.intersection(&changed).paths().into_iter().map(|path| Conflict { manager: manager.clone(), path })
        });
        let conflicts: Vec<_> = conflicts.collect();
        if !conflicts.is_empty() {
            return Err(Conflicts(conflicts));
        }
    }
    for (_, owned) in owners.iter_mut().filter(|(manager, _)| *manager != me) {
        owned.set = std::mem::take(&mut owned.set).difference(&changed).difference(&comparison.removed);
    }
    owners.retain(|_, owned| !owned.set.is_empty());
    Ok(())
}

/// Who owns what after a write that is no apply: the writer gains what it changed.
fn updated(live: Option<&Value>, new: &Value, mut owners: Managers, options: &ApplyOptions<'_>, node: SchemaNode<'_>) -> Managers {
    let me = Manager {
        applied: false,
        name: options.manager.to_owned(),
        api_version: options.api_version.to_owned(),
        subresource: options.subresource.to_owned(),
    };
    let whole = typed::compare(live, Some(new), Some(node), is_builtin(node));
    let comparison = whole.without(&Set::of(options.reset_fields.iter().copied()));
    let mine = owners.remove(&me);
    give_up(&mut owners, &me, &comparison, true).expect("forced");
    let gained = comparison.modified.union(&comparison.added).difference(&NOBODYS_SET);
    let kept = mine.unwrap_or_default();
    let time = if gained.is_empty() { kept.time } else { managers::time(options.now) };
    let set = kept.set.difference(&comparison.removed).union(&gained);
    if !set.is_empty() {
        owners.insert(me, Owned { set, api_version: options.api_version.to_owned(), time });
    }
    owners
}

fn strip(owners: &mut Managers, me: &Manager) {
    if let Some(owned) = owners.get_mut(me) {
        owned.set = std::mem::take(&mut owned.set).difference(&NOBODYS_SET);
        if owned.set.is_empty() {
            owners.remove(me);
        }
    }
}

/// The object with its entries. Where nothing but their times would change, the old entries stay: such a write is none.
fn finish(live: Option<&Value>, mut object: Value, mut owners: Managers, before: Option<Managers>) -> Value {
    if let (Some(live), Some(before)) = (live, before)
        && managers::same_but_times(&before, &owners)
        && managers::same_besides(live, &object)
    {
        owners = before;
    }
    managers::put(&mut object, managers::write(&owners));
    object
}

/// What client-side apply may be said to own: the fields of its last configuration that are still as it set them.
fn from_last_applied(live: &Value, node: SchemaNode<'_>) -> Set {
    let config = last_applied(live).and_then(|text| check::decode(text.as_bytes(), Some(node)).ok());
    let Some(config) = config.map(|decoded| decoded.value) else { return Set::default() };
    let at = Some(node);
    let comparison = typed::compare(Some(&config), Some(live), at, is_builtin(node));
    typed::to_set(&config, at).difference(&comparison.modified).difference(&comparison.added).difference(&comparison.removed)
}

fn contains(set: &Set, path: &[Element]) -> bool {
    match path {
        [] => false,
        [last] => set.has(last),
        [first, rest @ ..] => set.below(first).is_some_and(|below| contains(below, rest)),
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()
}

/// Keeps the annotation of client-side apply in step, so that one can go back to it.
fn set_last_applied(object: &mut Value, applied: &Value) {
    let mut config = applied.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(annotation) = object.pointer_mut("/metadata/annotations").and_then(|a| a.get_mut(LAST_APPLIED)) {
        *annotation = format!("{config}\n").into();
    }
}

/// Whether upstream holds the object in a Go struct.
fn is_builtin(node: SchemaNode<'_>) -> bool {
    std::ptr::eq(node.schema(), Schema::builtin())
}

/// `default/nginx; apps/v1, Kind=Deployment`.
fn describe(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = match text("/metadata/namespace") {
        "" => text("/metadata/name").to_owned(),
        namespace => format!("{namespace}/{}", text("/metadata/name")),
    };
    format!("{name}; {}, Kind={}", text("/apiVersion"), text("/kind"))
}

#[cfg(test)]
mod tests;
