//! What a definition's rules may say: each compiles, its cost is bounded by the bounds of its schema, and `oldSelf` stands where there is one.

use std::sync::Arc;

use api::field::{Error, Errors, Kind, Path};
use serde_json::Value;

use super::rules::{Rule, segments, written};
use super::schema::{Node, flag};
use crate::cel::shape::Shape;
use crate::resources::cells::{items, text};

/// What one rule may be estimated to cost, for all the values it applies to.
const MOST: u64 = 10_000_000;
/// What all rules of a schema may be estimated to cost.
const MOST_OF_ALL: u64 = 100_000_000;
/// How many of the most expensive rules are named.
const NAMED: usize = 4;
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Checks the rules of a structural schema at a path.
pub fn check(schema: &Value, path: &Path, errors: &mut Errors) {
    let mut found = Found::default();
    walk(schema, schema, path, Place { root: true, times: Some(1), uncorrelated: None }, &mut found);
    let wrong = !found.wording.is_empty();
    errors.0.append(&mut found.wording.0);
    if wrong {
        return;
    }
    errors.0.append(&mut found.rules.0);
    let total = found.costs.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    if total > MOST_OF_ALL {
        found.costs.retain(|(cost, _)| *cost >= MOST_OF_ALL / 100);
        found.costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, path) in found.costs.iter().take(NAMED) {
            errors.forbidden(path, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema");
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, &exceeds(what, total, MOST_OF_ALL));
    }
}

#[derive(Default)]
struct Found {
    /// What is wrong before anything is compiled.
    wording: Errors,
    rules: Errors,
    costs: Vec<(u64, Path)>,
}

#[derive(Clone)]
struct Place {
    root: bool,
    /// For how many values at most the place stands; nothing when something above has no bound.
    times: Option<u64>,
    /// The place above within which old and new values cannot be told to correspond.
    uncorrelated: Option<Path>,
}

fn walk(rules: &Value, schema: &Value, path: &Path, place: Place, found: &mut Found) {
    let embedded = |schema: &Value| flag(schema, "x-kubernetes-embedded-resource");
    let both = |key: &str| rules.get(key).zip(schema.get(key)).filter(|(r, s)| r.is_object() && s.is_object());
    let times = |key: &str| place.times.zip(schema.get(key).and_then(Value::as_u64)).map(|(times, most)| times.saturating_mul(most));
    // What is replaced as a whole has nothing inside that corresponds; the highest such place is named.
    let within = |atomic: bool, at: &Path| place.uncorrelated.clone().or_else(|| atomic.then(|| at.clone()));
    let atomic_map = text(schema, "/x-kubernetes-map-type") == "atomic";
    if let Some((rules, schema)) = both("properties") {
        for (name, rules) in rules.as_object().into_iter().flatten() {
            if let Some(schema) = schema.get(name) {
                let below = Place { root: embedded(schema), times: place.times, uncorrelated: within(atomic_map, path) };
                walk(rules, schema, &path.child("properties").key(name), below, found);
            }
        }
    }
    if let Some((rules, inner)) = both("items") {
        let at = path.child("items");
        let uncorrelated = within(text(schema, "/x-kubernetes-list-type") != "map", &at);
        walk(rules, inner, &at, Place { root: embedded(inner), times: times("maxItems"), uncorrelated }, found);
    }
    if let Some((rules, inner)) = both("additionalProperties") {
        let below = Place { root: embedded(inner), times: times("maxProperties"), uncorrelated: within(atomic_map, path) };
        walk(rules, inner, &path.child("additionalProperties"), below, found);
    }
    for (i, rules) in items(rules, "/allOf").iter().enumerate() {
        walk(rules, schema, &path.child("allOf").index(i), place.clone(), found);
    }
    let shape = if written(rules).is_empty() { None } else { Shape::of_schema(&Node::parse(schema), "selfType", place.root) };
    for (i, rule) in written(rules).iter().enumerate() {
        let at = path.child("x-kubernetes-validations").index(i);
        wording(rule, schema, &at, &mut found.wording);
        match &shape {
            Some(shape) => one(rule, shape, &at, &place, found),
            None => {
                let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
                let why = format!(
                    "rule declared on schema that does not support validation rules type: '{}' x-kubernetes-preserve-unknown-fields: '{preserves}'",
                    text(schema, "/type")
                );
                found.rules.0.push(Error {
                    path: path.child("x-kubernetes-validations"),
                    kind: Kind::Internal,
                    body: format!("Internal error: {why}"),
                });
                return;
            }
        }
    }
}

/// What is wrong with a rule besides its expressions.
fn wording(rule: &Value, schema: &Value, at: &Path, errors: &mut Errors) {
    let breaks = |t: &str| t.contains(['\n', '\r']);
    let (expression, message) = (text(rule, "/rule").trim(), text(rule, "/message"));
    if expression.is_empty() {
        errors.required(&at.child("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at.child("message"), message, "message must be non-empty if specified");
    } else if breaks(message.trim()) {
        errors.invalid(&at.child("message"), message, "message must not contain line breaks");
    } else if breaks(expression) && message.trim().is_empty() {
        errors.required(&at.child("message"), "message must be specified if rule contains line breaks");
    }
    let message = text(rule, "/messageExpression");
    if !message.is_empty() && message.trim().is_empty() {
        errors.required(&at.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    let reason = text(rule, "/reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        errors.not_supported(&at.child("reason"), reason, &REASONS);
    }
    let field = text(rule, "/fieldPath");
    if !field.is_empty() && field.trim().is_empty() {
        errors.invalid(&at.child("fieldPath"), field, "fieldPath must be non-empty if specified");
    }
    if breaks(field) {
        errors.invalid(&at.child("fieldPath"), field, "fieldPath must not contain line breaks");
    }
    if !field.is_empty() && !leads_somewhere(field, schema) {
        errors.invalid(&at.child("fieldPath"), field, "fieldPath must be a valid path");
    }
}

/// Whether a field path names a field that the schema knows.
fn leads_somewhere(field: &str, schema: &Value) -> bool {
    let Ok(names) = segments(field) else { return false };
    let mut at = schema;
    for name in names {
        let inner = match (at.get("properties"), at.get("additionalProperties")) {
            (Some(properties), _) => properties.get(&name),
            (None, inner) => inner.filter(|s| s.is_object()),
        };
        match inner {
            Some(inner) => at = inner,
            None => return false,
        }
    }
    true
}

fn one(rule: &Value, shape: &Arc<Shape>, at: &Path, place: &Place, found: &mut Found) {
    if text(rule, "/rule").trim().is_empty() {
        return;
    }
    let compiled = Rule::compile(rule, shape);
    let times = place.times.unwrap_or_else(|| shape.most_of_them());
    let mut cost = |worst: u64, field: &str, what: &str| {
        if worst > MOST {
            found.rules.forbidden(&at.child(field), &exceeds(what, worst, MOST));
        }
        found.costs.push((worst, at.child(field)));
    };
    if let Ok(program) = &compiled.program {
        cost(program.worst.saturating_mul(times), "rule", "estimated rule cost");
    }
    if let Some(Ok(program)) = &compiled.message_program {
        cost(program.worst, "messageExpression", "estimated messageExpression cost");
    }
    let mut wrong = |field: &str, why: &str| {
        let body = format!("Invalid value: {}: {why}", as_go(rule));
        found.rules.0.push(Error { path: at.child(field), kind: Kind::Invalid, body });
    };
    if let Err(why) = &compiled.program {
        wrong("rule", why);
    }
    if let Some(Err(why)) = &compiled.message_program {
        wrong("messageExpression", why);
    }
    if compiled.is_transition() {
        if let Some(within) = &place.uncorrelated {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            found.rules.invalid(&at.child("rule"), text(rule, "/rule"), &why);
        }
    } else if let Some(optional) = rule.get("optionalOldSelf").and_then(Value::as_bool) {
        found.rules.invalid(&at.child("optionalOldSelf"), optional, "may not be set if oldSelf is not used in rule");
    }
}

/// A rule as upstream's errors show it: the Go value.
fn as_go(rule: &Value) -> String {
    let text = |field: &str| text(rule, field).to_owned();
    let reason = match text("/reason") {
        reason if reason.is_empty() => "(nil)".to_owned(),
        reason => format!("({reason:?})"),
    };
    let optional = rule.get("optionalOldSelf").and_then(Value::as_bool).map_or("nil".to_owned(), |b| b.to_string());
    format!(
        "apiextensions.ValidationRule{{Rule:{:?}, Message:{:?}, MessageExpression:{:?}, Reason:(*apiextensions.FieldValueErrorReason){reason}, FieldPath:{:?}, OptionalOldSelf:(*bool)({optional})}}",
        text("/rule"),
        text("/message"),
        text("/messageExpression"),
        text("/fieldPath")
    )
}

fn exceeds(what: &str, cost: u64, most: u64) -> String {
    let factor = cost as f64 / most as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    let advice = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared";
    format!("{what} exceeds budget by factor of {factor} ({advice})")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn errors(spec: Value, expect: Expect) {
        let mut errors = Errors::new();
        check(&json!({"type": "object", "properties": {"spec": spec}}), &Path::new("s"), &mut errors);
        expect.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    fn with(mut schema: Value, rule: Value) -> Value {
        schema["x-kubernetes-validations"] = json!([rule]);
        schema
    }

    fn object(rule: Value) -> Value {
        with(json!({"type": "object", "properties": {"a": {"type": "integer"}, "s": {"type": "string"}}}), rule)
    }

    #[test]
    fn rules_that_do_not_compile() {
        errors(object(json!({"rule": "self.a > 1"})), expect![""]);
        errors(
            object(json!({"rule": "self.x > 1"})),
            expect![[r#"
            s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"self.x > 1", Message:"", MessageExpression:"", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: compilation failed: ERROR: <input>:1:5: undefined field 'x'
             | self.x > 1
             | ....^"#]],
        );
        errors(
            object(json!({"rule": "self.a +"})),
            expect![[r#"
            s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"self.a +", Message:"", MessageExpression:"", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: compilation failed: ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
             | self.a +
             | ........^"#]],
        );
        errors(
            object(json!({"rule": "self.a"})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"self.a", Message:"", MessageExpression:"", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: cel expression must evaluate to a bool"#
            ]],
        );
        errors(
            object(json!({"rule": "self.a == 's'", "reason": "FieldValueInvalid", "optionalOldSelf": true})),
            expect![[r#"
            s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"self.a == 's'", Message:"", MessageExpression:"", Reason:(*apiextensions.FieldValueErrorReason)("FieldValueInvalid"), FieldPath:"", OptionalOldSelf:(*bool)(true)}: compilation failed: ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'
             | self.a == 's'
             | .......^
            s.properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"#]],
        );
        errors(
            object(json!({"rule": "true", "messageExpression": "1"})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].messageExpression: Invalid value: apiextensions.ValidationRule{Rule:"true", Message:"", MessageExpression:"1", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: messageExpression must evaluate to a string"#
            ]],
        );
        errors(
            object(json!({"rule": "true", "messageExpression": "self.x"})),
            expect![[r#"
            s.properties[spec].x-kubernetes-validations[0].messageExpression: Invalid value: apiextensions.ValidationRule{Rule:"true", Message:"", MessageExpression:"self.x", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'x'
             | self.x
             | ....^"#]],
        );
        errors(
            with(json!({"x-kubernetes-preserve-unknown-fields": true}), json!({"rule": "true"})),
            expect![
                "s.properties[spec].x-kubernetes-validations: Internal error: rule declared on schema that does not support validation rules type: '' x-kubernetes-preserve-unknown-fields: 'true'"
            ],
        );
    }

    #[test]
    fn wording_of_rules() {
        errors(
            object(json!({"rule": " "})),
            expect!["s.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified"],
        );
        errors(
            object(json!({"rule": "true", "message": " "})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].message: Invalid value: " ": message must be non-empty if specified"#
            ]],
        );
        errors(
            object(json!({"rule": "true", "message": "a\nb"})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].message: Invalid value: "a\nb": message must not contain line breaks"#
            ]],
        );
        errors(
            object(json!({"rule": "true\n&& true"})),
            expect![
                "s.properties[spec].x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks"
            ],
        );
        errors(
            object(json!({"rule": "true", "reason": "Because"})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].reason: Unsupported value: "Because": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#
            ]],
        );
        errors(
            object(json!({"rule": "true", "fieldPath": ".nope"})),
            expect![[
                r#"s.properties[spec].x-kubernetes-validations[0].fieldPath: Invalid value: ".nope": fieldPath must be a valid path"#
            ]],
        );
        errors(object(json!({"rule": "true", "fieldPath": ".a"})), expect![""]);
        errors(object(json!({"rule": "true", "fieldPath": "['s']"})), expect![""]);
    }

    #[test]
    fn old_self_stands_where_there_is_one() {
        let rule = json!({"rule": "self == oldSelf"});
        let text = || json!({"type": "string", "maxLength": 5});
        errors(with(text(), rule.clone()), expect![""]);
        errors(
            json!({"type": "array", "maxItems": 5, "items": with(text(), rule.clone())}),
            expect![[
                r#"s.properties[spec].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].items"#
            ]],
        );
        errors(
            json!({"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": with(json!({"type": "object", "properties": {"k": text()}}), rule.clone())}),
            expect![""],
        );
        errors(
            json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"t": with(text(), rule)}}),
            expect![[
                r#"s.properties[spec].properties[t].x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec]"#
            ]],
        );
        errors(
            with(text(), json!({"rule": "true", "optionalOldSelf": true})),
            expect![
                "s.properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
            ],
        );
    }

    #[test]
    fn costs_are_bounded_by_the_schema() {
        let list = |items: Value, most: Option<u64>, rule: &str| {
            let mut list = json!({"type": "array", "items": items});
            if let Some(most) = most {
                list["maxItems"] = most.into();
            }
            with(list, json!({"rule": rule}))
        };
        let contains = "self.all(x, x.contains('gpu'))";
        errors(
            list(json!({"type": "string"}), None, contains),
            expect![[r#"
            s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            s: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"#]],
        );
        // What upstream takes and what it refuses, to the item.
        errors(list(json!({"type": "string", "maxLength": 253}), Some(94_339), contains), expect![""]);
        errors(
            list(json!({"type": "string", "maxLength": 253}), Some(94_340), contains),
            expect![
                "s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 1.000004x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
            ],
        );
        errors(list(json!({"type": "string", "maxLength": 16}), Some(909_090), contains), expect![""]);
        errors(
            list(json!({"type": "string", "maxLength": 16}), Some(909_091), contains),
            expect![
                "s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 1.000000x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
            ],
        );
        let inner = with(json!({"type": "string"}), json!({"rule": "self.contains('gpu')"}));
        errors(
            json!({"type": "array", "items": inner}),
            expect![[r#"
            s.properties[spec].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            s.properties[spec].items.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            s: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"#]],
        );
    }
}
