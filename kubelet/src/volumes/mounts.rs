//! What a container sees of its pod's volumes: the CRI mounts of one container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{VolumeError, sub_path};
use crate::cri;
use crate::env::expand_strict;

/// A volume on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is.
    pub path: PathBuf,
    /// Whether containers may only read it, whatever their mounts say.
    pub read_only: bool,
}

/// Where a pod's volumes are on the host, by volume name.
#[derive(Debug, Clone, Default)]
pub struct Mounts {
    /// The volumes.
    pub volumes: BTreeMap<String, Mounted>,
    /// `pods/<uid>`, below which parts of volumes are held.
    pub pod_dir: PathBuf,
}

impl Mounts {
    /// The mounts of one container; `env` is for `subPathExpr`.
    ///
    /// # Errors
    /// A volume that is not there, a subPath that leaves its volume; in upstream's words.
    pub fn mounts_for(&self, container: &Container, env: &[(String, String)]) -> Result<Vec<cri::Mount>, VolumeError> {
        let mounts = container.volume_mounts.iter().flatten().enumerate();
        mounts.map(|(index, mount)| self.mount_for(container, index, mount, env)).collect()
    }

    fn mount_for(
        &self,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
        env: &[(String, String)],
    ) -> Result<cri::Mount, VolumeError> {
        let volume = self
            .volumes
            .get(&mount.name)
            .ok_or_else(|| VolumeError(format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)))?;
        let sub_path = expanded(mount, env)?;
        let host_path = if sub_path.is_empty() {
            volume.path.clone()
        } else {
            sub_path::check(&sub_path)?;
            let target = self.pod_dir.join(super::SUB_PATHS).join(&mount.name).join(&container.name).join(index.to_string());
            hold(&volume.path, &sub_path, &target).map_err(|error| {
                // What is on the host is not for the pod's owner to read.
                tracing::error!(volume = mount.name, container = container.name, sub_path, %error, "subPath");
                VolumeError(format!("failed to prepare subPath for volumeMount {:?} of container {:?}", mount.name, container.name))
            })?;
            target
        };
        let readonly = volume.read_only || mount.read_only == Some(true);
        if mount.recursive_read_only.as_deref() == Some("Enabled") {
            // containerd before 2.0 would take the field and not do it.
            let why = "requested recursive read-only mode, but it is not supported by the runtime";
            return Err(VolumeError(format!("failed to resolve recursive read-only mode: volume {:?} {why}", mount.name)));
        }
        let propagation = match mount.mount_propagation.as_deref() {
            Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
            Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
            _ => cri::MountPropagation::PropagationPrivate,
        };
        Ok(cri::Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host_path.display().to_string(),
            readonly,
            propagation: propagation.into(),
            ..cri::Mount::default()
        })
    }
}

fn hold(volume: &Path, sub_path: &str, target: &Path) -> std::io::Result<()> {
    sub_path::hold(&sub_path::open(volume, sub_path)?, target)
}

/// The mount's `subPath`, or its `subPathExpr` with every variable known.
fn expanded(mount: &VolumeMount, env: &[(String, String)]) -> Result<String, VolumeError> {
    match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(text) => expand_strict(text, |name| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()))
            .map_err(|missing| VolumeError(format!("missing value for {}", missing.join(", ")))),
        None => Ok(mount.sub_path.clone().unwrap_or_default()),
    }
}

/// A mount path that is not absolute starts at the root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mount: serde_json::Value, expected: &str) {
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
        let volume = |path: &str, read_only| Mounted { path: path.into(), read_only };
        let mounts = Mounts {
            volumes: [("data".to_owned(), volume("/v/data", false)), ("conf".to_owned(), volume("/v/conf", true))].into(),
            pod_dir: "/nonexistent".into(),
        };
        let env = [("POD".to_owned(), "p1".to_owned()), ("ROOT".to_owned(), "/tmp".to_owned())];
        let text = mounts.mounts_for(&container, &env).map_or_else(
            |error| error.to_string(),
            |mounts| {
                let line = |m: &cri::Mount| {
                    format!("{}:{}{}:{}", m.host_path, m.container_path, if m.readonly { ":ro" } else { "" }, m.propagation)
                };
                mounts.iter().map(line).collect::<Vec<_>>().join("\n")
            },
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn mounts_say_how_they_are_shared() {
        check(json!({"name": "data", "mountPath": "/data"}), "/v/data:/data:0");
        check(json!({"name": "data", "mountPath": "data", "readOnly": true, "mountPropagation": "Bidirectional"}), "/v/data:/data:ro:2");
        check(json!({"name": "conf", "mountPath": "/c", "mountPropagation": "HostToContainer"}), "/v/conf:/c:ro:1");
        check(json!({"name": "no", "mountPath": "/c"}), "cannot find volume \"no\" to mount into container \"c\"");
    }

    #[test]
    fn a_sub_path_expression_needs_its_variables_and_stays_inside() {
        check(json!({"name": "data", "mountPath": "/d", "subPathExpr": "$(NO)"}), "missing value for NO");
        check(json!({"name": "data", "mountPath": "/d", "subPathExpr": "$(ROOT)"}), "error SubPath `/tmp` must not be an absolute path");
        check(
            json!({"name": "data", "mountPath": "/d", "subPathExpr": "$(POD)/../x"}),
            "unable to provision SubPath `p1/../x`: must not contain '..'",
        );
        check(
            json!({"name": "data", "mountPath": "/d", "subPath": "x"}),
            "failed to prepare subPath for volumeMount \"data\" of container \"c\"",
        );
    }
}
