//! A node with two pods and a client outside of the cluster, each a network namespace of its own.
//!
//! ```text
//! client 192.168.50.2 ── 192.168.50.1 node 10.244.0.1 ── bridge ── pods a 10.244.0.2, b 10.244.0.3
//! ```
//! Needs root. Everything goes when the value is dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kube_proxy::compile::compile;
use kube_proxy::model::{Endpoint, Node, ObjectKey, Protocol, Service, ServicePort, Services, Slice};
use kube_proxy::sink::OwnSockets;
use kube_proxy::table::{Synced, Table};

pub const NODE: [u8; 4] = [192, 168, 50, 1];
pub const CLIENT: [u8; 4] = [192, 168, 50, 2];
pub const BRIDGE: [u8; 4] = [10, 244, 0, 1];
pub const POD_A: [u8; 4] = [10, 244, 0, 2];
pub const POD_B: [u8; 4] = [10, 244, 0, 3];
/// An endpoint on another node, where nobody answers.
pub const ELSEWHERE: [u8; 4] = [10, 244, 9, 9];
pub const CLUSTER_IP: [u8; 4] = [10, 96, 0, 5];

/// Answers come at once or never.
const PATIENCE: Duration = Duration::from_millis(700);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Network namespaces with a common prefix.
pub struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    pub fn new(names: &[&str]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        let prefix = format!("kp{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let this = Self { prefix, names: names.iter().map(|n| (*n).to_owned()).collect() };
        for name in names {
            run(&format!("ip netns add {}", this.name(name)));
            run(&format!("ip -n {} link set lo up", this.name(name)));
        }
        this
    }

    pub fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.prefix)
    }

    /// Runs `ip` with `arguments` in the namespace; `@x` stands for the namespace x.
    pub fn ip(&self, of: &str, arguments: &str) {
        let words: Vec<String> = arguments.split_whitespace().map(|w| w.strip_prefix('@').map_or(w.to_owned(), |n| self.name(n))).collect();
        run(&format!("ip -n {} {}", self.name(of), words.join(" ")));
    }

    /// Runs `work` on a thread in the namespace.
    pub fn enter<T: Send + 'static>(&self, of: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(of, work).join().expect("the work in the namespace panicked")
    }

    pub fn spawn<T: Send + 'static>(&self, of: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name(of));
        std::thread::spawn(move || {
            let namespace = File::open(&path).expect(&path);
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            work()
        })
    }

    pub fn sysctl(&self, of: &str, name: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{name}"), value.to_owned());
        self.enter(of, move || std::fs::write(&path, value).expect(&path));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            // One that was never made cannot be removed.
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).output();
        }
    }
}

pub fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().expect("a command")).args(words).output().expect(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub struct World {
    pub namespaces: Namespaces,
    pub services: Services,
    pub node: Node,
    table: Option<Table>,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl World {
    pub fn new() -> Self {
        let namespaces = Namespaces::new(&["node", "a", "b", "client"]);
        namespaces.sysctl("node", "net/ipv4/ip_forward", "1");
        namespaces.ip("node", "link add cni0 type bridge");
        namespaces.ip("node", "addr add 10.244.0.1/24 dev cni0");
        namespaces.ip("node", "link set cni0 up");
        for (pod, addr) in [("a", POD_A), ("b", POD_B)] {
            let addr = Ipv4Addr::from(addr);
            namespaces.ip("node", &format!("link add veth-{pod} type veth peer name eth0 netns @{pod}"));
            namespaces.ip("node", &format!("link set veth-{pod} master cni0 up"));
            namespaces.ip("node", &format!("link set veth-{pod} type bridge_slave hairpin on"));
            namespaces.ip(pod, &format!("addr add {addr}/24 dev eth0"));
            namespaces.ip(pod, "link set eth0 up");
            namespaces.ip(pod, "route add default via 10.244.0.1");
        }
        namespaces.ip("node", "link add eth0 type veth peer name eth0 netns @client");
        namespaces.ip("node", "addr add 192.168.50.1/24 dev eth0");
        namespaces.ip("node", "link set eth0 up");
        namespaces.ip("client", "addr add 192.168.50.2/24 dev eth0");
        namespaces.ip("client", "link set eth0 up");
        namespaces.ip("client", "route add default via 192.168.50.1");
        namespaces.ip("node", "route add default via 192.168.50.2");
        namespaces.sysctl("node", "net/bridge/bridge-nf-call-iptables", "1");
        let table = namespaces.enter("node", || Table::open(&OwnSockets::default()).expect("netfilter"));
        let node = Node {
            name: "here".into(),
            zone: None,
            addresses: vec![NODE.into(), BRIDGE.into()],
            pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
            cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
            masquerade_all: false,
        };
        let mut world = Self { namespaces, services: Services::default(), node, table: Some(table), stop: Arc::default(), servers: vec![] };
        for pod in ["a", "b"] {
            world.serve(pod);
        }
        world
    }

    /// Answers on port 8080 by TCP and UDP with the pod's name and the address of who asks.
    fn serve(&mut self, pod: &'static str) {
        let stop = self.stop.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let tcp_stop = stop.clone();
        let tcp_ready = ready.clone();
        self.servers.push(self.namespaces.spawn(pod, move || {
            let listener = TcpListener::bind("0.0.0.0:8080").expect("port 8080");
            listener.set_nonblocking(true).expect("nonblocking");
            tcp_ready.send(()).expect("the test waits");
            while !tcp_stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that does not wait for its answer is no concern of ours.
                    Ok((mut stream, from)) => drop(stream.write_all(format!("{pod} {}", from.ip()).as_bytes())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => pause(),
                    Err(error) => panic!("accepting: {error}"),
                }
            }
        }));
        self.servers.push(self.namespaces.spawn(pod, move || {
            let socket = UdpSocket::bind("0.0.0.0:8080").expect("port 8080");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
            ready.send(()).expect("the test waits");
            let mut buffer = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    // As above.
                    drop(socket.send_to(format!("{pod} {}", from.ip()).as_bytes(), from));
                }
            }
        }));
        for _ in 0..2 {
            is_ready.recv().expect("the server starts");
        }
    }

    /// A Service `default/web` with port 80 (node port 30080), TCP and UDP.
    pub fn add_service(&mut self, change: impl FnOnce(&mut Service)) {
        let port = |name: &str, protocol| ServicePort { name: name.into(), protocol, port: 80, node_port: Some(30080) };
        let mut service = Service {
            cluster_ips: vec![CLUSTER_IP.into()],
            ports: vec![port("t", Protocol::Tcp), port("u", Protocol::Udp)],
            ..Service::default()
        };
        change(&mut service);
        self.services.services.insert(ObjectKey::new("default", "web"), service);
    }

    /// Its endpoints; those of 10.244.0.0/24 are on this node.
    pub fn set_endpoints(&mut self, addresses: &[[u8; 4]]) {
        let endpoint = |addr: &[u8; 4]| Endpoint {
            address: (*addr).into(),
            ready: true,
            serving: true,
            terminating: false,
            node: Some(if addr[2] == 0 { "here" } else { "there" }.into()),
            zones: vec![],
            nodes: vec![],
        };
        let ports = vec![("t".into(), Protocol::Tcp, 8080), ("u".into(), Protocol::Udp, 8080)];
        let slice = Slice { service: "web".into(), ports, endpoints: addresses.iter().map(endpoint).collect() };
        self.services.slices.insert(ObjectKey::new("default", "web-1"), slice);
    }

    pub fn sync(&mut self) -> Synced {
        let wanted = compile(&self.services, &self.node);
        self.with_table(move |table| table.sync(wanted).expect("the kernel takes the rules"))
    }

    pub fn with_table<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Table) -> T + Send + 'static) -> T {
        let mut table = self.table.take().expect("one at a time");
        let (table, result) = self.namespaces.enter("node", move || {
            let result = work(&mut table);
            (table, result)
        });
        self.table = Some(table);
        result
    }

    /// As after a restart: what was applied is not known.
    pub fn restart(&mut self) {
        self.table = Some(self.namespaces.enter("node", || Table::open(&OwnSockets::default()).expect("netfilter")));
    }

    /// What a TCP connection to `to` from a namespace gives: `<pod> <source>`, or what went wrong.
    pub fn tcp(&self, from: &str, to: impl Into<IpAddr>, port: u16) -> String {
        let to = SocketAddr::new(to.into(), port);
        self.namespaces.enter(from, move || ask_tcp(to))
    }

    /// What a UDP question to `to` from a namespace gives.
    pub fn udp(&self, from: &str, to: impl Into<IpAddr>, port: u16) -> String {
        let to = SocketAddr::new(to.into(), port);
        self.namespaces.enter(from, move || ask_udp(&UdpSocket::bind("0.0.0.0:0").expect("a port"), to))
    }

    /// How often each answer came of so many TCP connections.
    pub fn tally(&self, from: &str, to: impl Into<IpAddr>, port: u16, times: usize) -> BTreeMap<String, usize> {
        let to = SocketAddr::new(to.into(), port);
        self.namespaces.enter(from, move || {
            let mut tally = BTreeMap::new();
            for _ in 0..times {
                *tally.entry(ask_tcp(to)).or_default() += 1;
            }
            tally
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let ended = server.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a server panicked");
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of a test that waits for connections, not a worker")]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

pub fn ask_tcp(to: SocketAddr) -> String {
    let mut stream = match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return word(&error),
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(error) => word(&error),
    }
}

pub fn ask_udp(socket: &UdpSocket, to: SocketAddr) -> String {
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket.connect(to).expect("a route");
    let mut buffer = [0; 64];
    match socket.send(b"?").and_then(|_| socket.recv(&mut buffer)) {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).into_owned(),
        Err(error) => word(&error),
    }
}

fn word(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".into(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "silence".into(),
        _ => error.to_string(),
    }
}
