//! Questions and answers on real sockets: UDP, TCP, truncation, forwarding, bad input.
#![allow(clippy::unwrap_used, reason = "the helpers of tests, too, say by panicking what is wrong")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coredns_lite::forward::Forwarder;
use coredns_lite::handler::Handler;
use coredns_lite::metrics::Metrics;
use coredns_lite::sockets;
use coredns_lite::zone::{Endpoint, Kind, ObjectKey, Service, Slice, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a free port of the loopback address.
struct Server {
    runtime: tokio::runtime::Runtime,
    addr: SocketAddr,
    zone: Arc<ArcSwap<Zone>>,
    forwarder: Forwarder,
    registry: daemon::metrics::Metrics,
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

impl Server {
    fn start(domain: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = daemon::metrics::Metrics::new();
        let metrics = Metrics::register(&registry);
        let mut zone = Zone::new(name(domain));
        zone.complete = true;
        zone.set_namespace("default", true);
        let service = |kind| Some(Service { kind, ports: vec![] });
        zone.set_service(&ObjectKey::new("default", "web"), service(Kind::ClusterIp(vec!["10.96.0.5".parse().unwrap()])));
        zone.set_service(&ObjectKey::new("default", "many"), service(Kind::Headless));
        zone.set_service(&ObjectKey::new("default", "out"), service(Kind::External(name("web.default.svc.upstream.test."))));
        zone.set_service(&ObjectKey::new("default", "in"), service(Kind::External(name("web.default.svc.cluster.local."))));
        zone.set_service(&ObjectKey::new("default", "loop"), service(Kind::External(name("loop.default.svc.cluster.local."))));
        let endpoint = |n: u8| Endpoint { hostname: None, addresses: vec![[10, 244, 0, n].into()] };
        let slice = Slice { ports: vec![], endpoints: (0..100).map(endpoint).collect() };
        zone.set_slice(&ObjectKey::new("default", "many"), "many-1", Some(slice));
        let zone = Arc::new(ArcSwap::from_pointee(zone));
        let forwarder = Forwarder::new(100, metrics.clone());
        let handler = Handler { zone: zone.clone(), forwarder: forwarder.clone(), metrics };
        let addr = runtime.block_on(async {
            // Somebody may take the port between finding it free and using it; then another is as good.
            for _ in 0..20 {
                let port = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
                if let Ok(mut server) = sockets::serve(&[LOCALHOST], port, handler.clone()) {
                    tokio::spawn(async move { server.block_until_done().await });
                    return SocketAddr::new(LOCALHOST, port);
                }
            }
            panic!("no free port");
        });
        Self { runtime, addr, zone, forwarder, registry }
    }

    fn metric(&self, line: &str) -> f64 {
        let text = self.registry.render();
        let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in\n{text}"));
        found.trim().parse().unwrap()
    }

    fn udp(&self, message: &Message) -> Message {
        Message::from_vec(&self.udp_bytes(&message.to_vec().unwrap())).unwrap()
    }

    fn udp_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(bytes, self.addr).unwrap();
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(length);
        buffer
    }

    fn tcp(&self, message: &Message) -> Message {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bytes = message.to_vec().unwrap();
        stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

fn question(of: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(of), kind));
    message
}

fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect()
}

#[test]
fn the_same_by_udp_and_tcp() {
    let server = Server::start("cluster.local.");
    let asked = question("web.default.svc.cluster.local.", RecordType::A);
    for answer in [server.udp(&asked), server.tcp(&asked)] {
        assert_eq!(data(&answer), ["A 10.96.0.5"]);
        assert_eq!(answer.metadata.id, 4711);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available && !answer.metadata.truncation);
        assert_eq!(answer.queries, asked.queries);
    }
    assert_eq!(server.metric(r#"coredns_dns_requests_total{family="1",proto="udp",type="A",zone="cluster"}"#), 1.0);
    assert_eq!(server.metric(r#"coredns_dns_responses_total{rcode="NOERROR",zone="cluster"}"#), 2.0);
}

#[test]
fn what_does_not_fit_is_cut_and_said_so() {
    let server = Server::start("cluster.local.");
    let mut asked = question("many.default.svc.cluster.local.", RecordType::A);
    let bytes = server.udp_bytes(&asked.to_vec().unwrap());
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(bytes.len() <= 512 && answer.metadata.truncation && !answer.answers.is_empty());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns);
    let bytes = server.udp_bytes(&asked.to_vec().unwrap());
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(bytes.len() > 512 && bytes.len() <= 1232 && answer.metadata.truncation && answer.edns.is_some());
    let answer = server.tcp(&asked);
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 100);
}

#[test]
fn denials_say_for_how_long() {
    let server = Server::start("cluster.local.");
    for (of, kind, code) in [
        ("none.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        ("web.default.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
    ] {
        let answer = server.udp(&question(of, kind));
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{of}");
        assert_eq!(answer.authorities.len(), 1);
        assert_eq!((answer.authorities[0].record_type(), answer.authorities[0].ttl), (RecordType::SOA, 5));
    }
}

#[test]
fn other_names_are_asked_upstream_once() {
    let (server, upstream) = (Server::start("cluster.local."), Server::start("upstream.test."));
    let asked = question("web.default.svc.upstream.test.", RecordType::A);
    assert_eq!(server.udp(&asked).metadata.response_code, ResponseCode::ServFail, "there is nobody to ask");
    server.runtime.block_on(async { server.forwarder.set_servers(&[upstream.addr]) });
    for _ in 0..3 {
        let answer = server.udp(&asked);
        assert_eq!(data(&answer), ["A 10.96.0.5"]);
        assert!(!answer.metadata.authoritative);
    }
    let absent = question("none.default.svc.upstream.test.", RecordType::A);
    for _ in 0..3 {
        let answer = server.udp(&absent);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1);
    }
    assert_eq!(upstream.metric(r#"coredns_dns_responses_total{rcode="NOERROR",zone="cluster"}"#), 1.0);
    assert_eq!(upstream.metric(r#"coredns_dns_responses_total{rcode="NXDOMAIN",zone="cluster"}"#), 1.0);
    assert_eq!(server.metric(r#"coredns_cache_hits_total{type="success"}"#), 2.0);
    assert_eq!(server.metric(r#"coredns_cache_hits_total{type="denial"}"#), 2.0);
}

#[test]
fn an_answer_that_upstream_cuts_is_asked_for_by_tcp() {
    let (server, upstream) = (Server::start("cluster.local."), Server::start("upstream.test."));
    server.runtime.block_on(async { server.forwarder.set_servers(&[upstream.addr]) });
    let answer = server.tcp(&question("many.default.svc.upstream.test.", RecordType::A));
    assert_eq!(answer.answers.len(), 100);
}

#[test]
fn aliases_are_followed_inside_and_outside_and_not_for_ever() {
    let (server, upstream) = (Server::start("cluster.local."), Server::start("upstream.test."));
    server.runtime.block_on(async { server.forwarder.set_servers(&[upstream.addr]) });
    let ask = |of: &str| server.udp(&question(of, RecordType::A));
    assert_eq!(data(&ask("out.default.svc.cluster.local.")), ["CNAME web.default.svc.upstream.test.", "A 10.96.0.5"]);
    assert_eq!(data(&ask("in.default.svc.cluster.local.")), ["CNAME web.default.svc.cluster.local.", "A 10.96.0.5"]);
    assert_eq!(ask("loop.default.svc.cluster.local.").metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn a_new_snapshot_is_answered_from_at_once() {
    let server = Server::start("cluster.local.");
    let mut next = Zone::clone(&server.zone.load());
    next.set_service(&ObjectKey::new("default", "web"), None);
    server.zone.store(Arc::new(next));
    let answer = server.udp(&question("web.default.svc.cluster.local.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn nonsense_does_no_harm() {
    let server = Server::start("cluster.local.");
    let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    for garbage in
        [&b""[..], b"x", &[0; 11], &[0xff; 12], &[0xff; 600], b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"]
    {
        socket.send_to(garbage, server.addr).unwrap();
    }
    let code = |message: &Message| server.udp(message).metadata.response_code;
    let mut asked = question("web.default.svc.cluster.local.", RecordType::A);
    asked.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&asked), ResponseCode::Refused);
    let mut asked = question("web.default.svc.cluster.local.", RecordType::A);
    asked.metadata.op_code = OpCode::Status;
    assert_eq!(code(&asked), ResponseCode::NotImp);
    assert_eq!(code(&question("cluster.local.", RecordType::AXFR)), ResponseCode::Refused);
    let mut asked = question("web.default.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(9);
    asked.set_edns(edns);
    // BADVERS and BADSIG have the same number.
    assert_eq!(u16::from(code(&asked)), 16);
    assert_eq!(code(&question("web.default.svc.cluster.local.", RecordType::A)), ResponseCode::NoError);
}
