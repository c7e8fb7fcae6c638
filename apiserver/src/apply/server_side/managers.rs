//! Who owns what: `metadata.managedFields` read, written, and kept small.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::Set;

/// Managers of updates at most, as upstream; the oldest are merged into one.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager that the oldest updates are merged into.
const ANCIENT: &str = "ancient-changes";

/// The field of `metadata` that holds the entries.
pub const ENTRIES: &str = "managedFields";

/// What tells one entry from another. Ordered as upstream's entries of one operation and time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// `Apply` rather than `Update`.
    pub applied: bool,
    /// `kubectl`.
    pub name: String,
    /// `apps/v1`. Empty for appliers: they have one entry whatever the version.
    pub api_version: String,
    /// `status`, or empty.
    pub subresource: String,
}

impl Manager {
    /// The form in messages: `"kubectl" with subresource "status" using v1`.
    pub fn show(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applied {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owned {
    /// The fields.
    pub set: Set,
    /// The version they are fields of.
    pub api_version: String,
    /// When it last changed something, as in the entry; empty when the entry has none.
    pub time: String,
}

/// All entries of an object.
pub type Managers = BTreeMap<Manager, Owned>;

/// Reads `metadata.managedFields`.
///
/// # Errors
/// What is wrong with it.
pub fn read(entries: &Value) -> Result<Managers, String> {
    let mut managers = Managers::new();
    for entry in entries.as_array().into_iter().flatten() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let applied = match &*text("operation") {
            "Apply" => true,
            "Update" => false,
            other => return Err(format!("invalid value for managedFields.operation: {other:?}")),
        };
        if text("fieldsType") != "FieldsV1" {
            return Err(format!("invalid value for managedFields.fieldsType: {:?}", text("fieldsType")));
        }
        let api_version = text("apiVersion");
        let manager = Manager {
            applied,
            name: text("manager"),
            api_version: if applied { String::new() } else { api_version.clone() },
            subresource: text("subresource"),
        };
        let set = match entry.get("fieldsV1") {
            None | Some(Value::Null) => Set::default(),
            Some(fields) => Set::parse(fields)?,
        };
        managers.insert(manager, Owned { set, api_version, time: text("time") });
    }
    Ok(managers)
}

/// The entries, in upstream's order: appliers first, then by time.
pub fn write(managers: &Managers) -> Value {
    let mut entries: Vec<_> = managers.iter().collect();
    entries.sort_by(|(a, x), (b, y)| (!a.applied, &x.time, a).cmp(&(!b.applied, &y.time, b)));
    entries
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applied { "Apply" } else { "Update" },
                "apiVersion": owned.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.set.to_json(),
            });
            for (key, text) in [("time", &owned.time), ("subresource", &manager.subresource)] {
                if !text.is_empty() {
                    entry[key] = text.as_str().into();
                }
            }
            entry
        })
        .collect()
}

/// A time as entries have it.
pub fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Merges the oldest updates, one bucket for each version, until there are few enough.
pub fn cap(managers: &mut Managers) {
    let mut updates: Vec<(String, Manager)> =
        managers.iter().filter(|(manager, _)| !manager.applied).map(|(manager, owned)| (owned.time.clone(), manager.clone())).collect();
    let mut count = updates.len();
    updates.sort();
    let mut first: BTreeMap<String, Manager> = BTreeMap::new();
    for (time, manager) in updates {
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        let version = manager.api_version.clone();
        let bucket = Manager { applied: false, name: ANCIENT.into(), api_version: version.clone(), subresource: String::new() };
        let Some(older) = first.get(&version) else {
            first.insert(version, manager);
            continue;
        };
        if manager == bucket {
            continue;
        }
        if let Some(owned) = managers.remove(older) {
            let into = managers.entry(bucket.clone()).or_insert_with(|| Owned { set: Set::default(), ..owned.clone() });
            into.set = std::mem::take(&mut into.set).union(&owned.set);
        }
        if let Some(owned) = managers.remove(&manager) {
            let into = managers.entry(bucket.clone()).or_default();
            into.set = std::mem::take(&mut into.set).union(&owned.set);
            into.time = time;
            count -= 1;
        }
        first.insert(version, bucket);
    }
}

/// Takes the entries out of an object.
pub fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove(ENTRIES))
}

/// The entries of an object.
#[must_use]
pub fn of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get(ENTRIES)
}

/// Whether two objects are the same but for their entries.
#[must_use]
pub fn same_besides(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    without(Some(a), "metadata").eq(without(Some(b), "metadata")) && without(metadata(a), ENTRIES).eq(without(metadata(b), ENTRIES))
}

fn metadata(object: &Map<String, Value>) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

fn without<'m>(map: Option<&'m Map<String, Value>>, key: &'static str) -> impl Iterator<Item = (&'m String, &'m Value)> {
    map.into_iter().flatten().filter(move |(k, _)| *k != key)
}

/// Whether the same managers own the same, whenever they came to it.
#[must_use]
pub fn same_but_times(a: &Managers, b: &Managers) -> bool {
    let same = |(x, y): ((&Manager, &Owned), (&Manager, &Owned))| x.0 == y.0 && x.1.api_version == y.1.api_version && x.1.set == y.1.set;
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Puts entries into an object.
pub fn put(object: &mut Value, entries: Value) {
    let Value::Object(object) = object else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata
        && entries.as_array().is_some_and(|e| !e.is_empty())
    {
        metadata.insert(ENTRIES.into(), entries);
    }
}
