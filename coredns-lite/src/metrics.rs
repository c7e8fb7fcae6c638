//! The metrics, under CoreDNS' names.

use std::time::Duration;

use daemon::metrics::Metrics as Registry;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_server::net::xfer::Protocol;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// See CoreDNS' documentation of the plugins `metrics` and `cache`.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    duration: Histogram,
    cache_hits: Family<HitLabels, Counter>,
    /// Answers that were not in the cache.
    pub cache_misses: Counter,
    /// Answers in the cache.
    pub cache_entries: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    family: &'static str,
    proto: &'static str,
    r#type: &'static str,
    zone: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    rcode: &'static str,
    zone: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HitLabels {
    r#type: &'static str,
}

/// A question and its answer, as counted.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// By which protocol it came.
    pub protocol: Protocol,
    /// Whether by IPv6.
    pub ipv6: bool,
    /// What type of record was asked for.
    pub kind: RecordType,
    /// Whether the name was the cluster's.
    pub ours: bool,
    /// What was answered.
    pub code: ResponseCode,
    /// How long it took.
    pub took: Duration,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let duration = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        Self {
            requests: registry.register(
                "coredns_dns_requests",
                "Counter of DNS requests made per zone, protocol and family",
                Family::default(),
            ),
            responses: registry.register("coredns_dns_responses", "Counter of response status codes", Family::default()),
            duration: registry.register(
                "coredns_dns_request_duration_seconds",
                "Histogram of the time (in seconds) each request took per zone",
                duration,
            ),
            cache_hits: registry.register("coredns_cache_hits", "The count of cache hits", Family::default()),
            cache_misses: registry.register("coredns_cache_misses", "The count of cache misses", Counter::default()),
            cache_entries: registry.register("coredns_cache_entries", "The number of elements in the cache", Gauge::default()),
        }
    }

    /// An answer was found in the cache.
    pub fn cache_hit(&self, success: bool) {
        let r#type = if success { "success" } else { "denial" };
        self.cache_hits.get_or_create(&HitLabels { r#type }).inc();
    }

    /// A question was answered.
    pub fn answered(&self, exchange: &Exchange) {
        let zone = if exchange.ours { "cluster" } else { "." };
        let family = if exchange.ipv6 { "2" } else { "1" };
        let proto = if matches!(exchange.protocol, Protocol::Udp) { "udp" } else { "tcp" };
        self.requests.get_or_create(&RequestLabels { family, proto, r#type: kind(exchange.kind), zone }).inc();
        self.responses.get_or_create(&ResponseLabels { rcode: code(exchange.code), zone }).inc();
        self.duration.observe(exchange.took.as_secs_f64());
    }
}

/// The types that CoreDNS tells apart, too; a client must not be able to make labels.
fn kind(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::CNAME => "CNAME",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        RecordType::ANY => "ANY",
        _ => "other",
    }
}

fn code(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "other",
    }
}
