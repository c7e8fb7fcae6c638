//! Liveness, readiness and startup probes: one task a probe of a running container.
//!
//! What an answer means in a row of answers is decided by [`step`](step::step); a kind of probe is a file here and an arm in
//! [`task`]. Liveness and readiness wait until the startup probe, if there is one, has said yes.

pub mod exec;
pub mod grpc;
pub mod http;
mod results;
#[cfg(test)]
pub(crate) mod scripted;
pub mod step;
mod task;
pub mod tcp;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Probe};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::runtime::Runtime;
pub use results::{Failed, Outcome, Results};

/// How the kubelet names itself to what it probes.
pub const AGENT: &str = "kube-probe/1.35";

/// What one asking gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Passed,
    /// All is well, but there is something to tell.
    Warned(String),
    /// It is not well, and why.
    Failed(String),
    /// It could not be asked; says nothing about the container.
    Errored(String),
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether to restart the container.
    Liveness,
    /// Whether to send it traffic.
    Readiness,
    /// Whether it has started; restarts it when it never does.
    Startup,
}

impl Purpose {
    /// The word in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

/// Wakes the worker of the pod with this uid.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

/// Runs the probes of every running container. They end when it is dropped.
pub struct Prober {
    desk: task::Desk,
    pods: Mutex<HashMap<String, PodProbes>>,
    ending: CancellationToken,
}

#[derive(Default)]
struct PodProbes {
    terminating: bool,
    /// Containers of which an earlier kubelet has told, until the first look.
    recalled: Vec<String>,
    /// By container id.
    containers: HashMap<String, Running>,
}

/// The tokens that end a container's probes.
struct Running {
    restarting: CancellationToken,
    all: CancellationToken,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl Prober {
    /// A prober that writes into `results`, calls `wake` with a pod's uid when they change, and reports
    /// `Unhealthy` to `events`.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, results: Arc<Results>, events: Events, wake: Wake) -> Self {
        Self { desk: task::Desk { runtime, results, events, wake }, pods: Mutex::default(), ending: CancellationToken::new() }
    }

    /// Takes over what an earlier kubelet said about containers of the pod, as the apiserver has it: whether they had
    /// started and were ready. To be called before the first status is worked out.
    pub fn recall(&self, pod: &Pod) {
        let (Some(uid), Some(status)) = (pod.metadata.uid.as_deref(), &pod.status) else { return };
        for container in status.container_statuses.iter().chain(&status.init_container_statuses).flatten() {
            let Some((_, id)) = container.container_id.as_deref().and_then(|id| id.split_once("://")) else { continue };
            if container.started == Some(true) {
                let known = Outcome { started: Some(true), ready: container.ready.then_some(true), failed: None };
                self.desk.results.put(id, known);
                self.pods.lock().entry(uid.to_owned()).or_default().recalled.push(id.to_owned());
            }
        }
    }

    /// Starts the probes of containers that run and ends those of containers that do not. Called with each new status.
    pub fn observe(&self, pod: &Arc<Pod>, status: &PodStatus) {
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        let running = running(pod, status);
        let mut pods = self.pods.lock();
        let probes = pods.entry(uid.to_owned()).or_default();
        for id in probes.recalled.drain(..).filter(|id| running.iter().all(|r| r.id != *id)) {
            self.desk.results.remove(&id);
        }
        probes.containers.retain(|id, tokens| {
            let runs = running.iter().any(|r| r.id == *id);
            if !runs {
                tokens.all.cancel();
                self.desk.results.remove(id);
            }
            runs
        });
        for container in running {
            if !probes.containers.contains_key(&container.id) {
                let tokens = self.start(pod, container.clone(), status.pod_ip.as_deref().unwrap_or_default(), probes.terminating);
                probes.containers.insert(container.id, tokens);
            }
        }
        if probes.containers.is_empty() && !probes.terminating {
            pods.remove(uid);
        }
    }

    fn start(&self, pod: &Arc<Pod>, container: Observed, pod_ip: &str, terminating: bool) -> Running {
        let all = self.ending.child_token();
        let tokens = Running { restarting: all.child_token(), all };
        if terminating {
            tokens.restarting.cancel();
        }
        let known = self.desk.results.get(&container.id);
        let started = watch::Sender::new(container.spec.startup_probe.is_none() || known.started == Some(true));
        for purpose in [Purpose::Startup, Purpose::Liveness, Purpose::Readiness] {
            let Some(probe) = purpose.of(&container.spec) else { continue };
            if purpose == Purpose::Startup && known.started == Some(true) {
                continue;
            }
            let stop = if purpose == Purpose::Readiness { tokens.all.clone() } else { tokens.restarting.clone() };
            let task = task::Task {
                desk: self.desk.clone(),
                pod: pod.clone(),
                container: container.spec.clone(),
                id: container.id.clone(),
                pod_ip: pod_ip.to_owned(),
                purpose,
                probe: probe.clone(),
                started: started.clone(),
                running_since: container.since,
                verdict: known.ready.filter(|_| purpose == Purpose::Readiness),
            };
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
        tokens
    }

    /// Ends liveness and startup probes of a pod that is being ended; readiness goes on until its containers are gone.
    pub fn terminating(&self, pod_uid: &str) {
        let mut pods = self.pods.lock();
        let probes = pods.entry(pod_uid.to_owned()).or_default();
        probes.terminating = true;
        probes.containers.values().for_each(|tokens| tokens.restarting.cancel());
    }

    /// Ends all probes of a pod and forgets what they said.
    pub fn forget(&self, pod_uid: &str) {
        let Some(probes) = self.pods.lock().remove(pod_uid) else { return };
        probes.containers.values().for_each(|tokens| tokens.all.cancel());
        probes.containers.keys().chain(&probes.recalled).for_each(|id| self.desk.results.remove(id));
    }

    /// What the probes say.
    #[must_use]
    pub fn results(&self) -> &Arc<Results> {
        &self.desk.results
    }
}

/// A container that runs and has probes.
#[derive(Debug, Clone, PartialEq)]
struct Observed {
    spec: Container,
    id: String,
    since: jiff::Timestamp,
}

fn running(pod: &Pod, status: &PodStatus) -> Vec<Observed> {
    let Some(spec) = &pod.spec else { return vec![] };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let probed = containers.filter(|c| c.liveness_probe.is_some() || c.readiness_probe.is_some() || c.startup_probe.is_some());
    probed
        .filter_map(|container| {
            let now = container_status(status, &container.name)?;
            let running = now.state.as_ref()?.running.as_ref()?;
            let id = now.container_id.as_deref()?;
            Some(Observed {
                spec: container.clone(),
                id: id.split_once("://").map_or(id, |(_, id)| id).to_owned(),
                since: running.started_at.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |t| t.0),
            })
        })
        .collect()
}

fn container_status<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|s| s.name == name)
}

#[cfg(test)]
mod tests;
