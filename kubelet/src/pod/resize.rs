//! Resizing containers where they run (KEP-1287): what is still to be done, and the next step.
//!
//! The pod's spec is what the node has allocated; [`Resize::actuated`] is what the running containers were given. Memory goes before
//! CPU; of each, the pod's cgroup grows before its containers do and shrinks after them, and containers that shrink go before those
//! that grow, so that the pod never holds more than its cgroup.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec, ResourceRequirements};

use super::{Container, Observed, PodAction, State, Waiting, is_sidecar};
use crate::cgroups::Limits;
use crate::resources;

/// Why a resize waits for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// [`DEFERRED`] or [`INFEASIBLE`].
    pub reason: &'static str,
    /// What the node lacks.
    pub message: String,
    /// The generation of the pod that was judged.
    pub generation: Option<i64>,
}

/// The resize may be possible later.
pub const DEFERRED: &str = "Deferred";
/// The resize is not possible on this node.
pub const INFEASIBLE: &str = "Infeasible";

/// A pod's cgroup: what it has, and what the pod's containers together want. Both as the kernel keeps such amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodCgroup {
    /// What it has; 0 for no limit.
    pub now: Limits,
    /// What is wanted; 0 where nothing is.
    pub wanted: Limits,
    /// The memory it uses in bytes, when known.
    pub usage: Option<i64>,
}

/// What is known of resizes of a pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resize {
    /// The generation of the pod whose resize was allocated and is being carried out.
    pub under_way: Option<i64>,
    /// Why the last step failed, and when to try again.
    pub failure: Option<Waiting>,
    /// A resize that the node has not allocated.
    pub pending: Option<Pending>,
    /// What running containers were given, by name.
    pub actuated: BTreeMap<String, ResourceRequirements>,
    /// The pod's cgroup, looked at while a resize is under way.
    pub cgroup: Option<PodCgroup>,
    /// The memory that containers use in bytes, by id, asked for while a limit is to be lowered.
    pub usage: BTreeMap<String, i64>,
}

/// What is changed of a container in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Memory limits (and requests, of which the kernel knows nothing).
    Memory,
    /// CPU shares and quota.
    Cpu,
}

/// Requests and limits of a container; 0 where none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    cpu_request: i64,
    cpu_limit: i64,
    memory_request: i64,
    memory_limit: i64,
}

impl Amounts {
    /// CPU in thousandths, memory in bytes.
    #[must_use]
    pub fn of(resources: Option<&ResourceRequirements>) -> Self {
        let (requests, limits) = (resources.and_then(|r| r.requests.as_ref()), resources.and_then(|r| r.limits.as_ref()));
        Self {
            cpu_request: resources::milli(requests, "cpu").unwrap_or(0),
            cpu_limit: resources::milli(limits, "cpu").unwrap_or(0),
            memory_request: resources::whole(requests, "memory").unwrap_or(0),
            memory_limit: resources::whole(limits, "memory").unwrap_or(0),
        }
    }

    fn pair(self, resource: Resource) -> (i64, i64) {
        match resource {
            Resource::Memory => (self.memory_limit, self.memory_request),
            Resource::Cpu => (self.cpu_limit, self.cpu_request),
        }
    }
}

/// The resources `given` to a container with those of one kind as they are `wanted`.
#[must_use]
pub fn mixed(wanted: &ResourceRequirements, given: &ResourceRequirements, resource: Resource) -> ResourceRequirements {
    let (changed, kept) = match resource {
        Resource::Memory => ("memory", "cpu"),
        Resource::Cpu => ("cpu", "memory"),
    };
    let mix = |wanted: &Option<resources::Amounts>, given: &Option<resources::Amounts>| {
        let from =
            |list: &Option<resources::Amounts>, name: &str| list.as_ref().and_then(|l| l.get(name)).map(|q| (name.to_owned(), q.clone()));
        // Nothing but these two ever changes.
        let other = wanted.iter().flatten().filter(|(name, _)| *name != changed && *name != kept).map(|(n, q)| (n.clone(), q.clone()));
        let all: resources::Amounts = other.chain(from(wanted, changed)).chain(from(given, kept)).collect();
        (wanted.is_some() || !all.is_empty()).then_some(all)
    };
    ResourceRequirements {
        claims: wanted.claims.clone(),
        limits: mix(&wanted.limits, &given.limits),
        requests: mix(&wanted.requests, &given.requests),
    }
}

/// Whether the resources of a container may change while it runs.
#[must_use]
pub fn is_resizable(container: &Spec, init: bool) -> bool {
    !init || is_sidecar(container)
}

/// The containers of a pod whose resources may change.
pub fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Spec> {
    spec.init_containers.iter().flatten().filter(|c| is_resizable(c, true)).chain(&spec.containers)
}

/// A running container that has other resources than it is to have.
struct Change<'a> {
    spec: &'a Spec,
    running: &'a Container,
    now: Amounts,
    wanted: Amounts,
}

impl Change<'_> {
    fn concerns(&self, resource: Resource) -> bool {
        self.now.pair(resource) != self.wanted.pair(resource)
    }

    fn restarts(&self) -> bool {
        let asks = |name: &str| {
            let policy = self.spec.resize_policy.iter().flatten().find(|p| p.resource_name == name);
            policy.is_some_and(|p| p.restart_policy == "RestartContainer")
        };
        self.concerns(Resource::Memory) && asks("memory") || self.concerns(Resource::Cpu) && asks("cpu")
    }

    fn lowers_memory(&self) -> bool {
        let (now, wanted) = (self.now.memory_limit, self.wanted.memory_limit);
        wanted > 0 && (now == 0 || wanted < now)
    }

    /// By how much the amounts grow, a limit that was none being the largest.
    fn growth(&self, resource: Resource) -> (i64, i64) {
        let of = |limit: i64| if limit == 0 { i64::MAX } else { limit };
        let ((limit, request), (old_limit, old_request)) = (self.wanted.pair(resource), self.now.pair(resource));
        (of(limit).saturating_sub(of(old_limit)), request.saturating_sub(old_request))
    }
}

fn changes<'a>(spec: &'a PodSpec, seen: &'a Observed) -> Vec<Change<'a>> {
    resizable(spec).filter_map(|c| change(c, seen)).collect()
}

fn change<'a>(spec: &'a Spec, seen: &'a Observed) -> Option<Change<'a>> {
    let running = seen.newest(&spec.name).filter(|c| c.state == State::Running)?;
    let (now, wanted) = (Amounts::of(seen.resize.actuated.get(&spec.name)), Amounts::of(spec.resources.as_ref()));
    // Of a container of which nothing was written down nothing is known against it.
    let known = seen.resize.actuated.contains_key(&spec.name);
    (known && now != wanted).then_some(Change { spec, running, now, wanted })
}

/// Whether a running container has to start anew to get its resources.
#[must_use]
pub fn requires_restart(container: &Spec, seen: &Observed) -> bool {
    seen.resize.under_way.is_some() && change(container, seen).is_some_and(|c| c.restarts())
}

/// Whether memory limits of running containers, or of the pod, are to be lowered, so that their use matters.
#[must_use]
pub fn lowers_memory(spec: &PodSpec, seen: &Observed) -> bool {
    let pod = seen.resize.cgroup.is_some_and(|c| shrinks(c.now.memory, c.wanted.memory));
    pod || changes(spec, seen).iter().any(|c| !c.restarts() && c.lowers_memory())
}

/// Whether something of a resize that was allocated is still to be done.
#[must_use]
pub fn is_in_progress(spec: &PodSpec, seen: &Observed) -> bool {
    let replaced = || resizable(spec).filter_map(|c| seen.newest(&c.name)).any(|c| seen.replacing.contains(&c.id));
    seen.resize.under_way.is_some() && (!changes(spec, seen).is_empty() || replaced() || step(spec, seen).is_some())
}

/// The next step of the resize that is under way, if one can be taken now.
#[must_use]
pub fn step(spec: &PodSpec, seen: &Observed) -> Option<PodAction> {
    seen.resize.under_way?;
    let changes = changes(spec, seen);
    let cgroup = seen.resize.cgroup.unwrap_or_default();
    if let Some(message) = below_usage(&changes, &cgroup, seen) {
        return Some(PodAction::FailResize { message });
    }
    [Resource::Memory, Resource::Cpu].into_iter().find_map(|resource| {
        let pod = |limits: Option<Limits>| limits.map(|limits| PodAction::ResizePod { limits });
        pod(grown(resource, &cgroup)).or_else(|| container_step(resource, &changes)).or_else(|| {
            let settled = !changes.iter().any(|c| c.concerns(resource));
            pod(shrunk(resource, &cgroup).filter(|_| settled))
        })
    })
}

fn container_step(resource: Resource, changes: &[Change<'_>]) -> Option<PodAction> {
    let in_place = changes.iter().filter(|c| c.concerns(resource) && !c.restarts());
    let first = in_place.min_by_key(|c| c.growth(resource))?;
    Some(PodAction::ResizeContainer { id: first.running.id.clone(), name: first.spec.name.clone(), resource })
}

fn shrinks(now: i64, wanted: i64) -> bool {
    wanted > 0 && (now == 0 || wanted < now)
}

fn grows(now: i64, wanted: i64) -> bool {
    wanted > 0 && now > 0 && wanted > now
}

/// What of the pod's cgroup grows next: limits before shares.
fn grown(resource: Resource, cgroup: &PodCgroup) -> Option<Limits> {
    let PodCgroup { now, wanted, .. } = *cgroup;
    let none = Limits::default();
    match resource {
        Resource::Memory => grows(now.memory, wanted.memory).then_some(Limits { memory: wanted.memory, ..none }),
        Resource::Cpu if grows(now.quota, wanted.quota) => Some(Limits { quota: wanted.quota, ..none }),
        Resource::Cpu => grows(now.shares, wanted.shares).then_some(Limits { shares: wanted.shares, ..none }),
    }
}

/// What of the pod's cgroup shrinks next: shares before limits.
fn shrunk(resource: Resource, cgroup: &PodCgroup) -> Option<Limits> {
    let PodCgroup { now, wanted, .. } = *cgroup;
    let none = Limits::default();
    match resource {
        Resource::Memory => shrinks(now.memory, wanted.memory).then_some(Limits { memory: wanted.memory, ..none }),
        // There is no cgroup without shares: 0 says that nothing is known of them.
        Resource::Cpu if now.shares > 0 && shrinks(now.shares, wanted.shares) => Some(Limits { shares: wanted.shares, ..none }),
        Resource::Cpu => shrinks(now.quota, wanted.quota).then_some(Limits { quota: wanted.quota, ..none }),
    }
}

/// Which memory limits cannot be lowered because more than that is in use: the kernel would end processes, or refuse.
fn below_usage(changes: &[Change<'_>], cgroup: &PodCgroup, seen: &Observed) -> Option<String> {
    let mut wrong = vec![];
    let limit = cgroup.wanted.memory;
    if shrinks(cgroup.now.memory, limit)
        && let Some(usage) = cgroup.usage.filter(|usage| *usage >= limit)
    {
        wrong.push(format!("attempting to set pod memory limit ({limit}) below current usage ({usage})"));
    }
    for change in changes.iter().filter(|c| !c.restarts() && c.lowers_memory()) {
        let limit = change.wanted.memory_limit;
        if let Some(usage) = seen.resize.usage.get(&change.running.id).filter(|usage| **usage >= limit) {
            let name = &change.spec.name;
            wrong.push(format!("attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"));
        }
    }
    match wrong.as_slice() {
        [] => None,
        [one] => Some(format!("cannot decrease memory limits: {one}")),
        many => Some(format!("cannot decrease memory limits: [{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests;
