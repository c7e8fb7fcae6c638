//! Requests and limits, and what they become: CPU shares and quota, memory limits, OOM scores.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::cri;
use crate::pod::is_sidecar;
use crate::pod::qos::{self, QosClass};

/// The CPU period in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
/// The least shares the kernel takes.
const MIN_SHARES: i64 = 2;
/// The most shares the kernel takes.
const MAX_SHARES: i64 = 262_144;
/// The least quota the kernel takes, in microseconds.
const MIN_QUOTA: i64 = 1_000;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Text>;

fn parse(map: Option<&Amounts>, name: &str) -> Option<Quantity> {
    // The apiserver validates quantities; one that does not parse counts as not given.
    map?.get(name)?.0.parse().ok()
}

/// An amount in thousandths, when given.
#[must_use]
pub fn milli(map: Option<&Amounts>, name: &str) -> Option<i64> {
    parse(map, name).map(|q| i64::try_from(q.milli_value()).unwrap_or(i64::MAX))
}

/// An amount in whole units (bytes for memory), when given.
#[must_use]
pub fn whole(map: Option<&Amounts>, name: &str) -> Option<i64> {
    parse(map, name).map(|q| i64::try_from(q.value()).unwrap_or(i64::MAX))
}

/// Whether the requirements speak of CPU or memory at all.
#[must_use]
pub fn has_cpu_or_memory(r: &ResourceRequirements) -> bool {
    [&r.requests, &r.limits].into_iter().flatten().any(|m| m.contains_key("cpu") || m.contains_key("memory"))
}

/// CPU shares for so many thousandths of a CPU.
#[must_use]
pub fn shares(milli_cpu: i64) -> i64 {
    milli_cpu.saturating_mul(1024).checked_div(1000).unwrap_or(0).clamp(MIN_SHARES, MAX_SHARES)
}

/// CPU quota in microseconds a period, 0 for none.
#[must_use]
pub fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { milli_cpu.saturating_mul(CPU_PERIOD).checked_div(1000).unwrap_or(0).max(MIN_QUOTA) }
}

/// The thousandths of a CPU that so many shares stand for, rounded up.
#[must_use]
pub fn milli_of_shares(shares: i64) -> i64 {
    shares.saturating_mul(1000).saturating_add(1023).checked_div(1024).unwrap_or(0)
}

/// The thousandths of a CPU that a quota in microseconds a period stands for, rounded up.
#[must_use]
pub fn milli_of_quota(quota: i64) -> i64 {
    quota.saturating_mul(1000).saturating_add(CPU_PERIOD - 1).checked_div(CPU_PERIOD).unwrap_or(0)
}

/// What a pod asks for of one resource, in thousandths: its containers together, or an init container and the sidecars before it
/// when that is more, and the overhead (KEP-753). `pick` chooses requests or limits.
#[must_use]
pub fn pod_milli(spec: &PodSpec, name: &str, pick: fn(&ResourceRequirements) -> Option<&Amounts>) -> i64 {
    let of = |c: &Container| c.resources.as_ref().and_then(|r| milli(pick(r), name)).unwrap_or(0);
    let overhead = milli(spec.overhead.as_ref(), name).unwrap_or(0);
    if let Some(own) = spec.resources.as_ref().and_then(|r| milli(pick(r), name)) {
        return own.saturating_add(overhead);
    }
    let (mut sidecars, mut most) = (0_i64, 0_i64);
    for init in spec.init_containers.iter().flatten() {
        let with_init = sidecars.saturating_add(of(init));
        most = most.max(with_init);
        if is_sidecar(init) {
            sidecars = with_init;
        }
    }
    let main = spec.containers.iter().map(of).fold(sidecars, i64::saturating_add);
    main.max(most).saturating_add(overhead)
}

/// Picks the requests.
#[must_use]
pub fn requests(r: &ResourceRequirements) -> Option<&Amounts> {
    r.requests.as_ref()
}

/// Picks the limits.
#[must_use]
pub fn limits(r: &ResourceRequirements) -> Option<&Amounts> {
    r.limits.as_ref()
}

/// How readily the kernel kills the container when memory runs out: Guaranteed and critical pods last, best-effort first, the
/// others by how much of the node's memory they asked for.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= SYSTEM_CRITICAL);
    match qos::class(pod) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = container.resources.as_ref().and_then(|r| whole(r.requests.as_ref(), "memory")).unwrap_or(0);
            let share = request.saturating_mul(1000).checked_div(node_memory).unwrap_or(0);
            (1000 - share).clamp(3, 999)
        }
    }
}

/// The priority from which a pod is critical to its node (`system-node-critical` is 2000001000).
pub const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// A container's limits in the CRI's terms.
#[must_use]
pub fn container_resources(pod: &Pod, container: &Container, node_memory: i64) -> cri::LinuxContainerResources {
    let of =
        |pick: fn(&ResourceRequirements) -> Option<&Amounts>, name: &str| container.resources.as_ref().and_then(|r| milli(pick(r), name));
    let cpu_limit = of(limits, "cpu").unwrap_or(0);
    let cpu_request = of(requests, "cpu").unwrap_or(cpu_limit);
    let memory = container.resources.as_ref().and_then(|r| whole(r.limits.as_ref(), "memory")).unwrap_or(0);
    let hugepage_limits = container
        .resources
        .iter()
        .flat_map(|r| r.limits.iter().flatten())
        .filter_map(|(name, _)| name.strip_prefix("hugepages-").map(|size| (name, size)))
        .map(|(name, size)| cri::HugepageLimit {
            page_size: size.replace("Ki", "KB").replace("Mi", "MB").replace("Gi", "GB"),
            limit: container
                .resources
                .as_ref()
                .and_then(|r| whole(r.limits.as_ref(), name))
                .and_then(|v| u64::try_from(v).ok())
                .unwrap_or(0),
        })
        .collect();
    cri::LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: memory,
        oom_score_adj: oom_score_adj(pod, container, node_memory),
        hugepage_limits,
        ..cri::LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let spec: PodSpec = serde_json::from_str(spec).expect("a spec");
        let pod = Pod { spec: Some(spec.clone()), ..Pod::default() };
        let r = container_resources(&pod, &spec.containers[0], 1 << 30);
        let [cpu, memory] = ["cpu", "memory"].map(|n| pod_milli(&spec, n, requests));
        expected.assert_eq(&format!(
            "shares {} quota {} memory {} oom {} pod {cpu} {memory}",
            r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes, r.oom_score_adj
        ));
    }

    #[test]
    fn best_effort() {
        check(r#"{"containers":[{"name":"a"}]}"#, expect!["shares 2 quota 0 memory 0 oom 1000 pod 0 0"]);
    }

    #[test]
    fn burstable_by_its_share_of_memory() {
        check(
            r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"250m","memory":"256Mi"},"limits":{"cpu":"1"}}}]}"#,
            expect!["shares 256 quota 100000 memory 0 oom 750 pod 250 268435456000"],
        );
    }

    #[test]
    fn guaranteed_and_the_least_quota() {
        check(
            r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1m","memory":"1Mi"}}}]}"#,
            expect!["shares 2 quota 1000 memory 1048576 oom -997 pod 0 0"],
        );
    }

    #[test]
    fn init_containers_count_when_they_are_larger_and_sidecars_always() {
        check(
            r#"{"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}},
                                  {"name":"i","resources":{"requests":{"cpu":"3"}}}],
                "containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"overhead":{"cpu":"10m"}}"#,
            expect!["shares 1024 quota 0 memory 0 oom 999 pod 4010 0"],
        );
    }
}
