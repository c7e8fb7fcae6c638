//! `managedFields`: who owns which field after a write that is no apply.

use serde_json::Value;

use super::Call;
use super::options::WriteOptions;
use super::projection::Part;

/// After a create: the writer owns what it wrote.
pub fn created(_call: &Call, _options: &WriteOptions, _obj: &mut Value) {}

/// After an update: the writer owns what it changed.
pub fn updated(_call: &Call, _part: Part<'_>, _options: &WriteOptions, _old: &Value, _new: &mut Value) {}
