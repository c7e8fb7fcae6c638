//! What table cells say, where several kinds say it in the same way. Reads trees, never typed objects.

use std::collections::BTreeMap;

use api::labels::Selector;
use api::object::string_map;
use jiff::Timestamp;
use serde_json::Value;

/// The string at a JSON pointer; empty when there is none.
pub fn text<'a>(o: &'a Value, pointer: &str) -> &'a str {
    o.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The integer at a JSON pointer; 0 when there is none.
pub fn int(o: &Value, pointer: &str) -> i64 {
    o.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Whether `true` stands at a JSON pointer.
pub fn flag(o: &Value, pointer: &str) -> bool {
    o.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a JSON pointer; empty when there is none.
pub fn items<'a>(o: &'a Value, pointer: &str) -> &'a [Value] {
    o.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The number of entries of the list or map at a JSON pointer.
pub fn count(o: &Value, pointer: &str) -> usize {
    match o.pointer(pointer) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// The text, or `<none>` for nothing.
pub fn or_none(s: &str) -> &str {
    if s.is_empty() { "<none>" } else { s }
}

/// The map of strings at a JSON pointer.
pub fn map(o: &Value, pointer: &str) -> BTreeMap<String, String> {
    string_map(o.pointer(pointer))
}

/// The map at a JSON pointer as `a=b,c=d`; `<none>` when empty.
pub fn labels(o: &Value, pointer: &str) -> String {
    let pairs: Vec<String> = map(o, pointer).iter().map(|(k, v)| format!("{k}={v}")).collect();
    or_none(&pairs.join(",")).to_owned()
}

/// The LabelSelector at a JSON pointer in its string form; `<none>` when it selects everything or is absent.
pub fn selector(o: &Value, pointer: &str) -> String {
    let Some(selector) = o.pointer(pointer) else { return "<none>".to_owned() };
    let expressions: Vec<(&str, &str, Vec<String>)> = items(selector, "/matchExpressions")
        .iter()
        .map(|e| (text(e, "/key"), text(e, "/operator"), items(e, "/values").iter().filter_map(Value::as_str).map(str::to_owned).collect()))
        .collect();
    let borrowed = expressions.iter().map(|(k, op, values)| (*k, *op, values.as_slice()));
    match Selector::from_parts(Some(&map(selector, "/matchLabels")), borrowed) {
        Ok(selector) => or_none(&selector.to_string()).to_owned(),
        Err(_) => "<error>".to_owned(),
    }
}

/// One field of each item of the list at a JSON pointer, joined by commas.
pub fn joined(o: &Value, list: &str, field: &str) -> String {
    items(o, list).iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",")
}

/// The time since the timestamp at a JSON pointer; `None` when there is none.
pub fn since(o: &Value, pointer: &str, now: Timestamp) -> Option<String> {
    let then: Timestamp = text(o, pointer).parse().ok()?;
    Some(human_duration(now.duration_since(then).as_secs()))
}

/// A duration as kubectl prints it: two units at most, and the less exact the longer it is.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |unit: i64, name: char, below: i64, small: char| match seconds % unit / below {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name}{rest}{small}", seconds / unit),
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, 'm', 1, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, 'h', MINUTE, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, 'd', HOUR, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, 'y', DAY, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lose_detail_as_they_grow() {
        let text: Vec<String> = [-5, -1, 0, 119, 120, 125, 600, 3 * 3600, 4 * 3600 + 60, 9 * 3600, 49 * 3600, 90 * 86400, 800 * 86400]
            .map(human_duration)
            .into();
        assert_eq!(text.join(" "), "<invalid> 0s 0s 119s 2m 2m5s 10m 3h 4h1m 9h 2d1h 90d 2y70d");
    }
}
