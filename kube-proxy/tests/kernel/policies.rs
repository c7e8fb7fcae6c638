//! What NetworkPolicies let through.

use std::collections::BTreeMap;

use api::labels::Selector;
use kube_proxy::model::{ObjectKey, Pod, Protocol};
use kube_proxy::policy::{Allow, Peer, Policy, PolicyPort};

use crate::world::{CLUSTER_IP, POD_A, POD_B, World};

fn world() -> World {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_B]);
    for (name, ip) in [("a", POD_A), ("b", POD_B)] {
        let labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
        let named_ports = vec![("web".to_owned(), Protocol::Tcp, 8080)];
        let pod = Pod { ips: vec![ip.into()], local: true, labels, named_ports, ..Pod::default() };
        w.services.pods.insert(ObjectKey::new("default", name), pod);
    }
    w.services.namespaces.insert("default".into(), [("team".to_owned(), "x".to_owned())].into());
    w
}

fn policy(w: &mut World, pods: &str, ingress: Option<Vec<Allow>>, egress: Option<Vec<Allow>>) {
    let policy = Policy { pods: Selector::parse(pods).unwrap(), ingress, egress };
    w.services.policies.insert(ObjectKey::new("default", "p"), policy);
    w.sync();
}

fn from_pods(pods: &str) -> Vec<Peer> {
    vec![Peer::Pods { namespaces: None, pods: Selector::parse(pods).unwrap() }]
}

#[test]
fn an_isolated_pod_hears_only_its_node() {
    let mut w = world();
    policy(&mut w, "app=b", Some(vec![]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    assert_eq!(w.tcp("a", CLUSTER_IP, 80), "silence");
    assert_eq!(w.tcp("client", POD_B, 8080), "silence");
    assert_eq!(w.tcp("node", POD_B, 8080), "b 10.244.0.1");
    assert_eq!(w.tcp("b", POD_A, 8080), "a 10.244.0.3", "it may still speak, and hear the answer");
    w.services.policies.clear();
    w.sync();
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
}

#[test]
fn peers_are_let_in_as_they_come() {
    let mut w = world();
    policy(&mut w, "app=b", Some(vec![Allow { peers: from_pods("app=friend"), ports: vec![] }]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    let key = ObjectKey::new("default", "a");
    w.services.pods.get_mut(&key).unwrap().labels.insert("app".into(), "friend".into());
    w.sync();
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
    assert_eq!(w.tcp("a", CLUSTER_IP, 80), "b 10.244.0.2", "through the Service as well");
    assert_eq!(w.tcp("client", POD_B, 8080), "silence");
}

#[test]
fn ports_are_let_in_by_number_and_by_name() {
    let mut w = world();
    let allow = |ports: Vec<PolicyPort>| Some(vec![Allow { peers: vec![], ports }]);
    policy(&mut w, "app=b", allow(vec![PolicyPort::Range(Protocol::Tcp, 8000, 8079)]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    policy(&mut w, "app=b", allow(vec![PolicyPort::Range(Protocol::Tcp, 8000, 8090)]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
    assert_eq!(w.udp("a", POD_B, 8080), "silence");
    policy(&mut w, "app=b", allow(vec![PolicyPort::Named(Protocol::Tcp, "web".into())]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
    policy(&mut w, "app=b", allow(vec![PolicyPort::Named(Protocol::Tcp, "other".into())]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    policy(&mut w, "app=b", allow(vec![PolicyPort::All(Protocol::Udp)]), None);
    assert_eq!(w.udp("a", POD_B, 8080), "b 10.244.0.2");
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
}

#[test]
fn address_ranges_have_exceptions() {
    let mut w = world();
    let block = |except: &[&str]| {
        let except = except.iter().map(|e| e.parse().unwrap()).collect();
        Some(vec![Allow { peers: vec![Peer::Block("192.168.0.0/16".parse().unwrap(), except)], ports: vec![] }])
    };
    policy(&mut w, "app=b", block(&[]), None);
    assert_eq!(w.tcp("client", POD_B, 8080), "b 192.168.50.2");
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    policy(&mut w, "app=b", block(&["192.168.50.2/32"]), None);
    assert_eq!(w.tcp("client", POD_B, 8080), "silence");
}

#[test]
fn what_may_leave_must_still_be_admitted() {
    let mut w = world();
    policy(&mut w, "app=a", None, Some(vec![Allow { peers: from_pods("app=b"), ports: vec![] }]));
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
    assert_eq!(w.tcp("a", crate::world::CLIENT, 9), "silence");
    assert_eq!(w.tcp("client", POD_A, 8080), "a 192.168.50.2", "it may be spoken to, and answer");
    let closed = Policy { pods: Selector::parse("app=b").unwrap(), ingress: Some(vec![]), egress: None };
    w.services.policies.insert(ObjectKey::new("default", "closed"), closed);
    w.sync();
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
}

#[test]
fn namespaces_are_peers_by_their_labels() {
    let mut w = world();
    let peers = |namespaces: &str| {
        let namespaces = Some(Selector::parse(namespaces).unwrap());
        Some(vec![Allow { peers: vec![Peer::Pods { namespaces, pods: Selector::everything() }], ports: vec![] }])
    };
    policy(&mut w, "app=b", peers("team=y"), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    policy(&mut w, "app=b", peers("team=x"), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "b 10.244.0.2");
}

#[test]
fn a_connection_that_was_let_in_goes_on() {
    use std::io::{Read as _, Write as _};
    let mut w = world();
    w.sync();
    let echo = w.namespaces.spawn("b", || {
        let listener = std::net::TcpListener::bind("0.0.0.0:7777").expect("a port");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).expect("the client waits");
        }
    });
    let mut stream = w.namespaces.enter("a", || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match std::net::TcpStream::connect((std::net::Ipv4Addr::from(POD_B), 7777)) {
                Ok(stream) => break stream,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
        }
    });
    let mut ask = move || {
        let mut byte = [7];
        stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).expect("the echo");
    };
    ask();
    policy(&mut w, "app=b", Some(vec![]), None);
    assert_eq!(w.tcp("a", POD_B, 8080), "silence");
    ask();
    drop(ask);
    echo.join().unwrap();
}
