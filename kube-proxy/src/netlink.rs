//! A netlink socket to netfilter, and the few bytes of its wire format that we need.
//!
//! Messages are a header, an `nfgenmsg` and a tree of attributes, each a length, a type and a value aligned to four
//! bytes (netlink(7)). Used for elements of sets, for reading the table back, and for conntrack entries.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// `NFNL_SUBSYS_NFTABLES`.
pub const NFTABLES: u8 = 10;
/// `NFNL_SUBSYS_CTNETLINK`.
pub const CONNTRACK: u8 = 1;
/// The message is a request.
pub const REQUEST: u16 = 1;
/// An answer is wanted also when all is well.
pub const ACK: u16 = 4;
/// Everything is wanted, in as many messages as it takes.
pub const DUMP: u16 = 0x300;
/// What is not there is made.
pub const CREATE: u16 = 0x400;
/// What is made goes behind what is there.
pub const APPEND: u16 = 0x800;

/// `AF_INET`.
pub const IPV4: u8 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

/// Room for one batch and its answers in the socket, in bytes; 50 000 elements take 4 MB.
const SOCKET_BUFFER: usize = 64 << 20;
/// The kernel answers while we send; it is only late when something is wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most messages read for one dump: more than the largest tables have, less than what would never end.
const MAX_DUMP: usize = 4_000_000;

/// Messages under construction.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    sequence: u32,
    /// Where the last message starts.
    last: usize,
}

impl Messages {
    /// Adds a message of `kind` to `subsystem`; `attributes` writes what it says.
    pub fn push(&mut self, subsystem: u8, kind: u8, flags: u16, family: u8, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.message(u16::from(subsystem) << 8 | u16::from(kind), flags, family, 0, attributes);
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.last = start;
        self.sequence += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        attributes(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).expect("messages are split before they grow so long");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes of a message.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// An attribute with a value.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.nest_raw(kind, |inner| inner.0.extend_from_slice(value));
    }

    /// An attribute with a number, in network order.
    pub fn number(&mut self, kind: u16, number: u32) {
        self.put(kind, &number.to_be_bytes());
    }

    /// An attribute with a text, which ends in a zero byte.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.nest_raw(kind, |inner| {
            inner.0.extend_from_slice(text.as_bytes());
            inner.0.push(0);
        });
    }

    /// An attribute with attributes.
    pub fn nest(&mut self, kind: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_raw(kind | NESTED, attributes);
    }

    /// Attributes that are already encoded.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.0.extend_from_slice(encoded);
    }

    fn nest_raw(&mut self, kind: u16, content: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        content(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).expect("elements are split over messages before they grow so long");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Reads attributes one after the other; ends at the first that is cut off.
#[derive(Debug, Clone)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_at_checked(2)?;
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    }
}

impl<'a> Reader<'a> {
    /// The value of the first attribute of this kind.
    #[must_use]
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// A text attribute.
    #[must_use]
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?).ok().map(|t| t.trim_end_matches('\0'))
    }
}

/// A message that was received.
#[derive(Debug)]
pub struct Received<'a> {
    /// Subsystem in the high byte, message in the low.
    pub kind: u16,
    /// The socket whose request caused it.
    pub port: u32,
    /// What follows the `nfgenmsg`, or the error code.
    pub body: &'a [u8],
    sequence: u32,
}

/// Splits what one `recv` gave into messages.
pub fn split(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = word(0)? as usize;
        let message = bytes.get(..length).filter(|m| m.len() >= HEADER)?;
        let kind = u16::from_ne_bytes(message[4..6].try_into().ok()?);
        let (sequence, port) = (word(8)?, word(12)?);
        let body = if kind == ERROR || kind == DONE { HEADER } else { HEADER + 4 };
        let received = Received { kind, port, sequence, body: message.get(body..).unwrap_or_default() };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// A socket to netfilter in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netfilter {
    socket: Socket,
    port: u32,
}

impl Netfilter {
    /// Opens a socket.
    ///
    /// # Errors
    /// No right to, or no netfilter.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        enlarge(&socket)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, port })
    }

    /// The socket's number, by which the kernel names whose changes it announces.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends nftables messages as one transaction: all of them happen, or none.
    ///
    /// # Errors
    /// The first refusal.
    pub fn transact(&mut self, fill: impl FnOnce(&mut Messages)) -> io::Result<()> {
        let mut messages = Messages::default();
        messages.message(BATCH_BEGIN, 0, 0, u16::from(NFTABLES), |_| {});
        fill(&mut messages);
        let last = messages.sequence;
        if last == 1 {
            return Ok(());
        }
        // The last of them is acknowledged: nfnetlink answers a batch after it committed or gave up.
        let flags = messages.last + 6;
        messages.bytes[flags] |= u8::try_from(ACK).expect("a flag in the low byte");
        messages.message(BATCH_END, 0, 0, u16::from(NFTABLES), |_| {});
        self.exchange(&messages, last)
    }

    /// Sends one request that is answered by success or an error.
    ///
    /// # Errors
    /// The refusal.
    pub fn request(&mut self, subsystem: u8, kind: u8, family: u8, attributes: impl FnOnce(&mut Attributes<'_>)) -> io::Result<()> {
        let mut messages = Messages::default();
        messages.push(subsystem, kind, ACK, family, attributes);
        self.exchange(&messages, messages.sequence)
    }

    fn exchange(&mut self, messages: &Messages, last: u32) -> io::Result<()> {
        self.socket.send(&messages.bytes, 0)?;
        let mut refusal = None;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in split(&bytes).filter(|m| m.kind == ERROR) {
                refusal = refusal.or(error(&message));
                if message.sequence >= last || (refusal.is_some() && message.sequence <= 1) {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Asks for everything of a kind and gives each message's body to `each`.
    ///
    /// # Errors
    /// A refusal, or a dump that was interrupted by a change: it must be started again.
    pub fn dump(
        &mut self,
        subsystem: u8,
        kind: u8,
        family: u8,
        attributes: impl FnOnce(&mut Attributes<'_>),
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut messages = Messages::default();
        messages.push(subsystem, kind, DUMP, family, attributes);
        self.socket.send(&messages.bytes, 0)?;
        for _ in 0..MAX_DUMP {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in split(&bytes) {
                match message.kind {
                    ERROR | DONE => return error(&message).map_or(Ok(()), Err),
                    _ => each(message.body),
                }
            }
        }
        Err(io::Error::other("the dump did not end"))
    }
}

fn error(message: &Received<'_>) -> Option<io::Error> {
    let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
    (code < 0).then(|| io::Error::from_raw_os_error(-code))
}

/// Makes room for large batches. Going over the system's limit is a privilege; without it the limit has to do.
fn enlarge(socket: &Socket) -> io::Result<()> {
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER)?;
    }
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
    }
    setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::seconds(i64::try_from(ANSWER_WITHIN.as_secs()).unwrap_or(10)))?;
    Ok(())
}
