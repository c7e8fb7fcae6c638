//! What is counted of webhooks, under upstream's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upstream's buckets of webhooks' durations, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Webhooks with series of their own; beyond these the name is left out, as names come from users.
const NAMES: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lasted {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u16,
    rejected: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    error_type: &'static str,
    rejection_code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedOpen {
    name: String,
    r#type: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The metrics of webhooks.
#[derive(Debug)]
pub struct Metrics {
    duration: Family<Lasted, Histogram, fn() -> Histogram>,
    requests: Family<Requested, Counter>,
    /// A gauge only because counters' names get a suffix that upstream's has not.
    rejections: Family<Rejected, Gauge>,
    failed_open: Family<FailedOpen, Gauge>,
    names: parking_lot::Mutex<std::collections::BTreeSet<String>>,
}

/// How one call ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The webhook's name.
    pub name: &'a str,
    /// Whether it may change objects.
    pub mutating: bool,
    /// CREATE and so on.
    pub operation: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What the request was refused with; nothing when it may go on.
    pub refused: Option<u16>,
    /// Whether the webhook could not be asked.
    pub unasked: bool,
}

impl Metrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(metrics: &daemon::metrics::Metrics) -> Self {
        let prefix = |name: &str| format!("apiserver_admission_webhook_{name}");
        let duration = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            duration: metrics.register(&prefix("admission_duration_seconds"), "Latency of admission webhooks", duration),
            requests: metrics.register(&prefix("request"), "Calls of admission webhooks", Family::default()),
            rejections: metrics.register(&prefix("rejection_count"), "Requests that admission webhooks rejected", Family::default()),
            failed_open: metrics.register(&prefix("fail_open_count"), "Calls whose failure was ignored", Family::default()),
            names: parking_lot::Mutex::default(),
        }
    }

    fn name(&self, name: &str) -> String {
        let mut names = self.names.lock();
        if names.contains(name) || (names.len() < NAMES && names.insert(name.to_owned())) { name.to_owned() } else { String::new() }
    }

    /// Counts a call.
    pub fn ended(&self, ended: Ended<'_>) {
        let name = self.name(ended.name);
        let (r#type, operation) = (if ended.mutating { "admit" } else { "validating" }, ended.operation);
        let rejected = if ended.refused.is_some() { "true" } else { "false" };
        let lasted = Lasted { name: name.clone(), r#type, operation, rejected };
        self.duration.get_or_create(&lasted).observe(ended.took.as_secs_f64());
        let code = ended.refused.unwrap_or(200);
        self.requests.get_or_create(&Requested { name: name.clone(), r#type, operation, code, rejected }).inc();
        if let Some(code) = ended.refused {
            let (error_type, rejection_code) = if ended.unasked { ("calling_webhook_error", 0) } else { ("no_error", code) };
            self.rejections.get_or_create(&Rejected { name, r#type, operation, error_type, rejection_code }).inc();
        } else if ended.unasked {
            self.failed_open.get_or_create(&FailedOpen { name, r#type }).inc();
        }
    }
}
