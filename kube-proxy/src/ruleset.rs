//! The table as a value.
//!
//! A [`Ruleset`] is everything that the kernel's table `ferrite` holds: sets and maps with their elements, chains with
//! their rules. It is built by [`crate::compile`], compared by [`crate::diff`], written as nft text by
//! [`crate::render`], sent by [`crate::sink`] and interpreted, in the tests, by a packet tracer. It never does IO.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Protocol;

/// The name of the one table that is ours.
pub const TABLE: &str = "ferrite";

/// The whole table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets and maps, by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains, by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A named set, or a map when its elements carry values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What a key is made of.
    pub key: Vec<Type>,
    /// What an element carries.
    pub carries: Carries,
    /// Whether packets add to it, and how many elements they may add. Such elements are not part of the value.
    pub learnt: Option<u32>,
    /// The elements.
    pub elements: BTreeMap<Key, Value>,
}

/// A part of a key. The order of parts is the order in the packet lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An address.
    Addr,
    /// A range of addresses; makes the set an interval set.
    Net,
    /// A transport protocol.
    Proto,
    /// A port.
    Port,
    /// The number of an endpoint within its frontend, as drawn at random.
    Slot,
}

/// What the elements of a set carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Nothing: it is a set.
    Nothing,
    /// A verdict.
    Verdict,
    /// An address and a port to send to.
    Endpoint,
}

/// A key: one atom for each [`Type`] of its set.
pub type Key = Vec<Atom>;

/// One part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// See [`Type::Addr`].
    Addr(IpAddr),
    /// See [`Type::Net`].
    Net(IpNet),
    /// See [`Type::Proto`].
    Proto(Protocol),
    /// See [`Type::Port`].
    Port(u16),
    /// See [`Type::Slot`].
    Slot(u32),
}

/// What an element carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Membership is all.
    Member,
    /// What happens to the packet.
    Verdict(Verdict),
    /// Where the packet is sent.
    Endpoint(IpAddr, u16),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This base chain has no objection.
    Accept,
    /// The packet vanishes.
    Drop,
    /// On in another chain, without coming back.
    Goto(String),
    /// Through another chain, and back unless it decided.
    Jump(String),
}

/// A list of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it; none for chains that only other chains call.
    pub hook: Option<Hook>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel calls a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Destination NAT of packets that arrive.
    Prerouting,
    /// Destination NAT of packets made on this node.
    Output,
    /// Filter of packets passed on.
    Forward,
    /// Source NAT of packets that leave.
    Postrouting,
}

/// If all of the conditions hold, the action is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions; none means always.
    pub when: Vec<Match>,
    /// What to do then.
    pub then: Action,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// These fields together are in (or not in) the set.
    In(Vec<Field>, String),
    /// These fields together are not in the set.
    NotIn(Vec<Field>, String),
    /// The source is in the network.
    From(IpNet),
    /// The source is outside the network.
    NotFrom(IpNet),
    /// The destination is in the network.
    To(IpNet),
    /// The destination is outside the network.
    NotTo(IpNet),
    /// The transport protocol.
    Proto(Protocol),
    /// The destination port is not less than the one and not more than the other.
    Ports(u16, u16),
    /// The destination was rewritten.
    Redirected,
    /// The packet belongs to, or is related to, a connection that was let through.
    Established,
    /// It was decided before that the source must be rewritten.
    MasqueradeWanted,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A verdict.
    Verdict(Verdict),
    /// The verdict that the map holds for these fields; on with the next rule when it holds none.
    Lookup(Vec<Field>, String),
    /// The destination becomes what the map holds for these fields; on with the next rule when it holds none.
    Redirect(Vec<Field>, String),
    /// The client and the frontend it asked for are remembered with the endpoint chosen, for so many seconds.
    Remember(u32),
    /// Remember that the source must be rewritten.
    WantMasquerade,
    /// The source becomes an address of this node.
    Masquerade,
    /// Tell the sender by TCP that nobody listens.
    Reset,
    /// Tell the sender by ICMP that nobody listens.
    Unreachable,
}

/// A field of a packet, or of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Source address.
    Saddr,
    /// Destination address.
    Daddr,
    /// Transport protocol.
    Proto,
    /// Destination port.
    Dport,
    /// A number drawn from `offset..offset + count`.
    Random {
        /// How many numbers there are.
        count: u32,
        /// The smallest.
        offset: u32,
    },
    /// The connection's source address before it was rewritten.
    OrigSaddr,
    /// The connection's destination address before it was rewritten.
    OrigDaddr,
    /// The connection's destination port before it was rewritten.
    OrigDport,
}

impl Ruleset {
    /// Adds an element. A key that is there keeps the value it has: the first to claim an address wins.
    ///
    /// # Panics
    /// When the set does not exist: elements are only made for sets of the skeleton.
    pub fn insert(&mut self, set: &str, key: Key, value: Value) {
        let set = self.sets.get_mut(set).expect("elements belong to a declared set");
        debug_assert_eq!(set.key.len(), key.len());
        set.elements.entry(key).or_insert(value);
    }

    /// The number of elements in all sets.
    #[must_use]
    pub fn element_count(&self) -> usize {
        self.sets.values().map(|s| s.elements.len()).sum()
    }
}

impl Set {
    /// An empty set whose elements are only those that we put there.
    #[must_use]
    pub fn new(key: &[Type], carries: Carries) -> Self {
        Self { key: key.to_vec(), carries, learnt: None, elements: BTreeMap::new() }
    }

    /// Whether keys are ranges.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        self.key.contains(&Type::Net)
    }

    /// Whether both are declared alike, whatever their elements.
    #[must_use]
    pub fn same_declaration(&self, other: &Self) -> bool {
        (&self.key, self.carries, self.learnt) == (&other.key, other.carries, other.learnt)
    }
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(when: impl Into<Vec<Match>>, then: Action) -> Self {
        Self { when: when.into(), then }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(a) => a.fmt(f),
            Self::Net(n) => n.fmt(f),
            Self::Proto(p) => p.fmt(f),
            Self::Port(p) => p.fmt(f),
            Self::Slot(s) => s.fmt(f),
        }
    }
}
