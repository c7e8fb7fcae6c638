//! v1 Event, the stored form of events of both groups.

use api::field::{Errors, Path};
use api::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use crate::resource::{Column, Resource, Rules, Selectable};
use crate::resources::bounds::follows;
use crate::resources::cells::{int, since, text};

/// How long events are kept: upstream's `--event-ttl`.
pub const TTL_SECONDS: i64 = 3600;

/// The row.
#[must_use]
pub fn row() -> Resource {
    let mut row = Resource::namespaced("", "v1", "Event", "events")
        .short(&["ev"])
        .create_on_update()
        .columns(columns())
        .selectable(&[
            ("involvedObject.kind", ""),
            ("involvedObject.namespace", ""),
            ("involvedObject.name", ""),
            ("involvedObject.uid", ""),
            ("involvedObject.apiVersion", ""),
            ("involvedObject.resourceVersion", ""),
            ("involvedObject.fieldPath", ""),
            ("reason", ""),
            ("reportingComponent", ""),
            ("type", ""),
        ])
        .rules::<Event>(EventRules);
    row.selectable.push(Selectable {
        field: "source".into(),
        pointer: "/source/component".into(),
        absent: "".into(),
        instead: "/reportingComponent".into(),
    });
    row.ttl_seconds = Some(TTL_SECONDS);
    row
}

/// The columns of both forms.
fn columns() -> Vec<Column> {
    vec![
        Column::compute("Last Seen", |o, now| last_seen(o, now).into()),
        Column::text("Type", "/type"),
        Column::text("Reason", "/reason"),
        Column::compute("Object", |o, _| object(o).into()),
        Column::compute("Subobject", |o, _| either(o, ["/involvedObject/fieldPath", "/regarding/fieldPath"]).into()).wide(),
        Column::compute("Source", |o, _| source(o).into()).wide(),
        Column::compute("Message", |o, _| either(o, ["/message", "/note"]).trim().into()),
        Column::compute("First Seen", |o, now| first_seen(o, now).into()).wide(),
        Column::compute("Count", |o, _| times(o).to_string().into()).wide(),
        Column { priority: 1, ..Column::name() },
    ]
}

/// The first text that is there: the core group and `events.k8s.io` call fields by different names.
fn either<'a>(o: &'a Value, pointers: [&str; 2]) -> &'a str {
    pointers.into_iter().map(|p| text(o, p)).find(|t| !t.is_empty()).unwrap_or("")
}

fn first_seen(o: &Value, now: Timestamp) -> String {
    let pointers = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"];
    pointers.iter().find_map(|p| since(o, p, now)).unwrap_or_else(|| "<unknown>".to_owned())
}

fn last_seen(o: &Value, now: Timestamp) -> String {
    let pointers = ["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp"];
    pointers.iter().find_map(|p| since(o, p, now)).unwrap_or_else(|| first_seen(o, now))
}

fn times(o: &Value) -> i64 {
    ["/series/count", "/count", "/deprecatedCount"].into_iter().map(|p| int(o, p)).find(|n| *n != 0).unwrap_or(1)
}

fn object(o: &Value) -> String {
    let kind = either(o, ["/involvedObject/kind", "/regarding/kind"]).to_lowercase();
    match either(o, ["/involvedObject/name", "/regarding/name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(o: &Value) -> String {
    let old = |field: &str| either(o, [&format!("/source/{field}"), &format!("/deprecatedSource/{field}")]);
    let component = match old("component") {
        "" => either(o, ["/reportingComponent", "/reportingController"]),
        component => component,
    };
    let host = if old("host").is_empty() { text(o, "/reportingInstance") } else { old("host") };
    [component, host].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(", ")
}

struct EventRules;

impl Rules<Event> for EventRules {
    fn validate(&self, event: &Event, errors: &mut Errors) {
        validate_namespace(event, errors);
        if event.event_time.is_some() {
            validate_new_style(event, errors);
        }
    }
}

/// An event stands in the namespace of what it is about; those about cluster-scoped objects in `default`.
fn validate_namespace(event: &Event, errors: &mut Errors) {
    let path = Path::new("involvedObject").child("namespace");
    let own = event.metadata.namespace.as_deref().unwrap_or("");
    match event.involved_object.namespace.as_deref().unwrap_or("") {
        "" if own != "default" && own != "kube-system" && !own.is_empty() => {
            errors.invalid(&path, "", "does not match event.namespace");
        }
        about if !about.is_empty() && about != own => errors.invalid(&path, about, "does not match event.namespace"),
        _ => {}
    }
}

fn validate_new_style(event: &Event, errors: &mut Errors) {
    let controller = event.reporting_component.as_deref().unwrap_or("");
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.required(&path, "");
    }
    follows(controller, names::qualified_name, &path, errors);
    let fields = [
        ("reportingInstance", event.reporting_instance.as_deref(), 128),
        ("action", event.action.as_deref(), 128),
        ("reason", event.reason.as_deref(), 128),
    ];
    for (name, value, most) in fields {
        required_up_to(value.unwrap_or(""), most, &Path::new(name), errors);
    }
    let message = event.message.as_deref().unwrap_or("");
    if message.len() > 1024 {
        errors.invalid(&Path::new("message"), message, "can have at most 1024 characters");
    }
}

fn required_up_to(value: &str, most: usize, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    }
    if value.len() > most {
        errors.invalid(path, value, &format!("can have at most {most} characters"));
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table() {
        expect!["2m | Normal | Pulled | pod/x | spec.containers{c} | kubelet, n1 | hi | 5m | 3 | a"].assert_eq(&cells(
            super::row(),
            "{metadata: {name: a}, type: Normal, reason: Pulled, message: ' hi ', count: 3, source: {component: kubelet, host: n1},
              involvedObject: {kind: Pod, name: x, fieldPath: 'spec.containers{c}'},
              firstTimestamp: '2026-01-01T00:00:00Z', lastTimestamp: '2026-01-01T00:03:00Z'}",
        ));
    }

    #[test]
    fn stands_where_its_object_stands() {
        expect![[r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#]]
            .assert_eq(&errors(super::row(), "{metadata: {name: a, namespace: x}, involvedObject: {namespace: b}}"));
        expect![[r#"
            reportingInstance: Required value
            action: Required value
            reason: Required value"#]]
        .assert_eq(&errors(
            super::row(),
            "{metadata: {name: a, namespace: default}, involvedObject: {}, eventTime: '2026-01-01T00:00:00Z', reportingComponent: x}",
        ));
    }
}
