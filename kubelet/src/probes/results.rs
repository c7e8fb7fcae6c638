//! What probes say about containers, for the pods' workers to read; and how often they said what, for metrics.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use parking_lot::{Mutex, RwLock};

/// Which probe says that a container must be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The liveness probe.
    Liveness,
    /// The startup probe.
    Startup,
}

/// What the probes of one container say. `None`: no probe has said anything yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The startup probe's word. A container without one has started when it runs.
    pub started: Option<bool>,
    /// The readiness probe's word. A container without one is ready when it has started.
    pub ready: Option<bool>,
    /// Set when a probe has failed so often that the container must be restarted.
    pub failed: Option<Failed>,
}

/// What probes say, by container id (without `containerd://`). A new container starts with nothing said.
#[derive(Debug, Default)]
pub struct Results {
    outcomes: RwLock<HashMap<String, Outcome>>,
    /// Answers by the labels of `prober_probe_total`, under the container id, with which they go.
    counts: Mutex<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl Results {
    /// What the probes of a container say.
    #[must_use]
    pub fn get(&self, container_id: &str) -> Outcome {
        self.outcomes.read().get(container_id).copied().unwrap_or_default()
    }

    /// Keeps what a probe says; gives whether that is news.
    pub fn put(&self, container_id: &str, outcome: Outcome) -> bool {
        self.outcomes.write().insert(container_id.to_owned(), outcome) != Some(outcome)
    }

    /// Changes what is said about a container; gives whether that is news.
    pub fn update(&self, container_id: &str, change: impl FnOnce(&mut Outcome)) -> bool {
        let mut outcomes = self.outcomes.write();
        let outcome = outcomes.entry(container_id.to_owned()).or_default();
        let before = *outcome;
        change(outcome);
        *outcome != before
    }

    /// Forgets a container.
    pub fn remove(&self, container_id: &str) {
        self.outcomes.write().remove(container_id);
        self.counts.lock().remove(container_id);
    }

    /// Counts an answer under the labels of its probe.
    pub(super) fn count(&self, container_id: &str, labels: String) {
        *self.counts.lock().entry(container_id.to_owned()).or_default().entry(labels).or_default() += 1;
    }

    /// `/metrics/probes` in the classic text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        let mut out = format!("# HELP prober_probe_total [BETA] {help}\n# TYPE prober_probe_total counter\n");
        for (labels, count) in self.counts.lock().values().flatten() {
            let _ = writeln!(out, "prober_probe_total{{{labels}}} {count}"); // writing to a String cannot fail
        }
        out
    }
}
