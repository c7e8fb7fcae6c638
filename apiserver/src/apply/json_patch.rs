//! JSON patch, RFC 6902. All operations or none; the words of errors are those of the Go library that upstream uses, since `kubectl` shows
//! them. As there, a negative index counts from the end.

use serde_json::{Map, Value};

use super::PatchError;

/// Operations in one patch at most, as upstream.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the `copy` operations of one patch may add at most, as upstream: else a small patch doubles an object over and over.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// Levels of the object at most, as the JSON parser takes them: `copy` into itself would double them.
const MAX_DEPTH: usize = 128;

/// The object after all operations.
///
/// # Errors
/// The patch is malformed or too large, or one of its operations does not apply.
pub fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        let found = api::schema::go::kind_of(patch, &api::schema::Kind::Any);
        return Err(PatchError::Malformed(format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Patch")));
    };
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(PatchError::TooLarge(format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}")));
    }
    let mut document = original.clone();
    let mut copied = 0;
    for operation in operations {
        let Value::Object(operation) = operation else {
            let found = api::schema::go::kind_of(operation, &api::schema::Kind::Any);
            return Err(PatchError::Malformed(format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Operation")));
        };
        operate(&mut document, operation, &mut copied).map_err(PatchError::DoesNotApply)?;
    }
    Ok(document)
}

fn operate(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let op = text("op").unwrap_or("unknown");
    let path = || text("path").ok_or_else(|| format!("{op} operation failed to decode path: missing value"));
    let from = || text("from").ok_or_else(|| format!("{op} operation failed to decode from: missing value"));
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match op {
        "add" => {
            let path = path()?;
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("add operation does not apply: doc is missing path: \"{path}\": missing value"))?;
            add(parent, &key, fitting(path, value())?).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = path()?;
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("remove operation does not apply: doc is missing path: \"{path}\": missing value"))?;
            remove(parent, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => {
            let path = path()?;
            if path.is_empty() {
                let value = value();
                if !value.is_object() && !value.is_array() {
                    return Err("replace operation value must be object or array".into());
                }
                *document = value;
                return Ok(());
            }
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: missing value"))?;
            let place =
                get(parent, &key).map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: missing value"))?;
            *place = fitting(path, value())?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            let (parent, key) = find(document, from)
                .ok_or_else(|| format!("move operation does not apply: doc is missing from path: {from}: missing value"))?;
            let moved = remove(parent, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = path()?;
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("move operation does not apply: doc is missing destination path: {path}: missing value"))?;
            add(parent, &key, fitting(path, moved)?).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "copy" => {
            let from = from()?;
            let (parent, key) = find(document, from)
                .ok_or_else(|| format!("copy operation does not apply: doc is missing from path: {from}: missing value"))?;
            let value = get(parent, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?.clone();
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of JSON patch copy is {copied}, exceeding the limit {MAX_COPIED}"
                ));
            }
            let path = path()?;
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("copy operation does not apply: doc is missing destination path: {path}: missing value"))?;
            add(parent, &key, fitting(path, value)?).map_err(|e| format!("error while adding value during copy: {e}"))
        }
        "test" => {
            let path = path()?;
            let failed = || format!("testing value {path} failed: test failed");
            let wanted = value();
            if path.is_empty() {
                return if *document == wanted { Ok(()) } else { Err(failed()) };
            }
            let (parent, key) =
                find(document, path).ok_or_else(|| format!("test operation does not apply: is missing path: {path}: missing value"))?;
            // What an object does not have is null; clients add a first finalizer on that condition.
            let found = match parent {
                Value::Object(map) => map.get(&key).unwrap_or(&Value::Null),
                list => get(list, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?,
            };
            if *found == wanted { Ok(()) } else { Err(failed()) }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

/// A value that is not too deep for its place.
fn fitting(path: &str, value: Value) -> Result<Value, String> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    if path.split('/').count() + depth(&value) > MAX_DEPTH { Err("exceeded max depth".into()) } else { Ok(value) }
}

/// What holds the place a pointer names, and the last part of the pointer.
fn find<'d>(document: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
    let mut parts = path.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~"));
    let mut key = parts.next()?;
    let mut place = document;
    for next in parts {
        place = get(place, &key).ok()?;
        key = next;
    }
    (place.is_object() || place.is_array()).then_some((place, key))
}

fn get<'d>(parent: &'d mut Value, key: &str) -> Result<&'d mut Value, String> {
    match parent {
        Value::Object(map) => map.get_mut(key).ok_or_else(|| format!("unable to get nonexistent key: {key}: missing value")),
        Value::Array(items) => {
            let at = index(key, items.len())?;
            Ok(&mut items[at])
        }
        _ => Err("missing value".into()),
    }
}

fn add(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(key, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err("missing value".into()),
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::Object(map) => map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(items) => {
            let at = index(key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err("missing value".into()),
    }
}

/// An index below `length`, negative ones counted from it.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let given: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let at = if given < 0 { given + length as i64 } else { given };
    usize::try_from(at)
        .ok()
        .filter(|i| *i < length)
        .ok_or_else(|| format!("Unable to access invalid index: {given}: invalid index referenced"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(original: Value, patch: Value, expected: Result<Value, &str>) {
        let result = apply(&original, &patch).map_err(|e| e.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    #[test]
    fn operations_apply() {
        check(json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), Ok(json!({"a": [1, 2, 3]})));
        check(json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), Ok(json!({"a": [1, 2]})));
        check(json!({}), json!([{"op": "add", "path": "/a~1b~0", "value": null}]), Ok(json!({"a/b~": null})));
        check(json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/-1"}]), Ok(json!({"a": [1]})));
        check(json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": {"b": 2}}]), Ok(json!({"a": {"b": 2}})));
        check(json!({"a": {"b": 1}}), json!([{"op": "move", "from": "/a/b", "path": "/c"}]), Ok(json!({"a": {}, "c": 1})));
        check(json!({"a": [1]}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Ok(json!({"a": [1], "b": [1]})));
        check(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}]), Ok(json!({})));
    }

    #[test]
    fn what_does_not_apply_is_said_as_upstream_says_it() {
        let missing = "replace operation does not apply: doc is missing key: /a: missing value";
        check(json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), Err(missing));
        let missing = "add operation does not apply: doc is missing path: \"/a/b\": missing value";
        check(json!({}), json!([{"op": "add", "path": "/a/b", "value": 1}]), Err(missing));
        check(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 2}]), Err("testing value /a failed: test failed"));
        check(json!({}), json!([{"op": "test", "path": "/a", "value": null}]), Ok(json!({})));
        check(json!({}), json!([{"op": "test", "path": "/a", "value": 1}]), Err("testing value /a failed: test failed"));
        let missing = "error in remove for path: '/a': Unable to remove nonexistent key: a: missing value";
        check(json!({}), json!([{"op": "remove", "path": "/a"}]), Err(missing));
        let index = "error in add for path: '/a/7': Unable to access invalid index: 7: invalid index referenced";
        check(json!({"a": []}), json!([{"op": "add", "path": "/a/7", "value": 1}]), Err(index));
        check(json!({}), json!([{"op": "leap", "path": "/a"}]), Err("Unexpected kind: leap"));
        check(json!({}), json!({"a": 1}), Err("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
    }

    #[test]
    fn depth_is_bounded() {
        let operations = (0..200).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/x"}));
        let error = apply(&json!({"a": {"x": 1}}), &operations.collect()).unwrap_err().to_string();
        assert_eq!(error, "exceeded max depth");
        let mut patch = vec![];
        for i in 0..200 {
            patch.push(json!({"op": "add", "path": "/a".repeat(i + 1), "value": {}}));
        }
        assert_eq!(apply(&json!({}), &Value::from(patch)).unwrap_err().to_string(), "exceeded max depth");
    }

    #[test]
    fn operations_and_copies_are_bounded() {
        let many = Value::from(vec![json!({"op": "add", "path": "/a", "value": 1}); MAX_OPERATIONS + 1]);
        assert!(matches!(apply(&json!({}), &many), Err(PatchError::TooLarge(_))));
        let doubling: Vec<_> = (0..64).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})).collect();
        let error = apply(&json!({"a": {"x": "y"}}), &Value::from(doubling)).unwrap_err().to_string();
        assert!(error.starts_with("Unable to complete the copy"), "{error}");
    }
}
