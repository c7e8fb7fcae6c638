//! The table and its changes as text for `nft -f -`: for people, and as the oracle of [`crate::encode`].
//!
//! nft 1.0.6 takes a whole table, and elements for a table that is there; it does not take rules that use the map of
//! endpoints of a table that is there.

use std::fmt::Write as _;

use crate::diff::{Change, Transaction};
use crate::encode::MASQUERADE_MARK;
use crate::ruleset::{Action, Atom, Carries, Field, Hook, Key, Match, Rule, Set, TABLE, Type, Value, Verdict};

/// Elements in one statement: nft's parser takes time that grows with the length of a statement.
const ELEMENTS_A_STATEMENT: usize = 512;

/// A transaction as nft text. nft applies it as a whole or not at all.
#[must_use]
pub fn transaction(transaction: &Transaction) -> String {
    let mut out = String::new();
    if transaction.replace {
        out += &format!("add table ip {TABLE}\ndelete table ip {TABLE}\nadd table ip {TABLE}\n");
    }
    for c in &transaction.changes {
        change(&mut out, c);
    }
    out
}

fn change(out: &mut String, change: &Change) {
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("memory");
    match change {
        Change::AddSet(name, set) => {
            let word = if set.carries == Carries::Nothing { "set" } else { "map" };
            line(format_args!("add {word} ip {TABLE} {name} {{ {} }}", declaration(set)));
        }
        Change::AddChain(name, hook) => match hook {
            Some(hook) => line(format_args!("add chain ip {TABLE} {name} {{ {} }}", base(*hook))),
            None => line(format_args!("add chain ip {TABLE} {name}")),
        },
        Change::SetRules(name, rules) => {
            line(format_args!("flush chain ip {TABLE} {name}"));
            for text in rules.iter().map(rule) {
                line(format_args!("add rule ip {TABLE} {name} {text}"));
            }
        }
        Change::DeleteElements(set, keys) => {
            for some in keys.chunks(ELEMENTS_A_STATEMENT) {
                let list: Vec<String> = some.iter().map(key).collect();
                line(format_args!("delete element ip {TABLE} {set} {{ {} }}", list.join(", ")));
            }
        }
        Change::AddElements(set, elements) => {
            for some in elements.chunks(ELEMENTS_A_STATEMENT) {
                let list: Vec<String> = some.iter().map(|(k, v)| element(k, v)).collect();
                line(format_args!("add element ip {TABLE} {set} {{ {} }}", list.join(", ")));
            }
        }
        Change::DeleteChain(name) => line(format_args!("delete chain ip {TABLE} {name}")),
        Change::DeleteSet(name) => line(format_args!("delete set ip {TABLE} {name}")),
    }
}

fn declaration(set: &Set) -> String {
    let joined = |word: fn(Type) -> &'static str| set.key.iter().map(|t| word(*t)).collect::<Vec<_>>().join(" . ");
    // A drawn number has no type name, so maps with slots are declared by example.
    let mut text = if set.key.contains(&Type::Slot) {
        let example = joined(|t| match t {
            Type::Addr | Type::Net => "ip daddr",
            Type::Proto => "meta l4proto",
            Type::Port => "th dport",
            Type::Slot => "numgen random mod 2",
        });
        format!("typeof {example}")
    } else {
        let named = joined(|t| match t {
            Type::Addr | Type::Net => "ipv4_addr",
            Type::Proto => "inet_proto",
            Type::Port => "inet_service",
            Type::Slot => "mark",
        });
        format!("type {named}")
    };
    text += match (set.carries, set.key.contains(&Type::Slot)) {
        (Carries::Nothing, _) => "",
        (Carries::Verdict, _) => " : verdict",
        (Carries::Endpoint, true) => " : ip daddr . th dport",
        (Carries::Endpoint, false) => " : ipv4_addr . inet_service",
    };
    text += ";";
    if set.is_interval() {
        text += " flags interval;";
    }
    if let Some(size) = set.learnt {
        text += &format!(" flags dynamic,timeout; size {size};");
    }
    text
}

fn base(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "type nat hook prerouting priority -100; policy accept;",
        Hook::Output => "type nat hook output priority -100; policy accept;",
        Hook::Forward => "type filter hook forward priority 0; policy accept;",
        Hook::Postrouting => "type nat hook postrouting priority 100; policy accept;",
    }
}

/// A rule in nft's words.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    rule.when.iter().map(|m| condition(m) + " ").collect::<String>() + &action(&rule.then)
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::In(of, set) => format!("{} @{set}", fields(of)),
        Match::NotIn(of, set) => format!("{} != @{set}", fields(of)),
        Match::From(net) => format!("ip saddr {net}"),
        Match::NotFrom(net) => format!("ip saddr != {net}"),
        Match::To(net) => format!("ip daddr {net}"),
        Match::NotTo(net) => format!("ip daddr != {net}"),
        Match::Proto(protocol) => format!("meta l4proto {protocol}"),
        Match::Ports(first, last) if first == last => format!("th dport {first}"),
        Match::Ports(first, last) => format!("th dport {first}-{last}"),
        Match::Redirected => "ct status dnat".into(),
        Match::Established => "ct state established,related".into(),
        Match::MasqueradeWanted => format!("meta mark & {MASQUERADE_MARK:#x} != 0"),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Verdict(v) => verdict(v),
        Action::Lookup(of, map) => format!("{} vmap @{map}", fields(of)),
        Action::Redirect(of, map) => format!("dnat ip to {} map @{map}", fields(of)),
        Action::Remember(seconds) => format!(
            "update @{} {{ ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout {seconds}s : ip daddr . th dport }}",
            crate::skeleton::AFFINITY
        ),
        Action::WantMasquerade => format!("meta mark set meta mark | {MASQUERADE_MARK:#x}"),
        // The bit is cleared, so that a packet wrapped in another (VXLAN) is not rewritten twice.
        Action::Masquerade => format!("meta mark set meta mark & {:#x} masquerade fully-random", !MASQUERADE_MARK),
        Action::Reset => "reject with tcp reset".into(),
        Action::Unreachable => "reject with icmp type port-unreachable".into(),
    }
}

fn fields(of: &[Field]) -> String {
    of.iter().map(|f| field(*f)).collect::<Vec<_>>().join(" . ")
}

fn field(field: Field) -> String {
    match field {
        Field::Saddr => "ip saddr".into(),
        Field::Daddr => "ip daddr".into(),
        Field::Proto => "meta l4proto".into(),
        Field::Dport => "th dport".into(),
        Field::Random { count, offset } => format!("numgen random mod {count} offset {offset}"),
        Field::OrigSaddr => "ct original ip saddr".into(),
        Field::OrigDaddr => "ct original ip daddr".into(),
        Field::OrigDport => "ct original proto-dst".into(),
    }
}

fn element(k: &Key, value: &Value) -> String {
    match value {
        Value::Member => key(k),
        Value::Verdict(v) => format!("{} : {}", key(k), verdict(v)),
        Value::Endpoint(addr, port) => format!("{} : {addr} . {port}", key(k)),
    }
}

fn key(key: &Key) -> String {
    key.iter().map(Atom::to_string).collect::<Vec<_>>().join(" . ")
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Jump(chain) => format!("jump {chain}"),
    }
}
