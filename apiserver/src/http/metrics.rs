//! The apiserver's metrics, under upstream's names. Labels come from what is served, never from what a client makes up.

use std::sync::{Arc, Weak};

use daemon::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;

use super::request_info::RequestInfo;
use crate::server::Server;

/// Upstream's buckets of request durations, in seconds; the long end is left out, since nothing here lasts that long.
const BUCKETS: [f64; 14] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What a request was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    component: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
    component: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: &'static str,
}

/// The metrics of requests.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    total: Family<Answered, Counter>,
    duration: Family<Asked, Histogram, fn() -> Histogram>,
    in_flight: Family<InFlight, Gauge>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The method as upstream's metrics name it.
fn verb(info: &RequestInfo, apply: bool) -> &'static str {
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if apply => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// The labels of a request; those of a resource that is not served are empty.
#[must_use]
pub fn asked(info: &RequestInfo, served: bool, apply: bool) -> Asked {
    let text = |s: &str| if served { s.to_owned() } else { String::new() };
    let scope = match () {
        () if !served => "",
        () if !info.name.is_empty() || info.verb == "create" => "resource",
        () if !info.namespace.is_empty() => "namespace",
        () => "cluster",
    };
    Asked {
        component: "apiserver",
        group: text(&info.group),
        resource: text(&info.resource),
        scope,
        subresource: text(&info.subresource),
        verb: verb(info, apply),
        version: text(&info.version),
    }
}

impl RequestMetrics {
    /// Registers the metrics of requests.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            total: metrics.register("apiserver_request", "Requests by verb, resource and code", Family::default()),
            duration: metrics.register(
                "apiserver_request_duration_seconds",
                "Response latency by verb and resource",
                Family::new_with_constructor(histogram as fn() -> Histogram),
            ),
            in_flight: metrics.register("apiserver_current_inflight_requests", "Requests being served now", Family::default()),
        }
    }

    /// Counts a request in; it is counted out when the guard goes.
    #[must_use]
    pub fn enter(&self, info: &RequestInfo) -> Entered {
        let reads = matches!(info.verb.as_str(), "get" | "list" | "watch");
        let gauge = self.in_flight.get_or_create_owned(&InFlight { request_kind: if reads { "readOnly" } else { "mutating" } });
        gauge.inc();
        Entered(gauge)
    }

    /// Counts an answer.
    pub fn answered(&self, asked: Asked, code: u16, seconds: f64) {
        // How long a watch lasts says nothing of the server.
        if asked.verb != "WATCH" {
            self.duration.get_or_create(&asked).observe(seconds);
        }
        let Asked { component, group, resource, scope, subresource, verb, version } = asked;
        self.total.get_or_create(&Answered { code, component, group, resource, scope, subresource, verb, version }).inc();
    }
}

/// A request that is being served.
#[derive(Debug)]
pub struct Entered(Gauge);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts stored objects when asked.
#[derive(Debug)]
struct Objects(Weak<Server>);

/// Registers what is read off the server.
pub fn register_objects(server: &Arc<Server>) {
    server.metrics.register_collector(Box::new(Objects(Arc::downgrade(server))));
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(server) = self.0.upgrade() else { return Ok(()) };
        let catalog = server.catalog.load();
        let mut family = encoder.encode_descriptor("apiserver_storage_objects", "Stored objects by resource", None, MetricType::Gauge)?;
        for row in
            catalog.rows().iter().filter(|r| !r.virtual_kind && catalog.stored(&r.group, &r.plural).is_some_and(|s| Arc::ptr_eq(s, r)))
        {
            let resource = if row.group.is_empty() { row.plural.to_string() } else { format!("{}.{}", row.plural, row.group) };
            let count = ConstGauge::new(i64::try_from(row.cache.len()).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("resource", resource.as_str())])?)?;
        }
        Ok(())
    }
}
