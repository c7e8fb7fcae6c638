//! What to do next for a pod.
//!
//! A plan holds only steps that can be taken now; when one has changed the world, the pod is observed and planned again. So a
//! plan never assumes that an earlier step worked, and the same plan twice is harmless. `WaitUntil` says when to look again
//! if nothing else happens.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};

use super::backoff::Backoff;
use super::resize::Resource;
use super::restart::restarts;
use super::{Container, Ending, Observed, State, ephemeral_spec, grace_seconds, is_being_replaced, is_outdated, is_sidecar, resize};
use crate::cgroups::Limits;
use crate::probes::Failed;

/// A container that is killed has at least this long: preStop hooks may use the grace up (upstream's minimum).
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// One step for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodAction {
    /// Make a sandbox. `attempt` is unique among the pod's sandboxes.
    CreateSandbox {
        /// Counted from 0.
        attempt: u32,
    },
    /// Stop a sandbox, and with it whatever still runs inside. Harmless when it is stopped.
    StopSandbox {
        /// The runtime's id.
        id: String,
    },
    /// End a container within `grace`, running its preStop hook first. Harmless when it has ended.
    KillContainer {
        /// The runtime's id.
        id: String,
        /// Its name.
        name: String,
        /// Seconds for preStop hook and stop signal together.
        grace: i64,
        /// Why, for the event `Killing`.
        why: String,
        /// Whether another is to take its place whatever the restart policy says.
        replaced: bool,
    },
    /// Pull the image, make and start a container. `attempt` is its restart count.
    StartContainer {
        /// Its name.
        name: String,
        /// Which start of this container it is, counted from 0.
        attempt: u32,
        /// When the container it replaces ended.
        after: Option<Timestamp>,
    },
    /// Nothing to do for this container before its back-off is over.
    BackOff {
        /// Its name.
        name: String,
        /// The end of the back-off.
        until: Timestamp,
    },
    /// Change what the pod's cgroup may use. 0 leaves an amount as it is.
    ResizePod {
        /// The new amounts.
        limits: Limits,
    },
    /// Give a running container the memory or the CPU that is allocated to it.
    ResizeContainer {
        /// The runtime's id.
        id: String,
        /// Its name.
        name: String,
        /// Which of the two.
        resource: Resource,
    },
    /// A resize cannot go on now.
    FailResize {
        /// Why.
        message: String,
    },
    /// Look again then.
    WaitUntil(Timestamp),
}

/// The next steps for `pod`.
#[must_use]
pub fn plan(pod: &Pod, seen: &Observed, now: Timestamp) -> Vec<PodAction> {
    let Some(spec) = pod.spec.as_ref() else { return vec![] };
    if let Some(ending) = &seen.ending {
        return end(spec, seen, ending, now);
    }
    let mut actions = match seen.usable_sandbox(spec) {
        Some(sandbox) => run(pod, spec, seen, &sandbox.id, now),
        None => make_sandbox(spec, seen, now),
    };
    if let Some(deadline) = deadline(spec, seen) {
        actions.push(PodAction::WaitUntil(deadline));
    }
    actions
}

/// When `activeDeadlineSeconds` ends the pod.
#[must_use]
pub fn deadline(spec: &PodSpec, seen: &Observed) -> Option<Timestamp> {
    let started = seen.previous.start_time.as_ref()?.0;
    started.checked_add(SignedDuration::from_secs(spec.active_deadline_seconds?)).ok()
}

/// Ends the pod: first the containers, then the sidecars from the last to the first, then the sandboxes.
fn end(spec: &PodSpec, seen: &Observed, ending: &Ending, now: Timestamp) -> Vec<PodAction> {
    let grace = ending.deadline.duration_since(now).max(LEAST_GRACE).as_secs();
    let kill = |c: &Container| PodAction::KillContainer {
        id: c.id.clone(),
        name: c.name.clone(),
        grace,
        why: format!("Stopping container {}", c.name),
        replaced: false,
    };
    let sidecars: Vec<&str> = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let running: Vec<&Container> = seen.containers.iter().filter(|c| matches!(c.state, State::Running | State::Unknown)).collect();
    let main: Vec<PodAction> = running.iter().filter(|c| !sidecars.contains(&c.name.as_str())).map(|c| kill(c)).collect();
    if !main.is_empty() {
        return main;
    }
    let last_sidecar = sidecars.iter().rev().find(|name| running.iter().any(|c| c.name == **name));
    if let Some(last) = last_sidecar {
        return running.iter().filter(|c| c.name == *last).map(|c| kill(c)).collect();
    }
    seen.sandboxes.iter().filter(|s| s.ready).map(|s| PodAction::StopSandbox { id: s.id.clone() }).collect()
}

/// There is no sandbox to run in: clears away what is left of old ones, then makes one, if something is still to run.
fn make_sandbox(spec: &PodSpec, seen: &Observed, now: Timestamp) -> Vec<PodAction> {
    let leftover: Vec<PodAction> = seen
        .containers
        .iter()
        .filter(|c| matches!(c.state, State::Running | State::Unknown))
        .map(|c| PodAction::KillContainer {
            id: c.id.clone(),
            name: c.name.clone(),
            grace: spec.termination_grace_period_seconds.unwrap_or(30).max(LEAST_GRACE.as_secs()),
            why: "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            replaced: false,
        })
        .chain(seen.sandboxes.iter().filter(|s| s.ready).map(|s| PodAction::StopSandbox { id: s.id.clone() }))
        .collect();
    if !leftover.is_empty() {
        return leftover;
    }
    let to_run = spec.containers.iter().any(|c| match seen.newest(&c.name) {
        None => true,
        Some(old) => old.state != State::Exited || restarts(spec, c, false, old.exit_code) || is_being_replaced(spec, seen, c, false, old),
    });
    let failed_init = spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c)).any(|c| {
        seen.newest(&c.name).is_some_and(|old| old.state == State::Exited && old.exit_code != 0 && !restarts(spec, c, true, old.exit_code))
    });
    if !to_run || failed_init {
        return vec![];
    }
    match &seen.sandbox_failure {
        Some(failure) if failure.retry_at > now => vec![PodAction::WaitUntil(failure.retry_at)],
        _ => vec![PodAction::CreateSandbox { attempt: seen.sandboxes.iter().map(|s| s.attempt + 1).max().unwrap_or(0) }],
    }
}

/// Runs the containers in the sandbox: ephemeral ones at any time, init containers one after another, then the rest. A resize goes before
/// what is started: a container may need the room.
fn run(pod: &Pod, spec: &PodSpec, seen: &Observed, sandbox: &str, now: Timestamp) -> Vec<PodAction> {
    let mut steps = Steps { pod, spec, seen, sandbox, now, actions: vec![] };
    for container in spec.ephemeral_containers.iter().flatten().map(ephemeral_spec) {
        if seen.newest(&container.name).is_none() {
            steps.start(&container, None);
        }
    }
    steps.resize();
    if steps.init() {
        for container in &spec.containers {
            steps.keep_running(container, false);
        }
    }
    steps.actions
}

struct Steps<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    seen: &'a Observed,
    sandbox: &'a str,
    now: Timestamp,
    actions: Vec<PodAction>,
}

impl Steps<'_> {
    /// The next step of a resize, unless the last one failed a moment ago.
    fn resize(&mut self) {
        match self.seen.resize.failure.as_ref().filter(|f| f.retry_at > self.now) {
            Some(failure) => self.actions.push(PodAction::WaitUntil(failure.retry_at)),
            None => self.actions.extend(resize::step(self.spec, self.seen)),
        }
    }

    /// Whether all init containers are past, so that the others may run.
    fn init(&mut self) -> bool {
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        // Once a regular container was made in this sandbox, init containers that have gone are not missed.
        let initialized =
            self.seen.containers.iter().any(|c| c.sandbox == self.sandbox && self.spec.containers.iter().any(|s| s.name == c.name));
        for container in init {
            let here = self.seen.newest(&container.name).filter(|c| c.sandbox == self.sandbox);
            let past = if is_sidecar(container) {
                self.keep_running(container, true);
                here.is_some_and(|c| self.seen.started(container, c))
            } else if initialized {
                true
            } else {
                match here {
                    Some(c) if c.state == State::Exited && c.exit_code == 0 => true,
                    Some(c) if c.state == State::Running => false,
                    // Not from here: it ran in a sandbox that is gone, and runs again at once.
                    None => {
                        self.start(container, None);
                        false
                    }
                    Some(_) => {
                        self.keep_running(container, true);
                        false
                    }
                }
            };
            if !past && !initialized {
                return false;
            }
        }
        true
    }

    /// Starts a container that is not there, restarts one that ended and should not have, kills one that must not go on.
    fn keep_running(&mut self, container: &Spec, init: bool) {
        let Some(old) = self.seen.newest(&container.name) else { return self.start(container, None) };
        let again = restarts(self.spec, container, init, 1);
        let will = if again { ", will be restarted" } else { "" };
        let name = &container.name;
        match old.state {
            // What takes the place of another has no back-off: nothing is known against it.
            State::Exited if is_being_replaced(self.spec, self.seen, container, init, old) => self.start(container, None),
            State::Exited if old.sandbox != self.sandbox || is_outdated(old, container) => {
                if restarts(self.spec, container, init, old.exit_code) {
                    self.start(container, None);
                }
            }
            State::Exited => {
                if restarts(self.spec, container, init, old.exit_code) {
                    self.start(container, Some(old.finished_at.unwrap_or(old.created_at)));
                }
            }
            // Its start failed or was cut short. The next one replaces it.
            State::Created => self.start(container, Some(old.created_at)),
            State::Unknown => {
                self.kill(old, container, format!("Container {name} is in unknown state, try killing it before restart"), false);
            }
            State::Running if is_outdated(old, container) => {
                self.kill(old, container, format!("Container {name} definition changed, will be restarted"), true);
            }
            State::Running => match self.seen.probes.get(&old.id).and_then(|o| o.failed) {
                Some(Failed::Liveness) => self.kill(old, container, format!("Container {name} failed liveness probe{will}"), false),
                Some(Failed::Startup) => self.kill(old, container, format!("Container {name} failed startup probe{will}"), false),
                None if resize::requires_restart(container, self.seen) => {
                    self.kill(old, container, format!("Container {name} resize requires restart"), true);
                }
                None => {}
            },
        }
    }

    fn start(&mut self, container: &Spec, ended: Option<Timestamp>) {
        let name = container.name.clone();
        if let Some(waiting) = self.seen.waiting.get(&name).filter(|w| w.retry_at > self.now) {
            return self.actions.push(PodAction::WaitUntil(waiting.retry_at));
        }
        if let Some(ended) = ended
            && let Some(until) = Backoff::until(self.seen.backoff.get(&name), ended, self.now)
        {
            return self.actions.push(PodAction::BackOff { name, until });
        }
        self.actions.push(PodAction::StartContainer { attempt: next_attempt(self.seen, &name), name, after: ended });
    }

    fn kill(&mut self, old: &Container, container: &Spec, why: String, replaced: bool) {
        let probe = match self.seen.probes.get(&old.id).and_then(|o| o.failed) {
            Some(Failed::Liveness) => container.liveness_probe.as_ref(),
            Some(Failed::Startup) => container.startup_probe.as_ref(),
            None => None,
        };
        let grace = probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| grace_seconds(self.pod));
        let grace = grace.max(LEAST_GRACE.as_secs());
        self.actions.push(PodAction::KillContainer { id: old.id.clone(), name: container.name.clone(), grace, why, replaced });
    }
}

/// The restart count of the next container of this name, whether or not its predecessors are still in the runtime.
fn next_attempt(seen: &Observed, name: &str) -> u32 {
    let in_runtime = seen.containers.iter().filter(|c| c.name == name).map(|c| c.attempt + 1).max();
    let lists = [&seen.previous.init_container_statuses, &seen.previous.container_statuses];
    let reported = lists
        .into_iter()
        .flatten()
        .flatten()
        .filter(|s| s.name == name && s.container_id.as_ref().is_some_and(|id| !id.is_empty()))
        .map(|s| u32::try_from(s.restart_count).unwrap_or(0) + 1)
        .max();
    in_runtime.max(reported).unwrap_or(0)
}

#[cfg(test)]
mod tests;
