//! v1 Pod. Its spec's rules also serve every kind with a pod template.

mod columns;
pub mod defaults;
mod qos;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::resource::{Column, Cx, Deletion, Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    let columns: Vec<Column> = columns::columns();
    let connect = &["create", "get"];
    Resource::namespaced("", "v1", "Pod", "pods")
        .short(&["po"])
        .in_all()
        .status()
        .generation()
        .part("ephemeralcontainers", &["/spec/ephemeralContainers"])
        .part("resize", &["/spec/containers", "/spec/initContainers", "/spec/resources"])
        .custom("binding", ("", "v1", "Binding"), &["create"])
        .custom("eviction", ("policy", "v1", "Eviction"), &["create"])
        .custom("log", ("", "v1", "Pod"), &["get"])
        .custom("exec", ("", "v1", "PodExecOptions"), connect)
        .custom("attach", ("", "v1", "PodAttachOptions"), connect)
        .custom("portforward", ("", "v1", "PodPortForwardOptions"), connect)
        .custom("proxy", ("", "v1", "PodProxyOptions"), &["create", "delete", "get", "patch", "update"])
        .columns(columns)
        .selectable(&[
            ("spec.nodeName", ""),
            ("spec.restartPolicy", ""),
            ("spec.schedulerName", ""),
            ("spec.serviceAccountName", ""),
            ("spec.hostNetwork", "false"),
            ("status.phase", ""),
            ("status.podIP", ""),
            ("status.nominatedNodeName", ""),
        ])
        .rules::<Pod>(PodRules)
}

struct PodRules;

/// Whether a pod's containers have all ended for good.
fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

impl Rules<Pod> for PodRules {
    fn default(&self, pod: &mut Pod) {
        if let Some(spec) = &mut pod.spec {
            defaults::pod_spec(spec);
            defaults::requests_from_limits(spec);
        }
    }
    fn prepare_create(&self, pod: &mut Pod, _: Cx<'_>) {
        let qos = pod.spec.as_ref().map(|s| qos::class(s).to_owned());
        pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), qos_class: qos, ..PodStatus::default() });
    }
    fn prepare_update(&self, new: &mut Pod, old: &Pod, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut Pod, old: &Pod, _: Cx<'_>) {
        match part {
            "status" => {
                new.spec.clone_from(&old.spec);
                // What a pod's class of service is was decided when it was made.
                if let (Some(new), Some(old)) = (&mut new.status, &old.status)
                    && new.qos_class.is_none()
                {
                    new.qos_class.clone_from(&old.qos_class);
                }
            }
            _ => new.status.clone_from(&old.status),
        }
    }
    fn deletion(&self, pod: &mut Pod, requested: Option<i64>, _: Cx<'_>) -> Deletion {
        let asked = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        let scheduled = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|n| !n.is_empty());
        let period = requested.or(asked).unwrap_or(30);
        // A negative period is upstream's old way to say "as short as can be".
        let period = if period < 0 { 1 } else { period };
        if !scheduled || is_terminal(pod) || period == 0 { Deletion::Now } else { Deletion::Graceful(period) }
    }
}
