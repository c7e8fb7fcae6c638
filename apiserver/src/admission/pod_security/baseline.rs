//! The level that forbids known ways out of a container.

use serde_json::Value;

use super::{Check, Pod, named, of_containers};
use crate::resources::cells::{flag, int, items, text};

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// The level's rules, in upstream's order.
pub(super) const ALL: &[Check] = &[
    app_armor,
    capabilities,
    host_namespaces,
    host_path_volumes,
    host_ports,
    privileged,
    proc_mount,
    selinux,
    seccomp,
    sysctls,
    host_process,
];
/// Those that `restricted` keeps, and has no stricter one for.
pub(super) const KEPT: &[Check] =
    &[app_armor, host_namespaces, host_path_volumes, host_ports, privileged, proc_mount, selinux, sysctls, host_process];

fn app_armor(pod: &Pod<'_>) -> Option<String> {
    let unconfined = |o: &Value| o.pointer("/securityContext/appArmorProfile/type").is_some_and(|t| t == "Unconfined");
    let mut setters = Vec::new();
    if unconfined(pod.spec) {
        setters.push("pod".to_owned());
    }
    let names = pod.containers(unconfined);
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    let detail = "must not set AppArmor profile type to \"Unconfined\"";
    (!setters.is_empty()).then(|| format!("forbidden AppArmor profile ({} {detail})", setters.join(" and ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<String> {
    let set: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|f| flag(pod.spec, &format!("/{f}"))).map(|f| format!("{f}=true")).collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<String> {
    let volumes = items(pod.spec, "/volumes").iter().filter(|v| v.get("hostPath").is_some());
    let names: Vec<String> = volumes.map(|v| format!("{:?}", text(v, "/name"))).collect();
    (!names.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &names)))
}

fn host_ports(pod: &Pod<'_>) -> Option<String> {
    let of = |c: &Value| items(c, "/ports").iter().map(|p| int(p, "/hostPort")).filter(|p| *p != 0).collect::<Vec<_>>();
    let names = pod.containers(|c| !of(c).is_empty());
    let mut ports: Vec<i64> = pod.containers.iter().flat_map(|c| of(c)).collect();
    ports.sort_unstable();
    ports.dedup();
    let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let plural = if ports.len() == 1 { "" } else { "s" };
    of_containers("hostPort", &names, &format!("{uses} hostPort{plural} {}", list.join(", ")))
}

fn privileged(pod: &Pod<'_>) -> Option<String> {
    let names = pod.containers(|c| flag(c, "/securityContext/privileged"));
    of_containers("privileged", &names, "must not set securityContext.privileged=true")
}

fn proc_mount(pod: &Pod<'_>) -> Option<String> {
    let names = pod.containers(|c| !matches!(text(c, "/securityContext/procMount"), "" | "Default"));
    of_containers("procMount", &names, "must not set securityContext.procMount to \"Unmasked\"")
}

fn selinux(pod: &Pod<'_>) -> Option<String> {
    let wrong = |o: &Value| {
        let at = |field: &str| text(o, &format!("/securityContext/seLinuxOptions/{field}")).to_owned();
        !SELINUX_TYPES.contains(&at("type").as_str()) || !at("user").is_empty() || !at("role").is_empty()
    };
    let mut setters = Vec::new();
    let mut details = Vec::new();
    if wrong(pod.spec) {
        setters.push("pod".to_owned());
    }
    let names = pod.containers(wrong);
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    let all: Vec<&Value> = std::iter::once(pod.spec).chain(pod.containers.iter().copied()).collect();
    let at = |field: &str| all.iter().map(|o| text(o, &format!("/securityContext/seLinuxOptions/{field}"))).collect::<Vec<_>>();
    let types: Vec<String> = at("type").iter().filter(|t| !SELINUX_TYPES.contains(t)).map(|t| format!("{t:?}")).collect();
    if !types.is_empty() {
        details.push(format!("type{} {}", if types.len() == 1 { "" } else { "s" }, types.join(", ")));
    }
    for field in ["user", "role"] {
        if at(field).iter().any(|v| !v.is_empty()) {
            details.push(format!("{field} may not be set"));
        }
    }
    (!setters.is_empty())
        .then(|| format!("seLinuxOptions ({} set forbidden securityContext.seLinuxOptions: {})", setters.join(" and "), details.join("; ")))
}

fn sysctls(pod: &Pod<'_>) -> Option<String> {
    let names = items(pod.spec, "/securityContext/sysctls").iter().map(|s| text(s, "/name"));
    let wrong: Vec<&str> = names.filter(|n| !SYSCTLS.contains(n)).collect();
    (!wrong.is_empty()).then(|| format!("forbidden sysctls ({})", wrong.join(", ")))
}

fn host_process(pod: &Pod<'_>) -> Option<String> {
    let sets = |o: &Value| flag(o, "/securityContext/windowsOptions/hostProcess");
    let mut setters = Vec::new();
    if sets(pod.spec) {
        setters.push("pod".to_owned());
    }
    let names = pod.containers(sets);
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    let detail = "must not set securityContext.windowsOptions.hostProcess=true";
    (!setters.is_empty()).then(|| format!("hostProcess ({} {detail})", setters.join(" and ")))
}

/// Capabilities that are added and not allowed, quoted, over all containers.
pub(super) fn added(pod: &Pod<'_>, allowed: &[&str]) -> (Vec<String>, Vec<String>) {
    let of = |c: &Value| {
        let all = items(c, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        all.filter(|n| !allowed.contains(n)).map(|n| format!("{n:?}")).collect::<Vec<_>>()
    };
    let mut capabilities: Vec<String> = pod.containers.iter().flat_map(|c| of(c)).collect();
    capabilities.sort_unstable();
    capabilities.dedup();
    (pod.containers(|c| !of(c).is_empty()), capabilities)
}

fn capabilities(pod: &Pod<'_>) -> Option<String> {
    let (names, capabilities) = added(pod, CAPABILITIES);
    let detail = format!("must not include {} in securityContext.capabilities.add", capabilities.join(", "));
    of_containers("non-default capabilities", &names, &detail)
}

fn seccomp(pod: &Pod<'_>) -> Option<String> {
    let wrong = |o: &Value| text(o, "/securityContext/seccompProfile/type") == "Unconfined";
    let mut setters = Vec::new();
    if wrong(pod.spec) {
        setters.push("pod".to_owned());
    }
    let names = pod.containers(wrong);
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    let detail = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    (!setters.is_empty()).then(|| format!("seccompProfile ({} {detail})", setters.join(" and ")))
}
