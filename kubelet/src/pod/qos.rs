//! The quality of service class of a pod, from the requests and limits of its containers.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::resources;

/// The class, in order of protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Limits equal requests for CPU and memory in every container.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod: what its status says, since it never changes, or else worked out.
#[must_use]
pub fn class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => pod.spec.as_ref().map_or(QosClass::BestEffort, of_spec),
    }
}

fn of_spec(spec: &PodSpec) -> QosClass {
    let pod_level = spec.resources.as_ref().filter(|r| resources::has_cpu_or_memory(r));
    let each: Vec<_> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for r in each {
        for name in ["cpu", "memory"] {
            let request = r.and_then(|r| resources::milli(r.requests.as_ref(), name)).filter(|v| *v > 0);
            let limit = r.and_then(|r| resources::milli(r.limits.as_ref(), name)).filter(|v| *v > 0);
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: &str, expected: QosClass) {
        assert_eq!(of_spec(&serde_json::from_str(spec).expect("a spec")), expected);
    }

    #[test]
    fn classes() {
        check(r#"{"containers":[{"name":"a"}]}"#, QosClass::BestEffort);
        check(r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}"#, QosClass::Burstable);
        check(r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}"#, QosClass::Guaranteed);
        check(r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}},{"name":"b"}]}"#, QosClass::Burstable);
        check(r#"{"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"containers":[{"name":"a"}]}"#, QosClass::Guaranteed);
    }
}
