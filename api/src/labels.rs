//! Label selectors, in the string form of the API's `labelSelector` and the structured form of specs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::names;
use crate::object::string_map;

/// What a requirement asks of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of these.
    In(Vec<String>),
    /// The label is absent or its value none of these.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is an integer above this.
    GreaterThan(i64),
    /// The value is an integer below this.
    LessThan(i64),
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked.
    pub operator: Operator,
}

/// A label selector: every requirement must hold, or nothing matches at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// `None` selects nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Requirement {
    fn matches<'a>(&self, value: Option<&'a str>) -> bool {
        let number = |v: &'a str| v.parse::<i64>().ok();
        match (&self.operator, value) {
            (Operator::In(values), Some(v)) => values.iter().any(|x| x == v),
            (Operator::NotIn(values), Some(v)) => values.iter().all(|x| x != v),
            (Operator::Exists, v) => v.is_some(),
            (Operator::DoesNotExist, v) => v.is_none(),
            (Operator::GreaterThan(n), Some(v)) => number(v).is_some_and(|v| v > *n),
            (Operator::LessThan(n), Some(v)) => number(v).is_some_and(|v| v < *n),
            (Operator::NotIn(_), None) => true,
            (Operator::In(_) | Operator::GreaterThan(_) | Operator::LessThan(_), None) => false,
        }
    }
}

impl Selector {
    /// Selects every object.
    #[must_use]
    pub const fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Selects no object.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Whether every object matches, because nothing is asked.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// The requirements; `None` when nothing matches.
    #[must_use]
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.requirements.as_deref()
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether the labels that `get` looks up are selected.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.as_ref().is_some_and(|rs| rs.iter().all(|r| r.matches(get(&r.key))))
    }

    /// The structured form: `matchLabels` and `matchExpressions` (key, operator, values). Both empty selects everything.
    ///
    /// # Errors
    /// An unknown operator, or values that do not go with it.
    pub fn from_parts<'a>(
        match_labels: Option<&BTreeMap<String, String>>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<Self, String> {
        let equal = match_labels.into_iter().flatten();
        let mut requirements: Vec<Requirement> =
            equal.map(|(k, v)| Requirement { key: k.clone(), operator: Operator::In(vec![v.clone()]) }).collect();
        for (key, operator, values) in expressions {
            requirements.push(Requirement { key: key.to_owned(), operator: operator_of(operator, values)? });
        }
        Ok(Self { requirements: Some(requirements) })
    }

    /// The structured form as it stands in objects: `matchLabels` and `matchExpressions`, or the plain map of older kinds. `{}` selects
    /// everything; what is no object selects nothing.
    ///
    /// # Errors
    /// As [`Selector::from_parts`].
    pub fn from_object(selector: &Value) -> Result<Self, String> {
        if !selector.is_object() {
            return Ok(Self::nothing());
        }
        let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
        let labels = string_map(if structured { selector.get("matchLabels") } else { Some(selector) });
        let expressions: Vec<(&str, &str, Vec<String>)> = selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|e| {
                let text = |f: &str| e.get(f).and_then(Value::as_str).unwrap_or("");
                let values = e.get("values").and_then(Value::as_array).into_iter().flatten();
                (text("key"), text("operator"), values.filter_map(|v| v.as_str().map(str::to_owned)).collect())
            })
            .collect();
        Self::from_parts(Some(&labels), expressions.iter().map(|(k, o, v)| (*k, *o, v.as_slice())))
    }

    /// The string form: `a=b,c in (d,e),f,!g,h!=i`.
    ///
    /// # Errors
    /// What cannot be parsed, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        Parser { rest: text }.selector().map(|requirements| Self { requirements: Some(requirements) })
    }
}

fn operator_of(operator: &str, values: &[String]) -> Result<Operator, String> {
    let integer = || match values {
        [one] => one.parse::<i64>().map_err(|_| "for 'Gt', 'Lt' operators, the value must be an integer".to_owned()),
        _ => Err("for 'Gt', 'Lt' operators, exactly one value is required".to_owned()),
    };
    match operator {
        "In" | "NotIn" if values.is_empty() => Err("for 'in', 'notin' operators, values set can't be empty".to_owned()),
        "In" => Ok(Operator::In(values.to_vec())),
        "NotIn" => Ok(Operator::NotIn(values.to_vec())),
        "Exists" | "DoesNotExist" if !values.is_empty() => Err("values set must be empty for exists and does not exist".to_owned()),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        "Gt" => Ok(Operator::GreaterThan(integer()?)),
        "Lt" => Ok(Operator::LessThan(integer()?)),
        other => Err(format!("{other:?} is not a valid label selector operator")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `symbol` when it comes next.
    fn take(&mut self, symbol: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let end = self.rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn selector(mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        self.space();
        while !self.rest.is_empty() {
            out.push(self.requirement()?);
            if self.rest.is_empty() {
                break;
            }
            if !self.take(",") {
                return Err(self.unexpected("',' or 'end of string'"));
            }
            self.space();
            if self.rest.is_empty() {
                return Err("unable to parse requirement: found '', expected: identifier after ','".to_owned());
            }
        }
        Ok(out)
    }

    fn unexpected(&self, expected: &str) -> String {
        let found: String = self.rest.chars().take(1).collect();
        format!("unable to parse requirement: found '{found}', expected: {expected}")
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.take("!");
        let key = self.word();
        if key.is_empty() {
            return Err(self.unexpected("identifier"));
        }
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(format!("unable to parse requirement: <nil>: Invalid value: {key:?}: {}", wrong.join("; ")));
        }
        let operator = if absent { Operator::DoesNotExist } else { self.operator()? };
        self.space();
        Ok(Requirement { key: key.to_owned(), operator })
    }

    fn operator(&mut self) -> Result<Operator, String> {
        if self.take("!=") {
            return Ok(Operator::NotIn(vec![self.value()?]));
        }
        if self.take("==") || self.take("=") {
            return Ok(Operator::In(vec![self.value()?]));
        }
        if self.take(">") {
            return operator_of("Gt", &[self.value()?]);
        }
        if self.take("<") {
            return operator_of("Lt", &[self.value()?]);
        }
        self.space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Operator::Exists);
        }
        match self.word() {
            "in" => Ok(Operator::In(self.values()?)),
            "notin" => Ok(Operator::NotIn(self.values()?)),
            other => Err(format!("unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let value = self.word();
        let wrong = names::label_value(value);
        if wrong.is_empty() {
            Ok(value.to_owned())
        } else {
            Err(format!("unable to parse requirement: values[0][]: Invalid value: {value:?}: {}", wrong.join("; ")))
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if !self.take("(") {
            return Err(self.unexpected("'('"));
        }
        let mut out = vec![self.value()?];
        while self.take(",") {
            out.push(self.value()?);
        }
        if !self.take(")") {
            return Err(self.unexpected("',' or ')'"));
        }
        out.sort();
        out.dedup();
        Ok(out)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(v) if v.len() == 1 => write!(f, "{key}={}", v[0]),
            Operator::NotIn(v) if v.len() == 1 => write!(f, "{key}!={}", v[0]),
            Operator::In(v) => write!(f, "{key} in ({})", v.join(",")),
            Operator::NotIn(v) => write!(f, "{key} notin ({})", v.join(",")),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(n) => write!(f, "{key}>{n}"),
            Operator::LessThan(n) => write!(f, "{key}<{n}"),
        }
    }
}

/// The string form; what selects nothing prints as nothing.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().flatten().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &str, selected: bool) {
        let labels = labels.split_whitespace().map(|l| l.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let parsed = Selector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&labels), selected, "{selector} on {labels:?}");
        assert_eq!(Selector::parse(&parsed.to_string()), Ok(parsed), "{selector} survives printing");
    }

    #[test]
    fn string_form() {
        check("", "a=b", true);
        check("a=b", "a=b", true);
        check("a==b,c", "a=b", false);
        check("a!=b", "", true);
        check("a in (b, c)", "a=c", true);
        check("a notin (b,c)", "a=c", false);
        check("a notin (b)", "", true);
        check("!a", "b=c", true);
        check("a=", "a=", true);
        check("app.kubernetes.io/name = x , n>3", "app.kubernetes.io/name=x n=4", true);
        check("n<3", "n=x", false);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["a b", "a in", "a in (b", ",", "a,", "=b", "a=b c", "-a", "a=b!"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn structured_form() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(Selector::from_parts(Some(&labels), [("c", "DoesNotExist", &[][..])]).unwrap().matches(&labels));
        assert!(Selector::from_parts(None, [("c", "In", &[][..])]).is_err());
        assert!(Selector::from_parts(None, []).unwrap().is_everything());
        assert!(!Selector::nothing().matches(&labels));
    }

    #[test]
    fn as_it_stands_in_objects() {
        let text = |v: Value| Selector::from_object(&v).map(|s| s.to_string());
        let both = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d", "e"]}]});
        assert_eq!(text(both), Ok("a=b,c notin (d,e)".to_owned()));
        assert_eq!(text(json!({"a": "b"})), Ok("a=b".to_owned()));
        assert!(Selector::from_object(&json!({})).unwrap().is_everything());
        assert_eq!(Selector::from_object(&Value::Null), Ok(Selector::nothing()));
        assert!(text(json!({"matchExpressions": [{"key": "a", "operator": "Like"}]})).is_err());
    }
}
