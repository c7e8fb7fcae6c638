//! JSON read so that nothing in it goes unseen.

use serde_json::Value;

use crate::schema::check;

/// Parses JSON of any shape, and names the keys that come twice: `duplicate field "metadata.name"`. Depth is bounded by `serde_json`
/// (128), size by who reads the body.
///
/// # Errors
/// The words of Go's parser for malformed JSON.
pub fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    check::decode(bytes, None).map(|decoded| (decoded.value, decoded.strict))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_named() {
        let (value, duplicates) = parse_strict(br#"{"a":[{"b":1,"b":null}],"a":2}"#).unwrap();
        assert_eq!(value, json!({"a": 2}));
        assert_eq!(duplicates, [r#"duplicate field "a[0].b""#, r#"duplicate field "a""#]);
    }
}
