//! YAML read as Kubernetes reads it: the last of several equal keys counts, and each further one is reported with its line.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// A document and what is wrong with it that is no error.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The tree.
    pub value: Value,
    /// `line 11: key "foo" already set in map`, for each key that came before in its map.
    pub duplicates: Vec<String>,
}

impl Document {
    /// The duplicates in the words of Go's YAML package; `None` when there are none.
    #[must_use]
    pub fn strict_error(&self) -> Option<String> {
        (!self.duplicates.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {}", self.duplicates.join("\n  ")))
    }
}

/// Parses one document. Depth and aliases are bounded by the parser's budget, size by who reads the body.
///
/// # Errors
/// What is no YAML, or no tree of JSON.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins, with_snippet: false };
    let duplicates = RefCell::new(vec![]);
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |d| Tree { duplicates: &duplicates }.deserialize(d));
    Ok(Document { value: value.map_err(|e| format!("yaml: {e}"))?, duplicates: duplicates.into_inner() })
}

/// Builds the tree and notes the duplicates.
#[derive(Clone, Copy)]
struct Tree<'a> {
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(format!("{value} is no number of JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = vec![];
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key.value) {
                self.duplicates.borrow_mut().push(format!("line {}: key {:?} already set in map", key.referenced.line(), key.value));
            }
            map.insert(key.value, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(text: &str) -> Value {
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.duplicates, Vec::<String>::new());
        document.value
    }

    #[test]
    fn what_people_write_is_read_as_json() {
        assert_eq!(
            tree("a: {b: [1, -2, 1.5, true, ~, 'x', \"y\"]}\nc: |\n  text\n# end\n"),
            json!({"a": {"b": [1, -2, 1.5, true, null, "x", "y"]}, "c": "text\n"})
        );
        assert_eq!(tree("{\"a\": {\"b\": 1}}"), json!({"a": {"b": 1}}));
        assert_eq!(tree("a: &x {b: 1}\nc: *x"), json!({"a": {"b": 1}, "c": {"b": 1}}));
        assert_eq!(tree("1: a\n"), json!({"1": "a"}));
        assert!(parse(b"a: [").unwrap_err().starts_with("yaml: "));
        assert_eq!(parse(b"a: \xff").unwrap_err(), "yaml: invalid UTF-8");
    }

    #[test]
    fn the_last_of_equal_keys_counts_and_the_others_are_told_of() {
        let document = parse(b"\nspec:\n  foo: 1\n  bar:\n    x: y\n    x: z\n  foo: 2\n").unwrap();
        assert_eq!(document.value, json!({"spec": {"foo": 2, "bar": {"x": "z"}}}));
        assert_eq!(document.duplicates, [r#"line 6: key "x" already set in map"#, r#"line 7: key "foo" already set in map"#]);
        assert_eq!(
            document.strict_error().unwrap(),
            "yaml: unmarshal errors:\n  line 6: key \"x\" already set in map\n  line 7: key \"foo\" already set in map"
        );
    }
}
