//! Which endpoints a Service's traffic may go to: readiness, termination, locality, topology hints.
//!
//! Upstream's rules (KEP-1669, KEP-2433, KEP-3015): endpoints that terminate but still serve are used only when none
//! is ready; hints count only for cluster-wide traffic and only when every ready endpoint has them.

use std::net::IpAddr;

use crate::model::{Endpoint, Node};

/// Where to send: an address and a port.
pub type Target = (IpAddr, u16);

/// The endpoints of one port of a Service, sorted by who may use them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// For traffic that may go anywhere. Sorted, without repetition.
    pub cluster: Vec<Target>,
    /// For traffic that must stay on this node. Sorted, without repetition.
    pub local: Vec<Target>,
}

/// Sorts the endpoints of a port.
#[must_use]
pub fn choose(endpoints: &[(&Endpoint, u16)], node: &Node) -> Choice {
    let here = |e: &Endpoint| e.node.as_deref() == Some(node.name.as_str());
    let hint = hint(endpoints.iter().map(|(e, _)| *e).filter(|e| e.ready), node);
    Choice {
        cluster: usable(endpoints, |e| hint.allows(e, node)).unwrap_or_else(|| going(endpoints, |_| true)),
        local: usable(endpoints, here).unwrap_or_else(|| going(endpoints, here)),
    }
}

fn usable(endpoints: &[(&Endpoint, u16)], may: impl Fn(&Endpoint) -> bool) -> Option<Vec<Target>> {
    let found = targets(endpoints, |e| e.ready && may(e));
    (!found.is_empty()).then_some(found)
}

fn going(endpoints: &[(&Endpoint, u16)], may: impl Fn(&Endpoint) -> bool) -> Vec<Target> {
    targets(endpoints, |e| e.serving && e.terminating && may(e))
}

fn targets(endpoints: &[(&Endpoint, u16)], keep: impl Fn(&Endpoint) -> bool) -> Vec<Target> {
    let mut found: Vec<Target> = endpoints.iter().filter(|(e, _)| keep(e)).map(|(e, port)| (e.address, *port)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Which hints are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    Node,
    Zone,
}

impl Hint {
    fn allows(self, endpoint: &Endpoint, node: &Node) -> bool {
        match self {
            Self::None => true,
            Self::Node => endpoint.nodes.contains(&node.name),
            Self::Zone => node.zone.as_ref().is_some_and(|zone| endpoint.zones.contains(zone)),
        }
    }
}

fn hint<'a>(ready: impl Iterator<Item = &'a Endpoint> + Clone, node: &Node) -> Hint {
    let in_force = |hint: Hint, hints: fn(&Endpoint) -> &Vec<String>| {
        ready.clone().all(|e| !hints(e).is_empty()) && ready.clone().any(|e| hint.allows(e, node))
    };
    if in_force(Hint::Node, |e| &e.nodes) {
        Hint::Node
    } else if in_force(Hint::Zone, |e| &e.zones) {
        Hint::Zone
    } else {
        Hint::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line an endpoint: last byte of the address, then flags `r`eady `s`erving `t`erminating, `@node`, `z=zone`, `n=node`.
    fn check(endpoints: &str, cluster: &[u8], local: &[u8]) {
        let parsed: Vec<Endpoint> = endpoints
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(|line| {
                let mut words = line.split_whitespace();
                let last: u8 = words.next().unwrap().parse().unwrap();
                let flags = words.next().unwrap();
                let mut e = Endpoint {
                    address: [10, 0, 0, last].into(),
                    ready: flags.contains('r'),
                    serving: flags.contains('s'),
                    terminating: flags.contains('t'),
                    node: None,
                    zones: vec![],
                    nodes: vec![],
                };
                for word in words {
                    match word.split_at(1) {
                        ("@", node) => e.node = Some(node.into()),
                        ("z", zone) => e.zones.push(zone[1..].into()),
                        ("n", node) => e.nodes.push(node[1..].into()),
                        _ => panic!("{word}"),
                    }
                }
                e
            })
            .collect();
        let with_port: Vec<_> = parsed.iter().map(|e| (e, 80)).collect();
        let node = Node { name: "a".into(), zone: Some("z1".into()), ..Node::default() };
        let got = choose(&with_port, &node);
        let addresses = |bytes: &[u8]| -> Vec<Target> { bytes.iter().map(|b| (IpAddr::from([10, 0, 0, *b]), 80)).collect() };
        assert_eq!(got, Choice { cluster: addresses(cluster), local: addresses(local) }, "{endpoints}");
    }

    #[test]
    fn only_ready_ones_are_used() {
        check("1 rs @a\n2 rs @b\n3 s @a", &[1, 2], &[1]);
        check("1 - @a", &[], &[]);
    }

    #[test]
    fn terminating_ones_are_the_last_resort() {
        check("1 st @a\n2 rs @b", &[2], &[1]);
        check("1 st @a\n2 st @b\n3 t @a", &[1, 2], &[1]);
        check("1 s @a", &[], &[]);
    }

    #[test]
    fn hints_hold_when_everybody_has_them_and_one_is_for_us() {
        check("1 rs z=z1\n2 rs z=z2", &[1], &[]);
        check("1 rs z=z1\n2 rs", &[1, 2], &[]);
        check("1 rs z=z3\n2 rs z=z2", &[1, 2], &[]);
        check("1 rs z=z1 n=b\n2 rs z=z2 n=a", &[2], &[]);
        check("1 rs z=z1 n=b\n2 rs z=z2 n=c", &[1], &[]);
    }

    #[test]
    fn hints_say_nothing_about_local_traffic() {
        check("1 rs @a z=z2\n2 rs @b z=z1", &[2], &[1]);
    }
}
