//! Services, pods and policies into the table.
//!
//! Every address and port at which something answers is a *frontend*: cluster, external, load balancer and node port
//! addresses, and host ports alike. A frontend has one element in `services`, whose verdict is a refusal or a *pick*
//! chain, and one element in `endpoints` for each slot that the pick chain may draw. Pick chains are shared by all
//! frontends with as many endpoints and the same treatment, so there are few of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::endpoints::{Choice, Target, choose};
use crate::model::{Endpoint, Node, ObjectKey, Protocol, Service, ServicePort, Services};
use crate::policy;
use crate::ruleset::{Action, Atom, Chain, Field, Key, Match, Rule, Ruleset, Value, Verdict};
use crate::skeleton::{ADMITTED, AFFINITY, ENDPOINTS, FRONTEND, HAIRPIN, INSIDE, NO_ENDPOINTS, RESTRICTED, SERVICES, STICKY, skeleton};

/// The first slot of endpoints for clients inside the cluster, where those differ. No Service has so many endpoints.
pub const INSIDE_SLOTS: u32 = 1 << 20;

/// The table for what is known.
#[must_use]
pub fn compile(services: &Services, node: &Node) -> Ruleset {
    let mut table = skeleton(node);
    let endpoints = by_port(services);
    for (key, service) in &services.services {
        for port in &service.ports {
            let found = endpoints.get(&(key.namespace.as_str(), key.name.as_str(), port.name.as_str(), port.protocol));
            let choice = choose(found.map_or(&[], Vec::as_slice), node);
            add_port(&mut table, service, port, &choice, node);
        }
    }
    add_host_ports(&mut table, services, node);
    add_hairpins(&mut table, services, node);
    policy::add(&mut table, services);
    table
}

type PortKey<'a> = (&'a str, &'a str, &'a str, Protocol);

/// Endpoints by namespace, Service, port name and protocol.
fn by_port(services: &Services) -> BTreeMap<PortKey<'_>, Vec<(&Endpoint, u16)>> {
    let mut found: BTreeMap<PortKey<'_>, Vec<_>> = BTreeMap::new();
    for (key, slice) in &services.slices {
        for (name, protocol, number) in &slice.ports {
            let list = found.entry((&key.namespace, &slice.service, name, *protocol)).or_default();
            list.extend(slice.endpoints.iter().filter(|e| e.address.is_ipv4()).map(|e| (e, *number)));
        }
    }
    found
}

/// How many endpoints of `service` are on this node and ready, over all its ports: what its health check port tells.
#[must_use]
pub fn local_endpoints(services: &Services, service: &ObjectKey, node: &Node) -> usize {
    let slices = services.slices.iter().filter(|(key, slice)| key.namespace == service.namespace && slice.service == service.name);
    let mut found: Vec<IpAddr> = slices
        .flat_map(|(_, slice)| &slice.endpoints)
        .filter(|e| e.ready && e.node.as_deref() == Some(node.name.as_str()))
        .map(|e| e.address)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}

fn add_port(table: &mut Ruleset, service: &Service, port: &ServicePort, choice: &Choice, node: &Node) {
    let off_cluster = if node.masquerade_all { Masquerade::Always } else { Masquerade::OffCluster };
    let mut add = |addr: &IpAddr, number: u16, plan: &Plan<'_>| {
        if addr.is_ipv4() {
            add_frontend(table, Frontend { addr: *addr, protocol: port.protocol, port: number }, plan, service, node);
        }
    };
    let cluster_ip = if service.internal_local { (&choice.local, off_cluster) } else { (&choice.cluster, off_cluster) };
    let internal = Plan { targets: cluster_ip.0, masquerade: cluster_ip.1, inside: None, elsewhere: !choice.cluster.is_empty() };
    for addr in &service.cluster_ips {
        add(addr, port.port, &internal);
    }
    let external = if service.external_local {
        let masquerade = if node.masquerade_all { Masquerade::Always } else { Masquerade::Never };
        let inside = Some((choice.cluster.as_slice(), off_cluster));
        Plan { targets: &choice.local, masquerade, inside, elsewhere: !choice.cluster.is_empty() }
    } else {
        Plan { targets: &choice.cluster, masquerade: Masquerade::Always, inside: None, elsewhere: false }
    };
    for addr in service.load_balancer_ips.iter().chain(&service.external_ips) {
        add(addr, port.port, &external);
    }
    if let Some(number) = port.node_port {
        for addr in &node.addresses {
            add(addr, number, &external);
        }
    }
    if !service.source_ranges.is_empty() {
        restrict(table, service, port);
    }
}

/// `loadBalancerSourceRanges`.
fn restrict(table: &mut Ruleset, service: &Service, port: &ServicePort) {
    let mut ranges: Vec<_> = service.source_ranges.iter().filter(|r| r.addr().is_ipv4()).copied().collect();
    ranges = ipnet::IpNet::aggregate(&ranges);
    for addr in service.load_balancer_ips.iter().filter(|a| a.is_ipv4()) {
        let frontend = Frontend { addr: *addr, protocol: port.protocol, port: port.port };
        table.insert(RESTRICTED, frontend.key(), Value::Member);
        for range in &ranges {
            table.insert(ADMITTED, [frontend.key(), vec![Atom::Net(*range)]].concat(), Value::Member);
        }
    }
}

/// Where something answers.
#[derive(Debug, Clone, Copy)]
struct Frontend {
    addr: IpAddr,
    protocol: Protocol,
    port: u16,
}

impl Frontend {
    fn key(self) -> Key {
        vec![Atom::Addr(self.addr), Atom::Proto(self.protocol), Atom::Port(self.port)]
    }
}

/// What is to happen at a frontend.
struct Plan<'a> {
    targets: &'a [Target],
    masquerade: Masquerade,
    /// For clients in the cluster, where they are treated differently.
    inside: Option<(&'a [Target], Masquerade)>,
    /// Whether there are endpoints that this traffic may not go to: then it is dropped, not refused.
    elsewhere: bool,
}

/// Whose source address is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masquerade {
    Never,
    /// That of clients outside the pod ranges.
    OffCluster,
    Always,
}

fn add_frontend(table: &mut Ruleset, frontend: Frontend, plan: &Plan<'_>, service: &Service, node: &Node) {
    let sticky = service.affinity.is_some();
    if table.sets[SERVICES].elements.contains_key(&frontend.key()) {
        return; // another Service claimed the address first
    }
    let outside = match plan.targets {
        [] if plan.elsewhere => Verdict::Drop,
        [] => Verdict::Goto(NO_ENDPOINTS.into()),
        targets => send(table, frontend, targets, Pick { slots: 0, count: 0, masquerade: plan.masquerade, sticky }, node),
    };
    table.insert(SERVICES, frontend.key(), Value::Verdict(outside));
    if let Some((targets, masquerade)) = plan.inside.filter(|(targets, _)| !targets.is_empty()) {
        let inside = send(table, frontend, targets, Pick { slots: INSIDE_SLOTS, count: 0, masquerade, sticky }, node);
        table.insert(INSIDE, frontend.key(), Value::Verdict(inside));
    }
    if let Some(seconds) = service.affinity.filter(|_| !plan.targets.is_empty() || plan.inside.is_some()) {
        let name = remember(table, seconds);
        table.insert(STICKY, frontend.key(), Value::Verdict(Verdict::Jump(name)));
    }
}

fn send(table: &mut Ruleset, frontend: Frontend, targets: &[Target], pick: Pick, node: &Node) -> Verdict {
    for (slot, (addr, port)) in (pick.slots..).zip(targets) {
        let key = [frontend.key(), vec![Atom::Slot(slot)]].concat();
        table.insert(ENDPOINTS, key, Value::Endpoint(*addr, *port));
    }
    let count = u32::try_from(targets.len()).unwrap_or(INSIDE_SLOTS).min(INSIDE_SLOTS);
    Verdict::Goto(Pick { count, ..pick }.chain(table, node))
}

/// A chain that draws one of `count` slots.
#[derive(Debug, Clone, Copy)]
struct Pick {
    slots: u32,
    count: u32,
    masquerade: Masquerade,
    sticky: bool,
}

impl Pick {
    /// Its name in the table, where it is put if it is new.
    fn chain(self, table: &mut Ruleset, node: &Node) -> String {
        let mut name = format!("pick-{}", self.count);
        if self.slots == INSIDE_SLOTS {
            name += "-inside";
        }
        if self.sticky {
            name += "-sticky";
        }
        name += match self.masquerade {
            Masquerade::Never => "",
            Masquerade::OffCluster => "-cluster",
            Masquerade::Always => "-external",
        };
        if !table.chains.contains_key(&name) {
            let rules = self.rules(node);
            table.chains.insert(name.clone(), Chain { hook: None, rules });
        }
        name
    }

    fn rules(self, node: &Node) -> Vec<Rule> {
        let mut rules = Vec::new();
        match self.masquerade {
            Masquerade::Never => {}
            Masquerade::Always => rules.push(Rule::new([], Action::WantMasquerade)),
            // Without a cluster range nobody can be told to be outside of it.
            Masquerade::OffCluster => rules.extend(node.cluster_cidr.map(|net| Rule::new([Match::NotFrom(net)], Action::WantMasquerade))),
        }
        if self.sticky {
            let client = [&[Field::Saddr], &FRONTEND[..]].concat();
            rules.push(Rule::new([], Action::Redirect(client, AFFINITY.into())));
        }
        let drawn = [&FRONTEND[..], &[Field::Random { count: self.count, offset: self.slots }]].concat();
        rules.push(Rule::new([], Action::Redirect(drawn, ENDPOINTS.into())));
        rules
    }
}

fn remember(table: &mut Ruleset, seconds: u32) -> String {
    let name = format!("remember-{seconds}");
    let rules = || Protocol::ALL.map(|p| Rule::new([Match::Proto(p)], Action::Remember(seconds))).to_vec();
    table.chains.entry(name.clone()).or_insert_with(|| Chain { hook: None, rules: rules() });
    name
}

fn add_host_ports(table: &mut Ruleset, services: &Services, node: &Node) {
    for pod in services.pods.values().filter(|p| p.local) {
        let Some(ip) = pod.ips.iter().find(|ip| ip.is_ipv4()) else { continue };
        for port in &pod.host_ports {
            let asked = port.host_ip.filter(|ip| !ip.is_unspecified());
            let everywhere = || node.addresses.iter().copied().chain([Ipv4Addr::LOCALHOST.into()]).collect();
            let on: Vec<IpAddr> = asked.map_or_else(everywhere, |addr| vec![addr]);
            for addr in on.into_iter().filter(IpAddr::is_ipv4) {
                let frontend = Frontend { addr, protocol: port.protocol, port: port.host_port };
                // A pod could not answer 127.0.0.1: to it, that is itself.
                let masquerade = if addr.is_loopback() { Masquerade::Always } else { Masquerade::Never };
                let plan = Plan { targets: &[(*ip, port.container_port)], masquerade, inside: None, elsewhere: false };
                add_frontend(table, frontend, &plan, &Service::default(), node);
            }
            table.insert(HAIRPIN, vec![Atom::Addr(*ip), Atom::Addr(*ip)], Value::Member);
        }
    }
}

/// A pod that asks a Service may be sent to itself; it would not take a packet that seems to come from itself.
fn add_hairpins(table: &mut Ruleset, services: &Services, node: &Node) {
    let here = services.slices.values().flat_map(|s| &s.endpoints).filter(|e| e.node.as_deref() == Some(node.name.as_str()));
    for endpoint in here.filter(|e| e.address.is_ipv4() && !node.addresses.contains(&e.address)) {
        table.insert(HAIRPIN, vec![Atom::Addr(endpoint.address); 2], Value::Member);
    }
}
