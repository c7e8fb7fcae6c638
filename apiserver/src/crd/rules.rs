//! `x-kubernetes-validations`: rules in CEL at any place of a schema, compiled when first needed and evaluated over what is written.
//!
//! A rule sees the value at its place as `self`, and what it was before as `oldSelf` where the two correspond: through fields, maps, and lists of
//! type map. What is wrong is forgiven where nothing changed (KEP-4008), unless the rule is about the change itself. All rules of one object
//! share a budget. What a definition may say is [`super::rules_check`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::field::{Error, Errors, Kind, Path};
use serde_json::Value;

use super::schema::{Node, flag};
use crate::cel::program::PER_CALL;
use crate::cel::shape::Shape;
use crate::cel::types::Type;
use crate::cel::{Env, Fail, Program, Val};
use crate::resources::cells::{items, text};

/// What all rules may cost for one object.
const BUDGET: u64 = 10_000_000;
/// Bytes of an evaluated message at most.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules of a schema, in its shape.
#[derive(Debug, Default)]
pub struct Rules {
    root: Option<Place>,
}

/// The rules at a place, and below.
#[derive(Debug, Default)]
struct Place {
    /// The type of the value, as the schema has it.
    ty: String,
    shape: Option<Arc<Shape>>,
    rules: Vec<Rule>,
    properties: BTreeMap<String, Place>,
    additional: Option<Box<Place>>,
    items: Option<Box<Place>>,
    all_of: Vec<Place>,
    list_keys: Option<Vec<String>>,
    atomic_map: bool,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    rule: String,
    message: String,
    reason: String,
    field_path: String,
    optional_old: bool,
    /// The compiled rule, or why there is none.
    pub program: Result<Program, String>,
    /// The compiled message, or why there is none.
    pub message_program: Option<Result<Program, String>>,
}

/// The place of `oldSelf` among the variables.
const OLD_SELF: usize = 1;

impl Rule {
    /// Compiles a rule of a place of that shape.
    #[must_use]
    pub fn compile(rule: &Value, shape: &Arc<Shape>) -> Self {
        let optional_old = flag(rule, "optionalOldSelf");
        let env = Env::default().shaped("self", shape);
        let env = if optional_old { env.optional("oldSelf", shape) } else { env.shaped("oldSelf", shape) };
        let expression = text(rule, "/rule");
        let typed = |source: &str, prefix: &str, wanted: fn(&Type) -> bool, why: &str| {
            let program = Program::compile(&env, source).map_err(|e| format!("{prefix}compilation failed: {e}"))?;
            if wanted(program.result()) { Ok(program) } else { Err(why.to_owned()) }
        };
        let is_bool = |t: &Type| matches!(t, Type::Bool);
        let message_program = Some(text(rule, "/messageExpression")).filter(|m| !m.is_empty()).map(|source| {
            let is_string = |t: &Type| matches!(t, Type::String);
            typed(source, "messageExpression ", is_string, "messageExpression must evaluate to a string")
        });
        Self {
            program: typed(expression, "", is_bool, "cel expression must evaluate to a bool"),
            message_program,
            rule: expression.trim().to_owned(),
            message: text(rule, "/message").trim().to_owned(),
            reason: text(rule, "/reason").to_owned(),
            field_path: text(rule, "/fieldPath").to_owned(),
            optional_old,
        }
    }

    /// Whether the rule is about a change.
    #[must_use]
    pub fn is_transition(&self) -> bool {
        self.program.as_ref().is_ok_and(|p| p.uses(OLD_SELF))
    }

    /// How a rule is called in errors.
    fn name(&self) -> &str {
        if self.message.is_empty() { &self.rule } else { &self.message }
    }
}

/// The rules written at a place.
pub fn written(schema: &Value) -> &[Value] {
    items(schema, "/x-kubernetes-validations")
}

impl Rules {
    /// Compiles the rules of a schema.
    #[must_use]
    pub fn compile(schema: &Value) -> Self {
        Self { root: Place::compile(schema, schema, true) }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Evaluates them over an object; `old` is what it was before an update.
    pub fn evaluate(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) {
        let Some(root) = &self.root else { return };
        let change = Change { now: old.map(|old| (object, old)), parent: None };
        // What is left when the budget is used up is not evaluated: an error says so already.
        let _ = Run { errors, budget: BUDGET }.place(root, object, old, change, &Path::root());
    }
}

impl Place {
    /// The rules that `rules` says of what `schema` describes; nothing where there are none. The two differ within `allOf`.
    fn compile(rules: &Value, schema: &Value, root: bool) -> Option<Self> {
        let own = written(rules);
        let mut place = Self { ty: text(schema, "/type").to_owned(), ..Self::default() };
        if !own.is_empty() {
            place.shape = Shape::of_schema(&Node::parse(schema), "selfType", root);
            place.rules = place.shape.iter().flat_map(|shape| own.iter().map(move |r| Rule::compile(r, shape))).collect();
        }
        let below = |rules: &Value, schema: &Value| Self::compile(rules, schema, flag(schema, "x-kubernetes-embedded-resource"));
        for (name, rules) in rules.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let property = schema.get("properties").and_then(|p| p.get(name));
            if let Some(found) = property.and_then(|schema| below(rules, schema)) {
                place.properties.insert(name.clone(), found);
            }
        }
        let both = |key: &str| rules.get(key).zip(schema.get(key)).filter(|(r, s)| r.is_object() && s.is_object());
        place.items = both("items").and_then(|(r, s)| below(r, s)).map(Box::new);
        place.additional = both("additionalProperties").and_then(|(r, s)| below(r, s)).map(Box::new);
        place.all_of = items(rules, "/allOf").iter().filter_map(|r| Self::compile(r, schema, root)).collect();
        if text(schema, "/x-kubernetes-list-type") == "map" {
            let keys = items(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).map(str::to_owned);
            place.list_keys = Some(keys.collect());
        }
        place.atomic_map = text(schema, "/x-kubernetes-map-type") == "atomic";
        let has_any = !place.rules.is_empty()
            || !place.properties.is_empty()
            || !place.all_of.is_empty()
            || place.items.is_some()
            || place.additional.is_some();
        has_any.then_some(place)
    }

    /// What an item of a list of type map was before.
    fn counterpart<'v>(&self, item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
        let keys = self.list_keys.as_ref()?;
        let same = |other: &&Value| keys.iter().all(|k| other.get(k) == item.get(k));
        let mut found = old?.as_array()?.iter().filter(same);
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }
}

/// What a value was before, if that can be said; and what the nearest place above was for which it can.
#[derive(Clone, Copy)]
struct Change<'v> {
    now: Option<(&'v Value, &'v Value)>,
    parent: Option<(&'v Value, &'v Value)>,
}

impl<'v> Change<'v> {
    fn below(self, child: &'v Value, old: Option<&'v Value>) -> Self {
        match self.now {
            None => self,
            Some(_) => Self { now: old.map(|old| (child, old)), parent: self.now },
        }
    }

    /// Whether nothing changed here, so that what is wrong was wrong before.
    fn is_none(self) -> bool {
        self.now.or(self.parent).is_some_and(|(new, old)| new == old)
    }
}

/// The budget is used up.
struct Spent;

struct Run<'e> {
    errors: &'e mut Errors,
    budget: u64,
}

impl Run<'_> {
    fn place<'v>(&mut self, place: &Place, value: &'v Value, old: Option<&'v Value>, change: Change<'v>, path: &Path) -> Result<(), Spent> {
        // Rules are about values: a null is not one.
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|o| !o.is_null());
        self.rules(place, value, old, change, path)?;
        for all_of in &place.all_of {
            self.place(all_of, value, old, Change { now: None, parent: change.parent }, path)?;
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    let before = if place.atomic_map { None } else { old.and_then(|o| o.get(name)) };
                    if let Some(property) = place.properties.get(name) {
                        self.place(property, child, before, change.below(child, before), &path.child(name))?;
                    } else if let Some(additional) = &place.additional {
                        self.place(additional, child, before, change.below(child, before), &path.key(name))?;
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &place.items else { return Ok(()) };
                for (i, child) in list.iter().enumerate() {
                    let before = place.counterpart(child, old);
                    self.place(items, child, before, change.below(child, before), &path.index(i))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules<'v>(&mut self, place: &Place, value: &'v Value, old: Option<&'v Value>, change: Change<'v>, path: &Path) -> Result<(), Spent> {
        let Some(shape) = place.shape.as_deref() else { return Ok(()) };
        if self.budget == 0 && !place.rules.is_empty() {
            return self.out_of_budget(path, &place.ty);
        }
        for rule in &place.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.errors.invalid(path, place.ty.as_str(), &format!("rule compile error: {why}"));
                    continue;
                }
            };
            let transition = rule.is_transition();
            if transition && old.is_none() && !rule.optional_old {
                continue;
            }
            let before = old.map(|o| Val::of(o, Some(shape)));
            let before = if rule.optional_old { Val::Optional(before.map(Into::into)) } else { before.unwrap_or(Val::Null) };
            let vars = [Val::of(value, Some(shape)), before];
            let (out, cost) = program.run(&vars, self.budget);
            if cost > self.budget {
                return self.out_of_budget(path, &place.ty);
            }
            self.budget -= cost;
            let name = rule.name();
            match out {
                Ok(Val::Bool(true)) => {}
                Ok(_) => self.refuse(rule, place, &vars, path, transition || !change.is_none())?,
                Err(Fail::Budget) => {
                    let why = "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule";
                    self.errors.invalid(path, place.ty.as_str(), &format!("{why}: {name}"));
                    return Err(Spent);
                }
                Err(Fail::Error(why)) if why.starts_with("no such overload") => {
                    let more = "call arguments did not match a supported operator, function or macro signature for rule";
                    self.errors.invalid(path, place.ty.as_str(), &format!("'{why}': {more}: {name}"));
                }
                Err(Fail::Error(why)) => self.errors.invalid(path, place.ty.as_str(), &format!("{why} evaluating rule: {name}")),
            }
        }
        Ok(())
    }

    fn out_of_budget(&mut self, path: &Path, ty: &str) -> Result<(), Spent> {
        self.errors.invalid(path, ty, "validation failed due to running out of cost budget, no further validation rules will be run");
        Err(Spent)
    }

    /// Says what the rule says is wrong, unless that is forgiven.
    fn refuse<'v>(&mut self, rule: &'v Rule, place: &Place, vars: &[Val<'v>; 2], path: &Path, counts: bool) -> Result<(), Spent> {
        let detail = self.message(rule, vars, path, &place.ty)?;
        if !counts {
            return Ok(());
        }
        let at = segments(&rule.field_path).unwrap_or_default().iter().fold(path.clone(), |at, name| at.child(name));
        match rule.reason.as_str() {
            "FieldValueForbidden" => self.errors.forbidden(&at, &detail),
            "FieldValueRequired" => self.errors.required(&at, &detail),
            "FieldValueDuplicate" => self.errors.duplicate(&at, place.ty.as_str()),
            _ => self.errors.invalid(&at, place.ty.as_str(), &detail),
        }
        Ok(())
    }

    fn message<'v>(&mut self, rule: &'v Rule, vars: &[Val<'v>; 2], path: &Path, ty: &str) -> Result<String, Spent> {
        let otherwise = if rule.message.is_empty() { format!("failed rule: {}", rule.rule) } else { rule.message.clone() };
        let Some(Ok(program)) = &rule.message_program else { return Ok(otherwise) };
        let (out, cost) = program.run(vars, self.budget);
        if cost > self.budget {
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            self.errors.invalid(path, ty, why);
            return Err(Spent);
        }
        self.budget -= cost;
        match out {
            Ok(Val::Str(message)) => {
                let message = message.trim();
                let usable = !message.is_empty() && message.len() <= MAX_MESSAGE && !message.contains('\n');
                Ok(if usable { message.to_owned() } else { otherwise })
            }
            Err(Fail::Budget) if cost > PER_CALL => {
                let why = "no further validation rules will be run due to call cost exceeds limit for messageExpression";
                self.errors.invalid(path, ty, &format!("{why}: {:?}", rule.rule));
                Err(Spent)
            }
            _ => Ok(otherwise),
        }
    }
}

/// The names in the field path of a rule (`.spec['a']`).
///
/// # Errors
/// What is wrong with it.
pub fn segments(path: &str) -> Result<Vec<String>, String> {
    let mut out = vec![];
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            out.push(after[..end].to_owned());
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']").ok_or("unexpected end of JSON path")?;
            out.push(after[..end].replace("\\'", "'").replace("\\\\", "\\"));
            rest = &after[end + 2..];
        } else {
            return Err(format!("expected [ or . but got: {rest}"));
        }
    }
    Ok(out)
}

/// Whether some of these errors leave rules nothing to look at; if so, one more error says that they were not.
pub fn blocked(errors: &mut Errors) -> bool {
    let blocks = |e: &Error| matches!(e.kind, Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid);
    if !errors.0.iter().any(blocks) {
        return false;
    }
    let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    errors.invalid(&Path::root(), "null", why);
    true
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn schema(rules: Value) -> Value {
        json!({"type": "object", "x-kubernetes-validations": rules["root"], "properties": {
            "spec": {"type": "object", "x-kubernetes-validations": rules["spec"], "properties": {
                "replicas": {"type": "integer", "x-kubernetes-validations": rules["replicas"]},
                "names": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rules["name"]}},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "x-kubernetes-validations": rules["port"],
                        "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": rules["label"]}},
                "any": {"type": "object", "allOf": [{"x-kubernetes-validations": rules["allOf"]}]}}}}})
    }

    fn check(rules: Value, old: Option<Value>, new: Value, expect: Expect) {
        let mut errors = Errors::new();
        let old = old.map(|spec| json!({"spec": spec}));
        Rules::compile(&schema(rules)).evaluate(&json!({"spec": new}), old.as_ref(), &mut errors);
        expect.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    fn rule(rule: &str) -> Value {
        json!([{"rule": rule}])
    }

    #[test]
    fn rules_are_evaluated_at_their_places() {
        check(json!({"spec": rule("self.replicas > 1")}), None, json!({"replicas": 2}), expect![""]);
        check(
            json!({"root": rule("self.spec.replicas > 1"), "spec": rule("self.replicas > 2"), "replicas": rule("self > 3")}),
            None,
            json!({"replicas": 1}),
            expect![[r#"
                <nil>: Invalid value: "object": failed rule: self.spec.replicas > 1
                spec: Invalid value: "object": failed rule: self.replicas > 2
                spec.replicas: Invalid value: "integer": failed rule: self > 3"#]],
        );
        check(
            json!({"name": rule("self != 'b'"), "port": rule("self.port > 0"), "label": rule("self == 'x'"), "allOf": rule("false")}),
            None,
            json!({"names": ["a", "b"], "ports": [{"name": "p", "port": 0}], "labels": {"k": "v"}, "any": {}}),
            expect![[r#"
                spec.any: Invalid value: "object": failed rule: false
                spec.labels[k]: Invalid value: "string": failed rule: self == 'x'
                spec.names[1]: Invalid value: "string": failed rule: self != 'b'
                spec.ports[0]: Invalid value: "object": failed rule: self.port > 0"#]],
        );
    }

    #[test]
    fn messages_reasons_and_paths() {
        check(
            json!({"spec": [
                {"rule": "false", "message": " said so "},
                {"rule": "false", "message": "m", "messageExpression": "'got %d'.format([self.replicas])"},
                {"rule": "false", "messageExpression": "self.names[0]"},
                {"rule": "false", "reason": "FieldValueForbidden", "fieldPath": ".replicas", "message": "no"},
                {"rule": "false", "reason": "FieldValueRequired", "fieldPath": ".labels['a.b']", "message": "yes"},
                {"rule": "false", "reason": "FieldValueDuplicate"},
                {"rule": "self.names[0] == 'x'", "message": "named"},
                {"rule": "dyn(self.replicas) < 'x'"}]}),
            None,
            json!({"replicas": 1, "names": []}),
            expect![[r#"
                spec: Invalid value: "object": said so
                spec: Invalid value: "object": got 1
                spec: Invalid value: "object": failed rule: false
                spec.replicas: Forbidden: no
                spec.labels.a.b: Required value: yes
                spec: Duplicate value: "object"
                spec: Invalid value: "object": index out of bounds: 0 evaluating rule: named
                spec: Invalid value: "object": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: dyn(self.replicas) < 'x'"#]],
        );
    }

    #[test]
    fn transitions_see_what_was_before() {
        let rules =
            || json!({"replicas": rule("self >= oldSelf"), "port": rule("self.port == oldSelf.port"), "label": rule("self == oldSelf")});
        check(rules(), None, json!({"replicas": 1, "ports": [{"name": "p", "port": 1}], "labels": {"k": "v"}}), expect![""]);
        check(
            rules(),
            Some(json!({"replicas": 2, "ports": [{"name": "q", "port": 9}, {"name": "p", "port": 1}], "labels": {"k": "v", "l": "v"}})),
            json!({"replicas": 1, "ports": [{"name": "p", "port": 2}, {"name": "new", "port": 1}], "labels": {"k": "w", "n": "n"}}),
            expect![[r#"
                spec.labels[k]: Invalid value: "string": failed rule: self == oldSelf
                spec.ports[0]: Invalid value: "object": failed rule: self.port == oldSelf.port
                spec.replicas: Invalid value: "integer": failed rule: self >= oldSelf"#]],
        );
        let optional = json!({"replicas": [{"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true}]});
        check(optional.clone(), None, json!({"replicas": 1}), expect![""]);
        check(
            optional.clone(),
            None,
            json!({"replicas": 2}),
            expect![[r#"spec.replicas: Invalid value: "integer": failed rule: oldSelf.hasValue() || self == 1"#]],
        );
        check(optional, Some(json!({"replicas": 1})), json!({"replicas": 2}), expect![""]);
    }

    #[test]
    fn what_did_not_change_is_forgiven() {
        let rules = || json!({"replicas": rule("self > 5"), "spec": rule("size(self.names) < 1"), "name": rule("self != 'bad'"), "port": rule("self.port > 0")});
        let old = || json!({"replicas": 1, "names": ["bad"], "ports": [{"name": "p", "port": 0}]});
        check(rules(), Some(old()), old(), expect![""]);
        check(
            rules(),
            Some(old()),
            json!({"replicas": 1, "names": ["bad", "new"], "ports": [{"name": "p", "port": 0}, {"name": "q", "port": 0}]}),
            expect![[r#"
                spec: Invalid value: "object": failed rule: size(self.names) < 1
                spec.names[0]: Invalid value: "string": failed rule: self != 'bad'
                spec.ports[1]: Invalid value: "object": failed rule: self.port > 0"#]],
        );
        // A rule about the change is never forgiven.
        check(
            json!({"replicas": rule("self > oldSelf")}),
            Some(json!({"replicas": 1})),
            json!({"replicas": 1}),
            expect![[r#"spec.replicas: Invalid value: "integer": failed rule: self > oldSelf"#]],
        );
    }

    #[test]
    fn the_budget_is_shared() {
        let many: Vec<u32> = (0..1000).collect();
        let names: Vec<String> = many.iter().map(ToString::to_string).collect();
        check(
            json!({"spec": rule("self.names.all(a, self.names.all(b, a != b || a == b))")}),
            None,
            json!({"names": names}),
            expect![[
                r#"spec: Invalid value: "object": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.names.all(a, self.names.all(b, a != b || a == b))"#
            ]],
        );
        let costly = "a".repeat(9_000_000);
        check(
            json!({"name": rule("self.contains('b')")}),
            None,
            json!({"names": vec![costly; 12]}),
            expect![[r#"
                spec.names[0]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[1]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[2]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[3]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[4]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[5]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[6]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[7]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[8]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[9]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[10]: Invalid value: "string": failed rule: self.contains('b')
                spec.names[11]: Invalid value: "string": validation failed due to running out of cost budget, no further validation rules will be run"#]],
        );
    }
}
