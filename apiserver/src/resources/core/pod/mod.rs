//! v1 Pod. Its spec's rules also serve every kind with a pod template.

#[cfg(test)]
mod checks;
mod columns;
mod containers;
pub mod defaults;
mod env;
mod label_keys;
mod mounts;
mod naming;
mod probes;
pub(crate) mod qos;
mod resize;
pub(crate) mod scheduling;
mod security;
pub mod spec;
mod update;
pub(crate) mod volumes;
pub mod warnings;

use api::field::{Errors, Path};

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::resource::{Column, Cx, Deletion, Resource, Rules};

/// The row.
#[must_use]
pub fn row() -> Resource {
    let columns: Vec<Column> = columns::columns();
    let connect = &["create", "get"];
    Resource::namespaced("", "v1", "Pod", "pods")
        .returns_deleted()
        .short(&["po"])
        .in_all()
        .status()
        .generation()
        .part("ephemeralcontainers", &["/spec/ephemeralContainers"])
        .part("resize", &["/spec/containers", "/spec/initContainers"])
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

/// On pods that a kubelet made from a file of its node.
const MIRROR: &str = "kubernetes.io/config.mirror";

struct PodRules;

/// Whether a pod's containers have all ended for good.
fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// A writer that does not know of observed generations (KEP-5067) does not clear them.
fn keep_observed_generations(new: &mut Pod, old: &Pod) {
    let (Some(new), Some(old)) = (&mut new.status, &old.status) else { return };
    let given = |generation: &Option<i64>| generation.is_some_and(|g| g != 0);
    if !given(&new.observed_generation) {
        new.observed_generation = old.observed_generation;
    }
    for condition in new.conditions.iter_mut().flatten().filter(|c| !given(&c.observed_generation)) {
        let before = old.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        condition.observed_generation = before.and_then(|c| c.observed_generation);
    }
}

impl Rules<Pod> for PodRules {
    fn default(&self, pod: &mut Pod) {
        if let Some(spec) = &mut pod.spec {
            defaults::pod_spec(spec);
            defaults::pod_alone(spec);
        }
    }
    fn prepare_create(&self, pod: &mut Pod, _: Cx<'_>) {
        if let Some(seconds) = pod.spec.as_mut().and_then(|s| s.termination_grace_period_seconds.as_mut()) {
            // A negative period is an old way to say "as short as can be".
            *seconds = if *seconds < 0 { 1 } else { *seconds };
        }
        if let (Some(spec), Some(labels)) = (&mut pod.spec, &pod.metadata.labels) {
            label_keys::merge(spec, labels);
        }
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
                keep_observed_generations(new, old);
            }
            "resize" => resize::prepare(new, old),
            _ => new.status.clone_from(&old.status),
        }
    }
    fn validate(&self, pod: &Pod, errors: &mut Errors) {
        let path = Path::new("spec");
        let Some(spec) = &pod.spec else { return errors.required(&path.child("containers"), "") };
        spec::validate(spec, &path, errors);
        let has_node = spec.node_name.as_ref().is_some_and(|n| !n.is_empty());
        if has_node && spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()) {
            errors.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
        let mirror = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR));
        if mirror && !has_node {
            errors.invalid(
                &Path::new("metadata").child("annotations").key(MIRROR),
                "",
                "must set spec.nodeName if mirror pod annotation is set",
            );
        }
    }
    fn validate_create(&self, pod: &Pod, errors: &mut Errors) {
        if pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_ref()).is_some_and(|e| !e.is_empty()) {
            errors.forbidden(&Path::new("spec").child("ephemeralContainers"), "cannot be set on create");
        }
    }
    fn validate_update(&self, new: &Pod, old: &Pod, errors: &mut Errors) {
        update::validate(new, old, errors);
    }
    fn validate_part(&self, part: &str, new: &Pod, old: &Pod, errors: &mut Errors) {
        match part {
            "status" => update::validate_status(new, old, errors),
            "ephemeralcontainers" => update::validate_ephemeral(new, old, errors),
            "resize" => resize::validate(new, old, errors),
            _ => {}
        }
    }
    fn warnings(&self, pod: &Pod) -> Vec<String> {
        pod.spec.iter().flat_map(|s| warnings::of(s, &Path::new("spec"))).collect()
    }
    fn deletion(&self, pod: &mut Pod, requested: Option<i64>, _: Cx<'_>) -> Deletion {
        let asked = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        let scheduled = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|n| !n.is_empty());
        let period = match requested.or(asked).unwrap_or(30) {
            seconds if seconds < 0 => 1,
            seconds => seconds,
        };
        if !scheduled || is_terminal(pod) || period == 0 { Deletion::Now } else { Deletion::Graceful(period) }
    }
}
