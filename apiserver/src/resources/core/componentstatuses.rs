//! v1 ComponentStatus: nothing is stored; the health of the control plane is asked for when somebody looks.

use serde_json::Value;

use crate::resource::{Column, Resource, Verb};
use crate::resources::cells::{items, text};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("", "v1", "ComponentStatus", "componentstatuses")
        .short(&["cs"])
        .virtual_kind()
        .only(&[Verb::Get, Verb::List])
        .columns(vec![
            Column::name(),
            Column::compute("Status", |o, _| status(o).into()),
            Column::compute("Message", |o, _| condition(o, "/message").into()),
            Column::compute("Error", |o, _| condition(o, "/error").into()),
        ])
}

fn condition<'a>(o: &'a Value, field: &str) -> &'a str {
    items(o, "/conditions").iter().find(|c| c["type"] == "Healthy").map_or("", |c| text(c, field))
}

fn status(o: &Value) -> &'static str {
    match condition(o, "/status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    }
}
