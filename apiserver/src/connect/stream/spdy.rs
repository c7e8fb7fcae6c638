//! The part of SPDY/3.1 that a client of a kubelet's streams speaks: bytes to frames, and back. Pure.
//!
//! Written: SYN_STREAM, DATA, RST_STREAM, PING. Read: all of it, of which only data, the ends of streams and pings matter. Frames are read
//! piece by piece as they come, so a decoder holds a dozen bytes, whatever length a frame says it has. Streams have no windows: neither
//! the runtimes' servers nor upstream's clients keep SPDY's flow control, who reads slowly reads slowly from the connection.
//!
//! Headers are compressed with one zlib stream a direction (draft-mbelshe-httpbis-spdy-00, 2.6.10.1). Ours consists of stored blocks, which
//! every inflater takes; the peer's are never looked at, so nothing is inflated here.

/// The version in every control frame, with the bit that says that it is one.
const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
/// The flag of the last frame of a stream.
const FIN: u8 = 1;
/// The status of a stream that is not wanted.
const REFUSED_STREAM: u32 = 3;
/// The beginning of a zlib stream: deflate, no dictionary.
const ZLIB: [u8; 2] = [0x78, 0x01];
/// The most that a stored block holds.
const STORED: usize = 0xffff;
/// The most bytes in a frame that we send.
pub const MOST_DATA: usize = 64 << 10;

/// Writes frames. One for a connection: the headers of all frames are one compressed stream.
#[derive(Debug, Default)]
pub struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Opens a stream. Names of headers are lower-case.
    #[must_use]
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut body = [stream.to_be_bytes(), [0; 4]].concat();
        body.extend([0, 0]); // priority and slot
        body.extend(self.compressed(&block(headers)));
        control(SYN_STREAM, &body)
    }

    fn compressed(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        if !std::mem::replace(&mut self.begun, true) {
            out.extend(ZLIB);
        }
        // An empty block at the end tells inflaters to give out what they have.
        for piece in block.chunks(STORED).chain([&[][..]]) {
            let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            out.push(0);
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend(piece);
        }
        out
    }
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}

/// Names and values, each after its length.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = number(headers.len()).to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(number(text.len()));
        out.extend(text.as_bytes());
    }
    out
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = [CONTROL.to_be_bytes(), kind.to_be_bytes()].concat();
    out.extend(number(body.len())); // the flags are the highest of these bytes
    out.extend(body);
    out
}

/// The head of a frame with this much data, at most [`MOST_DATA`], which follows it.
#[must_use]
pub fn data(stream: u32, length: usize, last: bool) -> [u8; 8] {
    debug_assert!(length <= MOST_DATA);
    let mut head = [0; 8];
    head[..4].copy_from_slice(&stream.to_be_bytes());
    head[4..].copy_from_slice(&number(length));
    head[4] = if last { FIN } else { 0 };
    head
}

/// Refuses a stream that the peer has opened.
#[must_use]
pub fn refuse(stream: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat())
}

/// Answers a ping, which is the same ping.
#[must_use]
pub fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// What has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Some of a stream's data.
    Data(u32, &'a [u8]),
    /// No more will come on a stream: it has ended, or was reset.
    Ended(u32),
    /// The peer opens a stream.
    Opened(u32),
    /// The peer asks whether we are there, or answers that it is.
    Ping(u32),
    /// The peer wants no more streams.
    GoAway,
}

/// What is no SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed SPDY frame")]
pub struct Malformed;

/// Where in a frame the decoder is.
#[derive(Debug, Clone, Copy)]
enum State {
    /// In its eight bytes of head.
    Head,
    /// In the data of a stream, so many bytes before its end.
    Data { stream: u32, left: u32, last: bool },
    /// In the body of a control frame; its first bytes are kept.
    Control { kind: u16, left: u32, last: bool },
}

/// Reads frames.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    kept: [u8; 8],
    have: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Head, kept: [0; 8], have: 0 }
    }
}

impl Decoder {
    /// The next event in `input`, whose beginning is taken off; `None` when it is used up.
    ///
    /// # Errors
    /// What is no SPDY/3.1.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Malformed> {
        loop {
            match self.state {
                State::Head => {
                    self.keep(input, 8);
                    if self.have < 8 {
                        return Ok(None);
                    }
                    self.state = self.head()?;
                    self.have = 0;
                }
                State::Data { stream, left: 0, last } => {
                    self.state = State::Head;
                    if last {
                        return Ok(Some(Event::Ended(stream)));
                    }
                }
                State::Data { stream, left, last } => {
                    let take = input.len().min(left as usize);
                    let (some, rest) = input.split_at(take);
                    *input = rest;
                    self.state = State::Data { stream, left: left - length(take), last };
                    return Ok((take > 0).then_some(Event::Data(stream, some)));
                }
                State::Control { kind, left: 0, last } => {
                    let event = self.control(kind, last)?;
                    self.state = State::Head;
                    self.have = 0;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                State::Control { kind, left, last } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let before = input.len();
                    self.keep(input, left as usize);
                    let skipped = input.len().min(left as usize - (before - input.len()));
                    *input = &input[skipped..];
                    self.state = State::Control { kind, left: left - length(before - input.len()), last };
                }
            }
        }
    }

    /// Takes bytes off the input until eight are kept, but no more than `most`.
    fn keep(&mut self, input: &mut &[u8], most: usize) {
        let take = input.len().min(8 - self.have).min(most);
        self.kept[self.have..self.have + take].copy_from_slice(&input[..take]);
        self.have += take;
        *input = &input[take..];
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.kept[at], self.kept[at + 1], self.kept[at + 2], self.kept[at + 3]])
    }

    fn head(&self) -> Result<State, Malformed> {
        let (first, second) = (self.word(0), self.word(4));
        let (left, last) = (second & 0x00ff_ffff, self.kept[4] & FIN != 0);
        if first >> 31 == 0 {
            return if first == 0 { Err(Malformed) } else { Ok(State::Data { stream: first, left, last }) };
        }
        if first >> 16 != u32::from(CONTROL) {
            return Err(Malformed);
        }
        Ok(State::Control { kind: (first & 0xffff) as u16, left, last })
    }

    /// What a control frame says, whose first bytes are kept.
    fn control(&self, kind: u16, last: bool) -> Result<Option<Event<'static>>, Malformed> {
        let needed = match kind {
            SYN_STREAM | RST_STREAM | GOAWAY => 8,
            SYN_REPLY | HEADERS | PING => 4,
            _ => 0,
        };
        if self.have < needed {
            return Err(Malformed);
        }
        let stream = self.word(0) & 0x7fff_ffff;
        Ok(match kind {
            SYN_STREAM => Some(Event::Opened(stream)),
            RST_STREAM => Some(Event::Ended(stream)),
            SYN_REPLY | HEADERS => last.then_some(Event::Ended(stream)),
            PING => Some(Event::Ping(self.word(0))),
            GOAWAY => Some(Event::GoAway),
            // SETTINGS, WINDOW_UPDATE and what is not of SPDY/3.1: nothing that we go by.
            _ => None,
        })
    }
}

/// A length that is at most a frame's, in a frame's terms.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// A stream, its data, and what else happened.
    type Heard = (u32, Vec<u8>, &'static str);

    /// Every event in `bytes`, which come in pieces of these lengths; neighbouring data of one stream is put together.
    fn read(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Heard>, Malformed> {
        let (mut decoder, mut out, mut rest) = (Decoder::default(), Vec::<(u32, Vec<u8>, &str)>::new(), bytes);
        let mut lengths = pieces.iter().copied().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(lengths.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = after;
            while let Some(event) = decoder.next(&mut piece)? {
                match event {
                    Event::Data(stream, data) => match out.last_mut() {
                        Some((same, all, "data")) if *same == stream => all.extend(data),
                        _ => out.push((stream, data.to_vec(), "data")),
                    },
                    Event::Ended(stream) => out.push((stream, vec![], "ended")),
                    Event::Opened(stream) => out.push((stream, vec![], "opened")),
                    Event::Ping(id) => out.push((id, vec![], "ping")),
                    Event::GoAway => out.push((0, vec![], "goaway")),
                }
            }
            assert!(piece.is_empty(), "all of the input is used");
        }
        Ok(out)
    }

    #[test]
    fn streams_are_opened_as_the_draft_says() {
        let mut encoder = Encoder::default();
        let frame = encoder.open(1, &[("streamtype", "error")]);
        let (head, body) = frame.split_at(18);
        assert_eq!(head, [0x80, 3, 0, 1, 0, 0, 0, u8::try_from(frame.len() - 8).unwrap(), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let second = encoder.open(3, &[("streamtype", "stdin"), ("a", "b")]);
        // One zlib stream goes through both frames.
        let mut plain = vec![];
        let mut inflater = flate2::read::ZlibDecoder::new(std::io::Cursor::new([body, &second[18..]].concat()));
        let mut byte = [0];
        while inflater.read(&mut byte).is_ok_and(|n| n == 1) {
            plain.push(byte[0]);
        }
        let expected = "\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05error\0\0\0\x02\0\0\0\x0astreamtype\0\0\0\x05stdin\0\0\0\x01a\0\0\0\x01b";
        assert_eq!(String::from_utf8(plain).unwrap(), expected);
    }

    #[test]
    fn frames_of_the_peer_are_understood() {
        let mut bytes = control(4, &[0, 0, 0, 0]); // SETTINGS
        bytes.extend(control(SYN_REPLY, &[0, 0, 0, 1, 0x78, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
        bytes.extend([data(5, 3, false).as_slice(), b"abc", &data(5, 2, true), b"de", &data(7, 0, false)].concat());
        bytes.extend(ping(2));
        bytes.extend(refuse(3));
        bytes.extend([control(GOAWAY, &[0; 8]), control(9, &[0; 8]), control(SYN_STREAM, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0])].concat());
        let expected = vec![
            (5, b"abcde".to_vec(), "data"),
            (5, vec![], "ended"),
            (2, vec![], "ping"),
            (3, vec![], "ended"),
            (0, vec![], "goaway"),
            (2, vec![], "opened"),
        ];
        for pieces in [&[usize::MAX][..], &[1], &[3, 1, 7], &[8], &[9]] {
            assert_eq!(read(&bytes, pieces).as_ref(), Ok(&expected), "{pieces:?}");
        }
    }

    #[test]
    fn what_is_no_spdy_is_refused() {
        for wrong in [&[0x80, 2, 0, 1, 0, 0, 0, 0][..], &[0; 8], &control(PING, &[1]), &control(RST_STREAM, &[0, 0, 0, 1])] {
            assert_eq!(read(wrong, &[usize::MAX]), Err(Malformed), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            frames in proptest::collection::vec((1_u32..9, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
            pieces in proptest::collection::vec(1_usize..50, 1..10),
        ) {
            let (mut bytes, mut expected) = (vec![], Vec::<(u32, Vec<u8>, &str)>::new());
            for (stream, payload, last) in frames {
                bytes.extend(data(stream, payload.len(), last));
                bytes.extend(&payload);
                match expected.last_mut() {
                    Some((same, all, "data")) if *same == stream => all.extend(&payload),
                    _ if payload.is_empty() => {}
                    _ => expected.push((stream, payload, "data")),
                }
                if last {
                    expected.push((stream, vec![], "ended"));
                }
            }
            prop_assert_eq!(read(&bytes, &pieces), Ok(expected));
        }

        #[test]
        fn no_input_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..500), pieces in proptest::collection::vec(1_usize..40, 1..6)) {
            let whole = read(&bytes, &[usize::MAX]);
            prop_assert_eq!(read(&bytes, &pieces), whole, "how bytes come in makes no difference");
        }
    }

    #[test]
    fn headers_of_any_length_inflate() {
        for length in [0, 1, STORED - 20, STORED, STORED + 1, 3 * STORED] {
            let value = "x".repeat(length);
            let frame = Encoder::default().open(1, &[("name", &value)]);
            let mut plain = vec![];
            let mut inflater = flate2::write::ZlibDecoder::new(&mut plain);
            std::io::Write::write_all(&mut inflater, &frame[18..]).unwrap();
            std::io::Write::flush(&mut inflater).unwrap();
            drop(inflater);
            assert_eq!(plain.len(), 4 + 4 + 4 + 4 + length);
        }
    }
}
