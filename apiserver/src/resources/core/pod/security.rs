//! What is wrong with security contexts.

use std::sync::LazyLock;

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl};
use regex::Regex;

use crate::resources::bounds::{one_of, required_one_of};

const ID: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const SYSCTL_MAX: usize = 253;

/// Checks a user's or group's number.
fn validate_id(id: Option<i64>, path: &Path, errors: &mut Errors) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(path, id, ID);
    }
}

pub(super) fn validate_pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    validate_namespaces(spec, path, errors);
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    validate_id(context.run_as_user, &path.child("runAsUser"), errors);
    validate_id(context.run_as_group, &path.child("runAsGroup"), errors);
    validate_id(context.fs_group, &path.child("fsGroup"), errors);
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        validate_id(Some(*group), &path.child("supplementalGroups").index(i), errors);
    }
    if let Some(policy) = &context.fs_group_change_policy {
        one_of(policy, &["Always", "OnRootMismatch"], &path.child("fsGroupChangePolicy"), errors);
    }
    if let Some(policy) = &context.supplemental_groups_policy {
        one_of(policy, &["Merge", "Strict"], &path.child("supplementalGroupsPolicy"), errors);
    }
    if let Some(policy) = &context.se_linux_change_policy {
        one_of(policy, &["MountOption", "Recursive"], &path.child("seLinuxChangePolicy"), errors);
    }
    validate_sysctls(context, spec, &path.child("sysctls"), errors);
    validate_profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), &path, errors);
}

/// The node's namespaces do not go together with some of the pod's own.
fn validate_namespaces(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.invalid(&path.child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    if spec.host_users == Some(false) {
        for (name, on) in [("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc), ("hostNetwork", spec.host_network)] {
            if on == Some(true) {
                errors.forbidden(&path.child(name), "when `hostUsers` is false");
            }
        }
    }
}

fn validate_sysctls(context: &PodSecurityContext, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    static FORM: LazyLock<Regex> = LazyLock::new(|| Regex::new(SYSCTL).expect("the expression above is one"));
    let all: Vec<&Sysctl> = context.sysctls.iter().flatten().collect();
    for (i, sysctl) in all.iter().enumerate() {
        let path = path.index(i).child("name");
        let name = &sysctl.name;
        if name.is_empty() {
            errors.required(&path, "");
        } else if name.len() > SYSCTL_MAX || !FORM.is_match(name) {
            errors.invalid(&path, name, &format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL}"));
        } else if all[..i].iter().any(|s| s.name == *name) {
            errors.duplicate(&path, name);
        }
        let dotted = name.replace('/', ".");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        }
        if spec.host_ipc == Some(true)
            && (dotted.starts_with("kernel.shm")
                || dotted.starts_with("kernel.msg")
                || dotted == "kernel.sem"
                || dotted.starts_with("fs.mqueue."))
        {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn validate_profiles(seccomp: Option<&SeccompProfile>, app_armor: Option<&AppArmorProfile>, path: &Path, errors: &mut Errors) {
    const TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
    for (name, type_, local, what) in [
        ("seccompProfile", seccomp.map(|p| &p.type_), seccomp.and_then(|p| p.localhost_profile.as_ref()), "seccomp"),
        ("appArmorProfile", app_armor.map(|p| &p.type_), app_armor.and_then(|p| p.localhost_profile.as_ref()), "AppArmor"),
    ] {
        let Some(type_) = type_ else { continue };
        let path = path.child(name);
        required_one_of(type_, TYPES, &path.child("type"), errors);
        let profile = path.child("localhostProfile");
        match (type_.as_str(), local) {
            ("Localhost", None) => errors.required(&profile, &format!("must be set when {what} type is Localhost")),
            ("Localhost", Some(local)) => super::volumes::validate_local_path(local, &profile, errors),
            (_, Some(local)) => errors.invalid(&profile, local, &format!("can only be set when {what} type is Localhost")),
            _ => {}
        }
    }
}

pub(super) fn validate_container(context: &SecurityContext, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    validate_id(context.run_as_user, &path.child("runAsUser"), errors);
    validate_id(context.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = &context.proc_mount {
        one_of(mount, &["Default", "Unmasked"], &path.child("procMount"), errors);
        if mount == "Unmasked" && spec.host_users != Some(false) {
            errors.invalid(&path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    validate_profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, errors);
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    let shown = serde_json::json!(context);
    if context.privileged == Some(true) {
        errors.invalid(path, &shown, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
    for capability in added.filter(|c| matches!(c.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN")) {
        let why = format!("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` {capability}");
        errors.invalid(path, &shown, &why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::{check, check_container};
    use expect_test::expect;

    #[test]
    fn contexts() {
        check(
            "containers: [{name: c, image: i}], hostNetwork: true, shareProcessNamespace: true, hostPID: true, securityContext: {runAsUser: -1, fsGroup: 1,
              supplementalGroups: [4294967296], fsGroupChangePolicy: Often, seccompProfile: {type: Localhost},
              sysctls: [{name: net.ipv4.x, value: '1'}, {name: 'A!', value: '1'}, {name: a.b, value: '1'}, {name: a.b, value: '1'}]}",
            expect![[r#"
                spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
                spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
                spec.securityContext.supplementalGroups[0]: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive
                spec.securityContext.fsGroupChangePolicy: Unsupported value: "Often": supported values: "Always", "OnRootMismatch"
                spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.x": may not be specified when 'hostNetwork' is true
                spec.securityContext.sysctls[1].name: Invalid value: "A!": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
                spec.securityContext.sysctls[3].name: Duplicate value: "a.b"
                spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"#]],
        );
        check_container(
            "securityContext: {privileged: true, allowPrivilegeEscalation: false, seccompProfile: {type: Unconfined, localhostProfile: x}}",
            expect![[r#"
                spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: "x": can only be set when seccomp type is Localhost
                spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"seccompProfile":{"localhostProfile":"x","type":"Unconfined"}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#]],
        );
    }
}
