//! Pods of two nodes, on one link and apart.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use ipnet::Ipv4Net;
use kube_proxy::flags::PodRoutes;
use kube_proxy::links;
use kube_proxy::routes::{Host, plan};

use crate::world::Namespaces;

/// Two nodes, 192.168.60.1 and .2, each with a link that stands for its pods.
fn nodes() -> (Namespaces, BTreeMap<String, Host>) {
    let namespaces = Namespaces::new(&["n1", "n2"]);
    namespaces.ip("n1", "link add eth0 type veth peer name eth0 netns @n2");
    let mut hosts = BTreeMap::new();
    for n in ["1", "2"] {
        let node = format!("n{n}");
        namespaces.sysctl(&node, "net/ipv4/ip_forward", "1");
        namespaces.ip(&node, &format!("addr add 192.168.60.{n}/24 dev eth0"));
        namespaces.ip(&node, "link set eth0 up");
        namespaces.ip(&node, "link add pods type bridge");
        namespaces.ip(&node, &format!("addr add 10.244.{n}.1/24 dev pods"));
        namespaces.ip(&node, "link set pods up");
        let host = Host {
            addresses: vec![format!("192.168.60.{n}").parse().unwrap()],
            pod_cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
            ..Host::default()
        };
        hosts.insert(node, host);
    }
    (namespaces, hosts)
}

/// Brings a node's routes to the plan; says whether that changed anything.
fn sync(namespaces: &Namespaces, node: &'static str, hosts: &BTreeMap<String, Host>, mode: PodRoutes) -> bool {
    let hosts = hosts.clone();
    namespaces.enter(node, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a socket");
            tokio::spawn(connection);
            let addresses = links::addresses(&handle).await.expect("addresses");
            let networks: Vec<Ipv4Net> = addresses.iter().map(|a| a.net.trunc()).collect();
            links::apply(&handle, &plan(node, &hosts, &networks, mode)).await.expect("routes")
        })
    })
}

/// Whether a pod address of n1 reaches one of n2, and is answered.
fn reaches(namespaces: &Namespaces) -> bool {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = namespaces.spawn("n2", move || {
        let socket = UdpSocket::bind("10.244.2.1:7").expect("port 7");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        ready.send(()).expect("the test waits");
        let mut buffer = [0; 8];
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from.ip().to_string(), "10.244.1.1", "pods see each other's addresses");
            socket.send_to(&buffer[..length], from).expect("a way back");
        }
    });
    is_ready.recv().expect("the server starts");
    let answered = namespaces.enter("n1", || {
        let socket = UdpSocket::bind("10.244.1.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        socket.send_to(b"?", "10.244.2.1:7").and_then(|_| socket.recv(&mut [0; 8])).is_ok()
    });
    server.join().expect("the server panicked");
    answered
}

fn show(namespaces: &Namespaces, what: &str) -> String {
    let name = namespaces.name("n1");
    let words: Vec<&str> = ["-n", &name].into_iter().chain(what.split_whitespace()).collect();
    let output = std::process::Command::new("ip").args(words).output().expect("ip");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn pods_of_other_nodes_are_reached_both_ways() {
    let (namespaces, hosts) = nodes();
    assert!(!reaches(&namespaces));
    for mode in [PodRoutes::Direct, PodRoutes::Vxlan, PodRoutes::Auto] {
        for node in ["n1", "n2"] {
            assert!(sync(&namespaces, node, &hosts, mode), "{mode:?}");
            assert!(!sync(&namespaces, node, &hosts, mode), "{mode:?}: the second time there is nothing to do");
        }
        assert!(reaches(&namespaces), "{mode:?}");
        assert_eq!(show(&namespaces, "link").contains("ferrite.vxlan"), mode == PodRoutes::Vxlan);
    }
}

#[test]
fn routes_and_neighbours_go_with_their_node() {
    let (namespaces, mut hosts) = nodes();
    namespaces.ip("n1", "route add 10.244.7.0/24 via 192.168.60.7");
    let third =
        Host { addresses: vec!["172.16.0.3".parse().unwrap()], pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()], ..Host::default() };
    hosts.insert("n3".into(), third);
    sync(&namespaces, "n1", &hosts, PodRoutes::Vxlan);
    assert!(show(&namespaces, "neigh").contains("10.244.3.0"));
    hosts.remove("n3");
    sync(&namespaces, "n1", &hosts, PodRoutes::Vxlan);
    assert!(!show(&namespaces, "neigh").contains("10.244.3.0"));
    assert!(!show(&namespaces, "route").contains("10.244.3.0"));
    assert!(show(&namespaces, "route").contains("10.244.2.0"));
    hosts.clear();
    sync(&namespaces, "n1", &hosts, PodRoutes::Auto);
    assert!(!show(&namespaces, "link").contains("ferrite.vxlan"));
    let routes = show(&namespaces, "route");
    assert!(!routes.contains("10.244.2.0") && routes.contains("10.244.7.0"), "only what is ours goes: {routes}");
}

#[test]
fn the_tunnel_is_as_wide_as_the_link_below_it() {
    let (namespaces, hosts) = nodes();
    for (uplink, tunnel) in [("1500", "mtu 1450 "), ("1400", "mtu 1350 ")] {
        namespaces.ip("n1", &format!("link set eth0 mtu {uplink}"));
        sync(&namespaces, "n1", &hosts, PodRoutes::Vxlan);
        let shown = show(&namespaces, "link show ferrite.vxlan");
        assert!(shown.contains(tunnel), "{tunnel} over {uplink}: {shown}");
    }
}
