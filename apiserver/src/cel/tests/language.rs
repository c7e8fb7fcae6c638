//! The language itself.

use expect_test::expect;
use serde_json::Value;

use super::{check, run};

#[test]
fn literals_and_arithmetic() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-5 / 2", "-2"),
        ("-5 % 3", "-2"),
        ("0x1F", "31"),
        ("-0x10", "-16"),
        ("3u + 4u", "7"),
        ("1.5e2", "150.0"),
        (".5 + 1.0", "1.5"),
        ("--5", "5"),
        ("!!true", "true"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("-9223372036854775808 / -1", "error: integer overflow"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("1.0 / 0.0 > 1.0", "true"),
        ("'a' + \"b\" + '''c'd''' + r'\\n'", r#""abc'd\\n""#),
        (r"'\x41\u00e9\101\n'", r#""AéA\n""#),
        ("b'abc' == b'\\x61bc'", "true"),
        ("[1, 2] + [3]", "[1,2,3]"),
        ("{'a': 1}['a']", "1"),
        ("{'a': 1}.a", "1"),
        ("// nothing\n 1", "1"),
        ("null == null", "true"),
    ]);
}

#[test]
fn comparison_across_types() {
    check(&[
        ("1 == 1.0", "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, double)'\n | 1 == 1.0\n | ..^"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1) == 1u", "true"),
        ("1 < 1.5", "true"),
        ("2u > 1", "true"),
        ("dyn('1') == 1", "false"),
        ("x.n == null", "true"),
        ("x.a in [1.0, 2.0]", "true"),
        ("'k' in x.m", "true"),
        ("3 in x.l", "true"),
        ("x.m == {'k': 'v'}", "true"),
        ("[1, 2] == [1, 2]", "true"),
        ("9007199254740993 < 9007199254740992.0", "false"),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
        ("x.s < 1", "error: no such overload"),
        ("true > false", "true"),
        ("b'a' < b'b'", "true"),
    ]);
}

#[test]
fn logic_forgives_errors() {
    check(&[
        ("true || 1 / 0 == 1", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 || false", "error: division by zero"),
        ("x.nope || true", "true"),
        ("x.s || true", "true"),
        ("x.s && true", "error: no such overload"),
        ("x.a == 1 ? 'y' : x.nope", r#""y""#),
        ("[1, 0].exists(i, 1 / i == 1)", "true"),
        ("[0, 1].exists(i, 1 / i == 1)", "true"),
        ("[0, 2].exists(i, 1 / i == 1)", "error: division by zero"),
        ("[0, 1].all(i, 1 / i == 2)", "false"),
    ]);
}

#[test]
fn fields_and_presence() {
    check(&[
        ("has(x.a)", "true"),
        ("has(x.b)", "false"),
        ("has(x.m.k) && x.m.k == 'v'", "true"),
        ("has(x.nope.k)", "error: no such key: nope"),
        ("x.nope", "error: no such key: nope"),
        ("x['nope']", "error: no such key: nope"),
        ("x.l[3]", "error: index out of bounds: 3"),
        ("x.l[0]", "1"),
        ("x.s[0]", "error: no such overload"),
        ("x.a.b", "error: no such overload"),
        ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
        ("x.`a`", "1"),
        ("{'a-b': 1}.`a-b`", "1"),
    ]);
}

#[test]
fn macros_over_lists_and_maps() {
    check(&[
        ("x.l.all(i, i > 0)", "true"),
        ("x.l.exists_one(i, i > 2)", "true"),
        ("x.l.map(i, i * 2)", "[2,4,6]"),
        ("x.l.map(i, i > 1, i * 2)", "[4,6]"),
        ("x.l.filter(i, i > 1)", "[2,3]"),
        ("{'a': 1, 'b': 2}.all(k, k != '')", "true"),
        ("{'a': 1, 'b': 2}.map(k, k)", r#"["a","b"]"#),
        ("x.l.map(i, x.l.map(j, i * j))", "[[1,2,3],[2,4,6],[3,6,9]]"),
        ("[[1, 2], [3]].all(l, l.all(i, i > 0))", "true"),
        ("x.l.all(i, v, i < v)", "true"),
        ("x.l.exists(i, v, i == 2 && v == 3)", "true"),
        ("x.l.existsOne(i, v, v == 2)", "true"),
        ("x.l.transformList(i, v, i * v)", "[0,2,6]"),
        ("x.l.transformList(i, v, i > 0, i * v)", "[2,6]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v * 10)", r#"{"a":10,"b":20}"#),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", r#"{"b":20}"#),
        ("{'a': 'x', 'b': 'y'}.transformMapEntry(k, v, {v: k})", r#"{"x":"a","y":"b"}"#),
        ("['a', 'a'].transformMapEntry(i, v, {v: i})", "error: insert failed: key a already exists"),
        ("[].all(i, i)", "true"),
        ("x.a.all(i, true)", "error: no such overload"),
        ("[1].map(1, 2)", "ERROR: <input>:1:9: argument must be a simple name\n | [1].map(1, 2)\n | ........^"),
        (
            "[1].map(i, i + 'a')",
            "ERROR: <input>:1:14: found no matching overload for '_+_' applied to '(int, string)'\n | [1].map(i, i + 'a')\n | .............^",
        ),
        (
            "[1].filter(i, i)",
            "ERROR: <input>:1:11: found no matching overload for '_?_:_' applied to '(int, list(int), list(int))'\n | [1].filter(i, i)\n | ..........^",
        ),
        (
            "1.all(i, true)",
            "ERROR: <input>:1:6: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | 1.all(i, true)\n | .....^",
        ),
    ]);
}

#[test]
fn optionals() {
    check(&[
        ("x.?a.hasValue()", "true"),
        ("x.?b.hasValue()", "false"),
        ("x.?b.orValue(5)", "5"),
        ("x.?m.k.orValue('d')", r#""v""#),
        ("x.?nope.k.orValue('d')", r#""d""#),
        ("x.l[?5].orValue(9)", "9"),
        ("x.l[?0].value()", "1"),
        ("x.m[?'k'].value()", r#""v""#),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.of(1).or(optional.of(2)).value()", "1"),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("optional.of(3).optMap(v, v + 1).value()", "4"),
        ("optional.none().optMap(v, v + 1).hasValue()", "false"),
        ("optional.of(3).optFlatMap(v, v > 2 ? optional.of('y') : optional.none()).value()", r#""y""#),
        ("[?x.?a, ?x.?b, 7]", "[1,7]"),
        ("{?'a': x.?a, ?'b': x.?b}", r#"{"a":1}"#),
        ("has(x.?m.k)", "true"),
        ("optional.of(1) == optional.of(1)", "true"),
        ("[?1]", "ERROR: <input>:1:3: expected type 'optional_type(int)' but found 'int'\n | [?1]\n | ..^"),
    ]);
}

#[test]
fn conversions_and_types() {
    check(&[
        ("int('42') + int(1.9) + int(2u)", "45"),
        ("int('x')", "error: type conversion error from 'string' to 'int': \"x\""),
        ("uint(-1)", "error: unsigned integer overflow"),
        ("double('1.5') + double(1)", "2.5"),
        ("string(1) + string(true) + string(1.5) + string(2u)", r#""1true1.52""#),
        ("string(1e30)", r#""1e+30""#),
        ("string(b'abc')", r#""abc""#),
        ("size(bytes('é'))", "2"),
        ("bool('true')", "true"),
        ("type(1) == int && type('') == string && type(x.l) == list", "true"),
        ("type(type(1)) == type", "true"),
        ("type(x.a) == int ? 'i' : 's'", r#""i""#),
        ("type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp", "true"),
        ("type(null) == null_type", "true"),
        ("size(x.s) + x.s.size() + size(x.l) + size(x.m)", "14"),
        ("size(1)", "ERROR: <input>:1:5: found no matching overload for 'size' applied to '(int)'\n | size(1)\n | ....^"),
    ]);
}

#[test]
fn what_is_no_expression() {
    let cases = [
        "",
        "1 +",
        "(1",
        "1 2",
        "x.",
        "x['a'",
        "'abc",
        "1 = 2",
        "@",
        "for",
        "a.b(",
        "{1}",
        "[1,,2]",
        "nope",
        "nope()",
        "1 + nope + 2",
        "x ? 1",
        "true && 1",
        "[1, 'a']",
        "{'a': 1, 2: 'b'}",
        "x.a{b: 1}",
        "'\\q'",
        "1.5u",
        "99999999999999999999",
        "-x.s && !1",
        "bool(1)",
        "x.matches(1)",
        "reduce(x)",
    ];
    let shown: Vec<String> = cases.iter().map(|c| format!("--- {c}\n{}", run(c, &Value::Null))).collect();
    expect![[r#"
        --- 
        ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | 
         | ^
        --- 1 +
        ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | 1 +
         | ...^
        --- (1
        ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'
         | (1
         | ..^
        --- 1 2
        ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>
         | 1 2
         | ..^
        --- x.
        ERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER
         | x.
         | ..^
        --- x['a'
        ERROR: <input>:1:6: Syntax error: missing ']' at '<EOF>'
         | x['a'
         | .....^
        --- 'abc
        ERROR: <input>:1:1: Syntax error: token recognition error at: '\'abc'
         | 'abc
         | ^
        --- 1 = 2
        ERROR: <input>:1:3: Syntax error: token recognition error at: '='
         | 1 = 2
         | ..^
        --- @
        ERROR: <input>:1:1: Syntax error: token recognition error at: '@'
         | @
         | ^
        --- for
        ERROR: <input>:1:1: reserved identifier: for
         | for
         | ^
        --- a.b(
        ERROR: <input>:1:5: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | a.b(
         | ....^
        --- {1}
        ERROR: <input>:1:3: Syntax error: missing ':' at '}'
         | {1}
         | ..^
        --- [1,,2]
        ERROR: <input>:1:4: Syntax error: mismatched input ',' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | [1,,2]
         | ...^
        --- nope
        ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')
         | nope
         | ^
        --- nope()
        ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')
         | nope()
         | ....^
        --- 1 + nope + 2
        ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')
         | 1 + nope + 2
         | ....^
        --- x ? 1
        ERROR: <input>:1:6: Syntax error: missing ':' at '<EOF>'
         | x ? 1
         | .....^
        --- true && 1
        ERROR: <input>:1:6: found no matching overload for '_&&_' applied to '(bool, int)'
         | true && 1
         | .....^
        --- [1, 'a']
        ERROR: <input>:1:5: expected type 'int' but found 'string'
         | [1, 'a']
         | ....^
        --- {'a': 1, 2: 'b'}
        ERROR: <input>:1:10: expected type 'string' but found 'int'
         | {'a': 1, 2: 'b'}
         | .........^
        ERROR: <input>:1:13: expected type 'int' but found 'string'
         | {'a': 1, 2: 'b'}
         | ............^
        --- x.a{b: 1}
        ERROR: <input>:1:4: undeclared reference to 'x.a' (in container '')
         | x.a{b: 1}
         | ...^
        --- '\q'
        ERROR: <input>:1:1: Syntax error: token recognition error at: '\q'
         | '\q'
         | ^
        --- 1.5u
        ERROR: <input>:1:4: Syntax error: extraneous input 'u' expecting <EOF>
         | 1.5u
         | ...^
        --- 99999999999999999999
        ERROR: <input>:1:1: invalid int literal
         | 99999999999999999999
         | ^
        --- -x.s && !1
        ERROR: <input>:1:9: found no matching overload for '!_' applied to '(int)'
         | -x.s && !1
         | ........^
        --- bool(1)
        ERROR: <input>:1:5: found no matching overload for 'bool' applied to '(int)'
         | bool(1)
         | ....^
        --- x.matches(1)
        ERROR: <input>:1:10: found no matching overload for 'matches' applied to 'dyn.(int)'
         | x.matches(1)
         | .........^
        --- reduce(x)
        ERROR: <input>:1:7: undeclared reference to 'reduce' (in container '')
         | reduce(x)
         | ......^"#]].assert_eq(&shown.join("\n"));
}
