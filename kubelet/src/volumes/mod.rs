//! The volumes of a pod: brought onto the host before its containers start, kept fresh, taken away after they are gone.
//!
//! A kind of volume is a file here and an arm in [`set_up`]. What API objects show goes through [`atomic_writer`], so that
//! a container never sees half an update; [`watched`] keeps those objects fresh, [`refresh`] carries changes into running pods.

pub mod atomic_writer;
pub mod config_map;
pub mod downward_api;
pub mod empty_dir;
pub mod host_path;
mod key_to_path;
pub mod mounting;
mod mounts;
pub mod ownership;
pub mod persistent_volume_claim;
pub mod projected;
pub mod refresh;
pub mod secret;
pub mod sub_path;
pub mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};

use crate::objects::{Error, Objects};
use atomic_writer::Payload;
use empty_dir::Medium;
pub use mounts::{Mounted, Mounts};

/// Where a pod's volumes are, below its directory.
const VOLUMES: &str = "volumes";
/// Where parts of volumes are held, below its directory.
const SUB_PATHS: &str = "volume-subpaths";

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

impl VolumeHost {
    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// The ConfigMap, or that there is none.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, VolumeError> {
        found(self.objects.config_map(namespace, name).await)
    }

    /// The Secret, or that there is none.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, VolumeError> {
        found(self.objects.secret(namespace, name).await)
    }
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, VolumeError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(VolumeError(error.to_string())),
    }
}

/// Brings every volume of the pod onto the host, or refreshes what it shows. Idempotent: called at each start of a
/// container and about once a minute.
///
/// # Errors
/// The first volume that cannot be mounted, and why.
pub async fn mount(host: &VolumeHost, pod: &Pod) -> Result<Mounts, VolumeError> {
    let pod_dir = host.pod_dir(pod_uid(pod)?);
    let mut mounts = Mounts { pod_dir: pod_dir.clone(), ..Mounts::default() };
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let mounted = set_up(host, pod, &pod_dir.join(VOLUMES), volume).await.map_err(|error| {
            VolumeError(format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name)) // upstream's words
        })?;
        mounts.volumes.insert(volume.name.clone(), mounted);
    }
    Ok(mounts)
}

/// Uids come from the apiserver; one that is no plain name must not become a path.
fn pod_uid(pod: &Pod) -> Result<&str, VolumeError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if uid.is_empty() || !uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(VolumeError(format!("the pod's uid {uid:?} cannot name a directory")));
    }
    Ok(uid)
}

/// Brings one volume onto the host, in the directory that upstream gives it below `volumes`.
async fn set_up(host: &VolumeHost, pod: &Pod, volumes: &Path, volume: &Volume) -> Result<Mounted, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let dir = |plugin: &str| volumes.join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.config_map {
        let object = host.config_map(namespace, &source.name).await?;
        let optional = source.optional == Some(true);
        let files = config_map::payload(&source.name, object.as_ref(), source.items.as_deref(), source.default_mode, optional)?;
        show(dir("configmap"), Medium::Disk, files, pod).await
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let object = host.secret(namespace, name).await?;
        let files = secret::payload(name, object.as_ref(), source.items.as_deref(), source.default_mode, source.optional == Some(true))?;
        show(dir("secret"), Medium::Memory(None), files, pod).await
    } else if let Some(source) = &volume.projected {
        let files = projected::payload(host, pod, source).await?;
        show(dir("projected"), Medium::Memory(None), files, pod).await
    } else if let Some(source) = &volume.downward_api {
        let files = downward_api::payload(pod, source.items.as_deref(), source.default_mode, &host.node)?;
        show(dir("downward-api"), Medium::Memory(None), files, pod).await
    } else if let Some(source) = &volume.empty_dir {
        let medium = Medium::of(source, pod, &host.node)
            .ok_or_else(|| VolumeError(format!("unknown storage medium {:?}", source.medium.as_deref().unwrap_or_default())))?;
        let (dir, group) = (dir("empty-dir"), ownership::fs_group(pod));
        blocking(move || {
            empty_dir::set_up(&dir, medium, group).map_err(|e| VolumeError(e.to_string()))?;
            Ok(Mounted { path: dir, read_only: false })
        })
        .await
    } else if let Some(source) = &volume.host_path {
        let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
        blocking(move || host_path::set_up(&path, &kind).map(|()| Mounted { path, read_only: false })).await
    } else if let Some(source) = &volume.persistent_volume_claim {
        claimed(host, pod, volumes, &source.claim_name, None, source.read_only == Some(true)).await
    } else if volume.ephemeral.is_some() {
        let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
        claimed(host, pod, volumes, &name, Some(pod), false).await
    } else {
        Err(VolumeError("no volume plugin matched".into()))
    }
}

/// A directory that shows `files`, owned as the pod asks; containers only read it.
async fn show(dir: PathBuf, medium: Medium, files: Payload, pod: &Pod) -> Result<Mounted, VolumeError> {
    let group = ownership::fs_group(pod);
    blocking(move || {
        empty_dir::set_up(&dir, medium, group)
            .and_then(|()| atomic_writer::write(&dir, &files, group, jiff::Timestamp::now()))
            .map_err(|e| VolumeError(e.to_string()))?;
        Ok(Mounted { path: dir, read_only: true })
    })
    .await
}

async fn claimed(
    host: &VolumeHost,
    pod: &Pod,
    volumes: &Path,
    claim: &str,
    owner: Option<&Pod>,
    read_only: bool,
) -> Result<Mounted, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let said = |error: Error| VolumeError(error.to_string());
    let claim = host.objects.claim(namespace, claim).await.map_err(said)?;
    let name = persistent_volume_claim::bound_volume(&claim, owner)?;
    let place = persistent_volume_claim::place(&host.objects.volume(&name).await.map_err(said)?)?;
    let target = volumes.join("kubernetes.io~local-volume").join(name);
    let policy = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group_change_policy.as_deref());
    let group = ownership::fs_group(pod).filter(|_| !read_only).map(|g| (g, policy == Some("OnRootMismatch")));
    blocking(move || persistent_volume_claim::set_up(&place, &target, group).map(|path| Mounted { path, read_only })).await
}

/// Takes a pod's volumes away. What its containers left beside them stays until the pod is deleted: their termination messages
/// are read there. Idempotent; needs no Pod, so that orphans can be cleaned.
///
/// # Errors
/// A mount that is busy, or a directory that cannot be removed.
pub async fn unmount(host: &VolumeHost, pod_uid: &str) -> Result<(), VolumeError> {
    let dir = host.pod_dir(pod_uid);
    if pod_uid.is_empty() || pod_uid.contains(['/', '.']) {
        return Err(VolumeError(format!("the pod's uid {pod_uid:?} cannot name a directory")));
    }
    blocking(move || {
        // Parts of volumes lie on volumes, and go first.
        [SUB_PATHS, VOLUMES]
            .iter()
            .map(|part| dir.join(part))
            .try_for_each(|dir| mounting::remove_tree(&dir).map_err(|e| VolumeError(format!("failed to remove {}: {e}", dir.display()))))
    })
    .await
}

/// File systems may be slow, so they are waited for on a thread of their own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError(format!("setting up volumes: {error}"))),
    }
}

#[cfg(test)]
mod tests;
