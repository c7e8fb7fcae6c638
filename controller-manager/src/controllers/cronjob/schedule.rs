//! Cron schedules: five fields, names, ranges, steps, and the `@daily` family, in a time zone.
//!
//! The grammar is robfig/cron's standard parser, which upstream uses.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// When something is due: a set of values for each field, as bits, and a period for `@every`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the day of the month, or of the week, was given as `*`: then the other alone decides.
    any_day: bool,
    any_weekday: bool,
    every: Option<SignedDuration>,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A schedule that is not due within this many years, such as 30 February, never is.
const YEARS: i16 = 5;

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(period) = text.strip_prefix("@every ") {
            let period: SignedDuration = period.parse().map_err(|e| format!("failed to parse duration {text}: {e}"))?;
            let every = Some(period.max(SignedDuration::from_secs(1)));
            return Ok(Self { minutes: 0, hours: 0, days: 0, months: 0, weekdays: 0, any_day: true, any_weekday: true, every });
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let any = |field: &str| field.split(',').any(|part| matches!(part.split('/').next(), Some("*" | "?")));
        let weekdays_bits = field(weekdays, 0, 7, &WEEKDAYS, 0)?;
        Ok(Self {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            // Sunday is 0, and 7 to some.
            weekdays: (weekdays_bits | (weekdays_bits >> 7)) & 0x7f,
            any_day: any(days),
            any_weekday: any(weekdays),
            every: None,
        })
    }

    /// The first time after `after` at which it is due.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Some(every) = self.every {
            return after.checked_add(every).ok();
        }
        let start = after.to_zoned(zone.clone()).datetime();
        let mut at = start.with().second(0).subsec_nanosecond(0).build().ok()?.checked_add(1.minute()).ok()?;
        let last = start.year().checked_add(YEARS)?;
        while at.year() <= last {
            if !has(self.months, at.month()) {
                at = DateTime::new(at.year(), at.month(), 1, 0, 0, 0, 0).ok()?.checked_add(1.month()).ok()?;
            } else if !self.on_day(at) {
                at = DateTime::new(at.year(), at.month(), at.day(), 0, 0, 0, 0).ok()?.checked_add(1.day()).ok()?;
            } else if !has(self.hours, at.hour()) {
                at = at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                let due = at.to_zoned(zone.clone()).ok()?;
                // A time that the clocks skip does not exist; one they repeat is due once.
                if due.datetime() == at && due.timestamp() > after {
                    return Some(due.timestamp());
                }
                at = at.checked_add(1.minute()).ok()?;
            }
        }
        None
    }

    fn on_day(&self, at: DateTime) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|v| bits >> v & 1 == 1)
}

/// The values of a field; `names` begin at the value `first_name`.
fn field(text: &str, least: u32, most: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let value = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|n| text.eq_ignore_ascii_case(n)).and_then(|i| u32::try_from(i).ok());
        let value = named.map(|i| i + first_name).or_else(|| text.parse().ok());
        value.filter(|v| (least..=most).contains(v)).ok_or_else(|| format!("failed to parse {text:?}: not between {least} and {most}"))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: usize = step.map_or(Ok(1), |s| s.parse().map_err(|_| format!("failed to parse step {s:?}")))?;
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (least, if names.len() == 7 { 6 } else { most }),
            (_, Some((from, to))) => (value(from)?, value(to)?),
            // `5/15` means from 5 on.
            (one, None) => (value(one)?, if part.contains('/') { most } else { value(one)? }),
        };
        if from > to {
            return Err(format!("beginning of range ({from}) beyond end of range ({to}): {part}"));
        }
        (from..=to).step_by(step).for_each(|v| bits |= 1 << v);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next three times after 2026-01-31 23:58:30 UTC.
    #[track_caller]
    fn check(schedule: &str, zone: &str, expected: &str) {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let zone = TimeZone::get(zone).expect("a zone");
        let mut at: Timestamp = "2026-01-31T23:58:30Z".parse().expect("a time");
        let mut out = Vec::new();
        for _ in 0..3 {
            at = schedule.next(at, &zone).expect("due some time");
            out.push(at.strftime("%m-%d %H:%M").to_string());
        }
        assert_eq!(out.join(", "), expected);
    }

    #[test]
    fn fields_ranges_steps_and_names() {
        check("* * * * *", "UTC", "01-31 23:59, 02-01 00:00, 02-01 00:01");
        check("*/15 * * * *", "UTC", "02-01 00:00, 02-01 00:15, 02-01 00:30");
        check("5/20 3 * * *", "UTC", "02-01 03:05, 02-01 03:25, 02-01 03:45");
        check("0 9 * * mon-fri", "UTC", "02-02 09:00, 02-03 09:00, 02-04 09:00");
        check("0 0 1,15 * *", "UTC", "02-01 00:00, 02-15 00:00, 03-01 00:00");
        check("0 0 13 * 5", "UTC", "02-06 00:00, 02-13 00:00, 02-20 00:00");
        check("0 0 * * 7", "UTC", "02-01 00:00, 02-08 00:00, 02-15 00:00");
        check("@monthly", "UTC", "02-01 00:00, 03-01 00:00, 04-01 00:00");
    }

    #[test]
    fn zones_count() {
        check("0 0 * * *", "Europe/Berlin", "02-01 23:00, 02-02 23:00, 02-03 23:00");
    }

    #[test]
    fn what_is_wrong_is_told_and_what_never_comes_ends() {
        for wrong in ["", "* * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "@sometimes"] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
        let never = Schedule::parse("0 0 30 2 *").expect("a schedule");
        assert_eq!(never.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }
}
