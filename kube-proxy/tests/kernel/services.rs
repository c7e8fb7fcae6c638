//! What packets to Services meet.

use std::os::fd::AsRawFd as _;

use kube_proxy::model::{HostPort, ObjectKey, Pod, Protocol};

use crate::world::{BRIDGE, CLIENT, CLUSTER_IP, ELSEWHERE, NODE, POD_A, POD_B, World};

#[test]
fn a_cluster_ip_answers_pods_the_node_and_strangers() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_B]);
    w.sync();
    assert_eq!(w.tcp("a", CLUSTER_IP, 80), "b 10.244.0.2", "the source is kept");
    assert_eq!(w.udp("a", CLUSTER_IP, 80), "b 10.244.0.2");
    assert_eq!(w.tcp("node", CLUSTER_IP, 80), "b 10.244.0.1");
    assert_eq!(w.tcp("client", CLUSTER_IP, 80), "b 10.244.0.1", "off-cluster sources are masqueraded");
    assert_eq!(w.udp("client", CLUSTER_IP, 80), "b 10.244.0.1");
}

#[test]
fn endpoints_share_the_load() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A, POD_B]);
    w.sync();
    let tally = w.tally("client", CLUSTER_IP, 80, 60);
    assert_eq!(tally.len(), 2, "{tally:?}");
    assert!(tally.values().all(|n| *n > 10), "{tally:?}");
}

#[test]
fn without_endpoints_clients_are_told() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[]);
    w.sync();
    for from in ["a", "node", "client"] {
        assert_eq!(w.tcp(from, CLUSTER_IP, 80), "refused", "{from}");
        // A program on the node is told by the call that sends.
        let told = if from == "node" { "Operation not permitted (os error 1)" } else { "refused" };
        assert_eq!(w.udp(from, CLUSTER_IP, 80), told, "{from}");
        assert_eq!(w.tcp(from, NODE, 30080), "refused", "{from}");
    }
    w.set_endpoints(&[POD_A]);
    w.sync();
    assert_eq!(w.tcp("client", CLUSTER_IP, 80), "a 10.244.0.1");
}

#[test]
fn a_node_port_answers_on_every_address_of_the_node() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_B]);
    w.sync();
    assert_eq!(w.tcp("client", NODE, 30080), "b 10.244.0.1");
    assert_eq!(w.udp("client", NODE, 30080), "b 10.244.0.1");
    assert_eq!(w.tcp("a", NODE, 30080), "b 10.244.0.1");
    assert_eq!(w.tcp("a", BRIDGE, 30080), "b 10.244.0.1");
    assert_eq!(w.tcp("node", NODE, 30080), "b 10.244.0.1");
}

#[test]
fn external_traffic_policy_local_keeps_the_source_and_stays_here() {
    let mut w = World::new();
    w.add_service(|s| s.external_local = true);
    w.set_endpoints(&[POD_B]);
    w.sync();
    assert_eq!(w.tcp("client", NODE, 30080), "b 192.168.50.2");
    w.set_endpoints(&[ELSEWHERE]);
    w.sync();
    assert_eq!(w.tcp("client", NODE, 30080), "silence", "dropped: other nodes have endpoints, this one has not");
    assert_eq!(w.tcp("client", CLUSTER_IP, 80), "silence", "sent to where nobody answers");
}

#[test]
fn external_ips_and_load_balancers_answer_and_keep_strangers_out() {
    let mut w = World::new();
    w.add_service(|s| {
        s.external_ips = vec![[203, 0, 113, 1].into()];
        s.load_balancer_ips = vec![[203, 0, 113, 2].into()];
        s.source_ranges = vec!["10.0.0.0/8".parse().unwrap(), "172.16.0.0/12".parse().unwrap()];
    });
    w.set_endpoints(&[POD_B]);
    w.sync();
    assert_eq!(w.tcp("client", [203, 0, 113, 1], 80), "b 10.244.0.1");
    assert_eq!(w.tcp("client", [203, 0, 113, 2], 80), "silence");
    assert_eq!(w.tcp("a", [203, 0, 113, 2], 80), "b 10.244.0.1");
    w.add_service(|s| {
        s.load_balancer_ips = vec![[203, 0, 113, 2].into()];
        s.source_ranges = vec!["192.168.50.2/32".parse().unwrap()];
    });
    w.sync();
    assert_eq!(w.tcp("client", [203, 0, 113, 2], 80), "b 10.244.0.1");
    assert_eq!(w.tcp("a", [203, 0, 113, 2], 80), "silence");
}

#[test]
fn a_pod_may_be_sent_to_itself() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A]);
    w.sync();
    assert_eq!(w.tcp("a", CLUSTER_IP, 80), "a 10.244.0.1");
    assert_eq!(w.udp("a", CLUSTER_IP, 80), "a 10.244.0.1");
}

#[test]
fn clients_with_affinity_stay_until_their_endpoint_goes() {
    let mut w = World::new();
    w.add_service(|s| s.affinity = Some(10_800));
    w.set_endpoints(&[POD_A, POD_B]);
    w.sync();
    for (to, port) in [(CLUSTER_IP, 80), (NODE, 30080)] {
        let tally = w.tally("client", to, port, 20);
        assert_eq!(tally.len(), 1, "{tally:?}");
    }
    let held = w.tcp("client", CLUSTER_IP, 80);
    // A restart does not make them move.
    w.restart();
    assert!(w.sync().replaced);
    assert_eq!(w.tally("client", CLUSTER_IP, 80, 20).keys().collect::<Vec<_>>(), [&held]);
    let (remaining, name) = if held.starts_with('a') { (POD_B, "b") } else { (POD_A, "a") };
    w.set_endpoints(&[remaining]);
    w.sync();
    assert_eq!(w.tally("client", CLUSTER_IP, 80, 5), [(format!("{name} 10.244.0.1"), 5)].into());
}

#[test]
fn clients_of_a_service_whose_affinity_ends_are_forgotten() {
    let mut w = World::new();
    w.add_service(|s| s.affinity = Some(10_800));
    w.set_endpoints(&[POD_A, POD_B]);
    w.sync();
    let held = w.tcp("client", NODE, 30080);
    w.add_service(|s| s.affinity = None);
    w.sync();
    assert_eq!(w.tally("client", NODE, 30080, 40).len(), 2, "one and the other");
    let (remaining, name) = if held.starts_with('a') { (POD_B, "b") } else { (POD_A, "a") };
    w.set_endpoints(&[remaining]);
    w.sync();
    w.add_service(|s| s.affinity = Some(10_800));
    w.sync();
    assert!(w.tcp("client", NODE, 30080).starts_with(name), "what was remembered before is gone");
}

#[test]
fn affinity_ends_with_its_time() {
    let mut w = World::new();
    w.add_service(|s| s.affinity = Some(1));
    w.set_endpoints(&[POD_A, POD_B]);
    w.sync();
    let first = w.tcp("client", CLUSTER_IP, 80);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Each question starts the time again, so they are asked seldom enough.
    loop {
        std::thread::park_timeout(std::time::Duration::from_millis(1200));
        if w.tcp("client", CLUSTER_IP, 80) != first {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the client never moved");
    }
}

#[test]
fn udp_clients_are_moved_when_their_endpoint_goes() {
    let mut w = World::new();
    w.add_service(|_| {});
    w.set_endpoints(&[POD_A]);
    w.sync();
    let to = std::net::SocketAddr::from((CLUSTER_IP, 80));
    let (socket, first) = w.namespaces.enter("client", move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
        let first = crate::world::ask_udp(&socket, to);
        (socket, first)
    });
    assert_eq!(first, "a 10.244.0.1");
    w.set_endpoints(&[POD_B]);
    w.sync();
    let second = w.namespaces.enter("client", move || crate::world::ask_udp(&socket, to));
    assert_eq!(second, "b 10.244.0.1", "the same socket, so the same connection to conntrack");
}

#[test]
fn a_host_port_leads_to_its_pod_with_the_source_kept() {
    let mut w = World::new();
    let pod = |ports: Vec<HostPort>, ip: [u8; 4]| Pod { ips: vec![ip.into()], local: true, host_ports: ports, ..Pod::default() };
    let port = |host_ip: Option<[u8; 4]>, host_port| HostPort {
        host_ip: host_ip.map(Into::into),
        protocol: Protocol::Tcp,
        host_port,
        container_port: 8080,
    };
    // Three pods may have the same port when address or protocol differ.
    w.services.pods.insert(ObjectKey::new("default", "a"), pod(vec![port(Some(NODE), 54321), port(None, 54322)], POD_A));
    w.services.pods.insert(ObjectKey::new("default", "b"), pod(vec![port(Some(BRIDGE), 54321)], POD_B));
    w.sync();
    assert_eq!(w.tcp("client", NODE, 54321), "a 192.168.50.2");
    assert_eq!(w.tcp("client", BRIDGE, 54321), "b 192.168.50.2");
    assert_eq!(w.tcp("client", NODE, 54322), "a 192.168.50.2");
    assert_eq!(w.tcp("b", NODE, 54322), "a 10.244.0.3");
    assert_eq!(w.tcp("a", NODE, 54322), "a 10.244.0.1", "hairpin");
    assert_eq!(w.tcp("node", NODE, 54322), "a 192.168.50.1");
}

#[test]
fn a_host_port_answers_on_loopback_too() {
    let mut w = World::new();
    w.namespaces.sysctl("node", "net/ipv4/conf/all/route_localnet", "1");
    let pod = |host_ip: Option<[u8; 4]>, host_port, ip: [u8; 4]| {
        let port = HostPort { host_ip: host_ip.map(Into::into), protocol: Protocol::Tcp, host_port, container_port: 8080 };
        Pod { ips: vec![ip.into()], local: true, host_ports: vec![port], ..Pod::default() }
    };
    w.services.pods.insert(ObjectKey::new("default", "a"), pod(Some([127, 0, 0, 1]), 54321, POD_A));
    w.services.pods.insert(ObjectKey::new("default", "b"), pod(None, 54322, POD_B));
    w.sync();
    assert_eq!(w.tcp("node", [127, 0, 0, 1], 54321), "a 10.244.0.1");
    assert_eq!(w.tcp("node", [127, 0, 0, 1], 54322), "b 10.244.0.1");
    assert_eq!(w.tcp("node", NODE, 54321), "refused", "it is on loopback only");
    // What the node itself listens on there is reached as ever, from its other addresses too.
    let answered = w.namespaces.enter("node", || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::empty(),
            None,
        )
        .expect("a socket");
        let from = nix::sys::socket::SockaddrIn::new(NODE[0], NODE[1], NODE[2], NODE[3], 0);
        nix::sys::socket::bind(socket.as_raw_fd(), &from).expect("its address");
        let to = listener.local_addr().expect("an address").port();
        nix::sys::socket::connect(socket.as_raw_fd(), &nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, to)).is_ok()
    });
    assert!(answered);
}

#[test]
fn pods_leave_the_cluster_as_their_node() {
    let mut w = World::new();
    w.sync();
    let seen = w.namespaces.spawn("client", || {
        let listener = std::net::TcpListener::bind("0.0.0.0:9090").expect("a port");
        listener.accept().expect("a connection").1.ip()
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while w.tcp("a", CLIENT, 9090) == "refused" {
        assert!(std::time::Instant::now() < deadline, "nobody listens");
    }
    assert_eq!(seen.join().unwrap(), std::net::IpAddr::from(NODE));
}
