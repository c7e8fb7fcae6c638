//! Strategic merge patch: a merge in which lists whose schema has a merge key are merged item by item, and in which directives
//! (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`) say what a merge alone cannot.
//!
//! The order of a merged list is upstream's: `$setElementOrder`, then the order in the patch, then the order of the live object
//! (design proposal "preserve order in strategic merge patch").

use api::schema::go::show;
use api::schema::{PatchStrategy, SchemaNode};
use serde_json::{Map, Value};

use super::PatchError;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// The object with the patch merged into it by the schema.
///
/// # Errors
/// The patch is malformed, or says what cannot be merged.
pub fn apply(original: &Value, patch: &Value, node: SchemaNode<'_>) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    merge_objects(original.clone(), patch.clone(), Some(node)).map(Value::Object)
}

/// What the schema says of the list or object under a key.
#[derive(Default, Clone, Copy)]
struct Rule<'s> {
    strategy: PatchStrategy,
    merge_key: Option<&'s str>,
    node: Option<SchemaNode<'s>>,
}

impl<'s> Rule<'s> {
    fn of(parent: Option<SchemaNode<'s>>, key: &str) -> Self {
        let Some(parent) = parent else { return Self::default() };
        match parent.field(key) {
            Some((field, node)) => {
                Self { strategy: field.patch_strategy, merge_key: field.merge_key.as_deref(), node: Some(node.item().unwrap_or(node)) }
            }
            None => Self { node: parent.child(key), ..Self::default() },
        }
    }
}

fn merge_objects(mut original: Object, mut patch: Object, node: Option<SchemaNode<'_>>) -> Result<Object, PatchError> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => return Ok(patch),
        Some(Value::String(directive)) if directive == "delete" => return Ok(Object::new()),
        Some(other) => return Err(bad_directive(&other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, node)?;
    for (key, patched) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            let Value::Array(gone) = patched else { return Err(malformed("invalid patch format of primitive list")) };
            if let Some(Value::Array(items)) = original.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if patched.is_null() {
            original.remove(&key);
            continue;
        }
        let rule = Rule::of(node, &key);
        let merged = match (original.remove(&key), patched) {
            (Some(Value::Object(old)), Value::Object(new)) if !rule.strategy.replace => Some(merge_objects(old, new, rule.node)?.into()),
            (Some(Value::Array(old)), Value::Array(new)) if rule.strategy.merge => Some(merge_lists(old, new, rule)?.into()),
            // An object replaced by its strategy, and a list, stand as the patch has them.
            (Some(Value::Object(_)), new @ Value::Object(_)) | (Some(Value::Array(_)), new @ Value::Array(_)) => Some(new),
            (_, new) => fresh(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// A patch's value where there was none: without nulls and directives.
fn fresh(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter()
                .filter(|(key, v)| !v.is_null() && key != RETAIN_KEYS && !key.starts_with(SET_ORDER) && !key.starts_with(DELETE_FROM))
                .filter_map(|(key, v)| fresh(v).map(|v| (key, v)))
                .collect(),
        )),
        Value::Array(items) => Some(items.into_iter().filter_map(fresh).collect()),
        scalar => Some(scalar),
    }
}

/// `$retainKeys`: what is not named goes from the original; the patch may name nothing else.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || malformed("invalid patch format of retainKeys");
    let keys: Vec<&str> = keys.as_array().ok_or_else(bad)?.iter().filter_map(Value::as_str).collect();
    let directive = |key: &str| key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !keys.contains(&&**key)) {
        return Err(bad());
    }
    original.retain(|key, _| keys.contains(&&**key));
    Ok(())
}

/// `$setElementOrder/x`, together with the patch of `x`, which is done with then.
fn set_orders(original: &mut Object, patch: &mut Object, node: Option<SchemaNode<'_>>) -> Result<(), PatchError> {
    let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in orders {
        let bad = || malformed("invalid patch format of setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(bad()) };
        let key = &directive[SET_ORDER.len()..];
        let rule = Rule::of(node, key);
        let list = |object: &Object| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(_) => Err(bad()),
        };
        if patch.get(key).is_some_and(Value::is_null) {
            continue;
        }
        let (old, new) = (list(original)?, list(patch)?);
        check_order(new.as_deref().unwrap_or_default(), &order, rule.merge_key)?;
        let merged = match (old.clone(), new) {
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(fresh).collect(),
            (Some(old), Some(new)) if rule.strategy.merge => merge_lists(old, new, rule)?,
            (Some(_), Some(new)) => new,
            (None, None) => continue,
        };
        patch.remove(key);
        original.insert(key.to_owned(), in_order(merged, &order, &old.unwrap_or_default(), rule.merge_key)?.into());
    }
    Ok(())
}

/// The items of a patch must come in `order`, and all be there.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item, merge_key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity(candidate, merge_key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let [patch, order] = [patch, order].map(|list| Value::from(list.to_vec()).to_string());
            return Err(PatchError::CannotMerge(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// What tells an item from the others: the value of its merge key, or itself.
fn identity<'v>(item: &'v Value, merge_key: Option<&str>) -> Result<&'v Value, PatchError> {
    match (merge_key, item) {
        (None, _) => Ok(item),
        (Some(key), Value::Object(map)) => map.get(key).ok_or_else(|| no_merge_key(item, key)),
        (Some(_), _) => Err(PatchError::CannotMerge(format!("value for key {item} is not a map"))),
    }
}

fn merge_lists(mut old: Vec<Value>, new: Vec<Value>, rule: Rule<'_>) -> Result<Vec<Value>, PatchError> {
    let Some(first) = old.first().or(new.first()) else { return Ok(old) };
    if first.is_array() {
        return Err(PatchError::CannotMerge("lists of lists are not supported".into()));
    }
    let objects = first.is_object();
    if old.iter().chain(&new).any(|item| item.is_object() != objects) {
        let [old, new] = [old, new].map(|list| Value::from(list).to_string());
        return Err(PatchError::CannotMerge(format!("list element types are not identical: [{old} {new}]")));
    }
    if !objects {
        let mut merged = old.clone();
        for item in &new {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return in_order(merged, &new, &old, None);
    }
    let Some(merge_key) = rule.merge_key else {
        let of = rule.node.map(SchemaNode::describe).unwrap_or_default();
        return Err(PatchError::CannotMerge(format!("cannot merge lists without merge key for {of}")));
    };
    let mut items = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        match item.get(PATCH) {
            None => items.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = identity(&item, Some(merge_key))?;
                old.retain(|item| item.get(merge_key) != Some(gone));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::CannotMerge("merging lists cannot yet be specified in the patch".into()));
            }
            Some(other) => return Err(bad_directive(other, item.as_object().unwrap_or(&Object::new()))),
        }
    }
    if replace {
        return Ok(items);
    }
    let mut merged = old.clone();
    for item in &items {
        let wanted = identity(item, Some(merge_key))?;
        let found = merged.iter_mut().find(|old| old.get(merge_key) == Some(wanted));
        match (found, item) {
            (Some(Value::Object(found)), Value::Object(item)) => *found = merge_objects(std::mem::take(found), item.clone(), rule.node)?,
            _ => merged.extend(fresh(item.clone())),
        }
    }
    in_order(merged, &items, &old, Some(merge_key))
}

/// `merged` with the items named in `order` in that order, and the others put before the first named one that followed them in `live`.
fn in_order(merged: Vec<Value>, order: &[Value], live: &[Value], merge_key: Option<&str>) -> Result<Vec<Value>, PatchError> {
    let place = |list: &[Value], item: &Value| -> Result<Option<usize>, PatchError> {
        let wanted = identity(item, merge_key)?;
        for (i, candidate) in list.iter().enumerate() {
            if identity(candidate, merge_key)? == wanted {
                return Ok(Some(i));
            }
        }
        Ok(None)
    };
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let in_live = place(live, &item)?;
        match place(order, &item)? {
            Some(i) => named.push((i, in_live, item)),
            None => others.push((in_live, item)),
        }
    }
    named.sort_by_key(|(i, ..)| *i);
    others.sort_by_key(|(live, _)| live.unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for (at, other) in others {
        while let Some((.., item)) = named.next_if(|(_, next, _)| !matches!((at, next), (Some(a), Some(b)) if a < *b)) {
            result.push(item);
        }
        result.push(other);
    }
    result.extend(named.map(|(.., item)| item));
    Ok(result)
}

fn malformed(words: &str) -> PatchError {
    PatchError::Malformed(words.to_owned())
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::CannotMerge(format!("map: {} does not contain declared merge key: {key}", show(item)))
}

fn bad_directive(directive: &Value, patch: &Object) -> PatchError {
    let mut patch = patch.clone();
    patch.insert(PATCH.into(), directive.clone());
    let directive = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    PatchError::CannotMerge(format!("unknown patch type: {directive} in map: {}", show(&Value::Object(patch))))
}

#[cfg(test)]
mod tests {
    use api::schema::Schema;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pod_spec() -> SchemaNode<'static> {
        Schema::builtin().node("io.k8s.api.core.v1.PodSpec").unwrap()
    }

    #[track_caller]
    fn check(message: &str, original: Value, patch: Value, expected: Result<Value, &str>) {
        let node = Schema::builtin().node(message).unwrap();
        let result = apply(&original, &patch, node).map_err(|e| e.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    const POD: &str = "io.k8s.api.core.v1.PodSpec";
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    const DEPLOYMENT: &str = "io.k8s.api.apps.v1.DeploymentSpec";

    #[test]
    fn lists_merge_by_their_key_and_patched_items_come_first() {
        check(
            POD,
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4", "x": null}]}),
            Ok(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c", "image": "4"}]})),
        );
        check(
            POD,
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"name": "z"}]}),
            Ok(json!({"containers": [{"name": "z"}, {"name": "a"}]})),
        );
    }

    #[test]
    fn directives_on_items() {
        let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
        check(
            POD,
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            Ok(json!({"containers": [{"name": "b", "image": "2"}]})),
        );
        check(POD, two.clone(), json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}), Ok(json!({"containers": [{"name": "c"}]})));
        check(POD, two.clone(), json!({"containers": [{"name": "a", "$patch": "replace", "image": "9"}]}), Ok(json!({"containers": []})));
        check(
            POD,
            two.clone(),
            json!({"containers": [{"image": "x"}]}),
            Err("map: map[image:x] does not contain declared merge key: name"),
        );
        check(
            POD,
            two,
            json!({"containers": [{"name": "a", "$patch": "leap"}]}),
            Err("unknown patch type: leap in map: map[$patch:leap name:a]"),
        );
    }

    #[test]
    fn directives_on_objects() {
        check(POD, json!({"nodeSelector": {"a": "1"}}), json!({"nodeSelector": {"$patch": "delete"}}), Ok(json!({"nodeSelector": {}})));
        check(
            POD,
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
            Ok(json!({"nodeSelector": {"b": "2"}})),
        );
        check(
            POD,
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"a": null}}),
            Ok(json!({"nodeSelector": {"b": "2"}})),
        );
        check(POD, json!({}), json!({"nodeSelector": {"a": null, "b": "1"}}), Ok(json!({"nodeSelector": {"b": "1"}})));
        check(POD, json!({}), json!({"nodeSelector": {"$patch": "delete"}}), Ok(json!({})));
    }

    #[test]
    fn retain_keys_drops_the_other_alternatives() {
        let rolling = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
        check(
            DEPLOYMENT,
            rolling.clone(),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            Ok(json!({"strategy": {"type": "Recreate"}})),
        );
        check(
            DEPLOYMENT,
            rolling,
            json!({"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}),
            Err("invalid patch format of retainKeys"),
        );
        check(
            POD,
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}),
            Ok(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
        );
    }

    #[test]
    fn primitive_lists() {
        let two = json!({"finalizers": ["a", "b"]});
        check(META, two.clone(), json!({"finalizers": ["c"]}), Ok(json!({"finalizers": ["c", "a", "b"]})));
        check(META, two.clone(), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), Ok(json!({"finalizers": ["b"]})));
        check(
            META,
            two,
            json!({"$setElementOrder/finalizers": ["b", "a", "c"], "finalizers": ["c"]}),
            Ok(json!({"finalizers": ["b", "a", "c"]})),
        );
    }

    #[test]
    fn the_order_is_the_set_order_then_the_live_one() {
        check(
            POD,
            json!({"containers": [{"name": "live1"}, {"name": "a"}, {"name": "live2"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "x"}]}),
            Ok(json!({"containers": [{"name": "live1"}, {"name": "live2"}, {"name": "b"}, {"name": "a", "image": "x"}]})),
        );
        check(
            POD,
            json!({"containers": [{"name": "a"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
            Err("The order in patch list:\n[{\"name\":\"b\"}]\n doesn't match $setElementOrder list:\n[{\"name\":\"a\"}]\n"),
        );
    }

    #[test]
    fn lists_without_a_strategy_are_replaced() {
        check(
            POD,
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            Ok(json!({"tolerations": [{"key": "b"}]})),
        );
    }

    fn containers() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-e]", prop::option::of("[x-z]"), 0..5)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(|pairs| pairs.into_iter().map(|(name, image)| json!({"name": name, "image": image})).collect())
    }

    proptest! {
        #[test]
        fn a_patch_applied_twice_changes_nothing_more(old in containers(), new in containers()) {
            let once = apply(&json!({"containers": old}), &json!({"containers": new}), pod_spec()).unwrap();
            let twice = apply(&once, &json!({"containers": new}), pod_spec()).unwrap();
            prop_assert_eq!(&twice, &once);
            for item in new.as_array().unwrap() {
                let merged = once["containers"].as_array().unwrap().iter().find(|c| c["name"] == item["name"]).unwrap();
                prop_assert_eq!(merged.get("image"), item.get("image").filter(|i| !i.is_null()));
            }
        }
    }
}
