//! `managedFields`: who owns which field after a write.
//!
//! An apply has worked it out when it merged; every other write is worked out here, from what it changed. Kinds without a schema of their
//! own keep the entries they have.

use api::object::split_api_version;
use api::schema::{Schema, SchemaNode};
use serde_json::Value;

use super::Call;
use super::options::WriteOptions;
use super::projection::Part;
use crate::apply::server_side::{self, ApplyOptions};

/// After a create: the writer owns what it wrote.
pub fn created(call: &Call, options: &WriteOptions, obj: &mut Value) {
    track(call, Part::Whole, options, None, obj);
}

/// After an update: the writer owns what it changed.
pub fn updated(call: &Call, part: Part<'_>, options: &WriteOptions, old: &Value, new: &mut Value) {
    track(call, part, options, Some(old), new);
}

fn track(call: &Call, part: Part<'_>, options: &WriteOptions, old: Option<&Value>, new: &mut Value) {
    let version = version_of(new).to_owned();
    let Some(node) = schema_of(new).filter(|_| !options.applied) else { return };
    *new = server_side::update(old, new, &apply_options(call, &part, options, &version), node);
}

/// What an apply or a tracked write through this part of the object goes by.
pub fn apply_options<'o>(call: &Call, part: &'o Part<'_>, options: &'o WriteOptions, api_version: &'o str) -> ApplyOptions<'o> {
    ApplyOptions {
        manager: &options.manager,
        force: options.force == Some(true),
        subresource: part.name(),
        api_version,
        now: call.now,
        reset_fields: match part {
            Part::Whole if call.row.has_status() => &[&["status"]],
            Part::Whole => &[],
            Part::Sub(_) if part.name() == "status" => &[&["spec"]],
            Part::Sub(_) => &[&["status"]],
        },
    }
}

fn version_of(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

fn schema_of(object: &Value) -> Option<SchemaNode<'static>> {
    let (group, version) = split_api_version(version_of(object));
    Schema::builtin().node_of(group, version, object.get("kind")?.as_str()?)
}
