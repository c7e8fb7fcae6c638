//! Which keys of an object become which files: `items`, modes and `optional`, the same for config maps and secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::KeyToPath;

use super::atomic_writer::{File, Payload};

/// Permissions of files when nobody says otherwise (the API's default for `defaultMode`).
pub const DEFAULT_MODE: i32 = 0o644;

/// The files for `data`: every key when there are no `items`, else the named ones.
///
/// # Errors
/// The key that an item names, which is not there and not optional.
pub fn files(
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let default_mode = default_mode.unwrap_or(DEFAULT_MODE);
    let file = |data: &[u8], mode: i32| File { data: data.to_vec(), mode: mode.cast_unsigned(), owner: None };
    let items = items.unwrap_or_default();
    if items.is_empty() {
        return Ok(data.into_iter().map(|(key, bytes)| (key.to_owned(), file(bytes, default_mode))).collect());
    }
    let mut out = Payload::new();
    for item in items {
        match data.get(item.key.as_str()) {
            Some(bytes) => {
                out.insert(item.path.clone(), file(bytes, item.mode.unwrap_or(default_mode)));
            }
            None if optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(out)
}
