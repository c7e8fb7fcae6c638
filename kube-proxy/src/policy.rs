//! NetworkPolicy into chains and sets.
//!
//! A pod of this node that some policy selects has, for each direction, an element that leads to a chain. The chain
//! jumps through each of its policies, which accept what they allow, and drops the rest. Chains are shared: one for each
//! policy and direction, one for each combination of policies that some pod has. Who the peers are is in sets, so a pod
//! that comes or goes anywhere in the cluster is one element here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::labels::Selector;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::model::{ObjectKey, Pod, Protocol, Services};
use crate::ruleset::{Action, Atom, Carries, Chain, Field, Match, Rule, Ruleset, Set, Type, Value, Verdict};
use crate::skeleton::{ADMIT, EGRESS, INGRESS};

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The pods of its namespace that it is for.
    pub pods: Selector,
    /// What may come in; none when it says nothing about that.
    pub ingress: Option<Vec<Allow>>,
    /// What may go out; none when it says nothing about that.
    pub egress: Option<Vec<Allow>>,
}

/// Traffic that a policy allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// With whom; empty means with everybody.
    pub peers: Vec<Peer>,
    /// On which ports; empty means on all.
    pub ports: Vec<PolicyPort>,
}

/// The other side of allowed traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Pods, in the policy's namespace or in those that a selector takes.
    Pods {
        /// The namespaces; none means the policy's own.
        namespaces: Option<Selector>,
        /// The pods in them.
        pods: Selector,
    },
    /// Addresses in a range, except some.
    Block(IpNet, Vec<IpNet>),
}

/// Ports that a policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyPort {
    /// All ports of a protocol.
    All(Protocol),
    /// From one to another, both included.
    Range(Protocol, u16, u16),
    /// What the pods that are spoken to call so.
    Named(Protocol, String),
}

/// The most elements a policy's set may have: a policy that cuts an address range into more pieces is a mistake.
const MAX_PIECES: usize = 65_536;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    fn allowed(self, policy: &Policy) -> Option<&[Allow]> {
        match self {
            Self::Ingress => policy.ingress.as_deref(),
            Self::Egress => policy.egress.as_deref(),
        }
    }
}

/// Adds what the policies ask for.
pub fn add(table: &mut Ruleset, services: &Services) {
    for direction in Direction::BOTH {
        let mut used: BTreeSet<&ObjectKey> = BTreeSet::new();
        let mut combinations: BTreeMap<Vec<&ObjectKey>, Vec<IpAddr>> = BTreeMap::new();
        for (key, pod) in services.pods.iter().filter(|(_, p)| p.local) {
            let Some(ip) = pod.ips.iter().find(|ip| ip.is_ipv4()) else { continue };
            let theirs: Vec<&ObjectKey> = services
                .policies
                .iter()
                .filter(|(name, p)| name.namespace == key.namespace && direction.allowed(p).is_some() && p.pods.matches(&pod.labels))
                .map(|(name, _)| name)
                .collect();
            if !theirs.is_empty() {
                used.extend(&theirs);
                combinations.entry(theirs).or_default().push(*ip);
            }
        }
        for key in used {
            let allowed = direction.allowed(&services.policies[key]).unwrap_or_default();
            let rules = policy_rules(table, services, key, direction, allowed);
            table.chains.insert(policy_chain(key, direction), Chain { hook: None, rules });
        }
        for (policies, ips) in combinations {
            isolate(table, &policies, &ips, direction);
        }
    }
}

/// The chain of the pods that have exactly these policies, and the pods' elements.
fn isolate(table: &mut Ruleset, policies: &[&ObjectKey], ips: &[IpAddr], direction: Direction) {
    let names: Vec<String> = policies.iter().map(|p| policy_chain(p, direction)).collect();
    let chain = format!("pods-{}-{}", direction.word(), hash(&names.join(",")));
    let mut rules: Vec<Rule> = names.into_iter().map(|name| Rule::new([], Action::Verdict(Verdict::Jump(name)))).collect();
    rules.push(Rule::new([], Action::Verdict(Verdict::Drop)));
    table.chains.insert(chain.clone(), Chain { hook: None, rules });
    let map = if direction == Direction::Ingress { INGRESS } else { EGRESS };
    for ip in ips {
        table.insert(map, vec![Atom::Addr(*ip)], Value::Verdict(Verdict::Goto(chain.clone())));
    }
}

fn policy_chain(key: &ObjectKey, direction: Direction) -> String {
    format!("policy-{}-{}", direction.word(), hash(&key.to_string()))
}

/// A name for the kernel, which takes neither dots nor long ones.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn policy_rules(table: &mut Ruleset, services: &Services, key: &ObjectKey, direction: Direction, allowed: &[Allow]) -> Vec<Rule> {
    // What may leave one pod must still be admitted by the other.
    let verdict = match direction {
        Direction::Ingress => Verdict::Accept,
        Direction::Egress => Verdict::Goto(ADMIT.into()),
    };
    let mut rules = Vec::new();
    for (index, allow) in allowed.iter().enumerate() {
        let name = format!("{}-{index}", policy_chain(key, direction));
        let ports = port_matches(table, services, key, direction, allow, &name);
        for peer in peer_matches(table, services, key, direction, allow, &name) {
            for port in &ports {
                rules.push(Rule::new([&peer[..], port].concat(), Action::Verdict(verdict.clone())));
            }
        }
    }
    rules
}

/// Alternatives, one of which must hold for the other side.
fn peer_matches(
    table: &mut Ruleset,
    services: &Services,
    key: &ObjectKey,
    direction: Direction,
    allow: &Allow,
    name: &str,
) -> Vec<Vec<Match>> {
    if allow.peers.is_empty() {
        return vec![vec![]];
    }
    let field = if direction == Direction::Ingress { Field::Saddr } else { Field::Daddr };
    let mut matches = Vec::new();
    if allow.peers.iter().any(|p| matches!(p, Peer::Pods { .. })) {
        let set = format!("{name}-pods");
        table.sets.insert(set.clone(), Set::new(&[Type::Addr], Carries::Nothing));
        for (_, pod) in peers(services, key, allow) {
            for ip in pod.ips.iter().filter(|ip| ip.is_ipv4()) {
                table.insert(&set, vec![Atom::Addr(*ip)], Value::Member);
            }
        }
        matches.push(vec![Match::In(vec![field], set)]);
    }
    let blocks: Vec<IpNet> = allow
        .peers
        .iter()
        .filter_map(|p| match p {
            Peer::Block(net, except) => Some(without(*net, except)),
            Peer::Pods { .. } => None,
        })
        .flatten()
        .filter(|net| net.addr().is_ipv4())
        .take(MAX_PIECES)
        .collect();
    if !blocks.is_empty() {
        let set = format!("{name}-blocks");
        table.sets.insert(set.clone(), Set::new(&[Type::Net], Carries::Nothing));
        for net in IpNet::aggregate(&blocks) {
            table.insert(&set, vec![Atom::Net(net)], Value::Member);
        }
        matches.push(vec![Match::In(vec![field], set)]);
    }
    matches
}

/// The pods that `allow` names as peers.
fn peers<'a>(services: &'a Services, policy: &ObjectKey, allow: &Allow) -> Vec<(&'a ObjectKey, &'a Pod)> {
    let is_peer = |key: &ObjectKey, pod: &Pod| {
        allow.peers.iter().any(|peer| match peer {
            Peer::Block(..) => false,
            Peer::Pods { namespaces: None, pods } => key.namespace == policy.namespace && pods.matches(&pod.labels),
            Peer::Pods { namespaces: Some(of), pods } => {
                services.namespaces.get(&key.namespace).is_some_and(|labels| of.matches(labels)) && pods.matches(&pod.labels)
            }
        })
    };
    services.pods.iter().filter(|(key, pod)| is_peer(key, pod)).collect()
}

/// Alternatives, one of which must hold for the port.
fn port_matches(
    table: &mut Ruleset,
    services: &Services,
    key: &ObjectKey,
    direction: Direction,
    allow: &Allow,
    name: &str,
) -> Vec<Vec<Match>> {
    if allow.ports.is_empty() {
        return vec![vec![]];
    }
    let mut matches = Vec::new();
    for protocol in Protocol::ALL {
        let mut ranges = Vec::new();
        let mut all = false;
        for port in &allow.ports {
            match port {
                PolicyPort::All(p) if *p == protocol => all = true,
                PolicyPort::Range(p, first, last) if *p == protocol => ranges.push((*first, *last)),
                _ => {}
            }
        }
        if all {
            matches.push(vec![Match::Proto(protocol)]);
        } else if !ranges.is_empty() {
            let ranges = merged(ranges).into_iter();
            matches.extend(ranges.map(|(first, last)| vec![Match::Proto(protocol), Match::Ports(first, last)]));
        }
    }
    let named: Vec<(Protocol, &str)> = allow
        .ports
        .iter()
        .filter_map(|p| match p {
            PolicyPort::Named(protocol, name) => Some((*protocol, name.as_str())),
            _ => None,
        })
        .collect();
    if named.is_empty() {
        return matches;
    }
    // A name means what the pods that are spoken to call so, and each may call another port so.
    let set = format!("{name}-ports");
    table.sets.insert(set.clone(), Set::new(&[Type::Addr, Type::Proto, Type::Port], Carries::Nothing));
    let spoken_to: Vec<&Pod> = match direction {
        Direction::Egress if allow.peers.is_empty() => services.pods.values().collect(),
        Direction::Egress => peers(services, key, allow).into_iter().map(|(_, pod)| pod).collect(),
        Direction::Ingress => {
            let policy = &services.policies[key];
            let own = services.pods.iter().filter(|(k, p)| p.local && k.namespace == key.namespace && policy.pods.matches(&p.labels));
            own.map(|(_, pod)| pod).collect()
        }
    };
    for pod in spoken_to {
        let ports = pod.named_ports.iter().filter(|(name, protocol, _)| named.contains(&(*protocol, name)));
        for (_, protocol, number) in ports {
            for ip in pod.ips.iter().filter(|ip| ip.is_ipv4()) {
                table.insert(&set, vec![Atom::Addr(*ip), Atom::Proto(*protocol), Atom::Port(*number)], Value::Member);
            }
        }
    }
    matches.push(vec![Match::In(vec![Field::Daddr, Field::Proto, Field::Dport], set)]);
    matches
}

/// The fewest ranges, sorted.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out
}

/// `net` without `except`, as the fewest networks.
fn without(net: IpNet, except: &[IpNet]) -> Vec<IpNet> {
    let except: Vec<IpNet> = except.iter().copied().filter(|e| e.contains(&net) || net.contains(e)).collect();
    if except.is_empty() {
        return vec![net];
    }
    if except.iter().any(|e| e.contains(&net)) {
        return vec![];
    }
    let Ok(halves) = net.subnets(net.prefix_len() + 1) else { return vec![] };
    halves.flat_map(|half| without(half, &except)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_range_without_its_exceptions() {
        let check = |net: &str, except: &[&str], expected: &str| {
            let except: Vec<IpNet> = except.iter().map(|e| e.parse().unwrap()).collect();
            let got: Vec<String> = without(net.parse().unwrap(), &except).iter().map(IpNet::to_string).collect();
            assert_eq!(got.join(" "), expected, "{net} except {except:?}");
        };
        check("10.0.0.0/8", &[], "10.0.0.0/8");
        check("10.0.0.0/8", &["10.0.0.0/8"], "");
        check("10.0.0.0/24", &["10.0.0.64/26"], "10.0.0.0/26 10.0.0.128/25");
        check("10.0.0.0/30", &["10.0.0.1/32", "10.0.0.2/32"], "10.0.0.0/32 10.0.0.3/32");
        check("10.0.0.0/24", &["192.168.0.0/16"], "10.0.0.0/24");
    }

    #[test]
    fn port_ranges_are_merged() {
        assert_eq!(merged(vec![(80, 80), (8080, 8090), (81, 85), (8085, 9000)]), [(80, 85), (8080, 9000)]);
        assert_eq!(merged(vec![(1, 65535), (7, 7)]), [(1, 65535)]);
    }
}
