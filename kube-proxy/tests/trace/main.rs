//! Packets traced through the table as a value: a few by name, and many at random against a router that knows no tables.
#![allow(clippy::unwrap_used, reason = "the helpers of tests, too, say by panicking what is wrong")]

mod router;
mod tracer;

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_proxy::compile::compile;
use kube_proxy::diff::{Change, diff};
use kube_proxy::model::{Endpoint, HostPort, Node, ObjectKey, Pod, Protocol, Service, ServicePort, Services, Slice};
use kube_proxy::ruleset::Ruleset;
use proptest::prelude::*;

use tracer::{Fate, Packet, trace};

/// This node has 10.0.0.1 and the pods 10.244.0.0/24; there is another with 10.244.1.0/24.
fn node() -> Node {
    Node {
        name: "here".into(),
        zone: Some("z1".into()),
        addresses: vec![[10, 0, 0, 1].into(), [10, 244, 0, 1].into()],
        pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
        cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
        masquerade_all: false,
    }
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0..2u8, 2..6u8, flags, 0..4u8).prop_map(|(place, last, (ready, serving, terminating), hint)| Endpoint {
        address: [10, 244, place, last].into(),
        ready: ready && !terminating,
        serving: serving || (ready && !terminating),
        terminating,
        node: Some(if place == 0 { "here" } else { "there" }.into()),
        zones: if hint & 1 == 0 { vec![format!("z{}", place + 1)] } else { vec![] },
        nodes: vec![],
    })
}

fn service(number: u8) -> impl Strategy<Value = (Service, Slice)> {
    let flags = any::<[bool; 5]>();
    (flags, prop::collection::vec(endpoint(), 0..5)).prop_map(move |(flags, mut endpoints)| {
        // An address is one endpoint.
        let mut seen = BTreeSet::new();
        endpoints.retain(|e| seen.insert(e.address));
        let [external_local, internal_local, affinity, balanced, ranged] = flags;
        let port =
            |name: &str, protocol, port| ServicePort { name: name.into(), protocol, port, node_port: Some(30_000 + u16::from(number)) };
        let service = Service {
            cluster_ips: vec![[10, 96, 0, number].into()],
            external_ips: vec![[203, 0, 113, number].into()],
            load_balancer_ips: if balanced { vec![[198, 51, 100, number].into()] } else { vec![] },
            source_ranges: if balanced && ranged { vec!["10.0.0.0/8".parse().unwrap()] } else { vec![] },
            ports: vec![port("t", Protocol::Tcp, 80), port("u", Protocol::Udp, 53)],
            affinity: affinity.then_some(60),
            external_local,
            internal_local,
            health_check_node_port: None,
        };
        let ports = vec![("t".into(), Protocol::Tcp, 8080), ("u".into(), Protocol::Udp, 5353)];
        (service, Slice { service: format!("s{number}"), ports, endpoints })
    })
}

fn services() -> impl Strategy<Value = Services> {
    (service(1), service(2), service(3)).prop_map(|(a, b, c)| {
        let mut services = Services::default();
        for (number, (service, slice)) in (1..).zip([a, b, c]) {
            let key = ObjectKey::new("default", &format!("s{number}"));
            services.services.insert(key.clone(), service);
            services.slices.insert(key, slice);
        }
        services
    })
}

fn packets() -> impl Iterator<Item = Packet> {
    let sources: [[u8; 4]; 5] = [[10, 244, 0, 2], [10, 244, 0, 9], [10, 244, 1, 9], [10, 0, 0, 1], [192, 0, 2, 7]];
    let places = (1..4u8).flat_map(|n| {
        let of_port = [([10, 96, 0, n], 80), ([10, 96, 0, n], 53), ([203, 0, 113, n], 80), ([198, 51, 100, n], 53)];
        let on_node = [([10, 0, 0, 1], 30_000 + u16::from(n)), ([10, 244, 0, 1], 30_000 + u16::from(n))];
        of_port.into_iter().chain(on_node)
    });
    let places: Vec<([u8; 4], u16)> = places.chain([([8, 8, 8, 8], 53), ([10, 244, 1, 3], 80)]).collect();
    sources.into_iter().flat_map(move |from| {
        places.clone().into_iter().flat_map(move |(to, port)| {
            Protocol::ALL.map(|protocol| Packet { from: from.into(), to: to.into(), protocol, port, made_here: from == [10, 0, 0, 1] })
        })
    })
}

/// All that may happen to a packet, whatever is drawn.
fn fates(table: &Ruleset, packet: &Packet) -> BTreeSet<Fate> {
    (0..12).map(|draw| trace(table, packet, draw)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_packet_meets_what_the_services_say(services in services()) {
        let node = node();
        let table = compile(&services, &node);
        for packet in packets() {
            prop_assert_eq!(fates(&table, &packet), router::fates(&services, &node, &packet), "{:?}", packet);
        }
    }

    #[test]
    fn changes_lead_from_one_table_to_the_other(a in services(), b in services()) {
        let (old, new) = (compile(&a, &node()), compile(&b, &node()));
        prop_assert_eq!(applied(old.clone(), &diff(&old, &new).changes), new);
        prop_assert!(diff(&old, &old).is_empty());
    }
}

/// The table after changes, as the kernel would make them: it refuses what is not there, and what is there already.
fn applied(mut table: Ruleset, changes: &[Change]) -> Ruleset {
    for change in changes {
        match change.clone() {
            Change::AddSet(name, set) => assert!(table.sets.insert(name, set).is_none()),
            Change::AddChain(name, hook) => {
                assert!(table.chains.insert(name, kube_proxy::ruleset::Chain { hook, rules: vec![] }).is_none());
            }
            Change::SetRules(name, rules) => table.chains.get_mut(&name).unwrap().rules = rules,
            Change::DeleteElements(set, keys) => {
                keys.iter().for_each(|key| assert!(table.sets.get_mut(&set).unwrap().elements.remove(key).is_some()));
            }
            Change::AddElements(set, elements) => {
                let set = &mut table.sets.get_mut(&set).unwrap().elements;
                elements.into_iter().for_each(|(key, value)| assert!(set.insert(key, value).is_none()));
            }
            Change::DeleteChain(name) => {
                table.chains.remove(&name).unwrap();
                let leads_there = format!("\"{name}\"");
                assert!(!format!("{table:?}").contains(&leads_there), "something leads to {name}");
            }
            Change::DeleteSet(name) => drop(table.sets.remove(&name).unwrap()),
        }
    }
    table
}

fn fate(services: &Services, from: [u8; 4], to: [u8; 4], port: u16) -> Fate {
    let packet = Packet { from: from.into(), to: to.into(), protocol: Protocol::Tcp, port, made_here: false };
    trace(&compile(services, &node()), &packet, 0)
}

#[test]
fn the_first_service_keeps_an_address_that_two_claim() {
    let mut services = Services::default();
    for (name, last) in [("a", 2), ("b", 3)] {
        let port = ServicePort { name: "p".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let service = Service { external_ips: vec![[203, 0, 113, 1].into()], ports: vec![port], ..Service::default() };
        let ready = Endpoint {
            address: [10, 244, 0, last].into(),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zones: vec![],
            nodes: vec![],
        };
        let key = ObjectKey::new("default", name);
        services.services.insert(key.clone(), service);
        services.slices.insert(key, Slice { service: name.into(), ports: vec![("p".into(), Protocol::Tcp, 8080)], endpoints: vec![ready] });
    }
    let to: IpAddr = [10, 244, 0, 2].into();
    assert_eq!(fate(&services, [192, 0, 2, 7], [203, 0, 113, 1], 80), Fate::Sent { to, port: 8080, masqueraded: true });
}

#[test]
fn a_host_port_of_a_pod_elsewhere_is_not_ours() {
    let mut services = Services::default();
    let port = HostPort { host_ip: None, protocol: Protocol::Tcp, host_port: 8000, container_port: 80 };
    let pod = Pod { ips: vec![[10, 244, 0, 2].into()], local: true, host_ports: vec![port], ..Pod::default() };
    services.pods.insert(ObjectKey::new("default", "p"), pod.clone());
    let sent = Fate::Sent { to: [10, 244, 0, 2].into(), port: 80, masqueraded: false };
    assert_eq!(fate(&services, [192, 0, 2, 7], [10, 0, 0, 1], 8000), sent);
    services.pods.insert(ObjectKey::new("default", "p"), Pod { local: false, ..pod });
    let untouched = Fate::Sent { to: [10, 0, 0, 1].into(), port: 8000, masqueraded: false };
    assert_eq!(fate(&services, [192, 0, 2, 7], [10, 0, 0, 1], 8000), untouched);
}

#[test]
fn nobody_else_reaches_what_listens_on_loopback() {
    let services = Services::default();
    for from in [[192, 0, 2, 7], [10, 244, 0, 2]] {
        assert_eq!(fate(&services, from, [127, 0, 0, 1], 8000), Fate::Dropped);
    }
}
