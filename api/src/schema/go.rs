//! The words of Go's decoders, which Kubernetes passes on to people.

use serde_json::Value;

use super::Kind;

/// How Go names what it found in JSON: `string`, `number`, `bool`, `object`, `array`; a number that does not fit is shown.
#[must_use]
pub fn kind_of(value: &Value, wanted: &Kind) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if matches!(wanted, Kind::Int32 | Kind::Int64 | Kind::IntOrString) => format!("number {n}"),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

/// A value as Go prints it: `map[a:1 b:[x y]]`.
#[must_use]
pub fn show(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// The words for malformed JSON.
#[must_use]
pub fn syntax_error(bytes: &[u8], error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(&*words, |(w, _)| w);
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let after = match words {
        "expected value" => "looking for beginning of value",
        "key must be a string" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "trailing comma" => "looking for beginning of value",
        "invalid number" => "in numeric literal",
        "invalid escape" => "in string escape code",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        "recursion limit exceeded" => return "exceeded max depth".into(),
        _ => return words.to_owned(),
    };
    let line = bytes.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    match line.get(error.column().saturating_sub(1)).or_else(|| line.last()) {
        Some(&byte) => format!("invalid character {:?} {after}", char::from(byte)),
        None => words.to_owned(),
    }
}

/// Whether this is base64 as Go's `StdEncoding` reads it (line breaks are skipped).
///
/// # Errors
/// `illegal base64 data at input byte N`.
pub fn check_base64(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let corrupt = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let skip = |mut i: usize| {
        while matches!(bytes.get(i), Some(b'\r' | b'\n')) {
            i += 1;
        }
        i
    };
    let (mut i, mut digits) = (0, 0);
    loop {
        i = skip(i);
        match bytes.get(i) {
            None if digits == 0 => return Ok(()),
            None => return corrupt(i - digits),
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/') => digits = (digits + 1) % 4,
            Some(b'=') if digits >= 2 => break,
            Some(_) => return corrupt(i),
        }
        i += 1;
    }
    if digits == 2 {
        i = skip(i + 1);
        match bytes.get(i) {
            Some(b'=') => {}
            Some(_) => return corrupt(i),
            None => return corrupt(bytes.len()),
        }
    }
    let end = skip(i + 1);
    if end < bytes.len() { corrupt(end) } else { Ok(()) }
}

/// The words for a text that is no time, of `time.Parse` with the layout of `Time` or `MicroTime`.
#[must_use]
pub fn time_error(text: &str, micro: bool) -> String {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let parts: [(usize, &str); 11] =
        [(4, "2006"), (1, "-"), (2, "01"), (1, "-"), (2, "02"), (1, "T"), (2, "15"), (1, ":"), (2, "04"), (1, ":"), (2, "05")];
    let mut rest = text;
    for (length, part) in parts {
        let fits = rest.get(..length).is_some_and(|p| match part.as_bytes()[0].is_ascii_digit() {
            true => p.bytes().all(|b| b.is_ascii_digit()),
            false => p == part,
        });
        if !fits {
            return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
        }
        rest = &rest[length..];
    }
    let fraction = rest.strip_prefix('.').map_or(rest, |r| r.trim_start_matches(|c: char| c.is_ascii_digit()));
    if fraction.is_empty() || !(fraction.starts_with(['Z', '+', '-'])) {
        return format!("parsing time {text:?} as {layout:?}: cannot parse {fraction:?} as \"Z07:00\"");
    }
    format!("parsing time {text:?}: out of range")
}

/// The message of the 400 for a body that could not be decoded: `Pod in version "v1" cannot be handled as a Pod: ...`.
/// `named` is what the body says it is (kind, version), `wanted` the kind the resource takes.
#[must_use]
pub fn decode_message(named: Option<(&str, &str)>, wanted: &str, error: &str, body: &[u8]) -> String {
    match named {
        Some((kind, version)) if !kind.is_empty() => format!("{kind} in version {version:?} cannot be handled as a {wanted}: {error}"),
        _ => format!("the object provided is unrecognized (must be of type {wanted}): {error} ({})", summary(body)),
    }
}

/// The first bytes of a body, as upstream shows them: text when it looks like JSON, else hexadecimal.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let shown = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => format!("{}{more}", shown.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_checked_as_go_does() {
        let check = |text: &str, at: Option<usize>| {
            assert_eq!(check_base64(text).err(), at.map(|n| format!("illegal base64 data at input byte {n}")), "{text}");
        };
        check("", None);
        check("YQ==", None);
        check("YWI=", None);
        check("YWJj\nYQ==\n", None);
        check("YWJ", Some(0));
        check("YWJjY", Some(4));
        check("Y===", Some(1));
        check("YQ=", Some(3));
        check("YQ==x", Some(4));
        check("secret!", Some(6));
    }

    #[test]
    fn bodies_that_say_nothing_are_shown() {
        assert_eq!(
            decode_message(None, "Pod", "unexpected end of JSON input", b"{\"a\":"),
            "the object provided is unrecognized (must be of type Pod): unexpected end of JSON input ({\"a\":)"
        );
        assert_eq!(decode_message(Some(("Pod", "v1")), "Pod", "x", b""), "Pod in version \"v1\" cannot be handled as a Pod: x");
    }
}
