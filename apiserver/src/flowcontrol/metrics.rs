//! The metrics of priority and fairness, under upstream's names.

use std::sync::Arc;

use daemon::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// A schema and its level. Both are names of objects, so there are as many as an administrator makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    flow_schema: String,
    priority_level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    execute: &'static str,
    flow_schema: String,
    priority_level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtLevel {
    priority_level: String,
}

/// What is counted.
#[derive(Debug, Clone)]
pub struct FlowMetrics {
    dispatched: Family<Of, Counter>,
    rejected: Family<Refused, Counter>,
    in_queue: Family<Of, Gauge>,
    executing: Family<Of, Gauge>,
    executing_seats: Family<Of, Gauge>,
    nominal: Family<AtLevel, Gauge>,
    waited: Family<Waited, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new([0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0])
}

impl FlowMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        Self {
            dispatched: metrics.register(&name("dispatched_requests"), "Requests that were run", Family::default()),
            rejected: metrics.register(&name("rejected_requests"), "Requests that got no seat", Family::default()),
            in_queue: metrics.register(&name("current_inqueue_requests"), "Requests that wait for a seat", Family::default()),
            executing: metrics.register(&name("current_executing_requests"), "Requests that run", Family::default()),
            executing_seats: metrics.register(&name("current_executing_seats"), "Seats in use", Family::default()),
            nominal: metrics.register(&name("nominal_limit_seats"), "Nominal seats of each priority level", Family::default()),
            waited: metrics.register(
                &name("request_wait_duration_seconds"),
                "How long requests waited in their queue",
                Family::new_with_constructor(histogram as fn() -> Histogram),
            ),
        }
    }

    /// The labels of a schema and its level.
    #[must_use]
    pub fn of(schema: &Arc<str>, level: &Arc<str>) -> Of {
        Of { flow_schema: schema.to_string(), priority_level: level.to_string() }
    }

    /// The limits that are in force.
    pub fn limits<'a>(&self, levels: impl Iterator<Item = (&'a Arc<str>, usize, usize, usize)>) {
        self.nominal.clear();
        for (name, nominal, _, _) in levels {
            self.nominal.get_or_create(&AtLevel { priority_level: name.to_string() }).set(i64::try_from(nominal).unwrap_or(i64::MAX));
        }
    }

    /// A request begins to wait.
    pub fn waits(&self, of: &Of) {
        self.in_queue.get_or_create(of).inc();
    }

    /// A request waits no longer; whether it runs now.
    pub fn waited(&self, of: &Of, seconds: f64, runs: bool) {
        self.in_queue.get_or_create(of).dec();
        let Of { flow_schema, priority_level } = of.clone();
        let execute = if runs { "true" } else { "false" };
        self.waited.get_or_create(&Waited { execute, flow_schema, priority_level }).observe(seconds);
    }

    /// A request was refused.
    pub fn refused(&self, of: &Of, reason: &'static str) {
        let Of { flow_schema, priority_level } = of.clone();
        self.rejected.get_or_create(&Refused { flow_schema, priority_level, reason }).inc();
    }

    /// A request begins to run; it has ended when the guard goes.
    #[must_use]
    pub fn runs(&self, of: &Of, seats: usize) -> Running {
        self.dispatched.get_or_create(of).inc();
        let executing = self.executing.get_or_create_owned(of);
        let used = self.executing_seats.get_or_create_owned(of);
        let seats = i64::try_from(seats).unwrap_or(i64::MAX);
        executing.inc();
        used.inc_by(seats);
        Running { executing, used, seats }
    }
}

/// A request that runs, counted.
#[derive(Debug)]
pub struct Running {
    executing: Gauge,
    used: Gauge,
    seats: i64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.executing.dec();
        self.used.dec_by(self.seats);
    }
}
