//! Tables, sets, chains and rules in the kernel's binary form.
//!
//! A rule is a list of expressions that load values into registers of four bytes and compare, look up or act on them
//! (nf_tables.h). Written here rather than by the `nft` program because a change must not cost a process, and because
//! nft 1.0.6 cannot read back the map whose key has a drawn number, so it could never add a rule that uses it.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::diff::{Change, Transaction};
use crate::elements::{self, VERDICT_REGISTER, put_verdict};
use crate::netlink::{APPEND, Attributes, CREATE, IPV4, Messages, NFTABLES, Netfilter};
use crate::ruleset::{Action, Carries, Field, Hook, Match, Rule, Set, TABLE, Type};
use crate::skeleton::AFFINITY;

const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const NEW_SET: u8 = 9;
const DELETE_SET: u8 = 11;

/// The bit of the packet mark that says that the source must be rewritten; upstream's default (`--iptables-masquerade-bit`).
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Applies a transaction. `restored` are learnt elements to put into a table made anew.
///
/// # Errors
/// The kernel's refusal; then nothing has changed.
pub fn apply(netfilter: &mut Netfilter, transaction: &Transaction, restored: &[elements::Held]) -> io::Result<()> {
    netfilter.transact(|messages| {
        if transaction.replace {
            remake(messages);
        }
        for (number, change) in transaction.changes.iter().enumerate() {
            one(messages, change, u32::try_from(number).unwrap_or(u32::MAX));
        }
        elements::put_learnt(messages, AFFINITY, restored);
    })
}

/// Removes the table, which need not exist.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(netfilter: &mut Netfilter) -> io::Result<()> {
    netfilter.transact(|messages| {
        messages.push(NFTABLES, NEW_TABLE, CREATE, IPV4, |a| a.text(1, TABLE));
        messages.push(NFTABLES, DELETE_TABLE, 0, IPV4, |a| a.text(1, TABLE));
    })
}

fn remake(messages: &mut Messages) {
    // Made first, so that there is one to delete.
    messages.push(NFTABLES, NEW_TABLE, CREATE, IPV4, |a| a.text(1, TABLE));
    messages.push(NFTABLES, DELETE_TABLE, 0, IPV4, |a| a.text(1, TABLE));
    messages.push(NFTABLES, NEW_TABLE, CREATE, IPV4, |a| a.text(1, TABLE));
}

fn one(messages: &mut Messages, change: &Change, number: u32) {
    match change {
        Change::AddSet(name, set) => messages.push(NFTABLES, NEW_SET, CREATE, IPV4, |a| declare(a, name, set, number + 1)),
        Change::AddChain(name, hook) => messages.push(NFTABLES, NEW_CHAIN, CREATE, IPV4, |a| chain(a, name, *hook)),
        Change::SetRules(name, rules) => {
            messages.push(NFTABLES, DELETE_RULE, 0, IPV4, |a| {
                a.text(1, TABLE);
                a.text(2, name);
            });
            for r in rules {
                messages.push(NFTABLES, NEW_RULE, CREATE | APPEND, IPV4, |a| {
                    a.text(1, TABLE);
                    a.text(2, name);
                    a.nest(4, |list| rule(&mut Expressions(list), r));
                });
            }
        }
        Change::DeleteElements(set, keys) => elements::delete(messages, set, keys),
        Change::AddElements(set, all) => elements::add(messages, set, all),
        Change::DeleteChain(name) => messages.push(NFTABLES, DELETE_CHAIN, 0, IPV4, |a| {
            a.text(1, TABLE);
            a.text(3, name);
        }),
        Change::DeleteSet(name) => messages.push(NFTABLES, DELETE_SET, 0, IPV4, |a| {
            a.text(1, TABLE);
            a.text(2, name);
        }),
    }
}

fn chain(a: &mut Attributes<'_>, name: &str, hook: Option<Hook>) {
    a.text(1, TABLE);
    a.text(3, name);
    let Some(hook) = hook else { return };
    // Number of the hook, priority and type: as nft's names `dstnat`, `filter` and `srcnat` stand for.
    let (number, priority, kind) = match hook {
        Hook::Prerouting => (0u32, -100i32, "nat"),
        Hook::Forward => (2, 0, "filter"),
        Hook::Output => (3, -100, "nat"),
        Hook::Postrouting => (4, 100, "nat"),
    };
    a.nest(4, |h| {
        h.put(1, &number.to_be_bytes());
        h.put(2, &priority.to_be_bytes());
    });
    a.put(5, &ACCEPT.to_be_bytes());
    a.text(7, kind);
}

const ACCEPT: u32 = 1;

fn declare(a: &mut Attributes<'_>, name: &str, set: &Set, id: u32) {
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    const TIMEOUT: u32 = 0x10;
    const DYNAMIC: u32 = 0x20;
    const CONCAT: u32 = 0x80;
    const VERDICT: u32 = 0xffff_ff00;
    let kind = |parts: &[Type]| parts.iter().fold(0u32, |sum, part| sum << 6 | number(*part));
    let mut flags = 0;
    let ranges_of_several = set.is_interval() && set.key.len() > 1;
    for (flag, is_set) in [
        (INTERVAL, set.is_interval()),
        (CONCAT, ranges_of_several),
        (MAP, set.carries != Carries::Nothing),
        (TIMEOUT | DYNAMIC, set.learnt.is_some()),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    a.text(1, TABLE);
    a.text(2, name);
    a.number(3, flags);
    a.number(4, kind(&set.key));
    a.number(5, u32::try_from(set.key.len()).unwrap_or(u32::MAX) * 4);
    match set.carries {
        Carries::Nothing => {}
        Carries::Verdict => a.number(6, VERDICT),
        Carries::Endpoint => {
            a.number(6, kind(&[Type::Addr, Type::Port]));
            a.number(7, 8);
        }
    }
    a.nest(9, |description| {
        if let Some(size) = set.learnt {
            description.number(1, size);
        }
        if ranges_of_several {
            description.nest(2, |fields| set.key.iter().for_each(|part| fields.nest(1, |f| f.number(1, length(*part)))));
        }
    });
    a.number(10, id);
}

/// nft's number of a type; only for showing what is in the set.
fn number(part: Type) -> u32 {
    match part {
        Type::Addr | Type::Net => 7,
        Type::Proto => 12,
        Type::Port => 13,
        Type::Slot => 19,
    }
}

fn length(part: Type) -> u32 {
    match part {
        Type::Addr | Type::Net | Type::Slot => 4,
        Type::Proto => 1,
        Type::Port => 2,
    }
}

/// The expressions of a rule under construction.
struct Expressions<'a, 'b>(&'a mut Attributes<'b>);

/// The first register of four bytes.
const FIRST: u32 = 8;

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

impl Expressions<'_, '_> {
    fn add(&mut self, name: &str, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(1, |e| {
            e.text(1, name);
            e.nest(2, attributes);
        });
    }

    fn payload(&mut self, register: u32, base: u32, offset: u32, length: u32) {
        self.add("payload", |a| [register, base, offset, length].iter().zip(1..).for_each(|(value, kind)| a.number(kind, *value)));
    }

    fn meta(&mut self, register: u32, key: u32) {
        self.add("meta", |a| {
            a.number(1, register);
            a.number(2, key);
        });
    }

    fn ct(&mut self, register: u32, key: u32, original: bool) {
        self.add("ct", |a| {
            a.number(1, register);
            a.number(2, key);
            if original {
                a.put(3, &[0]);
            }
        });
    }

    fn compare(&mut self, how: Compare, with: &[u8]) {
        self.add("cmp", |a| {
            a.number(1, FIRST);
            a.number(2, how as u32);
            a.nest(3, |d| d.put(1, with));
        });
    }

    /// The first register becomes `(itself & mask) ^ xor`.
    fn bits(&mut self, mask: [u8; 4], xor: [u8; 4]) {
        self.add("bitwise", |a| {
            a.number(1, FIRST);
            a.number(2, FIRST);
            a.number(3, 4);
            a.nest(4, |d| d.put(1, &mask));
            a.nest(5, |d| d.put(1, &xor));
        });
    }

    /// Some bits of the first register are set.
    fn any_bit(&mut self, bits: u32) {
        self.bits(bits.to_ne_bytes(), [0; 4]);
        self.compare(Compare::NotEqual, &[0; 4]);
    }

    fn load(&mut self, fields: &[Field]) {
        for (field, register) in fields.iter().zip(FIRST..) {
            match field {
                Field::Saddr => self.payload(register, NETWORK, 12, 4),
                Field::Daddr => self.payload(register, NETWORK, 16, 4),
                Field::Proto => self.meta(register, META_PROTOCOL),
                Field::Dport => self.payload(register, TRANSPORT, 2, 2),
                Field::Random { count, offset } => self.add("numgen", |a| {
                    a.number(1, register);
                    a.number(2, *count);
                    a.number(3, 1);
                    a.number(4, *offset);
                }),
                Field::OrigSaddr => self.ct(register, CT_SOURCE, true),
                Field::OrigDaddr => self.ct(register, CT_DESTINATION, true),
                Field::OrigDport => self.ct(register, CT_DESTINATION_PORT, true),
            }
        }
    }

    fn lookup(&mut self, fields: &[Field], set: &str, result: Option<u32>, inverted: bool) {
        self.load(fields);
        self.add("lookup", |a| {
            a.text(1, set);
            a.number(2, FIRST);
            if let Some(register) = result {
                a.number(3, register);
            }
            if inverted {
                a.number(5, 1);
            }
        });
    }

    fn address(&mut self, field: Field, net: &IpNet, how: Compare) {
        self.load(&[field]);
        if let (IpAddr::V4(network), IpAddr::V4(mask)) = (net.network(), net.netmask()) {
            self.bits(mask.octets(), [0; 4]);
            self.compare(how, &network.octets());
        }
    }
}

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const META_MARK: u32 = 3;
const META_PROTOCOL: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_DESTINATION_PORT: u32 = 12;
const CT_SOURCE: u32 = 19;
const CT_DESTINATION: u32 = 20;
/// `ESTABLISHED` and `RELATED`, as bits of the state.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const DESTINATION_REWRITTEN: u32 = 1 << 5;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: ports are not guessed, and clash less.
const RANDOM_PORTS: u32 = 1 << 4;

fn rule(e: &mut Expressions<'_, '_>, rule: &Rule) {
    for m in &rule.when {
        condition(e, m);
    }
    action(e, &rule.then);
}

fn condition(e: &mut Expressions<'_, '_>, condition: &Match) {
    match condition {
        Match::In(fields, set) => e.lookup(fields, set, None, false),
        Match::NotIn(fields, set) => e.lookup(fields, set, None, true),
        Match::From(net) => e.address(Field::Saddr, net, Compare::Equal),
        Match::NotFrom(net) => e.address(Field::Saddr, net, Compare::NotEqual),
        Match::To(net) => e.address(Field::Daddr, net, Compare::Equal),
        Match::NotTo(net) => e.address(Field::Daddr, net, Compare::NotEqual),
        Match::Proto(protocol) => {
            e.meta(FIRST, META_PROTOCOL);
            e.compare(Compare::Equal, &[protocol.number()]);
        }
        Match::Ports(first, last) => {
            e.load(&[Field::Dport]);
            if first == last {
                e.compare(Compare::Equal, &first.to_be_bytes());
            } else {
                e.compare(Compare::AtLeast, &first.to_be_bytes());
                e.compare(Compare::AtMost, &last.to_be_bytes());
            }
        }
        Match::Redirected => {
            e.ct(FIRST, CT_STATUS, false);
            e.any_bit(DESTINATION_REWRITTEN);
        }
        Match::Established => {
            e.ct(FIRST, CT_STATE, false);
            e.any_bit(ESTABLISHED_OR_RELATED);
        }
        Match::MasqueradeWanted => {
            e.meta(FIRST, META_MARK);
            e.any_bit(MASQUERADE_MARK);
        }
    }
}

fn action(e: &mut Expressions<'_, '_>, action: &Action) {
    match action {
        Action::Verdict(verdict) => e.add("immediate", |a| {
            a.number(1, VERDICT_REGISTER);
            a.nest(2, |d| put_verdict(d, verdict));
        }),
        Action::Lookup(fields, map) => e.lookup(fields, map, Some(VERDICT_REGISTER), false),
        Action::Redirect(fields, map) => {
            e.lookup(fields, map, Some(FIRST), false);
            e.add("nat", |a| {
                a.number(1, 1);
                a.number(2, u32::from(IPV4));
                a.number(3, FIRST);
                a.number(5, FIRST + 1);
            });
        }
        Action::Remember(seconds) => remember(e, *seconds),
        Action::WantMasquerade => mark(e, !MASQUERADE_MARK, MASQUERADE_MARK),
        Action::Masquerade => {
            // The bit is cleared, so that a packet wrapped in another (VXLAN) is not rewritten twice.
            mark(e, !MASQUERADE_MARK, 0);
            e.add("masq", |a| a.number(1, RANDOM_PORTS));
        }
        Action::Reset => e.add("reject", |a| {
            a.number(1, 1);
            a.put(2, &[0]);
        }),
        Action::Unreachable => e.add("reject", |a| {
            a.number(1, 0);
            a.put(2, &[3]); // ICMP: port unreachable
        }),
    }
}

fn mark(e: &mut Expressions<'_, '_>, mask: u32, xor: u32) {
    e.meta(FIRST, META_MARK);
    e.bits(mask.to_ne_bytes(), xor.to_ne_bytes());
    e.add("meta", |a| {
        a.number(2, META_MARK);
        a.number(3, FIRST);
    });
}

/// Client and frontend, as they were before the rewriting; endpoint, as it is after.
fn remember(e: &mut Expressions<'_, '_>, seconds: u32) {
    let fields = [Field::OrigSaddr, Field::OrigDaddr, Field::Proto, Field::OrigDport, Field::Daddr, Field::Dport];
    e.load(&fields);
    e.add("dynset", |a| {
        a.text(1, AFFINITY);
        a.number(3, 1); // update
        a.number(4, FIRST);
        a.number(5, FIRST + 4);
        a.put(6, &(u64::from(seconds) * 1000).to_be_bytes());
    });
}
