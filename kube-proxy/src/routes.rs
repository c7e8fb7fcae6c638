//! How packets get to pods of other nodes: a plan of routes, from what Nodes say.
//!
//! A node on the same link is the next hop itself. One that is not is reached through the link `ferrite.vxlan`: each
//! node's end of it has the first address of its pod range and a hardware address made of its node address, so both
//! sides know everything from the Node objects and nothing is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1 as core;

use crate::flags::PodRoutes;

/// The link to nodes elsewhere.
pub const VXLAN_LINK: &str = "ferrite.vxlan";
/// Its network identifier.
pub const VXLAN_ID: u32 = 4_244;
/// Its UDP port, IANA's.
pub const VXLAN_PORT: u16 = 4_789;
/// What our routes are marked with (`rtm_protocol`), so that we touch no others.
pub const ROUTE_PROTOCOL: u8 = 244;

/// A Node, as far as packets are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its InternalIPs.
    pub addresses: Vec<IpAddr>,
    /// The ranges of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Its zone.
    pub zone: Option<String>,
    /// It is being taken away.
    pub leaving: bool,
}

impl Host {
    /// From the API's object.
    #[must_use]
    pub fn of(node: &core::Node) -> Self {
        let addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        let spec = node.spec.as_ref();
        let cidrs = spec.and_then(|s| s.pod_cidrs.as_ref()).into_iter().flatten().chain(spec.and_then(|s| s.pod_cidr.as_ref()));
        let mut pod_cidrs: Vec<IpNet> = cidrs.filter_map(|c| c.parse().ok()).collect();
        pod_cidrs.dedup();
        let taint = |t: &core::Taint| t.key == "ToBeDeletedByClusterAutoscaler";
        Self {
            addresses: addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect(),
            pod_cidrs,
            zone: node.metadata.labels.as_ref().and_then(|l| l.get("topology.kubernetes.io/zone")).cloned(),
            leaving: node.metadata.deletion_timestamp.is_some()
                || spec.and_then(|s| s.taints.as_ref()).is_some_and(|t| t.iter().any(taint)),
        }
    }

    fn ipv4(&self) -> Option<(Ipv4Addr, Ipv4Net)> {
        let address = self.addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None })?;
        let range = self.pod_cidrs.iter().find_map(|c| if let IpNet::V4(c) = c { Some(*c) } else { None })?;
        Some((address, range))
    }
}

/// Where packets to a pod range go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The pod range.
    pub to: Ipv4Net,
    /// The next hop.
    pub via: Ipv4Addr,
    /// Through [`VXLAN_LINK`].
    pub vxlan: bool,
}

/// A node at the other end of [`VXLAN_LINK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Far {
    /// Its address on the link.
    pub address: Ipv4Addr,
    /// Its hardware address on the link.
    pub hardware: [u8; 6],
    /// Its node address.
    pub node: Ipv4Addr,
}

/// Our end of [`VXLAN_LINK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Our address on it.
    pub address: Ipv4Addr,
    /// Our hardware address on it.
    pub hardware: [u8; 6],
    /// Our node address.
    pub node: Ipv4Addr,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The routes.
    pub routes: BTreeSet<Route>,
    /// Our end of the link; none when nobody needs it.
    pub near: Option<Near>,
    /// The other ends.
    pub far: BTreeSet<Far>,
}

/// Plans the routes of the node `me`. `near` are the networks that it reaches without a gateway.
#[must_use]
pub fn plan(me: &str, hosts: &BTreeMap<String, Host>, near: &[Ipv4Net], mode: PodRoutes) -> Plan {
    let mut plan = Plan::default();
    let Some(own) = hosts.get(me).and_then(Host::ipv4) else { return plan };
    if mode == PodRoutes::None {
        return plan;
    }
    let others = hosts.iter().filter(|(name, _)| name.as_str() != me).filter_map(|(_, host)| host.ipv4());
    for (node, range) in others.filter(|(node, _)| *node != own.0) {
        // A range within ours, or around it, would take our own pods away.
        if range.contains(&own.1) || own.1.contains(&range) {
            continue;
        }
        let near = near.iter().any(|n| n.contains(&node));
        match mode {
            PodRoutes::Auto | PodRoutes::Direct if near => {
                plan.routes.insert(Route { to: range, via: node, vxlan: false });
            }
            PodRoutes::Auto | PodRoutes::Vxlan => {
                plan.routes.insert(Route { to: range, via: range.network(), vxlan: true });
                plan.far.insert(Far { address: range.network(), hardware: hardware(node), node });
            }
            PodRoutes::Direct | PodRoutes::None => {}
        }
    }
    // Our end must be there also when only others come through it; each sees the same of the other, so that is the same.
    if !plan.far.is_empty() {
        plan.near = Some(Near { address: own.1.network(), hardware: hardware(own.0), node: own.0 });
    }
    plan
}

/// A hardware address that is administered locally and tells the node's address.
fn hardware(node: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = node.octets();
    [0x0e, 0xfe, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Hosts as `name address range`; this is node `a` on 192.168.1.0/24.
    fn check(hosts: &str, mode: PodRoutes, expected: Expect) {
        let hosts = hosts
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let host = Host {
                    addresses: vec![words[1].parse().unwrap()],
                    pod_cidrs: words.get(2).map(|c| c.parse().unwrap()).into_iter().collect(),
                    ..Host::default()
                };
                (words[0].to_owned(), host)
            })
            .collect();
        let plan = plan("a", &hosts, &["192.168.1.0/24".parse().unwrap()], mode);
        let mut text = String::new();
        for r in &plan.routes {
            text += &format!("{} via {}{}\n", r.to, r.via, if r.vxlan { " vxlan" } else { "" });
        }
        if let Some(near) = &plan.near {
            text += &format!("near {} {:x?} {}\n", near.address, near.hardware, near.node);
        }
        for f in &plan.far {
            text += &format!("far {} {:x?} {}\n", f.address, f.hardware, f.node);
        }
        expected.assert_eq(&text);
    }

    const MIXED: &str = "a 192.168.1.1 10.244.0.0/24\nb 192.168.1.2 10.244.1.0/24\nc 192.168.9.3 10.244.2.0/24\nd 192.168.1.4";

    #[test]
    fn neighbours_directly_and_others_by_vxlan() {
        check(
            MIXED,
            PodRoutes::Auto,
            expect![[r#"
                10.244.1.0/24 via 192.168.1.2
                10.244.2.0/24 via 10.244.2.0 vxlan
                near 10.244.0.0 [e, fe, c0, a8, 1, 1] 192.168.1.1
                far 10.244.2.0 [e, fe, c0, a8, 9, 3] 192.168.9.3
            "#]],
        );
    }

    #[test]
    fn the_mode_decides() {
        check(MIXED, PodRoutes::Direct, expect![["10.244.1.0/24 via 192.168.1.2\n"]]);
        check(MIXED, PodRoutes::None, expect![[""]]);
    }

    #[test]
    fn without_a_range_of_our_own_there_is_nothing_to_route() {
        check("a 192.168.1.1\nb 192.168.1.2 10.244.1.0/24", PodRoutes::Auto, expect![[""]]);
    }

    #[test]
    fn a_range_that_covers_ours_is_not_believed() {
        check("a 192.168.1.1 10.244.0.0/24\nb 192.168.1.2 10.244.0.0/16", PodRoutes::Auto, expect![[""]]);
    }
}
