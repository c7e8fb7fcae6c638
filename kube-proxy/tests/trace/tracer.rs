//! What the kernel does with a packet, by the table as a value: one new connection, from its first hook to its last.

use std::net::IpAddr;

use kube_proxy::model::Protocol;
use kube_proxy::ruleset::{Action, Atom, Field, Hook, Key, Match, Ruleset, Value, Verdict};

/// The first packet of a connection.
#[derive(Debug, Clone)]
pub struct Packet {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// By a program on the node, not received.
    pub made_here: bool,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It goes on.
    Sent { to: IpAddr, port: u16, masqueraded: bool },
    /// The sender is told that nobody listens.
    Refused,
    /// It vanishes.
    Dropped,
}

struct State<'a> {
    table: &'a Ruleset,
    packet: &'a Packet,
    draw: u32,
    to: (IpAddr, u16),
    redirected: bool,
    wanted: bool,
    masqueraded: bool,
}

/// How a chain ended.
enum End {
    /// Without a decision.
    Return,
    /// With one that this hook stands by.
    Decided,
    /// The packet goes no further.
    Over(Fate),
}

/// Follows the packet; `draw` is the random number.
pub fn trace(table: &Ruleset, packet: &Packet, draw: u32) -> Fate {
    let to = (packet.to, packet.port);
    let mut state = State { table, packet, draw, to, redirected: false, wanted: false, masqueraded: false };
    let first = if packet.made_here { Hook::Output } else { Hook::Prerouting };
    let mut hooks = vec![first];
    if !packet.made_here {
        hooks.push(Hook::Forward);
    }
    hooks.push(Hook::Postrouting);
    for hook in hooks {
        for (name, _) in table.chains.iter().filter(|(_, c)| c.hook == Some(hook)) {
            if let End::Over(fate) = state.run(name) {
                return fate;
            }
        }
    }
    Fate::Sent { to: state.to.0, port: state.to.1, masqueraded: state.masqueraded }
}

impl<'a> State<'a> {
    fn run(&mut self, chain: &str) -> End {
        let rules = &self.table.chains.get(chain).unwrap_or_else(|| panic!("no chain {chain}")).rules;
        for rule in rules {
            if !rule.when.iter().all(|m| self.holds(m)) {
                continue;
            }
            match &rule.then {
                Action::Verdict(verdict) => match self.decide(verdict) {
                    End::Return if matches!(verdict, Verdict::Goto(_)) => return End::Return,
                    End::Return => {}
                    end => return end,
                },
                Action::Lookup(fields, map) => {
                    if let Some(Value::Verdict(verdict)) = self.get(fields, map) {
                        match self.decide(verdict) {
                            End::Return if matches!(verdict, Verdict::Goto(_)) => return End::Return,
                            End::Return => {}
                            end => return end,
                        }
                    }
                }
                Action::Redirect(fields, map) => {
                    if let Some(Value::Endpoint(addr, port)) = self.get(fields, map) {
                        self.to = (*addr, *port);
                        self.redirected = true;
                        return End::Decided;
                    }
                }
                Action::Remember(_) => {}
                Action::WantMasquerade => self.wanted = true,
                Action::Masquerade => {
                    self.masqueraded = true;
                    return End::Decided;
                }
                Action::Reset | Action::Unreachable => return End::Over(Fate::Refused),
            }
        }
        End::Return
    }

    fn decide(&mut self, verdict: &Verdict) -> End {
        match verdict {
            Verdict::Accept => End::Decided,
            Verdict::Drop => End::Over(Fate::Dropped),
            Verdict::Goto(chain) | Verdict::Jump(chain) => self.run(chain),
        }
    }

    fn holds(&self, condition: &Match) -> bool {
        match condition {
            Match::In(fields, set) => self.get(fields, set).is_some(),
            Match::NotIn(fields, set) => self.get(fields, set).is_none(),
            Match::From(net) => net.contains(&self.packet.from),
            Match::NotFrom(net) => !net.contains(&self.packet.from),
            Match::To(net) => net.contains(&self.to.0),
            Match::NotTo(net) => !net.contains(&self.to.0),
            Match::Proto(protocol) => self.packet.protocol == *protocol,
            Match::Ports(first, last) => (*first..=*last).contains(&self.to.1),
            Match::Redirected => self.redirected,
            Match::Established => false,
            Match::MasqueradeWanted => self.wanted,
        }
    }

    fn get(&self, fields: &[Field], set: &str) -> Option<&'a Value> {
        let table: &'a Ruleset = self.table;
        let set = table.sets.get(set).unwrap_or_else(|| panic!("no set {set}"));
        let asked: Key = fields.iter().map(|f| self.field(*f)).collect();
        let matches = |key: &Key| {
            key.iter().zip(&asked).all(|(held, asked)| match (held, asked) {
                (Atom::Net(net), Atom::Addr(addr)) => net.contains(addr),
                _ => held == asked,
            })
        };
        set.elements.iter().find(|(key, _)| matches(key)).map(|(_, value)| value)
    }

    fn field(&self, field: Field) -> Atom {
        match field {
            Field::Saddr | Field::OrigSaddr => Atom::Addr(self.packet.from),
            Field::Daddr => Atom::Addr(self.to.0),
            Field::Proto => Atom::Proto(self.packet.protocol),
            Field::Dport => Atom::Port(self.to.1),
            Field::Random { count, offset } => Atom::Slot(offset + self.draw % count),
            Field::OrigDaddr => Atom::Addr(self.packet.to),
            Field::OrigDport => Atom::Port(self.packet.port),
        }
    }
}
