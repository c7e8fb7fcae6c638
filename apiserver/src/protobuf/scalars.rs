//! Times between RFC 3339 and seconds since 1970.

use jiff::Timestamp;

/// Seconds and nanoseconds of a time in JSON; `None` when it is no time.
pub(super) fn parse_time(text: &str) -> Option<(i64, i32)> {
    let time: Timestamp = text.parse().ok()?;
    // The fraction counts up from the second before, also before 1970.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    Some((seconds, nanos))
}

/// A time as JSON has it; `None` when it is out of range.
pub(super) fn show_time(seconds: i64, nanos: i32, micro: bool) -> Option<String> {
    let time = Timestamp::new(seconds, nanos).ok()?;
    let layout = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(time.strftime(layout).to_string())
}
