//! `managedFields`: who owns which field after a write.

use serde_json::Value;

use super::Call;
use super::options::WriteOptions;
use super::projection::Part;
use crate::apply::server_side::{self, ApplyOptions};

/// What is not owned through an endpoint, because it does not write it.
fn reset(call: &Call, part: Part<'_>) -> &'static [&'static [&'static str]] {
    match (part, call.row.has_status()) {
        (Part::Whole, true) => &[&["status"]],
        (Part::Sub(_), _) if part.name() == "status" => &[&["spec"]],
        (Part::Sub(_), true) => &[&["status"]],
        _ => &[],
    }
}

/// The options of field ownership for a write of this call.
#[must_use]
pub fn options<'o>(call: &Call, part: &'o Part<'_>, options: &'o WriteOptions, api_version: &'o str) -> ApplyOptions<'o> {
    ApplyOptions {
        manager: &options.manager,
        force: options.force.unwrap_or(false),
        subresource: part.name(),
        api_version,
        now: call.now,
        reset_fields: reset(call, *part),
    }
}

/// After a create: the writer owns what it wrote.
pub fn created(call: &Call, given: &WriteOptions, obj: &mut Value) {
    track(call, Part::Whole, given, None, obj);
}

/// After an update: the writer owns what it changed.
pub fn updated(call: &Call, part: Part<'_>, given: &WriteOptions, old: &Value, new: &mut Value) {
    track(call, part, given, Some(old), new);
}

fn track(call: &Call, part: Part<'_>, given: &WriteOptions, old: Option<&Value>, new: &mut Value) {
    // An apply has settled it already.
    if given.apply {
        return;
    }
    let Some(node) = call.schema() else { return };
    let api_version = call.row.api_version();
    *new = server_side::update(old, std::mem::take(new), &options(call, &part, given, &api_version), node);
}
