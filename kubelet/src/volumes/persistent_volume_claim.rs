//! `persistentVolumeClaim` and `ephemeral`: what the claim is bound to, when that is a path of this node (`local`, `hostPath`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use super::{VolumeError, host_path, mounting, ownership};

/// The volume that `claim` is bound to.
///
/// # Errors
/// A claim that is not bound yet, is going away, or is not the pod's own when it should be.
pub fn bound_volume(claim: &PersistentVolumeClaim, owner: Option<&Pod>) -> Result<String, VolumeError> {
    let meta = &claim.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let failed = |why: &str| Err(VolumeError(format!("error processing PVC {namespace}/{name}: {why}")));
    if meta.deletion_timestamp.is_some() {
        return failed("PVC is being deleted");
    }
    if let Some(pod) = owner
        && !meta.owner_references.iter().flatten().any(|r| r.controller == Some(true) && Some(&r.uid) == pod.metadata.uid.as_ref())
    {
        return failed("PVC was not created for the pod");
    }
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    match (volume, claim.status.as_ref().and_then(|s| s.phase.as_deref())) {
        (Some(volume), Some("Bound")) => Ok(volume),
        _ => failed("PVC is not bound"),
    }
}

/// Where a persistent volume is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Used where it lies.
    HostPath(PathBuf, String),
    /// Bound into the pod's directory.
    Local(PathBuf),
}

/// The place of `volume`.
///
/// # Errors
/// A kind of volume that this kubelet cannot mount.
pub fn place(volume: &PersistentVolume) -> Result<Place, VolumeError> {
    let spec = volume.spec.as_ref();
    if let Some(source) = spec.and_then(|s| s.host_path.as_ref()) {
        return Ok(Place::HostPath(PathBuf::from(&source.path), source.type_.clone().unwrap_or_default()));
    }
    if let Some(source) = spec.and_then(|s| s.local.as_ref()) {
        return Ok(Place::Local(PathBuf::from(&source.path)));
    }
    Err(VolumeError("no volume plugin matched".into()))
}

/// Brings the place to `target`, which is `kubernetes.io~local-volume/<pv>` of the pod; gives the path to mount.
///
/// # Errors
/// A path that is not there, or what the file system says.
pub fn set_up(place: &Place, target: &Path, group: Option<(u32, bool)>) -> Result<PathBuf, VolumeError> {
    let said = |error: io::Error| VolumeError(error.to_string());
    match place {
        Place::HostPath(path, kind) => host_path::set_up(path, kind).map(|()| path.clone()),
        Place::Local(path) => {
            if !path.exists() {
                return Err(VolumeError(format!("path {:?} does not exist", path.display().to_string())));
            }
            if mounting::is_mount_point(target).map_err(said)? {
                return Ok(target.to_owned());
            }
            if let Some((group, only_on_mismatch)) = group
                && path.is_dir()
            {
                ownership::give_tree(path, group, false, only_on_mismatch).map_err(said)?;
            }
            if path.is_dir() {
                fs::create_dir_all(target).map_err(said)?;
            } else {
                target.parent().map_or(Ok(()), fs::create_dir_all).map_err(said)?;
                fs::OpenOptions::new().append(true).create(true).open(target).map_err(said)?;
            }
            mounting::bind(path, target).map_err(said)?;
            Ok(target.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(claim: serde_json::Value, owner: Option<&Pod>, expected: &str) {
        let mut claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        claim.metadata.name = Some("c".into());
        claim.metadata.namespace = Some("ns".into());
        assert_eq!(bound_volume(&claim, owner).unwrap_or_else(|e| e.to_string()), expected);
    }

    #[test]
    fn only_a_bound_claim_of_the_right_owner_counts() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}})).unwrap();
        let bound = json!({"spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"}});
        check(bound.clone(), None, "pv1");
        check(bound, Some(&pod), "error processing PVC ns/c: PVC was not created for the pod");
        check(json!({"spec": {"volumeName": "pv1"}, "status": {"phase": "Pending"}}), None, "error processing PVC ns/c: PVC is not bound");
        let owned = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
            "spec": {"volumeName": "pv2"}, "status": {"phase": "Bound"}});
        check(owned, Some(&pod), "pv2");
    }
}
