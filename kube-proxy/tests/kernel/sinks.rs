//! Each way into the kernel is the other's oracle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube_proxy::compile::compile;
use kube_proxy::diff::{Transaction, diff};
use kube_proxy::elements;
use kube_proxy::model::{Endpoint, Node, ObjectKey, Protocol, Service, ServicePort, Services, Slice};
use kube_proxy::ruleset::{Key, Ruleset, Value};
use kube_proxy::sink::{Netlink, OwnSockets, RuleSink, Text};
use kube_proxy::table::Table;

use crate::world::Namespaces;

/// `count` Services with `endpoints` endpoints each; `moved` of them have a different last endpoint.
fn services(count: u32, endpoints: u32, moved: u32) -> Services {
    let mut services = Services::default();
    for n in 0..count {
        let key = ObjectKey::new("default", &format!("s{n}"));
        let addr = |base: u32, n: u32| std::net::Ipv4Addr::from(base + n).into();
        let port = ServicePort { name: "p".into(), protocol: Protocol::ALL[n as usize % 3], port: 80, node_port: None };
        let service = Service { cluster_ips: vec![addr(0x0a60_0000, n)], ports: vec![port.clone()], ..Service::default() };
        let one = |e: u32| Endpoint {
            address: addr(0x0af4_0000, (n * 7 + e + u32::from(n < moved && e == 0) * 99_991) % 60_000),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zones: vec![],
            nodes: vec![],
        };
        let slice = Slice {
            service: key.name.clone(),
            ports: vec![("p".into(), port.protocol, 8080)],
            endpoints: (0..endpoints).map(one).collect(),
        };
        services.services.insert(key.clone(), service);
        services.slices.insert(key, slice);
    }
    services
}

fn held(netlink: &mut Netlink, table: &Ruleset) -> BTreeMap<String, BTreeMap<Key, Value>> {
    let sets = table.sets.iter().filter(|(_, s)| !s.is_interval() && s.learnt.is_none());
    sets.map(|(name, set)| {
        let held = elements::dump(netlink.netfilter(), name, set).expect("a dump");
        (name.clone(), held.into_iter().map(|h| (h.key, h.value)).collect())
    })
    .collect()
}

#[test]
fn text_and_netlink_do_the_same() {
    let namespaces = Namespaces::new(&["x"]);
    namespaces.enter("x", || {
        let own = OwnSockets::default();
        let (mut text, mut netlink) = (Text::new(own.clone()), Netlink::open(&own).expect("netfilter"));
        let node = Node::default();
        let first = compile(&services(600, 3, 0), &node);
        let second = compile(&services(600, 3, 400), &node);
        let change = diff(&first, &second);
        assert!(!change.is_empty());
        let mut results = vec![];
        for way in [&mut text as &mut dyn RuleSink, &mut netlink] {
            Text::new(own.clone()).apply(&Transaction::replace(&first)).expect("the table");
            way.apply(&change).expect("the change");
            results.push(held(&mut Netlink::open(&own).expect("netfilter"), &second));
        }
        let wanted: BTreeMap<_, _> = results[0].keys().map(|name| (name.clone(), second.sets[name].elements.clone())).collect();
        assert!(results[0] == wanted, "text");
        assert!(results[1] == wanted, "netlink");
    });
}

/// What nft makes of the chains that the kernel holds.
fn chains(table: &Ruleset) -> BTreeMap<String, String> {
    let list = |name: &String| {
        let output = std::process::Command::new("nft").args(["list", "chain", "ip", "ferrite", name]).output().expect("nft");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        (name.clone(), String::from_utf8(output.stdout).expect("text"))
    };
    table.chains.keys().map(list).collect()
}

#[test]
fn rules_are_what_their_text_says() {
    let namespaces = Namespaces::new(&["x"]);
    namespaces.enter("x", || {
        let own = OwnSockets::default();
        let (mut text, mut netlink) = (Text::new(own.clone()), Netlink::open(&own).expect("netfilter"));
        let node = Node {
            name: "here".into(),
            addresses: vec![[192, 168, 0, 1].into()],
            pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
            cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
            ..Node::default()
        };
        let mut services = services(3, 3, 0);
        for (n, service) in services.services.values_mut().enumerate() {
            service.affinity = (n == 1).then_some(60);
            service.external_local = n == 2;
            service.external_ips = vec![[203, 0, 113, u8::try_from(n).unwrap()].into()];
        }
        let peer = kube_proxy::policy::Peer::Block("10.1.0.0/16".parse().unwrap(), vec!["10.1.2.0/24".parse().unwrap()]);
        let ports = vec![
            kube_proxy::policy::PolicyPort::Range(Protocol::Tcp, 80, 90),
            kube_proxy::policy::PolicyPort::Range(Protocol::Udp, 53, 53),
            kube_proxy::policy::PolicyPort::Named(Protocol::Tcp, "web".into()),
        ];
        let allow = kube_proxy::policy::Allow { peers: vec![peer], ports };
        let pods = api::labels::Selector::everything();
        let policy = kube_proxy::policy::Policy { pods, ingress: Some(vec![allow.clone()]), egress: Some(vec![allow]) };
        services.policies.insert(ObjectKey::new("default", "p"), policy);
        let pod = kube_proxy::model::Pod { ips: vec![[10, 244, 0, 7].into()], local: true, ..kube_proxy::model::Pod::default() };
        services.pods.insert(ObjectKey::new("default", "pod"), pod);
        let table = compile(&services, &node);
        text.apply(&Transaction::replace(&table)).expect("the table, as text");
        let by_text = chains(&table);
        netlink.apply(&Transaction::replace(&table)).expect("the table, by netlink");
        for (name, chain) in chains(&table) {
            assert_eq!(chain, by_text[&name]);
        }
    });
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let namespaces = Namespaces::new(&["x"]);
    namespaces.enter("x", || {
        let own = OwnSockets::default();
        let (mut text, mut netlink) = (Text::new(own.clone()), Netlink::open(&own).expect("netfilter"));
        let first = compile(&services(600, 3, 0), &Node::default());
        let second = compile(&services(600, 3, 400), &Node::default());
        text.apply(&Transaction::replace(&first)).expect("the table");
        let mut change = diff(&first, &second);
        // What is not there cannot be deleted.
        let absent = vec![kube_proxy::ruleset::Atom::Addr([1, 2, 3, 4].into()); 2];
        change.changes.push(kube_proxy::diff::Change::DeleteElements("hairpin".into(), vec![absent]));
        for way in [&mut text as &mut dyn RuleSink, &mut netlink] {
            assert!(way.apply(&change).is_err());
            let held = held(&mut Netlink::open(&own).expect("netfilter"), &first);
            assert!(held.iter().all(|(name, elements)| *elements == first.sets[name].elements));
        }
    });
}

#[test]
fn one_endpoint_among_thousands_of_services_is_a_matter_of_milliseconds() {
    let namespaces = Namespaces::new(&["x"]);
    namespaces.enter("x", || {
        let node = Node { cluster_cidr: Some("10.244.0.0/16".parse().unwrap()), ..Node::default() };
        let mut table = Table::open(&OwnSockets::default()).expect("netfilter");
        let mut time = |services: &Services| {
            let started = Instant::now();
            let wanted = compile(services, &node);
            let compiled = started.elapsed();
            table.sync(wanted).expect("the kernel takes it");
            (compiled, started.elapsed())
        };
        let all = time(&services(5_000, 4, 0));
        let one = time(&services(5_000, 4, 1));
        println!("5 000 Services of 4 endpoints: all {all:?}, one changed {one:?} (compiled, in the kernel)");
        assert!(one.1 < Duration::from_millis(500), "{one:?}");
        assert!(table.audit());
    });
}
