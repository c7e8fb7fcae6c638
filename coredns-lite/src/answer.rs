//! What a question is answered: the Kubernetes DNS specification, version 1.1.0, as a function.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::zone::{Endpoint, Kind, ObjectKey, Service, Zone, dashed};

/// How long an answer may be kept, and that there is none, in seconds.
pub const TTL: u32 = 5;
/// The version of the specification that is followed, as told by `dns-version.<domain>`.
const VERSION: &str = "1.1.0";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The name; case does not matter.
    pub name: &'a Name,
    /// The type of record.
    pub kind: RecordType,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is none of the cluster's: ask elsewhere.
    Elsewhere,
    /// Not everything is known yet: ask again.
    NotYet,
    /// These records.
    Found {
        /// What was asked for.
        records: Vec<Record>,
        /// What will be asked for next.
        additionals: Vec<Record>,
    },
    /// The name stands for another name, whose records belong to the answer.
    Alias(Record, Name),
    /// The name has no record of this type; the SOA says for how long that may be kept.
    NoData(Record),
    /// There is no such name.
    NoName(Record),
}

/// Answers a question from what is known.
#[must_use]
pub fn answer(question: &Question<'_>, zone: &Zone) -> Answer {
    let name = question.name.to_lowercase();
    if !zone.domain.zone_of(&name) {
        return reverse(&name, question.kind, zone);
    }
    let depth = usize::from(name.num_labels().saturating_sub(zone.domain.num_labels()));
    let labels: Option<Vec<&str>> = name.iter().take(depth).map(|label| std::str::from_utf8(label).ok()).collect();
    let Some(labels) = labels else { return Answer::NoName(soa(zone)) };
    if let [] | ["dns-version"] = labels[..] {
    } else if !zone.complete {
        return Answer::NotYet;
    }
    let lookup = Lookup { name: &name, kind: question.kind, zone };
    match labels[..] {
        [] => lookup.apex(),
        ["dns-version"] => lookup.select([RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
        ["dns" | "svc" | "pod"] => lookup.no_data(),
        ["ns", "dns"] => lookup.select(own_addresses(zone).map(rdata)),
        [namespace, "svc" | "pod"] if zone.has_namespace(namespace) => lookup.no_data(),
        [ip, namespace, "pod"] if zone.has_namespace(namespace) => lookup.pod(ip),
        [service, namespace, "svc"] => lookup.service(namespace, service),
        [under, service, namespace, "svc"] => match under.strip_prefix('_') {
            Some(protocol) => lookup.ports(namespace, service, |_, p| p == protocol, false),
            None => lookup.endpoint(namespace, service, under),
        },
        [port, protocol, service, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
            (Some(port), Some(protocol)) => lookup.ports(namespace, service, |name, p| name == port && p == protocol, true),
            _ => lookup.no_name(),
        },
        _ => lookup.no_name(),
    }
}

/// The addresses at which this very service answers: those of the `kube-dns` Service.
fn own_addresses(zone: &Zone) -> impl Iterator<Item = &IpAddr> {
    zone.service("kube-system", "kube-dns").into_iter().flat_map(|s| match &s.kind {
        Kind::ClusterIp(ips) => ips.as_slice(),
        _ => &[],
    })
}

fn rdata(addr: &IpAddr) -> RData {
    match addr {
        IpAddr::V4(a) => RData::A(A(*a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(*a)),
    }
}

fn soa(zone: &Zone) -> Record {
    let below = |label: &str| child(&zone.domain, label).unwrap_or_else(Name::root);
    let server = child(&below("dns"), "ns").unwrap_or_else(Name::root);
    let data = SOA::new(server, below("hostmaster"), zone.serial, 7200, 1800, 86400, TTL);
    Record::from_rdata(zone.domain.clone(), TTL, RData::SOA(data))
}

/// `label.parent`; none when it would be too long for a name.
fn child(parent: &Name, label: &str) -> Option<Name> {
    Name::from_labels([label.as_bytes()]).ok()?.append_domain(parent).ok()
}

fn service_name(zone: &Zone, key: &ObjectKey) -> Option<Name> {
    child(&child(&child(&zone.domain, "svc")?, &key.namespace)?, &key.name)
}

/// The question for a name of ours.
struct Lookup<'a> {
    name: &'a Name,
    kind: RecordType,
    zone: &'a Zone,
}

impl Lookup<'_> {
    fn no_data(&self) -> Answer {
        Answer::NoData(soa(self.zone))
    }

    fn no_name(&self) -> Answer {
        Answer::NoName(soa(self.zone))
    }

    fn found(&self, records: Vec<Record>, additionals: Vec<Record>) -> Answer {
        if records.is_empty() { self.no_data() } else { Answer::Found { records, additionals } }
    }

    /// Those of the name's records that were asked for.
    fn select(&self, all: impl IntoIterator<Item = RData>) -> Answer {
        let records = all.into_iter().filter(|d| d.record_type() == self.kind || self.kind == RecordType::ANY);
        self.found(records.map(|d| Record::from_rdata(self.name.clone(), TTL, d)).collect(), vec![])
    }

    fn apex(&self) -> Answer {
        let server = child(self.name, "dns").and_then(|dns| child(&dns, "ns"));
        match self.kind {
            RecordType::SOA => self.found(vec![soa(self.zone)], vec![]),
            RecordType::NS => self.select(server.map(|ns| RData::NS(NS(ns)))),
            _ => self.no_data(),
        }
    }

    /// `1-2-3-4.<namespace>.pod`: the name says the address.
    fn pod(&self, ip: &str) -> Answer {
        let v4 = ip.replace('-', ".").parse().ok().map(IpAddr::V4);
        match v4.or_else(|| ip.replace('-', ":").parse().ok().map(IpAddr::V6)) {
            Some(addr) => self.select([rdata(&addr)]),
            None => self.no_name(),
        }
    }

    fn endpoints(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Endpoint> {
        self.zone.slices(namespace, service).flat_map(|s| &s.endpoints)
    }

    fn service(&self, namespace: &str, name: &str) -> Answer {
        let Some(service) = self.zone.service(namespace, name) else { return self.no_name() };
        if self.kind == RecordType::SRV && !matches!(service.kind, Kind::External(_)) {
            return self.ports(namespace, name, |_, _| true, true);
        }
        match &service.kind {
            Kind::ClusterIp(ips) => self.select(ips.iter().map(rdata)),
            Kind::External(target) => {
                let data = RData::CNAME(CNAME(target.clone()));
                let record = Record::from_rdata(self.name.clone(), TTL, data);
                if self.kind == RecordType::CNAME { self.found(vec![record], vec![]) } else { Answer::Alias(record, target.clone()) }
            }
            Kind::Headless => {
                let mut addresses: Vec<&IpAddr> = self.endpoints(namespace, name).flat_map(|e| &e.addresses).collect();
                addresses.sort_unstable();
                addresses.dedup();
                // DNS specification 2.4.1: no ready endpoint, no name.
                if addresses.is_empty() { self.no_name() } else { self.select(addresses.into_iter().map(rdata)) }
            }
        }
    }

    /// `<hostname>.<service>.<namespace>.svc` of a headless Service.
    fn endpoint(&self, namespace: &str, service: &str, label: &str) -> Answer {
        if !matches!(self.zone.service(namespace, service), Some(Service { kind: Kind::Headless, .. })) {
            return self.no_name();
        }
        let all = self.endpoints(namespace, service).flat_map(|e| e.addresses.iter().map(move |a| (e, a)));
        let mut named: Vec<&IpAddr> = all.filter(|(e, a)| e.label(a) == label || dashed(a) == label).map(|(_, a)| a).collect();
        named.sort_unstable();
        named.dedup();
        if named.is_empty() { self.no_name() } else { self.select(named.into_iter().map(rdata)) }
    }

    /// `_<port>._<protocol>.<service>.<namespace>.svc`. With `complete` false, the name only leads to such names.
    fn ports(&self, namespace: &str, name: &str, wanted: impl Fn(&str, &str) -> bool, complete: bool) -> Answer {
        let key = ObjectKey::new(namespace, name);
        let (Some(service), Some(target)) = (self.zone.service(namespace, name), service_name(self.zone, &key)) else {
            return self.no_name();
        };
        let targets: Vec<(u16, Name, RData)> = match &service.kind {
            Kind::External(_) => vec![],
            Kind::ClusterIp(ips) => {
                let ports = service.ports.iter().filter(|p| wanted(&p.name, p.protocol));
                ports.flat_map(|p| ips.iter().map(|ip| (p.port, target.clone(), rdata(ip)))).collect()
            }
            Kind::Headless => {
                let slices = self.zone.slices(namespace, name);
                let ports = slices.flat_map(|s| s.ports.iter().filter(|p| wanted(&p.name, p.protocol)).map(move |p| (s, p)));
                let each = ports.flat_map(|(s, p)| s.endpoints.iter().flat_map(move |e| e.addresses.iter().map(move |a| (p, e, a))));
                each.filter_map(|(p, e, a)| Some((p.port, child(&target, &e.label(a))?, rdata(a)))).collect()
            }
        };
        if targets.is_empty() {
            return self.no_name();
        }
        if self.kind != RecordType::SRV || !complete {
            return self.no_data();
        }
        let mut services: Vec<(u16, Name)> = targets.iter().map(|(port, name, _)| (*port, name.clone())).collect();
        services.sort();
        services.dedup();
        // As many equal shares as there are targets; weights have 16 bits.
        let weight = u16::try_from((100 / services.len()).max(1)).unwrap_or(1);
        let records = services.into_iter().map(|(port, name)| RData::SRV(SRV::new(0, weight, port, name)));
        let mut additionals: Vec<Record> = targets.into_iter().map(|(_, name, data)| Record::from_rdata(name, TTL, data)).collect();
        additionals.dedup();
        self.found(records.map(|d| Record::from_rdata(self.name.clone(), TTL, d)).collect(), additionals)
    }
}

/// Which name an address has. Addresses that are not the cluster's are somebody else's to know.
fn reverse(name: &Name, kind: RecordType, zone: &Zone) -> Answer {
    let Ok(net) = name.parse_arpa_name() else { return Answer::Elsewhere };
    if net.prefix_len() != net.max_prefix_len() {
        return Answer::Elsewhere;
    }
    let addr = net.addr();
    let mut names: Vec<Name> = zone.owners(&addr).filter_map(|key| pointed_to(zone, key, &addr)).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Answer::Elsewhere;
    }
    if kind != RecordType::PTR {
        return Answer::NoData(soa(zone));
    }
    let records = names.into_iter().map(|n| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(n)))).collect();
    Answer::Found { records, additionals: vec![] }
}

fn pointed_to(zone: &Zone, key: &ObjectKey, addr: &IpAddr) -> Option<Name> {
    let service = zone.service(&key.namespace, &key.name)?;
    let name = service_name(zone, key)?;
    match service.kind {
        Kind::ClusterIp(_) => Some(name),
        Kind::Headless => {
            let mut endpoints = zone.slices(&key.namespace, &key.name).flat_map(|s| &s.endpoints);
            child(&name, &endpoints.find(|e| e.addresses.contains(addr))?.label(addr))
        }
        Kind::External(_) => None,
    }
}

#[cfg(test)]
mod tests;
