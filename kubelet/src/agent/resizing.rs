//! Resizes of pods: each is judged before its worker sees the pod that asks for it, so that a status never speaks of a generation whose
//! resize nobody has looked at. What is deferred is judged again when something may have given room.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Agent;
use crate::events::Kind;
use crate::pod::condition::PENDING;
use crate::pod::resize::{DEFERRED, INFEASIBLE, Pending};
use crate::pod::{identity, is_terminal};
use crate::resizes::{self, Candidate};

fn has_ended(pod: &Pod) -> bool {
    is_terminal(pod.status.as_ref().and_then(|s| s.phase.as_deref()))
}

/// Whether nothing of the pod will be resized any more.
fn is_settled(pod: &Pod) -> bool {
    has_ended(pod) || pod.metadata.deletion_timestamp.is_some()
}

/// What the pod's status says of a resize that waits: a kubelet that starts goes on from there.
pub(super) fn reported(pod: &Pod) -> Option<Pending> {
    let condition = pod.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == PENDING && c.status == "True")?;
    let reason = if condition.reason.as_deref() == Some(INFEASIBLE) { INFEASIBLE } else { DEFERRED };
    Some(Pending { reason, message: condition.message.clone().unwrap_or_default(), generation: condition.observed_generation })
}

impl Agent {
    /// Notes down what a pod that the node takes has, and whether it wants something else.
    pub(super) fn take_in(&mut self, pod: &Pod) {
        let (namespace, name, _) = identity(pod);
        if has_ended(pod) {
            return;
        }
        if let Err(error) = self.kubelet.allocations.admit(pod) {
            tracing::error!(namespace, name, error = format!("{error:#}"), "what the pod was allocated could not be read or written down");
        }
        self.note(pod);
    }

    fn note(&mut self, pod: &Pod) {
        let uid = identity(pod).2;
        if !is_settled(pod) && self.kubelet.allocations.get(uid).is_some_and(|a| a.differs(pod)) {
            let condition = pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == PENDING);
            let since = condition.and_then(|c| c.last_transition_time.as_ref()).map_or_else(|| self.kubelet.clock.now(), |t| t.0);
            self.resizes.entry(uid.to_owned()).or_insert(since);
        } else {
            self.resizes.remove(uid);
        }
    }

    /// Hands a pod in its newest form to its worker, and what is to be said of its resize with it.
    pub(super) fn update(&mut self, pod: Arc<Pod>) {
        let uid = identity(&pod).2.to_owned();
        self.kubelet.statuses.stored(&pod);
        self.note(&pod);
        if self.resizes.contains_key(&uid) {
            self.resize(Some(&pod));
        }
        let waits = self.resizes.contains_key(&uid);
        if let Some(handle) = self.handles.get(&uid) {
            handle.desired.send_modify(|d| {
                d.pod = pod;
                d.gone = false;
                d.pending = d.pending.take().filter(|_| waits);
            });
        }
    }

    /// Judges the resizes that wait, once it is known which pods there are. `newest` is the form of a pod that its worker has not seen yet.
    pub(super) fn resize(&mut self, newest: Option<&Arc<Pod>>) {
        if self.synced != self.wanted {
            return;
        }
        let mut candidates = vec![];
        for (uid, since) in &self.resizes {
            let Some(handle) = self.handles.get(uid).filter(|h| !h.desired.borrow().gone) else { continue };
            let pod = newest.filter(|p| identity(p).2 == *uid).cloned().unwrap_or_else(|| handle.desired.borrow().pod.clone());
            let Some(allocation) = self.kubelet.allocations.get(uid) else { continue };
            candidates.push(Candidate { pod, allocation, since: *since });
        }
        self.resizes.retain(|uid, _| candidates.iter().any(|c| identity(&c.pod).2 == uid));
        resizes::order(&mut candidates);
        for candidate in candidates {
            self.judge(&candidate.pod);
        }
    }

    fn judge(&mut self, pod: &Arc<Pod>) {
        let (namespace, name, uid) = identity(pod);
        let Some(handle) = self.handles.get(uid) else { return };
        let before = handle.desired.borrow().pending.clone();
        let generation = pod.metadata.generation;
        // What can never be is judged once.
        if before.as_ref().is_some_and(|p| p.reason == INFEASIBLE && p.generation == generation) {
            return;
        }
        let refused = resizes::refusal(pod, &self.others(uid), &self.kubelet.node.load(), &self.kubelet.flags.allowed_unsafe_sysctls);
        let events = &self.kubelet.events;
        if let Some(refused) = refused {
            if before.as_ref() != Some(&refused) {
                let words = resizes::words(&format!("Pod resize {}", refused.reason), pod, generation, &refused.message);
                events.pod(pod, None, Kind::Warning, &format!("Resize{}", refused.reason), words);
                handle.desired.send_modify(|d| d.pending = Some(refused));
            }
            return;
        }
        if let Err(error) = self.kubelet.allocations.allocate(pod) {
            tracing::error!(namespace, name, error = format!("{error:#}"), "a resize could not be written down; trying again");
            return;
        }
        tracing::info!(namespace, name, generation, "resize allocated");
        events.pod(pod, None, Kind::Normal, "ResizeStarted", resizes::words("Pod resize started", pod, generation, ""));
        self.resizes.remove(uid);
        handle.desired.send_modify(|d| d.pending = None);
    }
}
