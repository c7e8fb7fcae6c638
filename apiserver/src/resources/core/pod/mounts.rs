//! What is wrong with a container's mounts and devices.

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{PodSpec, SecurityContext, VolumeDevice, VolumeMount};

use super::volumes::{validate_local_path, validate_no_backsteps};
use crate::resources::bounds::one_of;

pub(super) fn validate(
    mounts: &[VolumeMount],
    devices: &[VolumeDevice],
    context: Option<&SecurityContext>,
    spec: &PodSpec,
    container: &Path,
    errors: &mut Errors,
) {
    let volume = |name: &str| spec.volumes.iter().flatten().find(|v| v.name == name);
    for (i, mount) in mounts.iter().enumerate() {
        let path = container.child("volumeMounts").index(i);
        if mount.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if volume(&mount.name).is_none() {
            errors.not_found(&path.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if mounts[..i].iter().any(|m| m.mount_path == mount.mount_path) {
            errors.invalid(&path.child("mountPath"), &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|d| d.device_path == mount.mount_path) {
            errors.invalid(&path.child("mountPath"), &mount.mount_path, "must not already exist in volumeDevices");
        }
        validate_sub_paths(mount, &path, errors);
        validate_propagation(mount, context, &path, errors);
        validate_recursive_read_only(mount, &path, errors);
    }
    for (i, device) in devices.iter().enumerate() {
        let path = container.child("volumeDevices").index(i);
        match volume(&device.name) {
            _ if device.name.is_empty() => errors.required(&path.child("name"), ""),
            None => errors.not_found(&path.child("name"), &device.name),
            Some(v) if v.persistent_volume_claim.is_none() && v.ephemeral.is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.child("name"), &device.name, why);
            }
            Some(_) => {}
        }
        if device.device_path.is_empty() {
            errors.required(&path.child("devicePath"), "");
        }
        if devices[..i].iter().any(|d| d.device_path == device.device_path) {
            errors.invalid(&path.child("devicePath"), &device.device_path, "must be unique");
        }
        validate_no_backsteps(&device.device_path, &path.child("devicePath"), errors);
    }
}

fn validate_sub_paths(mount: &VolumeMount, path: &Path, errors: &mut Errors) {
    let set = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    let (plain, expanded) = (set(&mount.sub_path), set(&mount.sub_path_expr));
    if let (Some(_), Some(expanded)) = (&plain, &expanded) {
        errors.invalid(&path.child("subPathExpr"), expanded, "subPathExpr and subPath are mutually exclusive");
    }
    for (name, value) in [("subPath", plain), ("subPathExpr", expanded)] {
        if let Some(value) = value {
            validate_local_path(&value, &path.child(name), errors);
        }
    }
}

fn validate_propagation(mount: &VolumeMount, context: Option<&SecurityContext>, path: &Path, errors: &mut Errors) {
    let Some(mode) = &mount.mount_propagation else { return };
    let path = path.child("mountPropagation");
    one_of(mode, &["Bidirectional", "HostToContainer", "None"], &path, errors);
    if mode == "Bidirectional" && context.and_then(|c| c.privileged) != Some(true) {
        errors.forbidden(&path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn validate_recursive_read_only(mount: &VolumeMount, path: &Path, errors: &mut Errors) {
    let Some(mode) = mount.recursive_read_only.as_deref() else { return };
    let path = path.child("recursiveReadOnly");
    one_of(mode, &["Disabled", "Enabled", "IfPossible"], &path, errors);
    if mode == "Disabled" {
        return;
    }
    if mount.read_only != Some(true) {
        errors.forbidden(&path, "may only be specified when readOnly is true");
    }
    if mount.mount_propagation.as_deref().is_some_and(|m| m != "None") {
        errors.forbidden(&path, "may only be specified when mountPropagation is None or not specified");
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check;
    use expect_test::expect;

    #[test]
    fn mounts() {
        check(
            "volumes: [{name: v}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /a, subPath: ../x}, {name: w, mountPath: /a},
              {name: v, mountPath: '', mountPropagation: Bidirectional}, {name: v, mountPath: /b, recursiveReadOnly: Enabled, subPathExpr: /x}],
              volumeDevices: [{name: v, devicePath: /dev/x}]}]",
            expect![[r#"
                spec.containers[0].volumeMounts[0].subPath: Invalid value: "../x": must not contain '..'
                spec.containers[0].volumeMounts[1].name: Not found: "w"
                spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
                spec.containers[0].volumeMounts[2].mountPath: Required value
                spec.containers[0].volumeMounts[2].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
                spec.containers[0].volumeMounts[3].subPathExpr: Invalid value: "/x": must be a relative path
                spec.containers[0].volumeMounts[3].recursiveReadOnly: Forbidden: may only be specified when readOnly is true
                spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#]],
        );
    }
}
