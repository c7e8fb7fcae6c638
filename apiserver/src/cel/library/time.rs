//! Timestamps and durations: reading, showing, parts, arithmetic. Without a zone it is UTC.

use jiff::civil::Weekday;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::super::value::Val;
use super::{Cost, Cx, Def, Fail, Out, def, fail, no_overload};

const PART: &[&str] = &["timestamp.() int", "timestamp.(string) int"];
const PART_OR_SPAN: &[&str] = &["timestamp.() int", "timestamp.(string) int", "duration.() int"];
const SECOND: i64 = 1_000_000_000;
/// The first second of the year 1 and the last of 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(super) const DEFS: &[Def] = &[
    def("timestamp", &["(timestamp) timestamp", "(string) timestamp", "(int) timestamp"], to_timestamp, Cost::One),
    def("duration", &["(duration) duration", "(string) duration"], to_duration, Cost::One),
    def("getFullYear", PART, |a, _| part(a, |z| z.year().into(), None), Cost::One),
    def("getMonth", PART, |a, _| part(a, |z| i64::from(z.month()) - 1, None), Cost::One),
    def("getDayOfYear", PART, |a, _| part(a, |z| i64::from(z.day_of_year()) - 1, None), Cost::One),
    def("getDayOfMonth", PART, |a, _| part(a, |z| i64::from(z.day()) - 1, None), Cost::One),
    def("getDate", PART, |a, _| part(a, |z| z.day().into(), None), Cost::One),
    def("getDayOfWeek", PART, |a, _| part(a, |z| weekday(z.weekday()), None), Cost::One),
    def("getHours", PART_OR_SPAN, |a, _| part(a, |z| z.hour().into(), Some(|d| d / (3600 * SECOND))), Cost::One),
    def("getMinutes", PART_OR_SPAN, |a, _| part(a, |z| z.minute().into(), Some(|d| d / (60 * SECOND))), Cost::One),
    def("getSeconds", PART_OR_SPAN, |a, _| part(a, |z| z.second().into(), Some(|d| d / SECOND)), Cost::One),
    def("getMilliseconds", PART_OR_SPAN, |a, _| part(a, |z| z.millisecond().into(), Some(|d| d / 1_000_000)), Cost::One),
];

fn weekday(day: Weekday) -> i64 {
    day.to_sunday_zero_offset().into()
}

fn part<'a>(args: &[Val<'a>], of_time: fn(&Zoned) -> i64, of_span: Option<fn(i64) -> i64>) -> Out<'a> {
    match (&args[0], args.get(1), of_span) {
        (Val::Duration(d), None, Some(of_span)) => Ok(Val::Int(of_span(*d))),
        (Val::Timestamp(t), None, _) => Ok(Val::Int(of_time(&t.to_zoned(TimeZone::UTC)))),
        (Val::Timestamp(t), Some(Val::Str(zone)), _) => Ok(Val::Int(of_time(&t.to_zoned(zone_of(zone)?)))),
        _ => no_overload(),
    }
}

/// `Europe/Oslo`, or `+02:00`.
fn zone_of(name: &str) -> Result<TimeZone, Fail> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let number = |t: &str| t.trim_start_matches(['+', '-']).parse::<i32>().ok().filter(|n| (0..60).contains(n));
        let (Some(h), Some(m)) = (number(hours), number(minutes)) else { return fail(format!("unknown time zone {name}")) };
        let seconds = (h * 60 + m) * 60;
        return match Offset::from_seconds(if negative { -seconds } else { seconds }) {
            Ok(offset) => Ok(offset.to_time_zone()),
            Err(_) => fail(format!("unknown time zone {name}")),
        };
    }
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        _ => TimeZone::get(name).or_else(|_| fail(format!("unknown time zone {name}"))),
    }
}

/// A time as text, in RFC 3339.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // RFC 3339 alone, of all that is understood.
    let separated =
        bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let zoned = zone == "Z" || (zone.len() == 6 && matches!(zone.as_bytes()[0], b'+' | b'-') && zone.as_bytes()[3] == b':');
    if !separated || !zoned {
        return None;
    }
    text.parse::<Timestamp>().ok().filter(|t| SECONDS.contains(&t.as_second()))
}

/// A time as Kubernetes writes it.
#[must_use]
pub fn show_timestamp(t: Timestamp) -> String {
    t.to_string()
}

/// A duration as Go reads it: `1h30m`, `1.5s`, `-2ms`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 19 || (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        total += whole.parse::<i128>().unwrap_or(0) * nanos;
        let digits: String = fraction.chars().take(18).collect();
        if !digits.is_empty() {
            total += digits.parse::<i128>().ok()? * nanos / 10_i128.pow(u32::try_from(digits.len()).ok()?);
        }
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration in seconds, as CEL shows it: `5400s`, `1.5s`.
#[must_use]
pub fn show_duration(nanos: i64) -> String {
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, fraction) = (size / 1_000_000_000, size % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

/// A time so many nanoseconds later.
pub(super) fn shift<'a>(t: Timestamp, nanos: i128) -> Out<'a> {
    let shifted = Timestamp::from_nanosecond(t.as_nanosecond() + nanos).ok().filter(|t| SECONDS.contains(&t.as_second()));
    shifted.map_or_else(|| fail("timestamp overflow"), |t| Ok(Val::Timestamp(t)))
}

fn to_timestamp<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Timestamp(t) => Ok(Val::Timestamp(*t)),
        Val::Int(seconds) if SECONDS.contains(seconds) => {
            Timestamp::from_second(*seconds).map_or_else(|_| fail("timestamp overflow"), |t| Ok(Val::Timestamp(t)))
        }
        Val::Int(_) => fail("timestamp overflow"),
        Val::Str(text) => parse_timestamp(text)
            .map_or_else(|| fail(format!("parsing time {text:?} as RFC 3339 failed", text = &text[..])), |t| Ok(Val::Timestamp(t))),
        _ => no_overload(),
    }
}

fn to_duration<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Duration(d) => Ok(Val::Duration(*d)),
        Val::Str(text) => parse_duration(text)
            .map_or_else(|| fail(format!("time: invalid duration {text:?}", text = &text[..])), |d| Ok(Val::Duration(d))),
        _ => no_overload(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("10", None),
            ("", None),
            ("1x", None),
            (".5s", Some(500_000_000)),
            (".s", None),
            ("9999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(show_duration(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert!(parse_timestamp("2024-01-02T03:04:05.5+02:00").is_some());
        for wrong in [
            "2024-01-02",
            "2024-01-02 03:04:05Z",
            "2024-01-02T03:04:05",
            "2024-13-02T03:04:05Z",
            "",
            "20240102T030405Z",
            "2024-01-02T03:04:05Zé",
        ] {
            assert!(parse_timestamp(wrong).is_none(), "{wrong}");
        }
    }
}
