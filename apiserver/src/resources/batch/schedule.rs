//! Whether a text is a schedule: five fields, or one of the words that stand for some.

const WORDS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The least and the most of a field, and the names that numbers have in it, from the least on.
struct Field {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: MONTHS },
    Field { least: 0, most: 6, names: DAYS },
];

/// What is wrong with a schedule, in the words of the parser that upstream uses.
pub(super) fn wrong(schedule: &str) -> Option<String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        let ok = every.ends_with(['s', 'm', 'h']) && every.bytes().all(|c| c.is_ascii_digit() || b"smh.un".contains(&c));
        return (!ok).then(|| format!("failed to parse duration {schedule}: time: invalid duration {every:?}"));
    }
    if schedule.starts_with('@') {
        return (!WORDS.contains(&schedule)).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    FIELDS.iter().zip(fields).find_map(|(field, text)| text.split(',').find_map(|range| field.wrong(range)))
}

impl Field {
    fn number(&self, text: &str) -> Result<u32, String> {
        if let Some(at) = self.names.iter().position(|n| text.eq_ignore_ascii_case(n)) {
            return Ok(self.least + u32::try_from(at).unwrap_or(0));
        }
        text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
    }

    fn wrong(&self, range: &str) -> Option<String> {
        let (span, step) = range.split_once('/').map_or((range, None), |(s, t)| (s, Some(t)));
        let (low, high) = match span {
            "*" | "?" => (Ok(self.least), Ok(self.most)),
            _ => match span.split_once('-') {
                Some((low, high)) => (self.number(low), self.number(high)),
                None => (self.number(span), if step.is_some() { Ok(self.most) } else { self.number(span) }),
            },
        };
        let (low, high) = match (low, high) {
            (Ok(low), Ok(high)) => (low, high),
            (Err(wrong), _) | (_, Err(wrong)) => return Some(wrong),
        };
        if let Some(step) = step {
            match step.parse::<u32>() {
                Err(_) => return Some(format!("failed to parse int from {step}: strconv.Atoi: parsing {step:?}: invalid syntax")),
                Ok(0) => return Some(format!("step of range should be a positive number: {range}")),
                Ok(_) => {}
            }
        }
        match () {
            () if low < self.least => Some(format!("beginning of range ({low}) below minimum ({}): {range}", self.least)),
            () if high > self.most => Some(format!("end of range ({high}) above maximum ({}): {range}", self.most)),
            () if low > high => Some(format!("beginning of range ({low}) beyond end of range ({high}): {range}")),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrong;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1 jan-mar mon", "@hourly", "@every 1h30m", "0 0 ? * SUN"] {
            assert_eq!(wrong(good), None, "{good}");
        }
        assert_eq!(wrong("* * *").as_deref(), Some("expected exactly 5 fields, found 3: [* * *]"));
        assert_eq!(wrong("60 * * * *").as_deref(), Some("end of range (60) above maximum (59): 60"));
        for bad in ["", "a * * * *", "*/0 * * * *", "5-1 * * * *", "* * 0 * *", "@often"] {
            assert!(wrong(bad).is_some(), "{bad}");
        }
    }
}
