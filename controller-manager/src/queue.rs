//! The queue of one controller: keys to look at, each at most once, at most one worker at a time on each.
//!
//! A key added while it is worked on is worked on again afterwards. A key that failed comes back after 5 ms, doubling up to
//! 1000 s (upstream's `DefaultControllerRateLimiter`), until it succeeds. The queue is bounded by the number of objects
//! there are, because a key is in it once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::kind::Key;

/// The first delay after a failure.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// The longest delay after failures.
const MOST_DELAY: Duration = Duration::from_secs(1000);

type Labels = Vec<(&'static str, &'static str)>;

/// Metrics of all queues, with upstream's names; each queue is a label value.
#[derive(Clone)]
pub struct QueueMetrics {
    adds: Family<Labels, Counter>,
    depth: Family<Labels, Gauge>,
    retries: Family<Labels, Counter>,
    waited: Family<Labels, Histogram>,
    worked: Family<Labels, Histogram>,
}

impl QueueMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &daemon::metrics::Metrics) -> Self {
        let seconds = || Histogram::new([0.001, 0.01, 0.1, 1.0, 10.0]);
        let family = || Family::<Labels, Histogram>::new_with_constructor(seconds);
        Self {
            adds: metrics.register("workqueue_adds", "Total number of adds handled by workqueue.", Family::default()),
            depth: metrics.register("workqueue_depth", "Current depth of workqueue.", Family::default()),
            retries: metrics.register("workqueue_retries", "Total number of retries handled by workqueue.", Family::default()),
            waited: metrics.register(
                "workqueue_queue_duration_seconds",
                "How long an item stays in workqueue before being requested.",
                family(),
            ),
            worked: metrics.register("workqueue_work_duration_seconds", "How long processing an item from workqueue takes.", family()),
        }
    }
}

/// Keys waiting for a controller's workers.
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
    metrics: QueueMetrics,
    labels: Labels,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Ready, or to be ready again when the worker on it is done; with the time of the first add.
    dirty: HashMap<Key, Instant>,
    working: HashSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// An empty queue, whose metrics carry `name`.
    #[must_use]
    pub fn new(name: &'static str, metrics: QueueMetrics) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), wake: Notify::new(), metrics, labels: vec![("name", name)] })
    }

    /// Something about `key` may have changed.
    pub fn add(&self, key: Key) {
        let mut state = self.state.lock();
        self.add_locked(&mut state, key);
    }

    fn add_locked(&self, state: &mut State, key: Key) {
        if state.dirty.contains_key(&key) {
            return;
        }
        self.metrics.adds.get_or_create(&self.labels).inc();
        state.dirty.insert(key.clone(), Instant::now());
        if !state.working.contains(&key) {
            state.ready.push_back(key);
            self.metrics.depth.get_or_create(&self.labels).set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
            self.wake.notify_one();
        }
    }

    /// Look at `key` after `delay`; the earliest of several such wishes counts.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.due.get(&key).copied() {
            Some(earlier) if earlier <= at => return,
            Some(other) => {
                state.later.remove(&(other, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.later.insert((at, key));
        self.wake.notify_one();
    }

    /// `key` failed: look again after a delay that doubles with each failure. Gives back the delay.
    pub fn retry(&self, key: &Key) -> Duration {
        self.metrics.retries.get_or_create(&self.labels).inc();
        let delay = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = FIRST_DELAY.saturating_mul(2u32.saturating_pow(*failures)).min(MOST_DELAY);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key.clone(), delay);
        delay
    }

    /// `key` succeeded: its next failure starts at the first delay.
    pub fn forget(&self, key: &Key) {
        self.state.lock().failures.remove(key);
    }

    /// Waits for a key. The caller must call [`Queue::done`] with it.
    pub async fn next(&self) -> Key {
        loop {
            let notified = self.wake.notified();
            let sleep_until = {
                let mut state = self.state.lock();
                let now = Instant::now();
                while let Some((at, key)) = state.later.first().cloned()
                    && at <= now
                {
                    state.later.pop_first();
                    state.due.remove(&key);
                    self.add_locked(&mut state, key);
                }
                if let Some(key) = state.ready.pop_front() {
                    self.metrics.depth.get_or_create(&self.labels).set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
                    if let Some(since) = state.dirty.remove(&key) {
                        self.metrics.waited.get_or_create(&self.labels).observe(since.elapsed().as_secs_f64());
                    }
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() || !state.later.is_empty() {
                        self.wake.notify_one(); // another worker takes the next, or waits for it
                    }
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match sleep_until {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// The work on `key`, begun at `started`, ended.
    pub fn done(&self, key: &Key, started: Instant) {
        self.metrics.worked.get_or_create(&self.labels).observe(started.elapsed().as_secs_f64());
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            self.wake.notify_one();
        }
    }

    /// Whether nothing waits and nothing is worked on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.ready.is_empty() && state.working.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn queue() -> Arc<Queue> {
        Queue::new("test", QueueMetrics::new(&daemon::metrics::Metrics::new()))
    }

    fn key(name: &str) -> Key {
        Key::cluster(name)
    }

    #[test]
    fn a_key_is_queued_once_and_again_when_it_changes_under_work() {
        let queue = queue();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().now_or_never(), Some(key("a")));
        queue.add(key("a"));
        assert_eq!(queue.next().now_or_never(), None, "one worker at a time on a key");
        queue.done(&key("a"), Instant::now());
        assert_eq!(queue.next().now_or_never(), Some(key("a")));
        queue.done(&key("a"), Instant::now());
        assert!(queue.is_idle());
    }

    #[test]
    fn failures_back_off_from_5_ms_to_1000_s() {
        let queue = queue();
        let delays: Vec<Duration> = (0..20).map(|_| queue.retry(&key("a"))).collect();
        assert_eq!((delays[0], delays[1], delays[19]), (Duration::from_millis(5), Duration::from_millis(10), MOST_DELAY));
        queue.forget(&key("a"));
        assert_eq!(queue.retry(&key("a")), Duration::from_millis(5));
    }

    #[tokio::test]
    async fn the_earliest_of_several_delays_counts() {
        let queue = queue();
        queue.add_after(key("a"), Duration::from_secs(3600));
        queue.add_after(key("a"), Duration::from_millis(1));
        queue.add_after(key("a"), Duration::from_secs(1800));
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.ok(), Some(key("a")));
        queue.done(&key("a"), Instant::now());
        assert_eq!(queue.next().now_or_never(), None);
    }
}
