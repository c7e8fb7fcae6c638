//! The proxy's metrics, under upstream's names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use daemon::metrics::Metrics as Registry;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// See upstream's documentation of kube-proxy metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    sync_duration: Histogram,
    full_sync_duration: Histogram,
    programming: Histogram,
    last_sync: Gauge<f64, AtomicU64>,
    last_queued: Gauge<f64, AtomicU64>,
    failures: Counter,
    /// Endpoint changes seen.
    pub endpoint_changes: Counter,
    /// Service changes seen.
    pub service_changes: Counter,
    /// Elements in the table.
    pub elements: Gauge,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let name = |suffix: &str| format!("kubeproxy_sync_proxy_rules_{suffix}");
        let duration = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let programming = Histogram::new([0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0]);
        Self {
            sync_duration: registry.register(&name("duration_seconds"), "SyncProxyRules latency in seconds", duration()),
            full_sync_duration: registry.register(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
                duration(),
            ),
            programming: registry.register(
                "kubeproxy_network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                programming,
            ),
            last_sync: registry.register(
                &name("last_timestamp_seconds"),
                "The last time proxy rules were successfully synced",
                Gauge::default(),
            ),
            last_queued: registry.register(
                &name("last_queued_timestamp_seconds"),
                "The last time a sync of proxy rules was queued",
                Gauge::default(),
            ),
            failures: registry.register(&name("nftables_sync_failures"), "Cumulative proxy nftables sync failures", Counter::default()),
            endpoint_changes: registry.register(&name("endpoint_changes"), "Cumulative proxy rules Endpoint changes", Counter::default()),
            service_changes: registry.register(&name("service_changes"), "Cumulative proxy rules Service changes", Counter::default()),
            elements: registry.register("kubeproxy_nftables_elements", "Elements of sets and maps in the table", Gauge::default()),
        }
    }

    /// A sync is wanted.
    pub fn queued(&self, now: Timestamp) {
        self.last_queued.set(now.as_duration().as_secs_f64());
    }

    /// A sync was done; `changes` are when the endpoint changes in it happened.
    pub fn synced(&self, took: Duration, full: bool, now: Timestamp, changes: &[Timestamp]) {
        self.sync_duration.observe(took.as_secs_f64());
        if full {
            self.full_sync_duration.observe(took.as_secs_f64());
        }
        self.last_sync.set(now.as_duration().as_secs_f64());
        for change in changes {
            self.programming.observe(now.duration_since(*change).as_secs_f64().max(0.0));
        }
    }

    /// A sync failed.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
