//! Sets of completion indexes in the form that statuses carry: `0,2-4`.

use std::collections::BTreeSet;

/// Most indexes read from a status: what the API allows a job to have.
const MOST: i32 = 1_000_000;

/// The indexes of a text. What cannot be read is left out.
#[must_use]
pub fn parse(text: &str) -> BTreeSet<i32> {
    let mut out = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>())
            && first >= 0
            && last < MOST
        {
            out.extend(first..=last);
        }
    }
    out
}

/// The text of the indexes; a run of three or more, or of two, is written as a range or a pair.
#[must_use]
pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in ["", "0", "1,3-5,7", "0,1", "0-2"] {
            assert_eq!(format(&parse(text)), text);
        }
        assert_eq!(format(&parse("x,2-9999999,3,-1")), "3");
    }
}
