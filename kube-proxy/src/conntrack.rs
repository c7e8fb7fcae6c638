//! UDP has no end of a connection: an entry that leads to an endpoint which is gone would swallow a client's packets for
//! as long as it keeps sending. Such entries are deleted when endpoints of UDP ports change.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::diff::{Change, Transaction};
use crate::model::Protocol;
use crate::netlink::{CONNTRACK, IPV4, Netfilter, Reader};
use crate::ruleset::{Atom, Key, Ruleset, Value};
use crate::skeleton::{ENDPOINTS, SERVICES};

const GET: u8 = 1;
const DELETE: u8 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE: u16 = 2;
const PROTO_DESTINATION: u16 = 3;

/// A connection as the kernel tracks it: what was asked, and who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The protocol.
    pub protocol: Protocol,
    /// The address and port that the client sent to.
    pub asked: (IpAddr, u16),
    /// The address and port that answers.
    pub answers: (IpAddr, u16),
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Whether a transaction takes UDP endpoints away, or gives a frontend its first.
#[must_use]
pub fn concerns(transaction: &Transaction) -> bool {
    let udp = |key: &Key| key.contains(&Atom::Proto(Protocol::Udp));
    transaction.replace
        || transaction.changes.iter().any(|change| match change {
            Change::DeleteElements(set, keys) => (set == ENDPOINTS || set == SERVICES) && keys.iter().any(udp),
            Change::AddElements(set, elements) => set == SERVICES && elements.iter().any(|(key, _)| udp(key)),
            _ => false,
        })
}

/// The UDP frontends of a table.
#[must_use]
pub fn udp_frontends(table: &Ruleset) -> BTreeSet<(IpAddr, u16)> {
    let keys = table.sets.get(SERVICES).into_iter().flat_map(|s| s.elements.keys());
    keys.filter_map(|key| match key[..] {
        [Atom::Addr(addr), Atom::Proto(Protocol::Udp), Atom::Port(port)] => Some((addr, port)),
        _ => None,
    })
    .collect()
}

/// Whether the entry leads somewhere that `table` would not lead. `known` are frontends of now and of before.
#[must_use]
pub fn is_stale(entry: &Entry, known: &BTreeSet<(IpAddr, u16)>, table: &Ruleset) -> bool {
    if entry.protocol != Protocol::Udp || !known.contains(&entry.asked) {
        return false;
    }
    let frontend = [Atom::Addr(entry.asked.0), Atom::Proto(entry.protocol), Atom::Port(entry.asked.1)];
    let endpoint = Value::Endpoint(entry.answers.0, entry.answers.1);
    let Some(set) = table.sets.get(ENDPOINTS) else { return true };
    let mut slots = set.elements.range(frontend.to_vec()..).take_while(|(key, _)| key.starts_with(&frontend));
    !slots.any(|(_, value)| *value == endpoint)
}

/// Deletes the stale entries and says how many there were.
///
/// # Errors
/// Conntrack could not be read or written.
pub fn clean(netfilter: &mut Netfilter, known: &BTreeSet<(IpAddr, u16)>, table: &Ruleset) -> io::Result<usize> {
    let mut stale = Vec::new();
    netfilter.dump(CONNTRACK, GET, IPV4, |_| {}, |body| stale.extend(parse(body).filter(|e| is_stale(e, known, table))))?;
    for entry in &stale {
        let gone = netfilter.request(CONNTRACK, DELETE, IPV4, |a| {
            a.nest(ORIGINAL, |tuple| tuple.raw(&entry.original));
            if let Some(zone) = &entry.zone {
                a.put(ZONE, zone);
            }
        });
        match gone {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // it ended meanwhile
            other => other?,
        }
    }
    Ok(stale.len())
}

fn parse(body: &[u8]) -> Option<Entry> {
    let message = Reader(body);
    let original = message.get(ORIGINAL)?;
    let reply = message.get(REPLY)?;
    let protocol = Reader(Reader(original).get(TUPLE_PROTO)?).get(PROTO_NUMBER)?.first()?;
    Some(Entry {
        protocol: Protocol::from_number(*protocol)?,
        asked: side(original, IP_DESTINATION, PROTO_DESTINATION)?,
        answers: side(reply, IP_SOURCE, PROTO_SOURCE)?,
        original: original.to_vec(),
        zone: message.get(ZONE).map(<[u8]>::to_vec),
    })
}

fn side(tuple: &[u8], address: u16, port: u16) -> Option<(IpAddr, u16)> {
    let tuple = Reader(tuple);
    let ip: [u8; 4] = Reader(tuple.get(TUPLE_IP)?).get(address)?.try_into().ok()?;
    let port: [u8; 2] = Reader(tuple.get(TUPLE_PROTO)?).get(port)?.try_into().ok()?;
    Some((Ipv4Addr::from(ip).into(), u16::from_be_bytes(port)))
}
