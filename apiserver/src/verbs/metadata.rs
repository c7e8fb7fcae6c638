//! `metadata` of every kind: its rules, and what the system sets in it.

use api::field::{Errors, Path};
use api::names;
use api::object::Meta as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crd;
use crate::resource::{Generation, Resource};
use crate::resources::NEVER_OWNERS;

/// Fields of `metadata` that only the system sets.
const SYSTEM: [&str; 6] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];
/// How many random characters a generated name ends with.
const GENERATED: usize = 5;
/// The most characters of a name that random ones are put after.
const GENERATE_MAX: usize = 63 - GENERATED;

/// A timestamp as objects have it: whole seconds, UTC.
#[must_use]
pub fn timestamp(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Sets what the system sets on a new object.
pub fn begin(obj: &mut Value, row: &Resource, now: Timestamp, uid: String) {
    for field in SYSTEM {
        obj.set_meta(field, Value::Null);
    }
    obj.set_meta("uid", uid.into());
    obj.set_meta("creationTimestamp", timestamp(now).into());
    if row.generation != Generation::None {
        obj.set_meta("generation", 1.into());
    }
}

/// Gives a changed object what only the system may change.
pub fn carry_over(new: &mut Value, old: &Value) {
    for field in SYSTEM {
        new.set_meta(field, old.meta().and_then(|m| m.get(field)).cloned().unwrap_or_default());
    }
}

/// Counts the generation up when something besides `metadata` and `status` changed.
pub fn count_generation(new: &mut Value, old: &Value, row: &Resource) {
    if row.generation == Generation::None {
        return;
    }
    let has_status = row.has_status();
    let generation = old.meta().and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(0);
    let annotated = row.generation == Generation::SpecOrAnnotations && new.annotations() != old.annotations();
    let changed = annotated || !content(new, has_status).eq(content(old, has_status));
    new.set_meta("generation", (generation + i64::from(changed)).into());
}

/// What generations count the changes of.
fn content(object: &Value, has_status: bool) -> impl Iterator<Item = (&String, &Value)> {
    let counts = move |key: &str| !matches!(key, "metadata" | "apiVersion" | "kind") && (key != "status" || !has_status);
    object.as_object().into_iter().flatten().filter(move |(key, _)| counts(key))
}

/// A name from `metadata.generateName` and randomness.
#[must_use]
pub fn generated_name(prefix: &str, random: u64) -> String {
    // Without vowels and easily confused characters, as upstream.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut name: String = prefix.chars().take(GENERATE_MAX).collect();
    let mut random = random;
    for _ in 0..GENERATED {
        name.push(char::from(LETTERS[usize::try_from(random % LETTERS.len() as u64).unwrap_or(0)]));
        random /= LETTERS.len() as u64;
    }
    name
}

/// Checks `metadata` of an object, whatever its kind.
pub fn validate(obj: &Value, row: &Resource, errors: &mut Errors) {
    let path = Path::new("metadata");
    let name = obj.name();
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for wrong in (row.name_rule)(name) {
            errors.invalid(&path.child("name"), name, &wrong);
        }
    }
    let prefix = obj.meta_str("generateName");
    if !prefix.is_empty() {
        // What follows is lower case: a prefix may end in `-`.
        let sample = format!("{}a", prefix.chars().take(GENERATE_MAX).collect::<String>());
        for wrong in (row.name_rule)(&sample) {
            errors.invalid(&path.child("generateName"), prefix, &wrong);
        }
    }
    if row.is_namespaced() && obj.namespace().is_empty() {
        errors.required(&path.child("namespace"), "");
    }
    for (key, value) in obj.labels() {
        labels(&path.child("labels"), &key, &value, errors);
    }
    let mut size = 0;
    for (key, value) in obj.annotations() {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.invalid(&path.child("annotations"), &key, &wrong);
        }
        size += key.len() + value.len();
    }
    if size > names::ANNOTATIONS_MAX {
        errors.too_long(&path.child("annotations"), names::ANNOTATIONS_MAX);
    }
    for finalizer in obj.finalizers() {
        finalizer_name(&path.child("finalizers"), finalizer, row, errors);
    }
    if obj.finalizers().contains(&"orphan") && obj.finalizers().contains(&"foregroundDeletion") {
        errors.invalid(&path.child("finalizers"), &json!(obj.finalizers()), "finalizer orphan and foregroundDeletion cannot be both set");
    }
    owners(obj, &path.child("ownerReferences"), errors);
}

/// Checks one label.
pub fn labels(path: &Path, key: &str, value: &str, errors: &mut Errors) {
    for wrong in names::qualified_name(key) {
        errors.invalid(path, key, &wrong);
    }
    for wrong in names::label_value(value) {
        errors.invalid(path, value, &wrong);
    }
}

fn finalizer_name(path: &Path, name: &str, row: &Resource, errors: &mut Errors) {
    for wrong in names::qualified_name(name) {
        errors.invalid(path, name, &wrong);
    }
    // Of custom resources upstream asks no more.
    if row.schema.is_none()
        && !name.contains('/')
        && !["orphan", "foregroundDeletion", "kubernetes", crd::status::FINALIZER].contains(&name)
    {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn owners(obj: &Value, path: &Path, errors: &mut Errors) {
    let list = obj.meta().and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    let mut controllers = 0;
    for (i, owner) in list.into_iter().flatten().enumerate() {
        let at = path.index(i);
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or("");
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.invalid(
                    &at.child(field),
                    text(field),
                    &format!("{} must not be empty", if field == "apiVersion" { "version" } else { field }),
                );
            }
        }
        if let Some((version, kind)) = NEVER_OWNERS.iter().find(|(version, kind)| text("apiVersion") == *version && text("kind") == *kind) {
            errors.invalid(&at, owner, &format!("/{version}, Kind={kind} is disallowed from being an owner"));
        }
        controllers += i32::from(owner.get("controller").and_then(Value::as_bool) == Some(true));
    }
    if controllers > 1 {
        errors.invalid(path, &json!(list), "Only one reference can have Controller set to true.");
    }
}

/// Checks what may not change in `metadata`.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        errors.immutable(&path.child(field), &new.meta_str(field), &old.meta_str(field));
    }
    if old.is_deleting() {
        let (before, now) = (old.finalizers(), new.finalizers());
        let added: Vec<&&str> = now.iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_generated_within_bounds() {
        assert_eq!(generated_name("web-", 0), "web-bbbbb");
        assert_eq!(generated_name(&"x".repeat(80), u64::MAX).len(), 63);
        assert_ne!(generated_name("a", 1), generated_name("a", 2));
    }

    #[test]
    fn generation_counts_content_alone() {
        let row = Resource::namespaced("", "v1", "Thing", "things").status().generation();
        let old = json!({"metadata": {"generation": 3, "labels": {"a": "b"}}, "spec": {"x": 1}, "status": {"y": 1}});
        let count = |new: Value| {
            let mut new = new;
            count_generation(&mut new, &old, &row);
            new["metadata"]["generation"].clone()
        };
        assert_eq!(count(json!({"metadata": {}, "spec": {"x": 1}, "status": {"y": 2}})), 3);
        assert_eq!(count(json!({"metadata": {}, "spec": {"x": 2}})), 4);
    }

    #[test]
    fn metadata_errors() {
        let row = Resource::namespaced("", "v1", "Thing", "things");
        let mut errors = Errors::new();
        let obj = json!({"metadata": {"name": "A", "namespace": "ns", "labels": {"-": "x y"}, "finalizers": ["x"], "ownerReferences": [{"kind": "Pod", "name": "a", "uid": "u"}]}});
        validate(&obj, &row, &mut errors);
        let fields: Vec<&str> = errors.0.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            fields,
            ["metadata.name", "metadata.labels", "metadata.labels", "metadata.finalizers", "metadata.ownerReferences[0].apiVersion"]
        );
    }
}
