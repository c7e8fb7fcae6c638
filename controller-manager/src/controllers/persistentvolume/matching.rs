//! Which volume fits a claim.

use std::str::FromStr as _;
use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{claim_class, claim_ref, phase, points_to, volume_class};
use crate::kind::Object as _;
use crate::ownership::{matches, selector};

/// How much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    let text = volume.spec.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage"));
    text.and_then(|q| Quantity::from_str(&q.0).ok()).unwrap_or(Quantity::ZERO)
}

/// How much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let text = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"));
    text.and_then(|q| Quantity::from_str(&q.0).ok()).unwrap_or(Quantity::ZERO)
}

/// Whether one is a file system and the other a block device.
pub fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let mode = |m: Option<&String>| m.cloned().unwrap_or_else(|| "Filesystem".to_owned());
    let of_claim = mode(claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref()));
    of_claim != mode(volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
}

fn has_access_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let has = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| has.contains(mode))
}

fn attributes_class(name: Option<&String>) -> &str {
    name.map(String::as_str).unwrap_or_default()
}

fn attributes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let of_claim = attributes_class(claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()));
    of_claim != attributes_class(volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()))
}

/// Whether a volume that a claim names will do.
///
/// # Errors
/// Why not, as the event says it.
pub fn check(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), &'static str> {
    if capacity(volume) < requested(claim) {
        return Err("requested PV is too small");
    }
    if volume_class(volume) != claim_class(claim).unwrap_or_default() {
        return Err("storageClassName does not match");
    }
    if attributes_differ(claim, volume) {
        return Err("volumeAttributesClassName does not match");
    }
    if modes_differ(claim, volume) {
        return Err("incompatible volumeMode");
    }
    if !has_access_modes(claim, volume) {
        return Err("incompatible accessMode");
    }
    Ok(())
}

/// The volume for a claim: one that is kept for it, else the smallest free one that fits. `volumes` is in the order of names,
/// and of equal ones the first is taken. A claim that `waits` for its first pod only gets what is kept for it.
#[must_use]
pub fn best<'a>(claim: &PersistentVolumeClaim, volumes: &'a [Arc<PersistentVolume>], waits: bool) -> Option<&'a Arc<PersistentVolume>> {
    let class = claim_class(claim).unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| s.selector.as_ref()).map(selector);
    let fits = |v: &&Arc<PersistentVolume>| {
        requested(claim) <= capacity(v) && !modes_differ(claim, v) && !attributes_differ(claim, v) && !v.deleting()
    };
    let kept = volumes.iter().filter(fits).find(|v| points_to(v, claim));
    let free = |v: &&Arc<PersistentVolume>| {
        claim_ref(v).is_none()
            && phase(v) == "Available"
            && wanted.as_ref().is_none_or(|s| matches(s, v.as_ref()))
            && volume_class(v) == class
            && has_access_modes(claim, v)
    };
    kept.or_else(|| if waits { None } else { volumes.iter().filter(fits).filter(free).min_by_key(|v| capacity(v)) })
}
