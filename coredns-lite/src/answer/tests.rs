//! Text in, text out: a question, and what a person would see of the answer.

use expect_test::{Expect, expect};

use super::*;
use crate::zone::{Port, Slice};

fn port(name: &str, protocol: &'static str, port: u16) -> Port {
    Port { name: name.into(), protocol, port }
}

fn endpoint(hostname: Option<&str>, addr: &str) -> Endpoint {
    Endpoint { hostname: hostname.map(str::to_owned), addresses: vec![addr.parse().unwrap()] }
}

fn zone() -> Zone {
    let mut zone = Zone::new(Name::from_ascii("cluster.local.").unwrap());
    zone.complete = true;
    for namespace in ["default", "kube-system", "empty"] {
        zone.set_namespace(namespace, true);
    }
    let mut service = |namespace: &str, name: &str, kind, ports: Vec<Port>| {
        zone.set_service(&ObjectKey::new(namespace, name), Some(Service { kind, ports }));
    };
    let ips = |list: &[&str]| Kind::ClusterIp(list.iter().map(|ip| ip.parse().unwrap()).collect());
    service("kube-system", "kube-dns", ips(&["10.96.0.10"]), vec![port("dns", "udp", 53), port("dns-tcp", "tcp", 53)]);
    service("default", "web", ips(&["10.96.0.5"]), vec![port("http", "tcp", 80), port("https", "tcp", 443)]);
    service("default", "dual", ips(&["10.96.0.6", "fd00::6"]), vec![port("", "tcp", 80)]);
    service("default", "db", Kind::Headless, vec![port("sql", "tcp", 5432)]);
    service("default", "nobody", Kind::Headless, vec![]);
    service("default", "out", Kind::External(Name::from_ascii("example.com.").unwrap()), vec![]);
    let slice = Slice {
        ports: vec![port("sql", "tcp", 5433)],
        endpoints: vec![endpoint(Some("db-0"), "10.244.0.5"), endpoint(None, "10.244.1.6")],
    };
    zone.set_slice(&ObjectKey::new("default", "db"), "db-x", Some(slice));
    zone
}

fn text(answer: &Answer) -> String {
    let line = |r: &Record| format!("{} {} {} {}\n", r.name, r.ttl, r.record_type(), r.data);
    match answer {
        Answer::Elsewhere => "elsewhere\n".into(),
        Answer::NotYet => "not yet\n".into(),
        Answer::Found { records, additionals } => {
            let more: String = additionals.iter().map(|r| format!("+ {}", line(r))).collect();
            records.iter().map(line).collect::<String>() + &more
        }
        Answer::Alias(record, to) => format!("{}then {to}\n", line(record)),
        Answer::NoData(soa) => format!("no data, {}", line(soa)),
        Answer::NoName(soa) => format!("no name, {}", line(soa)),
    }
}

fn check(name: &str, kind: RecordType, expected: Expect) {
    let name = Name::from_ascii(name).unwrap();
    expected.assert_eq(&text(&answer(&Question { name: &name, kind }, &zone())));
}

const NO_DATA: Expect = expect![["no data, cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\n"]];
const NO_NAME: Expect = expect![["no name, cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\n"]];

use RecordType as T;

#[test]
fn a_service_is_its_cluster_addresses() {
    check("web.default.svc.cluster.local.", T::A, expect![["web.default.svc.cluster.local. 5 A 10.96.0.5\n"]]);
    check("dual.default.svc.cluster.local.", T::AAAA, expect![["dual.default.svc.cluster.local. 5 AAAA fd00::6\n"]]);
}

#[test]
fn case_does_not_matter() {
    check("WEB.Default.svc.CLUSTER.local.", T::A, expect![["web.default.svc.cluster.local. 5 A 10.96.0.5\n"]]);
}

#[test]
fn a_name_without_such_a_record_is_no_data() {
    for (name, kind) in [
        ("web.default.svc.cluster.local.", T::AAAA),
        ("web.default.svc.cluster.local.", T::TXT),
        ("default.svc.cluster.local.", T::A),
        ("empty.pod.cluster.local.", T::A),
        ("svc.cluster.local.", T::A),
        ("cluster.local.", T::A),
        ("_tcp.web.default.svc.cluster.local.", T::SRV),
        ("_http._tcp.web.default.svc.cluster.local.", T::A),
        ("db-0.db.default.svc.cluster.local.", T::AAAA),
    ] {
        check(name, kind, NO_DATA);
    }
}

#[test]
fn a_name_that_is_not_there_is_no_name() {
    for (name, kind) in [
        ("none.default.svc.cluster.local.", T::A),
        ("none.svc.cluster.local.", T::A),
        ("web.cluster.local.", T::A),
        ("example.com.default.svc.cluster.local.", T::A),
        ("example.com.svc.cluster.local.", T::A),
        ("example.com.cluster.local.", T::A),
        ("x.web.default.svc.cluster.local.", T::A),
        ("db-9.db.default.svc.cluster.local.", T::A),
        ("_ftp._tcp.web.default.svc.cluster.local.", T::SRV),
        ("_http._udp.web.default.svc.cluster.local.", T::SRV),
        ("_udp.web.default.svc.cluster.local.", T::SRV),
        ("nobody.default.svc.cluster.local.", T::A),
        ("a.b.c.d.e.svc.cluster.local.", T::A),
        ("ten.default.pod.cluster.local.", T::A),
        ("10-0-0-1.none.pod.cluster.local.", T::A),
    ] {
        check(name, kind, NO_NAME);
    }
}

#[test]
fn a_port_of_a_service() {
    check(
        "_http._tcp.web.default.svc.cluster.local.",
        T::SRV,
        expect![[r#"
            _http._tcp.web.default.svc.cluster.local. 5 SRV 0 100 80 web.default.svc.cluster.local.
            + web.default.svc.cluster.local. 5 A 10.96.0.5
        "#]],
    );
}

#[test]
fn all_ports_of_a_service() {
    check(
        "web.default.svc.cluster.local.",
        T::SRV,
        expect![[r#"
            web.default.svc.cluster.local. 5 SRV 0 50 80 web.default.svc.cluster.local.
            web.default.svc.cluster.local. 5 SRV 0 50 443 web.default.svc.cluster.local.
            + web.default.svc.cluster.local. 5 A 10.96.0.5
        "#]],
    );
}

#[test]
fn a_headless_service_is_its_endpoints() {
    check(
        "db.default.svc.cluster.local.",
        T::A,
        expect![[r#"
            db.default.svc.cluster.local. 5 A 10.244.0.5
            db.default.svc.cluster.local. 5 A 10.244.1.6
        "#]],
    );
    check("db-0.db.default.svc.cluster.local.", T::A, expect![["db-0.db.default.svc.cluster.local. 5 A 10.244.0.5\n"]]);
    check("10-244-1-6.db.default.svc.cluster.local.", T::A, expect![["10-244-1-6.db.default.svc.cluster.local. 5 A 10.244.1.6\n"]]);
}

#[test]
fn ports_of_a_headless_service_are_those_of_its_endpoints() {
    check(
        "_sql._tcp.db.default.svc.cluster.local.",
        T::SRV,
        expect![[r#"
            _sql._tcp.db.default.svc.cluster.local. 5 SRV 0 50 5433 10-244-1-6.db.default.svc.cluster.local.
            _sql._tcp.db.default.svc.cluster.local. 5 SRV 0 50 5433 db-0.db.default.svc.cluster.local.
            + db-0.db.default.svc.cluster.local. 5 A 10.244.0.5
            + 10-244-1-6.db.default.svc.cluster.local. 5 A 10.244.1.6
        "#]],
    );
}

#[test]
fn an_external_name_is_an_alias() {
    check("out.default.svc.cluster.local.", T::CNAME, expect![["out.default.svc.cluster.local. 5 CNAME example.com.\n"]]);
    check(
        "out.default.svc.cluster.local.",
        T::A,
        expect![[r#"
            out.default.svc.cluster.local. 5 CNAME example.com.
            then example.com.
        "#]],
    );
}

#[test]
fn a_pods_name_says_its_address() {
    check("10-244-0-5.default.pod.cluster.local.", T::A, expect![["10-244-0-5.default.pod.cluster.local. 5 A 10.244.0.5\n"]]);
    check("fd00--5.default.pod.cluster.local.", T::AAAA, expect![["fd00--5.default.pod.cluster.local. 5 AAAA fd00::5\n"]]);
    check("10-244-0-5.default.pod.cluster.local.", T::AAAA, NO_DATA);
}

#[test]
fn addresses_have_names() {
    check("5.0.96.10.in-addr.arpa.", T::PTR, expect![["5.0.96.10.in-addr.arpa. 5 PTR web.default.svc.cluster.local.\n"]]);
    check("5.0.244.10.in-addr.arpa.", T::PTR, expect![["5.0.244.10.in-addr.arpa. 5 PTR db-0.db.default.svc.cluster.local.\n"]]);
    check(
        "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
        T::PTR,
        expect![[r#"
            6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 PTR dual.default.svc.cluster.local.
        "#]],
    );
    check("5.0.96.10.in-addr.arpa.", T::A, NO_DATA);
}

#[test]
fn what_is_not_ours_is_asked_elsewhere() {
    for name in ["example.com.", "local.", "4.4.8.8.in-addr.arpa.", "0.96.10.in-addr.arpa.", ".", "notcluster.local."] {
        check(name, T::A, expect![["elsewhere\n"]]);
    }
}

#[test]
fn the_zone_tells_about_itself() {
    check("dns-version.cluster.local.", T::TXT, expect![["dns-version.cluster.local. 5 TXT 1.1.0\n"]]);
    check("cluster.local.", T::NS, expect![["cluster.local. 5 NS ns.dns.cluster.local.\n"]]);
    check("ns.dns.cluster.local.", T::A, expect![["ns.dns.cluster.local. 5 A 10.96.0.10\n"]]);
    check(
        "cluster.local.",
        T::SOA,
        expect![["cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\n"]],
    );
}

#[test]
fn before_everything_is_known_nothing_is_denied() {
    let mut zone = zone();
    zone.complete = false;
    let name = Name::from_ascii("none.default.svc.cluster.local.").unwrap();
    assert_eq!(answer(&Question { name: &name, kind: T::A }, &zone), Answer::NotYet);
}

#[test]
fn what_goes_leaves_nothing_behind() {
    let mut zone = zone();
    zone.set_slice(&ObjectKey::new("default", "db"), "db-x", None);
    zone.set_service(&ObjectKey::new("default", "web"), None);
    for (name, expected) in [("5.0.244.10.in-addr.arpa.", "elsewhere\n"), ("5.0.96.10.in-addr.arpa.", "elsewhere\n")] {
        let name = Name::from_ascii(name).unwrap();
        assert_eq!(text(&answer(&Question { name: &name, kind: T::PTR }, &zone)), expected);
    }
}
