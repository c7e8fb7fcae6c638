//! The conditions of a pod that the kubelet owns.
//!
//! A condition keeps its `lastTransitionTime` while its status stays the same. Conditions of others (readiness gates,
//! `DisruptionTarget` of the apiserver) are kept as they are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observed, is_sidecar};

/// The conditions the kubelet writes, in the order in which upstream writes them.
pub const OWNED: [&str; 8] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "DisruptionTarget", PENDING, IN_PROGRESS];

/// A resize waits for the node.
pub const PENDING: &str = "PodResizePending";
/// A resize is being carried out.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

struct Verdict {
    ok: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { ok: true, reason: "", message: String::new() }
    }
    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ok: false, reason, message: message.into() }
    }
}

/// All conditions of the pod, others' included.
#[must_use]
pub fn conditions(
    pod: &Pod,
    seen: &Observed,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let Some(spec) = pod.spec.as_ref() else { return vec![] };
    let foreign = || pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).filter(|c| !OWNED.contains(&c.type_.as_str()));
    let containers_ready = containers_ready(spec, phase, init, regular);
    let ready = pod_ready(spec, &containers_ready, phase, &foreign().collect::<Vec<_>>());
    let network = seen.usable_sandbox(spec).is_some();
    let judged = [
        ("PodReadyToStartContainers", if network { Verdict::yes() } else { Verdict::no("", "") }),
        ("Initialized", initialized(spec, phase, init, regular)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ];
    let old = |type_: &str| {
        let known = seen.previous.conditions.iter().flatten();
        known.chain(pod.status.iter().flat_map(|s| s.conditions.iter().flatten())).find(|c| c.type_ == type_)
    };
    let make = |type_: &str, verdict: Verdict| {
        let status = if verdict.ok { "True" } else { "False" };
        let since = old(type_).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(verdict.reason.to_owned()).filter(|r| !r.is_empty()),
            message: Some(verdict.message).filter(|m| !m.is_empty()),
            last_transition_time: since.or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        }
    };
    let mut all: Vec<PodCondition> = judged.into_iter().map(|(type_, verdict)| make(type_, verdict)).collect();
    let disrupted = seen.ending.as_ref().and_then(|e| e.verdict.as_ref()).filter(|v| v.disruption);
    if let Some(verdict) = disrupted {
        let by_kubelet = Verdict { ok: true, reason: "TerminationByKubelet", message: verdict.message.clone() };
        all.push(make("DisruptionTarget", by_kubelet));
    } else if let Some(kept) = old("DisruptionTarget") {
        all.push(kept.clone());
    }
    let of_resize = |type_: &str, reason: &'static str, message: &str, generation: Option<i64>| PodCondition {
        observed_generation: generation,
        ..make(type_, Verdict { ok: true, reason, message: message.to_owned() })
    };
    let resize = &seen.resize;
    // Of a pod that has ended nothing is resized.
    if !super::is_terminal(Some(phase)) {
        all.extend(resize.pending.as_ref().map(|p| of_resize(PENDING, p.reason, &p.message, p.generation)));
        let failed = resize.failure.as_ref().map_or(("", ""), |f| ("Error", f.message.as_str()));
        all.extend(resize.under_way.map(|generation| of_resize(IN_PROGRESS, failed.0, failed.1, Some(generation))));
    }
    all.extend(foreign().cloned());
    all
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// Sidecars count as the others do (KEP-753), before them as upstream names them.
fn containers_ready(spec: &PodSpec, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", ""),
        "Failed" => return Verdict::no("PodFailed", ""),
        _ => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let all: Vec<&str> = sidecars.chain(&spec.containers).map(|c| c.name.as_str()).collect();
    let status = |name: &str| init.iter().chain(regular).find(|s| s.name == name);
    let unknown: Vec<&str> = all.iter().copied().filter(|n| status(n).is_none()).collect();
    let unready: Vec<&str> = all.iter().copied().filter(|n| status(n).is_some_and(|s| !s.ready)).collect();
    let mut parts = vec![];
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: [{}]", names(unknown)));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with unready status: [{}]", names(unready)));
    }
    if parts.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotReady", parts.join(", ")) }
}

fn pod_ready(spec: &PodSpec, containers: &Verdict, phase: &str, foreign: &[&PodCondition]) -> Verdict {
    if !containers.ok {
        return Verdict { ok: false, reason: containers.reason, message: containers.message.clone() };
    }
    debug_assert!(!super::is_terminal(Some(phase)), "containers of an ended pod are never ready");
    let gates: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let wanted = &gate.condition_type;
            match foreign.iter().find(|c| c.type_ == *wanted) {
                None => Some(format!("corresponding condition of pod readiness gate {wanted:?} does not exist.")),
                Some(c) if c.status != "True" => {
                    Some(format!("the status of pod readiness gate {wanted:?} is not \"True\", but {}", c.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if gates.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", gates.join(", ")) }
}

fn initialized(spec: &PodSpec, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { ok: true, reason: "PodCompleted", message: String::new() };
    }
    let begun = regular.iter().any(|s| s.container_id.as_ref().is_some_and(|id| !id.is_empty()));
    let incomplete: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| {
            let status = init.iter().find(|s| s.name == c.name);
            !begun && !status.is_some_and(|s| if is_sidecar(c) { s.started == Some(true) } else { s.ready })
        })
        .map(|c| c.name.as_str())
        .collect();
    if incomplete.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names(incomplete)))
    }
}
