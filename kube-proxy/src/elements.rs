//! Elements of sets in the kernel's binary form, there and back.
//!
//! Each part of a key stands in registers of four bytes: addresses and ports in network order, a protocol in one byte, a
//! slot in the order of the machine (nf_tables.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::Protocol;
use crate::netlink::{Attributes, CREATE, IPV4, Messages, NFTABLES, Netfilter, Reader};
use crate::ruleset::{Atom, Key, Set, TABLE, Type, Value, Verdict};

const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
const DELETE_ELEMENTS: u8 = 14;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// The element marks where a range ends.
const INTERVAL_END: u32 = 1;

/// Elements in one message: an attribute holds at most 64 KiB, an element takes less than 200 bytes.
const ELEMENTS_A_MESSAGE: usize = 256;

/// Elements enter a set.
pub fn add(messages: &mut Messages, set: &str, elements: &[(Key, Value)]) {
    for some in elements.chunks(ELEMENTS_A_MESSAGE) {
        list(messages, NEW_ELEMENTS, CREATE, set, some, |l, (key, value)| {
            put(l, key, |e| encode_value(e, value));
        });
    }
}

/// Elements leave a set.
pub fn delete(messages: &mut Messages, set: &str, keys: &[Key]) {
    for some in keys.chunks(ELEMENTS_A_MESSAGE) {
        list(messages, DELETE_ELEMENTS, 0, set, some, |l, key| put(l, key, |_| {}));
    }
}

/// Elements that packets once taught enter a set, with the time they have left.
pub fn put_learnt(messages: &mut Messages, set: &str, held: &[Held]) {
    for some in held.chunks(ELEMENTS_A_MESSAGE) {
        list(messages, NEW_ELEMENTS, CREATE, set, some, |l, one| {
            put(l, &one.key, |e| {
                encode_value(e, &one.value);
                for (kind, ms) in [(ELEMENT_TIMEOUT, one.timeout), (ELEMENT_EXPIRATION, one.expires)] {
                    if let Some(ms) = ms {
                        e.put(kind, &ms.to_be_bytes());
                    }
                }
            });
        });
    }
}

/// One element; a range of addresses alone is two, of which the second says where it ends.
fn put(list: &mut Attributes<'_>, key: &Key, rest: impl FnOnce(&mut Attributes<'_>)) {
    let range = key.iter().any(|atom| matches!(atom, Atom::Net(_)));
    list.nest(LIST_ELEMENT, |e| {
        e.nest(ELEMENT_KEY, |k| k.put(DATA_VALUE, &encode_key(key, Edge::First)));
        if range && key.len() > 1 {
            e.nest(ELEMENT_KEY_END, |k| k.put(DATA_VALUE, &encode_key(key, Edge::Last)));
        }
        rest(e);
    });
    if let ([Atom::Net(net)], true) = (&key[..], range)
        && let Some(after) = after(net)
    {
        list.nest(LIST_ELEMENT, |e| {
            e.nest(ELEMENT_KEY, |k| k.put(DATA_VALUE, &after));
            e.put(ELEMENT_FLAGS, &INTERVAL_END.to_be_bytes());
        });
    }
}

/// The address after a network's last; none when there is no more.
fn after(net: &IpNet) -> Option<[u8; 4]> {
    match net.broadcast() {
        IpAddr::V4(last) => Some(u32::from(last).checked_add(1)?.to_be_bytes()),
        IpAddr::V6(_) => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    First,
    Last,
}

fn list<T>(messages: &mut Messages, kind: u8, flags: u16, set: &str, items: &[T], one: impl Fn(&mut Attributes<'_>, &T)) {
    messages.push(NFTABLES, kind, flags, IPV4, |a| {
        a.text(LIST_TABLE, TABLE);
        a.text(LIST_SET, set);
        a.nest(LIST_ELEMENTS, |l| items.iter().for_each(|item| one(l, item)));
    });
}

fn encode_key(key: &Key, edge: Edge) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() * 4);
    for atom in key {
        match atom {
            Atom::Addr(addr) => put_addr(&mut bytes, addr),
            Atom::Net(net) => put_addr(&mut bytes, &if edge == Edge::First { net.network() } else { net.broadcast() }),
            Atom::Proto(p) => bytes.extend_from_slice(&[p.number(), 0, 0, 0]),
            Atom::Port(port) => put_port(&mut bytes, *port),
            Atom::Slot(slot) => bytes.extend_from_slice(&slot.to_ne_bytes()),
        }
    }
    bytes
}

fn put_addr(bytes: &mut Vec<u8>, addr: &IpAddr) {
    match addr {
        IpAddr::V4(a) => bytes.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => bytes.extend_from_slice(&a.octets()),
    }
}

fn put_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
}

fn encode_value(element: &mut Attributes<'_>, value: &Value) {
    match value {
        Value::Member => {}
        Value::Endpoint(addr, port) => element.nest(ELEMENT_DATA, |d| {
            let mut bytes = Vec::with_capacity(8);
            put_addr(&mut bytes, addr);
            put_port(&mut bytes, *port);
            d.put(DATA_VALUE, &bytes);
        }),
        Value::Verdict(verdict) => element.nest(ELEMENT_DATA, |d| put_verdict(d, verdict)),
    }
}

/// The register that decides about the packet.
pub const VERDICT_REGISTER: u32 = 0;

/// A verdict as data.
pub fn put_verdict(data: &mut Attributes<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0i32, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    data.nest(DATA_VERDICT, |v| {
        v.put(VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            v.text(VERDICT_CHAIN, chain);
        }
    });
}

/// An element that the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// How many milliseconds it stays when it is not asked for, if it goes by itself.
    pub timeout: Option<u64>,
    /// How many of them are left.
    pub expires: Option<u64>,
}

/// Reads the elements of a set. Of an interval set, the keys are the first addresses of the ranges, as networks of one.
///
/// # Errors
/// The kernel's refusal, or elements that do not look like the set's declaration.
pub fn dump(netfilter: &mut Netfilter, name: &str, set: &Set) -> io::Result<Vec<Held>> {
    let mut held = Vec::new();
    let mut odd = false;
    let request = |a: &mut Attributes<'_>| {
        a.text(LIST_TABLE, TABLE);
        a.text(LIST_SET, name);
    };
    netfilter.dump(NFTABLES, GET_ELEMENTS, IPV4, request, |body| {
        let elements = Reader(body).get(LIST_ELEMENTS).unwrap_or_default();
        for (_, element) in Reader(elements) {
            let element = Reader(element);
            let flags = element.get(ELEMENT_FLAGS).and_then(|f| f.try_into().ok()).map_or(0, u32::from_be_bytes);
            if flags & INTERVAL_END == 0 {
                match decode(set, &element) {
                    Some(one) => held.push(one),
                    None => odd = true,
                }
            }
        }
    })?;
    if odd {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("elements of {name} are not as declared")));
    }
    Ok(held)
}

fn decode(set: &Set, element: &Reader<'_>) -> Option<Held> {
    let mut bytes = Reader(element.get(ELEMENT_KEY)?).get(DATA_VALUE)?;
    let mut key = Key::with_capacity(set.key.len());
    for part in &set.key {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        key.push(match part {
            Type::Addr => Atom::Addr(Ipv4Addr::from(*word).into()),
            Type::Net => Atom::Net(IpAddr::from(Ipv4Addr::from(*word)).into()),
            Type::Proto => Atom::Proto(Protocol::from_number(word[0])?),
            Type::Port => Atom::Port(u16::from_be_bytes([word[0], word[1]])),
            Type::Slot => Atom::Slot(u32::from_ne_bytes(*word)),
        });
        bytes = rest;
    }
    let time = |kind| element.get(kind).and_then(|t| t.try_into().ok()).map(u64::from_be_bytes);
    Some(Held { key, value: decode_value(element)?, timeout: time(ELEMENT_TIMEOUT), expires: time(ELEMENT_EXPIRATION) })
}

fn decode_value(element: &Reader<'_>) -> Option<Value> {
    let Some(data) = element.get(ELEMENT_DATA) else { return Some(Value::Member) };
    let data = Reader(data);
    if let Some(verdict) = data.get(DATA_VERDICT) {
        let verdict = Reader(verdict);
        let chain = || verdict.text(VERDICT_CHAIN).map(str::to_owned);
        return Some(Value::Verdict(match i32::from_be_bytes(verdict.get(VERDICT_CODE)?.try_into().ok()?) {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            -3 => Verdict::Jump(chain()?),
            -4 => Verdict::Goto(chain()?),
            _ => return None,
        }));
    }
    let bytes = data.get(DATA_VALUE)?;
    let (addr, rest) = bytes.split_first_chunk::<4>()?;
    let port = rest.first_chunk::<2>()?;
    Some(Value::Endpoint(Ipv4Addr::from(*addr).into(), u16::from_be_bytes(*port)))
}
