//! One way to put a row to the test: YAML in; the stored form, the errors or the table cells out as text.

use api::field::Errors;
use daemon::delegated::User;
use jiff::Timestamp;
use serde_json::Value;

use crate::resource::{Cell, Cx, Resource};

/// The time of every test's request.
pub const NOW: &str = "2026-01-01T00:05:00Z";

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("the test's YAML")
}

fn with_cx<T>(f: impl FnOnce(Cx<'_>) -> T) -> T {
    let user = User { name: "somebody".to_owned(), ..User::default() };
    f(Cx { now: NOW.parse::<Timestamp>().expect("a time"), user: &user })
}

fn object(row: &Resource, text: &str) -> Value {
    let mut object = yaml(text);
    object["apiVersion"] = row.api_version().into();
    object["kind"] = row.kind.as_ref().into();
    object
}

fn print(errors: &Errors) -> String {
    errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The object as a create stores it, as YAML; the errors when there are any.
pub fn created(row: Resource, text: &str) -> String {
    let (object, errors) = create(&row, text);
    if errors.is_empty() { to_yaml(&object, 0) } else { print(&errors) }
}

/// What is wrong with an object that is created.
pub fn errors(row: Resource, text: &str) -> String {
    print(&create(&row, text).1)
}

fn create(row: &Resource, text: &str) -> (Value, Errors) {
    let mut object = object(row, text);
    row.hooks.default(&mut object).expect("defaults");
    let errors = with_cx(|cx| row.hooks.create(&mut object, cx)).expect("create");
    (object, errors)
}

/// What is wrong with a change.
pub fn update_errors(row: Resource, old: &str, new: &str) -> String {
    let (_, errors) = update(&row, old, new);
    print(&errors)
}

/// The object as an update stores it; the errors when there are any.
pub fn updated(row: Resource, old: &str, new: &str) -> String {
    let (object, errors) = update(&row, old, new);
    if errors.is_empty() { to_yaml(&object, 0) } else { print(&errors) }
}

fn update(row: &Resource, old: &str, new: &str) -> (Value, Errors) {
    let (mut old, mut new) = (object(row, old), object(row, new));
    row.hooks.default(&mut old).expect("defaults");
    row.hooks.default(&mut new).expect("defaults");
    let errors = with_cx(|cx| row.hooks.update(&mut new, &old, cx)).expect("update");
    (new, errors)
}

/// What is wrong with a change of a part.
pub fn part_errors(row: Resource, part: &str, old: &str, new: &str) -> String {
    print(&update_part(&row, part, old, new).1)
}

/// The object as an update of a part stores it.
pub fn updated_part(row: Resource, part: &str, old: &str, new: &str) -> Value {
    update_part(&row, part, old, new).0
}

fn update_part(row: &Resource, part: &str, old: &str, new: &str) -> (Value, Errors) {
    let (mut old, mut new) = (object(row, old), object(row, new));
    row.hooks.default(&mut old).expect("defaults");
    row.hooks.default(&mut new).expect("defaults");
    let errors = with_cx(|cx| row.hooks.update_part(part, &mut new, &old, cx)).expect("update of a part");
    (new, errors)
}

/// How an object goes.
pub fn deleted(row: Resource, text: &str, requested: Option<i64>) -> String {
    let mut object = object(&row, text);
    format!("{:?}", with_cx(|cx| row.hooks.deletion(&mut object, requested, cx)).expect("deletion"))
}

/// The cells of an object's line in a table, with those of `-o wide`.
pub fn cells(row: Resource, text: &str) -> String {
    let object = object(&row, text);
    let now: Timestamp = NOW.parse().expect("a time");
    let cell = |cell: &Cell| match cell {
        Cell::Pointer(p) => object.pointer(p).cloned().unwrap_or_default(),
        Cell::PointerOrZero(p) => super::cells::int(&object, p).into(),
        Cell::Compute(f) => f(&object, now),
        Cell::Age(p) => super::cells::since(&object, p, now).unwrap_or_else(|| "<unknown>".to_owned()).into(),
        Cell::JsonPath(p) => format!("jsonpath {p}").into(),
    };
    let shown = row.columns.iter().map(|c| match cell(&c.cell) {
        Value::String(s) => s,
        Value::Null => String::new(),
        other => other.to_string(),
    });
    shown.collect::<Vec<_>>().join(" | ")
}

/// YAML enough to read in a test: block style, plain scalars.
fn to_yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(k, v)| match v {
                Value::Object(m) if !m.is_empty() => format!("{pad}{k}:\n{}", to_yaml(v, indent + 2)),
                Value::Array(l) if !l.is_empty() => format!("{pad}{k}:\n{}", to_yaml(v, indent)),
                _ => format!("{pad}{k}: {}", to_yaml(v, 0)),
            })
            .collect(),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|v| match v {
                Value::Object(m) if !m.is_empty() => format!("{pad}- {}", &to_yaml(v, indent + 2)[indent + 2..]),
                _ => format!("{pad}- {}", to_yaml(v, 0)),
            })
            .collect(),
        Value::Object(_) => "{}\n".to_owned(),
        Value::Array(_) => "[]\n".to_owned(),
        Value::String(s) if s.is_empty() => "''\n".to_owned(),
        Value::String(s) => format!("{s}\n"),
        other => format!("{other}\n"),
    }
}
