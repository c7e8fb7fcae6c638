//! events.k8s.io/v1 Event: another view of the events of the core group, which is how they are stored.

use serde_json::{Map, Value};

use crate::resource::{Resource, Selectable};
use crate::resources::core;

/// What a field is called here, and in the stored form.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The row.
#[must_use]
pub fn row() -> Resource {
    let stored = core::events::row();
    let mut row = Resource::namespaced("events.k8s.io", "v1", "Event", "events").short(&["ev"]).create_on_update();
    row.selectable = stored.selectable.iter().map(here).collect();
    row.columns.clone_from(&stored.columns);
    row.ttl_seconds = stored.ttl_seconds;
    row.stored_as("", "events", to_stored, from_stored).rules_of(&stored)
}

/// Selectors name the fields of this form; they are looked up in the stored one.
fn here(s: &Selectable) -> Selectable {
    let renamed = RENAMED.iter().find_map(|(here, stored)| Some(format!("{here}{}", s.field.strip_prefix(stored)?)));
    Selectable { field: renamed.map_or_else(|| s.field.clone(), Into::into), ..s.clone() }
}

fn rename(event: Value, api_version: &str, names: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    let Value::Object(map) = event else { return event };
    let new_name = |old: &str| RENAMED.iter().map(&names).find(|(from, _)| *from == old).map_or(old.to_owned(), |(_, to)| to.to_owned());
    let mut out: Map<String, Value> = map.into_iter().map(|(k, v)| (new_name(&k), v)).collect();
    out.insert("apiVersion".to_owned(), api_version.into());
    out.into()
}

fn to_stored(event: Value) -> Value {
    rename(event, "v1", |(here, stored)| (here, stored))
}

fn from_stored(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |(here, stored)| (stored, here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_say_the_same() {
        let here = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "note": "n", "regarding": {"kind": "Pod"}});
        let stored =
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "message": "n", "involvedObject": {"kind": "Pod"}});
        assert_eq!(to_stored(here.clone()), stored);
        assert_eq!(from_stored(stored), here);
        assert!(row().selectable.iter().any(|s| s.field == "regarding.name" && s.pointer == "/involvedObject/name"));
    }
}
