//! The scheduler's metrics, with upstream's names.

use std::time::Duration;

use daemon::metrics::Metrics as Registry;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::observation::Binding;
use crate::queue::{Lengths, Waiting};
use crate::scheduler::{Attempt, Effect};

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The metrics.
#[derive(Clone)]
pub struct Metrics {
    profile: String,
    attempts: Family<Labels, Counter>,
    attempt_duration: Histograms,
    algorithm_duration: Histogram,
    sli_duration: Histograms,
    attempts_per_pod: Histogram,
    preemptions: Counter,
    victims: Histogram,
    /// Active, backing off, unschedulable, gated.
    pending: [Gauge; 4],
    /// Nodes, pods, assumed pods.
    cache: [Gauge; 3],
    goroutines: Gauge,
}

fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn long() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

impl Metrics {
    /// Registers them for the scheduler `profile`.
    #[must_use]
    pub fn new(registry: &Registry, profile: &str) -> Self {
        let family = |make: fn() -> Histogram| Histograms::new_with_constructor(make);
        let gauges = |name: &str, help: &str| registry.register(name, help, Family::<Labels, Gauge>::default());
        let pending = gauges(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated",
        );
        let cache = gauges("scheduler_cache_size", "Number of nodes, pods, and assumed (bound) pods in the scheduler cache");
        let goroutines = gauges("scheduler_goroutines", "Number of running goroutines split by the work they do such as binding");
        let of = |family: &Family<Labels, Gauge>, key, value: &str| family.get_or_create(&vec![(key, value.to_owned())]).clone();
        Self {
            profile: profile.to_owned(),
            attempts: registry.register(
                "scheduler_schedule_attempts",
                "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem",
                Family::default(),
            ),
            attempt_duration: registry.register(
                "scheduler_scheduling_attempt_duration_seconds",
                "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                family(short),
            ),
            algorithm_duration: registry.register(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds",
                Histogram::new(exponential_buckets(0.000_01, 2.0, 18)),
            ),
            sli_duration: registry.register(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts",
                family(long),
            ),
            attempts_per_pod: registry.register(
                "scheduler_pod_scheduling_attempts",
                "Number of attempts to successfully schedule a pod",
                Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            ),
            preemptions: registry.register("scheduler_preemption_attempts", "Total preemption attempts in the cluster till now", Counter::default()),
            victims: registry.register(
                "scheduler_preemption_victims",
                "Number of selected preemption victims",
                Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            ),
            pending: ["active", "backoff", "unschedulable", "gated"].map(|queue| of(&pending, "queue", queue)),
            cache: ["nodes", "pods", "assumed_pods"].map(|kind| of(&cache, "type", kind)),
            goroutines: of(&goroutines, "operation", "binding"),
        }
    }

    /// An attempt that took so long to decide. One that placed the pod is not over before it is bound.
    pub fn decided(&self, attempt: Attempt, effects: &[Effect], took: Duration) {
        self.algorithm_duration.observe(took.as_secs_f64());
        match attempt {
            Attempt::Scheduled => {}
            Attempt::Unschedulable => self.attempted("unschedulable", took),
            Attempt::Error => self.attempted("error", took),
        }
        for effect in effects {
            if let Effect::Evict { plan, .. } = effect {
                self.preemptions.inc();
                self.victims.observe(f64::from(u32::try_from(plan.victims.len()).unwrap_or(u32::MAX)));
            }
        }
    }

    /// What came of the binding of a pod that has waited.
    pub fn bound(&self, outcome: &Binding, waiting: &Waiting, now: Timestamp) {
        let since = |then: Timestamp| Duration::try_from(now.duration_since(then)).unwrap_or_default();
        match outcome {
            Binding::Done => {
                self.attempted("scheduled", since(waiting.tried));
                // Upstream's label counts exactly up to 15 attempts.
                let attempts = if waiting.attempts >= 16 { "16+".to_owned() } else { waiting.attempts.to_string() };
                self.sli_duration.get_or_create(&vec![("attempts", attempts)]).observe(since(waiting.since).as_secs_f64());
                self.attempts_per_pod.observe(f64::from(waiting.attempts));
            }
            Binding::Failed(_) => self.attempted("error", since(waiting.tried)),
            Binding::Conflict | Binding::Gone => {}
        }
    }

    fn attempted(&self, result: &str, took: Duration) {
        let labels = vec![("profile", self.profile.clone()), ("result", result.to_owned())];
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// How things stand.
    pub fn stand(&self, queue: Lengths, (nodes, pods, assumed): (usize, usize, usize), writes: usize) {
        let set = |gauge: &Gauge, n: usize| _ = gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        let pending = [queue.active, queue.backoff, queue.unschedulable, queue.gated];
        self.pending.iter().zip(pending).for_each(|(gauge, n)| set(gauge, n));
        self.cache.iter().zip([nodes, pods, assumed]).for_each(|(gauge, n)| set(gauge, n));
        set(&self.goroutines, writes);
    }
}
