//! Whether two specs say the same: an empty list or map is as good as none (upstream's semantic equality).

use api::field::{Errors, Path};
use serde::Serialize;
use serde_json::Value;

/// The tree without what says nothing.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(list) if list.is_empty() => None,
        Value::Array(list) => Some(list.into_iter().map(|v| pruned(v).unwrap_or_default()).collect()),
        Value::Object(map) => {
            let map: serde_json::Map<String, Value> = map.into_iter().filter_map(|(k, v)| Some((k, pruned(v)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        other => Some(other),
    }
}

/// Whether two parts of objects say the same.
pub fn same<T: Serialize + PartialEq>(a: &T, b: &T) -> bool {
    let tree = |v: &T| serde_json::to_value(v).ok().and_then(pruned);
    // Most that is compared is equal, and trees are dear.
    a == b || tree(a) == tree(b)
}

/// `path: Invalid value: ...: field is immutable` when the two say something different.
pub fn immutable<T: Serialize + PartialEq>(path: &Path, new: &T, old: &T, errors: &mut Errors) {
    if !same(new, old) {
        errors.immutable(path, new, old);
    }
}

#[cfg(test)]
mod tests {
    use super::same;
    use serde_json::json;

    #[test]
    fn empty_is_none() {
        assert!(same(&json!({"a": [], "b": {"c": null}, "d": 1}), &json!({"d": 1})));
        assert!(!same(&json!({"a": [{}]}), &json!({})) && !same(&json!({"a": ""}), &json!({})) && !same(&json!({"a": 0}), &json!({})));
    }
}
