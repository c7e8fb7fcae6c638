//! How a pod is, in the API's words.
//!
//! The same observation always gives the same status (times of conditions apart, which come from the status before), so that it
//! is written only when something changed. A terminal phase is withheld while a container still runs.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodIP, PodSpec, PodStatus, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::{Backoff, go_duration};
use super::condition::conditions;
use super::phase::phase;
use super::restart::restarts;
use super::{Container, Observed, State, ephemeral_spec, host_network, identity, is_being_replaced, is_sidecar, is_terminal, qos};
use crate::resources::{self, Amounts};

/// What a container is in its pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Sidecar,
    Regular,
    Ephemeral,
}

/// The status of `pod`.
#[must_use]
pub fn status(pod: &Pod, seen: &Observed, now: Timestamp) -> PodStatus {
    let Some(spec) = pod.spec.as_ref() else { return PodStatus::default() };
    let verdict = seen.ending.as_ref().and_then(|e| e.verdict.as_ref());
    if let Some(rejected) = verdict.filter(|v| v.rejected) {
        return PodStatus {
            phase: Some("Failed".into()),
            reason: Some(rejected.reason.clone()),
            message: Some(rejected.message.clone()),
            qos_class: Some(qos::class(pod).as_str().into()),
            start_time: seen.previous.start_time.clone().or(Some(Time(now))),
            observed_generation: pod.metadata.generation,
            conditions: seen.previous.conditions.clone(),
            ..PodStatus::default()
        };
    }
    let of = |container: &Spec, kind: Kind| container_status(pod, spec, seen, container, kind, now);
    let init_kind = |c: &Spec| if is_sidecar(c) { Kind::Sidecar } else { Kind::Init };
    let init: Vec<ContainerStatus> = spec.init_containers.iter().flatten().map(|c| of(c, init_kind(c))).collect();
    let regular: Vec<ContainerStatus> = spec.containers.iter().map(|c| of(c, Kind::Regular)).collect();
    let ephemeral: Vec<ContainerStatus> =
        spec.ephemeral_containers.iter().flatten().map(|c| of(&ephemeral_spec(c), Kind::Ephemeral)).collect();

    let runs = seen.containers.iter().any(|c| matches!(c.state, State::Running | State::Unknown));
    let judged = if verdict.is_some() { "Failed" } else { phase(spec, &init, &regular, seen.ending.is_some()) };
    let before = seen.previous.phase.as_deref();
    let (phase, verdict) = match (is_terminal(before), is_terminal(Some(judged)) && runs) {
        (true, _) => (before.unwrap_or(judged), verdict),
        (false, true) => (before.unwrap_or("Pending"), None),
        (false, false) => (judged, verdict),
    };
    let ips = pod_ips(spec, seen);
    let qos = qos::class(pod);
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: verdict.map(|v| v.reason.clone()).or_else(|| seen.previous.reason.clone().filter(|_| is_terminal(before))),
        message: verdict.map(|v| v.message.clone()).or_else(|| seen.previous.message.clone().filter(|_| is_terminal(before))),
        conditions: Some(conditions(pod, seen, phase, &init, &regular, now)),
        init_container_statuses: some(init),
        container_statuses: some(regular),
        ephemeral_container_statuses: some(ephemeral),
        host_ip: seen.host_ips.first().cloned(),
        host_ips: some(seen.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: some(ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: seen.previous.start_time.clone().or(Some(Time(now))),
        qos_class: Some(qos.as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        nominated_node_name: pod.status.as_ref().and_then(|s| s.nominated_node_name.clone()),
        resource_claim_statuses: pod.status.as_ref().and_then(|s| s.resource_claim_statuses.clone()),
        allocated_resources: None,
        extended_resource_claim_status: pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.clone()),
        resize: None,
        resources: None,
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The pod's addresses: its sandbox's, the node's for host network, those it had when the sandbox is gone.
fn pod_ips(spec: &PodSpec, seen: &Observed) -> Vec<String> {
    if host_network(spec) {
        return if seen.sandboxes.is_empty() && seen.previous.pod_ip.is_none() { vec![] } else { seen.host_ips.clone() };
    }
    match seen.sandboxes.first() {
        Some(sandbox) if sandbox.ready && !sandbox.ips.is_empty() => sandbox.ips.clone(),
        _ => seen.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    }
}

fn container_status(pod: &Pod, spec: &PodSpec, seen: &Observed, container: &Spec, kind: Kind, now: Timestamp) -> ContainerStatus {
    let name = &container.name;
    let lists = [&seen.previous.init_container_statuses, &seen.previous.container_statuses, &seen.previous.ephemeral_container_statuses];
    let previous = lists.into_iter().flatten().flatten().find(|s| s.name == *name);
    let newest = seen.newest(name);
    if let (Some(old), Some(before)) = (newest, previous)
        && is_replaced_unseen(spec, seen, container, kind, old)
        && before.state.as_ref().is_some_and(|s| s.running.is_some())
    {
        return before.clone();
    }
    let older =
        seen.containers.iter().filter(|c| c.name == *name && c.state == State::Exited).find(|c| newest.is_some_and(|n| n.id != c.id));
    let last_state = older.map(terminated).or_else(|| previous.and_then(|p| p.last_state.clone()).filter(|s| s.terminated.is_some()));

    let (state, last_state) = match newest {
        None => gone(spec, seen, container, kind, previous, last_state),
        Some(c) if c.state == State::Running => (running(c), last_state),
        Some(c) if c.state == State::Unknown => (previous.and_then(|p| p.state.clone()).unwrap_or_else(|| running(c)), last_state),
        Some(c) if c.state == State::Created => (not_started(spec, seen, container, kind), last_state),
        Some(c) => match held_back(pod, spec, seen, container, kind, c, now) {
            Some(waiting) => (waiting, Some(terminated(c))),
            None => (terminated(c), last_state),
        },
    };
    let runs = newest.filter(|c| c.state == State::Running);
    let started = runs.is_some_and(|c| seen.started(container, c));
    let ready = match kind {
        Kind::Init => state.terminated.as_ref().is_some_and(|t| t.exit_code == 0),
        Kind::Ephemeral => false,
        Kind::Regular | Kind::Sidecar => runs.is_some_and(|c| seen.ready(container, c)),
    };
    let attempt = newest.map(|c| i32::try_from(c.attempt).unwrap_or(i32::MAX));
    let kept = |get: fn(&ContainerStatus) -> &String| previous.map(|p| get(p).clone()).filter(|v| !v.is_empty());
    ContainerStatus {
        name: name.clone(),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ready,
        started: Some(started),
        restart_count: attempt.unwrap_or_else(|| previous.map_or(0, |p| p.restart_count)),
        image: newest
            .map(|c| c.image.clone())
            .or_else(|| kept(|p| &p.image))
            .unwrap_or_else(|| container.image.clone().unwrap_or_default()),
        image_id: newest.map(|c| c.image_id.clone()).or_else(|| kept(|p| &p.image_id)).unwrap_or_default(),
        container_id: newest.map(|c| format!("containerd://{}", c.id)).or_else(|| previous.and_then(|p| p.container_id.clone())),
        allocated_resources: container
            .resources
            .as_ref()
            .and_then(|r| r.requests.clone())
            .filter(|_| newest.is_some() && kind != Kind::Ephemeral),
        resources: (newest.is_some() && kind != Kind::Ephemeral).then(|| resources_of(container, runs, seen)),
        volume_mounts: some(container.volume_mounts.iter().flatten().map(mount_status).collect()),
        allocated_resources_status: None,
        stop_signal: None,
        user: None,
    }
}

/// Whether nobody is to see that the container has ended, because another takes its place in a moment; clients count on that. When it
/// could not, they are told.
fn is_replaced_unseen(spec: &PodSpec, seen: &Observed, container: &Spec, kind: Kind, old: &Container) -> bool {
    let here = || seen.usable_sandbox(spec).is_some_and(|s| s.id == old.sandbox);
    kind != Kind::Ephemeral
        && is_being_replaced(spec, seen, container, kind != Kind::Regular, old)
        && seen.ending.is_none()
        && !seen.waiting.contains_key(&container.name)
        && (seen.replacing.contains(&old.id) || here())
}

/// What a container has: what it was given, or what the runtime says when that is something else; what is allocated while it does not run.
fn resources_of(container: &Spec, running: Option<&Container>, seen: &Observed) -> ResourceRequirements {
    let allocated = || container.resources.clone().unwrap_or_default();
    let Some(running) = running else { return allocated() };
    let mut given = seen.resize.actuated.get(&container.name).cloned().unwrap_or_else(allocated);
    let amounts = given.clone();
    let milli = |list: &Option<Amounts>| resources::milli(list.as_ref(), "cpu").unwrap_or(0);
    let Some(limits) = running.limits else { return given };
    // The kernel keeps shares and quotas: an amount that comes to the same is shown as it was written.
    let (request, limit) = (milli(&amounts.requests), milli(&amounts.limits));
    if limits.shares > 0 && request > 0 && limits.shares != resources::shares(request) {
        set(&mut given.requests, "cpu", format!("{}m", resources::milli_of_shares(limits.shares)));
    }
    if limits.quota > 0 && limit > 0 && limits.quota != resources::quota(limit) {
        set(&mut given.limits, "cpu", format!("{}m", resources::milli_of_quota(limits.quota)));
    }
    let memory = resources::whole(amounts.limits.as_ref(), "memory").unwrap_or(0);
    if limits.memory > 0 && memory > 0 && limits.memory != memory {
        set(&mut given.limits, "memory", limits.memory.to_string());
    }
    given
}

fn set(list: &mut Option<Amounts>, name: &str, amount: String) {
    list.get_or_insert_default().insert(name.to_owned(), Quantity(amount));
}

fn mount_status(mount: &k8s_openapi::api::core::v1::VolumeMount) -> VolumeMountStatus {
    VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: mount.read_only.filter(|r| *r),
        recursive_read_only: mount.read_only.filter(|r| *r).map(|_| "Disabled".to_owned()),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = Some(message.to_owned()).filter(|m| !m.is_empty());
    ContainerState { waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }), ..ContainerState::default() }
}

fn running(c: &Container) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(Time(c.started_at.unwrap_or(c.created_at))) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn terminated(c: &Container) -> ContainerState {
    let reason = match (c.reason.as_str(), c.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("containerd://{}", c.id)),
        exit_code: c.exit_code,
        reason: Some(reason.to_owned()),
        message: Some(c.message.clone()).filter(|m| !m.is_empty()),
        started_at: Some(Time(c.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: Some(Time(c.finished_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// The state of a container of which nothing is in the runtime: not made yet, or cleaned away.
fn gone(
    spec: &PodSpec,
    seen: &Observed,
    container: &Spec,
    kind: Kind,
    previous: Option<&ContainerStatus>,
    last_state: Option<ContainerState>,
) -> (ContainerState, Option<ContainerState>) {
    let before = previous.and_then(|p| p.state.clone()).unwrap_or_default();
    let stays = |code: i32| kind == Kind::Ephemeral || !restarts(spec, container, kind != Kind::Regular, code);
    match &before.terminated {
        // It ended, was reported, and was then cleaned away.
        Some(ended) if stays(ended.exit_code) || seen.ending.is_some() => (before, last_state),
        Some(_) => (not_started(spec, seen, container, kind), Some(before)),
        None if before.running.is_some() => {
            let lost = ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                container_id: previous.and_then(|p| p.container_id.clone()),
                ..ContainerStateTerminated::default()
            };
            let lost = ContainerState { terminated: Some(lost), ..ContainerState::default() };
            if stays(137) || seen.ending.is_some() { (lost, last_state) } else { (not_started(spec, seen, container, kind), Some(lost)) }
        }
        None => (not_started(spec, seen, container, kind), last_state),
    }
}

/// Why a container that is to run has not started.
fn not_started(spec: &PodSpec, seen: &Observed, container: &Spec, kind: Kind) -> ContainerState {
    if let Some(why) = seen.waiting.get(&container.name) {
        return waiting(&why.reason, &why.message);
    }
    let initializing = kind == Kind::Regular
        && spec.init_containers.iter().flatten().any(|c| match seen.newest(&c.name) {
            Some(now) if is_sidecar(c) => !seen.started(c, now),
            Some(now) => now.state != State::Exited || now.exit_code != 0,
            None => true,
        });
    // Upstream says the same of the init containers that are still to come.
    let later = matches!(kind, Kind::Init | Kind::Sidecar)
        && spec.init_containers.iter().flatten().next().is_some_and(|c| c.name != container.name);
    waiting(if initializing || later { "PodInitializing" } else { "ContainerCreating" }, "")
}

/// What keeps a container that ended from running again, if anything does.
fn held_back(
    pod: &Pod,
    spec: &PodSpec,
    seen: &Observed,
    container: &Spec,
    kind: Kind,
    c: &Container,
    now: Timestamp,
) -> Option<ContainerState> {
    let init = matches!(kind, Kind::Init | Kind::Sidecar);
    if kind == Kind::Ephemeral || seen.ending.is_some() || !restarts(spec, container, init, c.exit_code) {
        return None;
    }
    let backoff = seen.backoff.get(&container.name);
    if Backoff::until(backoff, c.finished_at.unwrap_or(c.created_at), now).is_none() {
        return seen.waiting.get(&container.name).map(|why| waiting(&why.reason, &why.message));
    }
    let (namespace, pod_name, uid) = identity(pod);
    let delay = go_duration(backoff.map_or(super::backoff::INITIAL, |b| b.delay));
    let words = format!("back-off {delay} restarting failed container={} pod={pod_name}_{namespace}({uid})", container.name);
    Some(waiting("CrashLoopBackOff", &words))
}

#[cfg(test)]
mod tests;
