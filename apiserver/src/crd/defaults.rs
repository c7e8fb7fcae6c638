//! Structural defaulting: fields that are not there get the schema's defaults, at every depth that is there.
//!
//! A null where the schema knows a default and no null counts as not there (upstream's `PruneNonNullableNullsWithoutDefaults`, the other
//! way round: nulls without a default stay, for validation to name).

use serde_json::Value;

use super::schema::Node;

/// Fills in defaults.
pub fn apply(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                let absent = map.get(name).is_none_or(|v| v.is_null() && !property.nullable);
                if absent {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                let Some(place) = node.field(name) else { continue };
                if let (true, false, Some(default)) = (value.is_null(), place.nullable, &place.default) {
                    *value = default.clone();
                }
                apply(value, place);
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for item in list {
                if let (true, false, Some(default)) = (item.is_null(), items.nullable, &items.default) {
                    *item = default.clone();
                }
                apply(item, items);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(mut value: Value, expect: Expect) {
        let schema = json!({"properties": {"spec": {"properties": {
            "a": {"type": "integer", "default": 1},
            "b": {"type": "object", "default": {"x": 1}, "properties": {"x": {"default": 0}, "y": {"default": "y"}}},
            "n": {"nullable": true, "default": "n"},
            "list": {"items": {"properties": {"p": {"default": "TCP"}}}},
            "map": {"additionalProperties": {"properties": {"q": {"default": true}}}},
        }}}});
        apply(&mut value, &Node::parse(&schema));
        expect.assert_eq(&value.to_string());
    }

    #[test]
    fn defaults_go_as_deep_as_the_object_does() {
        check(json!({}), expect!["{}"]);
        check(json!({"spec": {}}), expect![[r#"{"spec":{"a":1,"b":{"x":1,"y":"y"},"n":"n"}}"#]]);
        check(
            json!({"spec": {"a": null, "n": null, "b": {}, "list": [{}, {"p": "UDP"}], "map": {"k": {}}}}),
            expect![[r#"{"spec":{"a":1,"b":{"x":0,"y":"y"},"list":[{"p":"TCP"},{"p":"UDP"}],"map":{"k":{"q":true}},"n":null}}"#]],
        );
    }
}
