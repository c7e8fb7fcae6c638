//! Schemas, costs, and what must not happen whatever an expression says.

use serde_json::{Value, json};

use super::{check_with, run, shown};
use crate::cel::program::PER_CALL;
use crate::cel::shape::Shape;
use crate::cel::{Env, Program, Val};
use crate::crd::schema::Node;

fn typed(schema: &Value, source: &str, object: &Value) -> String {
    let shape = Shape::of_schema(&Node::parse(schema), "self", false).expect("a shape");
    let program = match Program::compile(&Env::default().shaped("self", &shape), source) {
        Ok(program) => program,
        Err(why) => return why,
    };
    let vars = [Val::of(object, Some(&shape))];
    shown(program.run(&vars, PER_CALL).0)
}

#[test]
fn schemas_say_what_values_are() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "when": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
        "span": {"type": "string", "format": "duration"}, "bytes": {"type": "string", "format": "byte"},
        "number": {"type": "number"}, "namespace": {"type": "string"}, "a-b.c/d__e": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": true}, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}}});
    let object = json!({"set": ["a", "b"], "map": [{"k": "x", "v": 1}, {"k": "y", "v": 2}], "when": "2024-01-01T00:00:00Z",
        "day": "2024-01-01", "span": "1h", "bytes": "YWJj", "number": 1, "namespace": "n", "a-b.c/d__e": 5, "port": "10%", "any": {"x": 1},
        "labels": {"a": "b"}});
    let cases = [
        ("self.set == ['b', 'a']", "true"),
        ("self.set + ['b', 'c']", r#"["a","b","c"]"#),
        ("(self.map + [{'k': 'x', 'v': 5}]).map(i, i.v)", "ERROR"),
        ("self.map.exists(i, i.k == 'y' && i.v == 2)", "true"),
        ("self.when > timestamp('2023-01-01T00:00:00Z') && self.day == self.when", "true"),
        ("self.span == duration('60m') && self.bytes == b'abc'", "true"),
        ("self.number / 2.0", "0.5"),
        ("self.__namespace__ + string(self.a__dash__b__dot__c__slash__d__underscores__e)", r#""n5""#),
        ("type(self.port) == string && self.port.endsWith('%')", "true"),
        ("self.port == 5", "false"),
        ("self.labels['a'] + self.labels.a", r#""bb""#),
        ("self.labels.all(k, self.labels[k] == 'b')", "true"),
        ("has(self.labels.z)", "false"),
        ("self.any.x", "ERROR: <input>:1:9: undefined field 'x'\n | self.any.x\n | ........^"),
        ("self.nope", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^"),
        ("self.number.x", "ERROR: <input>:1:12: type 'double' does not support field selection\n | self.number.x\n | ...........^"),
        (
            "self.set[0] + 1",
            "ERROR: <input>:1:13: found no matching overload for '_+_' applied to '(string, int)'\n | self.set[0] + 1\n | ............^",
        ),
        ("self == self", "true"),
        (
            "self.map[0] == self",
            "ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(self.map.@idx, self)'\n | self.map[0] == self\n | ............^",
        ),
        ("self.?number.orValue(2.0)", "1.0"),
        ("self.?map[?0].?v.orValue(7)", "1"),
    ];
    let mut wrong = vec![];
    for (source, wanted) in cases {
        let found = typed(&schema, source, &object);
        if found != wanted && !(wanted == "ERROR" && found.starts_with("ERROR")) {
            wrong.push(format!("{source}\n   wanted {wanted}\n   found  {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_costs_too_much_stops() {
    let long: Vec<u32> = (0..2000).collect();
    let x = json!({"l": long, "s": "a".repeat(100_000)});
    check_with(
        &x,
        &[
            ("x.l.all(a, x.l.all(b, a >= 0 && b >= 0))", "budget"),
            ("x.l.all(a, true) && true", "true"),
            ("x.l.all(a, x.l.all(b, a >= 0 && b >= 0)) || true", "budget"),
            ("x.l.all(a, x.s.contains('a'))", "budget"),
            ("(x.s + x.s).size()", "200000"),
            ("x.l.map(a, x.s + x.s).size()", "budget"),
        ],
    );
    let mut doubled = "optional.of([1])".to_owned();
    for i in 0..40 {
        doubled = format!("{doubled}.optMap(v{i}, v{i} + v{i})");
    }
    assert_eq!(run(&format!("{doubled}.hasValue()"), &Value::Null), "budget");
    let mut doubled = "optional.of([dyn(1)])".to_owned();
    for i in 0..40 {
        doubled = format!("{doubled}.optMap(v{i}, [dyn(v{i}), dyn(v{i})])");
    }
    assert_eq!(run(&format!("{doubled}.hasValue()"), &Value::Null), "budget");
}

#[test]
fn estimates() {
    let estimate = |schema: Value, source: &str| {
        let shape = Shape::of_schema(&Node::parse(&schema), "self", false).expect("a shape");
        Program::compile(&Env::default().shaped("self", &shape), source).map(|p| p.worst).expect(source)
    };
    let list = |most: u64| json!({"type": "array", "maxItems": most, "items": {"type": "string", "maxLength": 10}});
    assert_eq!(estimate(json!({"type": "integer"}), "self > 5"), 2);
    assert_eq!(estimate(list(5), "self.size() > 5"), 3);
    assert_eq!(estimate(list(100), "self.all(x, x == 'abc')"), 1 + 100 * (1 + 1 + 1 + 1 + 1) + 1);
    assert!(estimate(json!({"type": "array", "items": {"type": "string"}}), "self.all(x, x.contains('a string'))") > 1_000_000_000);
    assert_eq!(estimate(list(100), "self.map(x, x.size()).all(y, y > 0)"), 1 + 10 + 1 + 100 * (1 + 1 + 12) + 1 + 100 * (1 + 1 + 1 + 1 + 1));
}

#[test]
fn deep_expressions_do_not_overflow() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("-(", ")"), ("!(", ")"), ("[1].map(x, ", ")"), ("true ? 1 : ", ""), ("{1: ", "}"), ("size(", ")")]
    {
        for depth in [10, 50, 79, 1000, 20_000] {
            let source = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let found = run(&source, &Value::Null);
            assert!(
                depth < 100 || found.contains("expression recursion limit exceeded") || found.contains("exceeds limit"),
                "{open} {depth} {found}"
            );
        }
    }
    for operator in ["+", "-", "&&", "||", "==", "*"] {
        let source = vec!["x"; 5000].join(operator);
        run(&source, &Value::Null);
    }
    run(&format!("x{}", ".a".repeat(5000)), &Value::Null);
    run(&format!("x{}", "[0]".repeat(5000)), &Value::Null);
    assert_eq!(run(&vec!["true"; 5000].join(" && "), &Value::Null), "true");
    assert_eq!(run(&format!("{}1", "-".repeat(9001)), &Value::Null), "-1");
}

proptest::proptest! {
    #[test]
    fn nothing_panics(source in ".{0,60}") {
        run(&source, &json!({"a": [1]}));
    }

    #[test]
    fn nothing_panics_on_what_looks_like_cel(parts in proptest::collection::vec(0..WORDS.len(), 0..24)) {
        let source: Vec<&str> = parts.iter().map(|i| WORDS[*i]).collect();
        run(&source.join(""), &json!({"a": [1, "b", null, 1.5, {"c": "d"}]}));
    }
}

const WORDS: &[&str] = &[
    "x",
    ".a",
    ".?a",
    "[0]",
    "[?0]",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "1",
    "2u",
    "1.5",
    "'s'",
    "b'b'",
    "true",
    "null",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " < ",
    " && ",
    " || ",
    " ? ",
    " : ",
    ", ",
    " in ",
    "!",
    "-",
    ".map(i, ",
    ".all(i, ",
    ".filter(i, ",
    "i",
    ".exists(i, v, ",
    "v",
    ".size()",
    "size(",
    "string(",
    "int(",
    "duration('1h')",
    "timestamp(0)",
    "optional.of(",
    ".orValue(",
    ".optMap(i, ",
    ".split('')",
    ".join()",
    ".format([",
    "])",
    "'%s %d %f'",
    "dyn(",
    "type(",
    "quantity('1')",
    ".add(",
    "ip('::1')",
    "cidr('::/0')",
    ".containsIP(",
    "has(x.a)",
    ".substring(",
    ".indexOf(",
    ".replace('', ",
    "sets.contains(",
    ".transformMap(i, v, ",
    ".sum()",
    ".max()",
    ".matches(",
    "-9223372036854775808",
];
