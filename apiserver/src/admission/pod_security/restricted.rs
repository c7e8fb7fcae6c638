//! The level of current best practice for hardened pods, on top of `baseline`.

use serde_json::Value;

use super::baseline::added;
use super::{Check, Pod, named, of_containers};
use crate::resources::cells::{items, text};

const VOLUMES: &[&str] =
    &["name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];

/// The rules, in upstream's order.
pub(super) const ALL: &[Check] = &[allow_privilege_escalation, capabilities, volumes, run_as_non_root, run_as_user, seccomp];

fn is_windows(pod: &Pod<'_>) -> bool {
    text(pod.spec, "/os/name") == "windows"
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<String> {
    let names = pod.containers(|c| c.pointer("/securityContext/allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    let names = if is_windows(pod) { vec![] } else { names };
    of_containers("allowPrivilegeEscalation != false", &names, "must set securityContext.allowPrivilegeEscalation=false")
}

fn capabilities(pod: &Pod<'_>) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    let mut details = Vec::new();
    let keeps = pod.containers(|c| items(c, "/securityContext/capabilities/drop").iter().all(|d| d != "ALL"));
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &keeps)));
    }
    let (adds, capabilities) = added(pod, &["NET_BIND_SERVICE"]);
    if !adds.is_empty() {
        let list = capabilities.join(", ");
        details.push(format!("{} must not include {list} in securityContext.capabilities.add", named("container", &adds)));
    }
    (!details.is_empty()).then(|| format!("unrestricted capabilities ({})", details.join("; ")))
}

fn volumes(pod: &Pod<'_>) -> Option<String> {
    let restricted = |v: &Value| v.as_object().into_iter().flat_map(|o| o.keys()).find(|k| !VOLUMES.contains(&k.as_str())).cloned();
    let mut names = Vec::new();
    let mut kinds = Vec::new();
    for volume in items(pod.spec, "/volumes") {
        if let Some(kind) = restricted(volume) {
            names.push(format!("{:?}", text(volume, "/name")));
            kinds.push(format!("{kind:?}"));
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let types = if kinds.len() == 1 { "type" } else { "types" };
    (!names.is_empty())
        .then(|| format!("restricted volume types ({} {uses} restricted volume {types} {})", named("volume", &names), kinds.join(", ")))
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<String> {
    let said = |o: &Value| o.pointer("/securityContext/runAsNonRoot").and_then(Value::as_bool);
    let whole = said(pod.spec);
    let says_root = pod.containers(|c| said(c) == Some(false));
    let mut details = Vec::new();
    if whole == Some(false) {
        details.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if !says_root.is_empty() {
        details.push(format!("{} must not set securityContext.runAsNonRoot=false", named("container", &says_root)));
    }
    let silent = pod.containers(|c| said(c).is_none());
    if details.is_empty() && whole != Some(true) && !silent.is_empty() {
        details.push(format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &silent)));
    }
    (!details.is_empty()).then(|| format!("runAsNonRoot != true ({})", details.join(" and ")))
}

fn run_as_user(pod: &Pod<'_>) -> Option<String> {
    let root = |o: &Value| o.pointer("/securityContext/runAsUser").and_then(Value::as_i64) == Some(0);
    let mut setters = Vec::new();
    if root(pod.spec) {
        setters.push("pod".to_owned());
    }
    let names = pod.containers(root);
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    (!setters.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", setters.join(" and ")))
}

fn seccomp(pod: &Pod<'_>) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    let kind = |o: &Value| text(o, "/securityContext/seccompProfile/type").to_owned();
    let good = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let whole = kind(pod.spec);
    let unconfined = pod.containers(|c| !kind(c).is_empty() && !good(&kind(c)));
    let mut details = Vec::new();
    if !whole.is_empty() && !good(&whole) {
        details.push(format!("pod must not set securityContext.seccompProfile.type to {whole:?}"));
    }
    if !unconfined.is_empty() {
        details.push(format!("{} must not set securityContext.seccompProfile.type to \"Unconfined\"", named("container", &unconfined)));
    }
    let silent = pod.containers(|c| kind(c).is_empty());
    if details.is_empty() && !good(&whole) && !silent.is_empty() {
        let what = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        details.push(format!("pod or {} {what}", named("container", &silent)));
    }
    (!details.is_empty()).then(|| format!("seccompProfile ({})", details.join(" and ")))
}
