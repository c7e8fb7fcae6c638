//! Security contexts, from the pod's and its containers' words to the runtime's.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext};

use crate::cri;
use crate::cri::security_profile::ProfileType;
use crate::pod::{host_network, identity};

/// Where Localhost seccomp profiles are, below `--root-dir`.
const SECCOMP_DIR: &str = "seccomp";
/// Hidden in containers, as upstream.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Not writable in containers, as upstream.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user an image runs as when nobody says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// Numeric, when the image says a number.
    pub uid: Option<i64>,
    /// A name, when it says one.
    pub name: String,
}

/// How the node applies profiles.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    /// `--root-dir`.
    pub root_dir: std::path::PathBuf,
    /// `--seccomp-default`: RuntimeDefault where a pod says nothing.
    pub seccomp_default: bool,
}

/// The namespaces of the pod's containers. `target` is the container whose processes an ephemeral container shares.
#[must_use]
pub fn namespaces(pod: &Pod, target: Option<&str>) -> cri::NamespaceOption {
    use cri::NamespaceMode::{Container as Own, Node, Pod as Shared, Target};
    let spec = pod.spec.as_ref();
    let host = |get: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<bool>| spec.and_then(get).unwrap_or(false);
    let pid = match target {
        Some(_) => Target,
        None if host(|s| s.host_pid) => Node,
        None if host(|s| s.share_process_namespace) => Shared,
        None => Own,
    };
    cri::NamespaceOption {
        network: if spec.is_some_and(host_network) { Node } else { Shared }.into(),
        ipc: if host(|s| s.host_ipc) { Node } else { Shared }.into(),
        pid: pid.into(),
        target_id: target.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

/// The sandbox's security context: privileged when one of its containers is.
#[must_use]
pub fn sandbox(pod: &Pod, profiles: &Profiles) -> cri::LinuxSandboxSecurityContext {
    let spec = pod.spec.clone().unwrap_or_default();
    let context = spec.security_context.unwrap_or_default();
    let privileged = |c: &Option<SecurityContext>| c.as_ref().and_then(|c| c.privileged).unwrap_or(false);
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: context.run_as_user.map(|value| cri::Int64Value { value }),
        // A group without a user is refused by the runtime (CRI: run_as_group needs run_as_user).
        run_as_group: context.run_as_group.filter(|_| context.run_as_user.is_some()).map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged: spec.containers.iter().any(|c| privileged(&c.security_context))
            || spec.init_containers.iter().flatten().any(|c| privileged(&c.security_context)),
        // Upstream: the pause container needs no more than the runtime's own profile.
        seccomp: Some(seccomp(context.seccomp_profile.as_ref(), profiles, true)),
        ..cri::LinuxSandboxSecurityContext::default()
    }
}

/// A container's security context.
///
/// # Errors
/// `runAsNonRoot` where the container would run as root or nobody can say; in upstream's words.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
    profiles: &Profiles,
) -> Result<cri::LinuxContainerSecurityContext, String> {
    let pod_context = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod_context.run_as_user);
    non_root(pod, container, user, own.run_as_non_root.or(pod_context.run_as_non_root), image)?;
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let capabilities = own.capabilities.unwrap_or_default();
    let group = own.run_as_group.or(pod_context.run_as_group);
    // With a group and no user the image's user runs in that group; the runtime wants the user said.
    let named = user.is_none() && image.uid.is_none() && !image.name.is_empty();
    let uid = user.or(if named { None } else { image.uid.or(group.map(|_| 0)) });
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: vec![],
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        selinux_options: own.se_linux_options.as_ref().or(pod_context.se_linux_options.as_ref()).map(selinux),
        run_as_user: uid.map(|value| cri::Int64Value { value }),
        run_as_username: if named { image.name.clone() } else { String::new() },
        run_as_group: group.map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&pod_context),
        supplemental_groups_policy: groups_policy(&pod_context),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { vec![] } else { MASKED.map(str::to_owned).to_vec() },
        readonly_paths: if unmasked { vec![] } else { READ_ONLY.map(str::to_owned).to_vec() },
        seccomp: Some(if privileged {
            profile(ProfileType::Unconfined, String::new())
        } else {
            seccomp(own.seccomp_profile.as_ref().or(pod_context.seccomp_profile.as_ref()), profiles, false)
        }),
        apparmor: own.app_armor_profile.as_ref().or(pod_context.app_armor_profile.as_ref()).map(apparmor),
        ..cri::LinuxContainerSecurityContext::default()
    })
}

fn non_root(pod: &Pod, container: &Container, user: Option<i64>, wanted: Option<bool>, image: &ImageUser) -> Result<(), String> {
    if wanted != Some(true) {
        return Ok(());
    }
    let (namespace, name, uid) = identity(pod);
    let whose = format!("(pod: \"{name}_{namespace}({uid})\", container: {})", container.name);
    match (user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whose}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, Some(_)) => Ok(()),
        (None, None) if image.name.is_empty() => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {whose}",
            image.name
        )),
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict.into(),
        _ => cri::SupplementalGroupsPolicy::Merge.into(),
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn seccomp(wanted: Option<&SeccompProfile>, profiles: &Profiles, sandbox: bool) -> cri::SecurityProfile {
    match wanted {
        Some(p) if p.type_ == "Localhost" => {
            let path = profiles.root_dir.join(SECCOMP_DIR).join(p.localhost_profile.as_deref().unwrap_or_default());
            profile(ProfileType::Localhost, path.display().to_string())
        }
        Some(p) if p.type_ == "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        Some(_) => profile(ProfileType::Unconfined, String::new()),
        None if sandbox || profiles.seccomp_default => profile(ProfileType::RuntimeDefault, String::new()),
        None => profile(ProfileType::Unconfined, String::new()),
    }
}

fn apparmor(wanted: &AppArmorProfile) -> cri::SecurityProfile {
    match wanted.type_.as_str() {
        "Localhost" => profile(ProfileType::Localhost, wanted.localhost_profile.clone().unwrap_or_default()),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        _ => profile(ProfileType::RuntimeDefault, String::new()),
    }
}

fn selinux(o: &SELinuxOptions) -> cri::SeLinuxOption {
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    cri::SeLinuxOption { user: part(&o.user), role: part(&o.role), r#type: part(&o.type_), level: part(&o.level) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// `image` is the image's user: a number, a name, or nothing.
    #[track_caller]
    fn check(spec: &str, image: &str, expected: Expect) {
        let mut pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
        (pod.metadata.name, pod.metadata.namespace, pod.metadata.uid) = (Some("p".into()), Some("ns".into()), Some("u".into()));
        let image = match image.parse() {
            Ok(uid) => ImageUser { uid: Some(uid), name: String::new() },
            Err(_) => ImageUser { uid: None, name: image.into() },
        };
        let c = pod.spec.as_ref().expect("set").containers[0].clone();
        let text = match container(&pod, &c, &image, None, &Profiles::default()) {
            Err(error) => error,
            Ok(made) => {
                let n = made.namespace_options.unwrap_or_default();
                format!(
                    "user {:?}{} group {:?} groups {:?} privileged {} nnp {} masked {} seccomp {:?} network {} pid {}",
                    made.run_as_user.map(|v| v.value),
                    made.run_as_username,
                    made.run_as_group.map(|v| v.value),
                    made.supplemental_groups,
                    made.privileged,
                    made.no_new_privs,
                    made.masked_paths.len(),
                    made.seccomp.map(|s| s.profile_type),
                    n.network,
                    n.pid
                )
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn defaults() {
        check(
            r#"{"containers":[{"name":"a"}]}"#,
            "0",
            expect!["user Some(0) group None groups [] privileged false nnp false masked 12 seccomp Some(1) network 0 pid 1"],
        );
    }

    #[test]
    fn the_containers_word_comes_before_the_pods() {
        check(
            r#"{"hostNetwork":true,"shareProcessNamespace":true,"securityContext":{"runAsUser":1,"fsGroup":7,"supplementalGroups":[8],"runAsGroup":5,"seccompProfile":{"type":"RuntimeDefault"}},
                "containers":[{"name":"a","securityContext":{"runAsUser":2,"allowPrivilegeEscalation":false}}]}"#,
            "0",
            expect!["user Some(2) group Some(5) groups [7, 8] privileged false nnp true masked 12 seccomp Some(0) network 2 pid 0"],
        );
    }

    #[test]
    fn privileged_is_unmasked_and_unconfined() {
        check(
            r#"{"containers":[{"name":"a","securityContext":{"privileged":true,"seccompProfile":{"type":"RuntimeDefault"}}}]}"#,
            "app",
            expect!["user Noneapp group None groups [] privileged true nnp false masked 0 seccomp Some(1) network 0 pid 1"],
        );
    }

    #[test]
    fn run_as_non_root() {
        let spec = r#"{"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}"#;
        check(spec, "0", expect![[r#"container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: a)"#]]);
        check(spec, "", expect![[r#"container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: a)"#]]);
        check(
            spec,
            "app",
            expect![[
                r#"container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "p_ns(u)", container: a)"#
            ]],
        );
        check(
            r#"{"securityContext":{"runAsNonRoot":true,"runAsUser":0},"containers":[{"name":"a"}]}"#,
            "5",
            expect![[r#"container's runAsUser breaks non-root policy (pod: "p_ns(u)", container: a)"#]],
        );
    }
}
