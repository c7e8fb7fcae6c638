//! What the controllers read off a pod, by upstream's definitions.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kind::Object as _;

/// The phase; empty before there is one.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether it ran to its end, well or badly.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts as a replica: neither at its end nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.deleting()
}

/// The condition of this type.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// Whether its Ready condition is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when it is ready, if it is.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

/// When it counts as available: once it has been ready for `min_ready` seconds. Nothing while it is not ready.
#[must_use]
pub fn available_at(pod: &Pod, min_ready: i32) -> Option<Timestamp> {
    if min_ready <= 0 {
        return is_ready(pod).then_some(Timestamp::MIN);
    }
    ready_since(pod)?.checked_add(SignedDuration::from_secs(min_ready.into())).ok()
}

/// Whether it is available now.
#[must_use]
pub fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready).is_some_and(|at| at <= now)
}

/// The node it is bound to; empty before.
#[must_use]
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// Its addresses, the primary one first.
pub fn ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let many = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
    let one = if many.is_empty() { status.and_then(|s| s.pod_ip.as_deref()) } else { None };
    many.iter().map(|ip| ip.ip.as_str()).chain(one).filter(|ip| !ip.is_empty())
}

/// How often its containers restarted: the most restarted one.
#[must_use]
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|s| s.restart_count).max().unwrap_or(0)
}

/// `pod` with the condition set; the transition time moves when the status does.
pub fn set_condition(pod: &mut Pod, type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let observed_generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_ == type_);
    let moved = old.is_none_or(|i| conditions[i].status != status);
    let transition = if moved { Some(Time(now)) } else { old.and_then(|i| conditions[i].last_transition_time.clone()) };
    let new = PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
        message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        last_transition_time: transition,
        last_probe_time: None,
        observed_generation,
    };
    match old {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}

/// Whether a toleration covers a taint (`ToleratesTaint`).
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w.is_empty() || w == has);
    if !same(&toleration.effect, &taint.effect) || !same(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            // An empty key covers all keys only together with Exists.
            toleration.key.as_deref().is_some_and(|k| !k.is_empty())
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Drops from a cached pod what no controller reads: most of it.
pub(crate) fn slim(pod: &mut Pod) {
    let meta = &mut pod.metadata;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if let Some(spec) = &mut pod.spec {
        fn slim_container(c: &mut Container) {
            *c = Container {
                name: std::mem::take(&mut c.name),
                ports: c.ports.take(),
                resources: c.resources.take(),
                restart_policy: c.restart_policy.take(),
                ..Container::default()
            };
        }
        spec.containers.iter_mut().for_each(slim_container);
        spec.init_containers.iter_mut().flatten().for_each(slim_container);
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
        }
        spec.security_context = None;
        spec.image_pull_secrets = None;
        spec.dns_config = None;
        spec.host_aliases = None;
        spec.topology_spread_constraints = None;
    }
    if let Some(status) = &mut pod.status {
        for s in status.container_statuses.iter_mut().flatten().chain(status.init_container_statuses.iter_mut().flatten()) {
            s.image = String::new();
            s.image_id = String::new();
            s.container_id = None;
            s.volume_mounts = None;
        }
        status.ephemeral_container_statuses = None;
    }
}
