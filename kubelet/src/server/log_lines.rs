//! The log format of the CRI, line by line: `<time> <stream> <tags> <text>`, and which of it a reader asked for.
//!
//! Plain: bytes in, bytes out. The `P` tag says that the line goes on in the next one.

use jiff::Timestamp;

/// What of a log is asked for, in the words of `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Leaves out what was written before.
    pub since: Option<Timestamp>,
    /// Puts the time before each line.
    pub timestamps: bool,
    /// Ends after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only `stdout` or `stderr`.
    pub stream: Option<&'static str>,
}

/// Turns lines of a log file into what the reader sees.
#[derive(Debug)]
pub struct Renderer {
    wanted: Wanted,
    left: Option<u64>,
    /// Whether the next text begins a line.
    at_start: bool,
}

struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` for what is not of the format, such as a line cut short by a crash.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let mut word = || parts.next().and_then(|w| std::str::from_utf8(w).ok());
        let (time, stream, tags) = (word()?, word()?, word()?);
        let partial = tags.split(':').next() == Some("P");
        (stream == "stdout" || stream == "stderr").then(|| Self { time, stream, partial, text: parts.next().unwrap_or_default() })
    }
}

impl Renderer {
    /// Renders what `wanted` says.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        let left = wanted.limit_bytes;
        Self { wanted, left, at_start: true }
    }

    /// Whether the limit is reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Appends what the reader sees of `line`, which comes without its newline.
    pub fn push(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = Line::parse(line) else { return };
        if self.wanted.stream.is_some_and(|wanted| wanted != line.stream) {
            return;
        }
        if let Some(since) = self.wanted.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.wanted.timestamps && self.at_start {
            self.put(fixed_width(line.time).as_bytes(), out);
            self.put(b" ", out);
        }
        self.put(line.text, out);
        if !line.partial {
            self.put(b"\n", out);
        }
        self.at_start = !line.partial;
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let length = self.left.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        out.extend_from_slice(&bytes[..length]);
        if let Some(left) = &mut self.left {
            *left -= length as u64;
        }
    }
}

/// A time with nine digits of fraction, as the kubelet shows it; runtimes leave zeros away.
fn fixed_width(time: &str) -> String {
    let zone = time.rfind(['Z', '+']).or_else(|| time.rfind('-').filter(|at| *at > 10)).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    format!("{seconds}.{fraction:0<9}{zone}")
}

/// The offset at which the last `lines` lines begin, reading backwards by `read(offset, length)`.
///
/// # Errors
/// What reading gives.
pub fn tail_offset(length: u64, lines: u64, mut read: impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    if lines == 0 {
        return Ok(length);
    }
    let (mut end, mut seen) = (length, 0_u64);
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let block = read(start, usize::try_from(end - start).unwrap_or(0))?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = start + index as u64;
            // The newline that ends the file begins no line.
            if *byte == b'\n' && at + 1 != length {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00.5Z stdout F one
2026-01-01T00:00:01.000000001Z stderr F two
garbage
2026-01-01T00:00:02Z stdout P thr
2026-01-01T00:00:02.1Z stdout F ee
2026-01-01T01:00:03+01:00 stdout F 
";

    #[track_caller]
    fn check(wanted: Wanted, expected: &str) {
        let (mut renderer, mut out) = (Renderer::new(wanted), vec![]);
        for line in LOG.lines() {
            renderer.push(line.as_bytes(), &mut out);
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn text_is_put_together_again() {
        check(Wanted::default(), "one\ntwo\nthree\n\n");
    }

    #[test]
    fn times_stand_before_whole_lines_with_all_digits() {
        check(
            Wanted { timestamps: true, ..Wanted::default() },
            "2026-01-01T00:00:00.500000000Z one\n2026-01-01T00:00:01.000000001Z two\n2026-01-01T00:00:02.000000000Z three\n2026-01-01T01:00:03.000000000+01:00 \n",
        );
    }

    #[test]
    fn since_stream_and_limit_leave_out() {
        check(Wanted { since: Some("2026-01-01T00:00:02Z".parse().unwrap()), ..Wanted::default() }, "three\n\n");
        check(Wanted { stream: Some("stderr"), ..Wanted::default() }, "two\n");
        check(Wanted { limit_bytes: Some(6), ..Wanted::default() }, "one\ntw");
        check(Wanted { limit_bytes: Some(0), ..Wanted::default() }, "");
    }

    #[test]
    fn times_east_and_west_keep_their_zone() {
        assert_eq!(fixed_width("2026-01-01T00:00:00.12-07:00"), "2026-01-01T00:00:00.120000000-07:00");
        assert_eq!(fixed_width("2026-01-01T00:00:00"), "2026-01-01T00:00:00.000000000");
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let check = |text: &str, lines: u64, expected: &str| {
            let read = |offset: u64, length: usize| Ok(text.as_bytes()[offset as usize..offset as usize + length].to_vec());
            let offset = tail_offset(text.len() as u64, lines, read).unwrap();
            assert_eq!(&text[offset as usize..], expected, "{lines} of {text:?}");
        };
        check("a\nb\nc\n", 0, "");
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc\n", 9, "a\nb\nc\n");
        check("a\nb\nunfinished", 2, "b\nunfinished");
        check("", 3, "");
        let long = format!("{}\nlast\n", "x".repeat(200_000));
        check(&long, 1, "last\n");
        check(&long, 2, &long);
    }
}
