//! The simple JSONPath of definitions: printer columns, scale paths, selectable fields.
//!
//! Fields (`.spec.a`, `['a.b']`, `.a\.b`), indices (`[0]`, `[-1]`), everything (`[*]`), and filters by equality (`[?(@.type=="Ready")]`).

use jiff::Timestamp;
use serde_json::Value;

use crate::http::render::human_duration;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// An item of a list; negative from its end.
    Index(i64),
    /// Every item or field.
    Each,
    /// Items in which a path leads to a value equal to this, or to another one.
    Where {
        /// The path inside the item.
        path: Vec<Step>,
        /// Whether it must be equal.
        equal: bool,
        /// The value.
        value: Value,
    },
}

/// Parses a path.
///
/// # Errors
/// What cannot be understood.
pub fn parse(path: &str) -> Result<Vec<Step>, String> {
    let mut rest = path.trim();
    if let Some(inner) = rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')) {
        rest = inner;
    }
    let mut rest = rest.strip_prefix('$').unwrap_or(rest);
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| format!("unterminated array in {path:?}"))?;
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else if let Some(after) = rest.strip_prefix('.') {
            let (name, left) = name(after);
            rest = left;
            match name.as_str() {
                "" if rest.is_empty() && steps.is_empty() => {}
                "" if rest.starts_with('[') => {}
                "" => return Err(format!("unsupported path {path:?}")),
                "*" => steps.push(Step::Each),
                _ => steps.push(Step::Field(name)),
            }
        } else {
            return Err(format!("unexpected {rest:?} in {path:?}"));
        }
    }
    Ok(steps)
}

/// Where the bracket that is open closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A name up to the next step; a backslash takes the next character as it is.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((i, c)) = characters.next() {
        match c {
            '.' | '[' => return (name, &text[i..]),
            '\\' => name.extend(characters.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::Each);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filtered(filter);
    }
    let unquoted = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q));
    if let Some(name) = unquoted {
        return Ok(Step::Field(name.to_owned()));
    }
    text.parse().map(Step::Index).map_err(|_| format!("invalid array index {text}"))
}

fn filtered(text: &str) -> Result<Step, String> {
    let wrong = || format!("unsupported filter {text:?}");
    let (left, right, equal) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((left, right)), _) => (left, right, true),
        (None, Some((left, right))) => (left, right, false),
        _ => return Err(wrong()),
    };
    let path = parse(left.trim().strip_prefix('@').ok_or_else(wrong)?)?;
    let right = right.trim();
    let quoted = right.strip_prefix('\'').and_then(|r| r.strip_suffix('\''));
    let value = match quoted {
        Some(text) => text.into(),
        None => serde_json::from_str(right).map_err(|_| wrong())?,
    };
    Ok(Step::Where { path, equal, value })
}

/// Every value that a path leads to.
#[must_use]
pub fn find<'v>(value: &'v Value, steps: &[Step]) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|v| one(v, step)).collect();
    }
    found
}

fn one<'v>(value: &'v Value, step: &Step) -> Vec<&'v Value> {
    let each = || match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => vec![],
    };
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(i) => {
            let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let at = if *i < 0 { i64::try_from(list.len()).unwrap_or(i64::MAX) + i } else { *i };
            usize::try_from(at).ok().and_then(|at| list.get(at)).into_iter().collect()
        }
        Step::Each => each(),
        Step::Where { path, equal, value } => {
            let holds = |v: &&Value| match find(v, path).first() {
                Some(found) => (*found == value) == *equal,
                None => false,
            };
            each().into_iter().filter(holds).collect()
        }
    }
}

/// A table's cell: the first value that a path leads to, as the column's type asks.
#[must_use]
pub fn cell(path: &str, kind: &str, object: &Value, now: Timestamp) -> Value {
    let Ok(steps) = parse(path) else { return Value::Null };
    let found = find(object, &steps);
    let Some(value) = found.first().filter(|v| !v.is_null()) else { return Value::Null };
    match kind {
        "integer" => value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).map_or(Value::Null, Value::from),
        "number" => value.as_f64().map_or(Value::Null, Value::from),
        "boolean" => value.as_bool().map_or(Value::Null, Value::from),
        "date" => match value.as_str().map(|s| s.parse::<Timestamp>()) {
            Some(Ok(since)) => human_duration(now.duration_since(since).as_secs()).into(),
            Some(Err(_)) => "<invalid>".into(),
            None => Value::Null,
        },
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned).into(),
    }
}

/// A path of fields alone as a JSON pointer.
#[must_use]
pub fn pointer(path: &str) -> Option<String> {
    let steps = parse(path).ok()?;
    let parts = steps.iter().map(|s| match s {
        Step::Field(name) => Some(format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
        _ => None,
    });
    parts.collect::<Option<String>>().filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(path: &str, expect: Expect) {
        let object = json!({"metadata": {"annotations": {"a.b/c": "x"}}, "spec": {"list": [{"n": 1}, {"n": 2}], "m": {"k": 3}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        let text = match parse(path) {
            Ok(steps) => find(&object, &steps).iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn paths() {
        check(".spec.m.k", expect!["3"]);
        check("{.spec.m.k}", expect!["3"]);
        check(".spec.list[-1].n", expect!["2"]);
        check(".spec.list[*].n", expect!["1 2"]);
        check(".spec.list[7]", expect![""]);
        check(r".metadata.annotations.a\.b/c", expect![[r#""x""#]]);
        check(".metadata.annotations['a.b/c']", expect![[r#""x""#]]);
        check(r#".status.conditions[?(@.type=="Ready")].status"#, expect![[r#""True""#]]);
        check(".status.conditions[?(@.type!='Ready')].status", expect![[r#""False""#]]);
        check(".spec.list[1", expect![[r#"unterminated array in ".spec.list[1""#]]);
        check("spec", expect![[r#"unexpected "spec" in "spec""#]]);
        check("..name", expect![[r#"unsupported path "..name""#]]);
    }

    #[test]
    fn cells_have_the_type_of_their_column() {
        let object = json!({"n": 1.5, "t": "2026-01-01T00:00:00Z", "l": [1, 2], "b": true});
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let cells: Vec<String> =
            [(".n", "integer"), (".n", "number"), (".t", "date"), (".l", "string"), (".b", "boolean"), (".b", "integer"), (".x", "string")]
                .map(|(path, kind)| cell(path, kind, &object, now).to_string())
                .to_vec();
        assert_eq!(cells.join(" "), r#"1 1.5 "60s" "[1,2]" true null null"#);
    }

    #[test]
    fn pointers() {
        assert_eq!(pointer(".spec.replicas").as_deref(), Some("/spec/replicas"));
        assert_eq!(pointer(".metadata.annotations['a/b']").as_deref(), Some("/metadata/annotations/a~1b"));
        assert_eq!(pointer(".spec.list[0]"), None);
    }
}
