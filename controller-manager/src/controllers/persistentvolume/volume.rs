//! One step for a volume: free, bound, or left by its claim and to be reclaimed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{BOUND_BY_CONTROLLER, PROVISIONED_BY, claim_ref, matching, phase, volume_name};
use crate::kind::Object as _;
use crate::plan::{Action, Plan};

/// What a plan is made from.
pub struct Observed {
    /// The volume.
    pub volume: Arc<PersistentVolume>,
    /// The claim of the name that it points to.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The time.
    pub now: Timestamp,
}

/// The next step.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let volume = seen.volume.as_ref();
    let uid = claim_ref(volume).and_then(|r| r.uid.as_deref()).unwrap_or_default();
    if uid.is_empty() {
        // Free, or kept for a claim by name: then the claim takes it.
        set_phase(seen, "Available", "", &mut plan);
        return plan;
    }
    // A claim of the same name that was made later is another one.
    match seen.claim.as_ref().filter(|c| c.uid() == uid) {
        None => {
            if !matches!(phase(volume), "Released" | "Failed") {
                set_phase(seen, "Released", "", &mut plan);
            } else {
                reclaim(seen, &mut plan);
            }
        }
        Some(claim) if volume_name(claim).is_empty() => {
            if matching::modes_differ(claim, volume) {
                let text = |of: &str, name: &str| format!("Cannot bind {of} to requested {name} due to incompatible volumeMode");
                let to = format!("PersistentVolumeClaim {:?}", claim.name());
                plan.push(Action::warn(volume, "VolumeMismatch", text("PersistentVolume", &to)));
            }
        }
        Some(claim) if volume_name(claim) == volume.name() => set_phase(seen, "Bound", "", &mut plan),
        Some(_) => give_up(seen, &mut plan),
    }
    plan
}

/// The claim took another volume: this one is free again, or waits for what deletes it.
fn give_up(seen: &Observed, plan: &mut Plan) {
    let volume = seen.volume.as_ref();
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    if volume.annotation(PROVISIONED_BY).is_some() && policy == Some("Delete") {
        if !matches!(phase(volume), "Released" | "Failed") {
            set_phase(seen, "Released", "", plan);
        }
        return;
    }
    let mut free = volume.clone();
    let reference = &mut free.spec.get_or_insert_default().claim_ref;
    if volume.annotation(BOUND_BY_CONTROLLER).is_some() {
        *reference = None;
        free.metadata.annotations.iter_mut().for_each(|a| drop(a.remove(BOUND_BY_CONTROLLER)));
    } else {
        // A person keeps it for that name; only which claim of the name is forgotten.
        *reference = reference.take().map(|r| ObjectReference { uid: None, ..r });
    }
    plan.update(volume, &free);
}

/// What becomes of a volume without a claim.
fn reclaim(seen: &Observed, plan: &mut Plan) {
    let volume = seen.volume.as_ref();
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    // Whoever provisioned it deletes it.
    let external = volume.annotation(PROVISIONED_BY).is_some_and(|p| !p.starts_with("kubernetes.io/"));
    let (reason, why) = match policy {
        "Delete" if !external => {
            let why = format!("error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched", volume.name());
            ("VolumeFailedDelete", why)
        }
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => return,
    };
    if phase(volume) != "Failed" {
        set_phase(seen, "Failed", &why, plan);
        plan.push(Action::warn(volume, reason, why));
    }
}

fn set_phase(seen: &Observed, phase: &str, message: &str, plan: &mut Plan) {
    let volume = seen.volume.as_ref();
    let mut status = volume.status.clone().unwrap_or_default();
    if status.phase.as_deref() == Some(phase) {
        return;
    }
    status.phase = Some(phase.to_owned());
    status.message = Some(message.to_owned()).filter(|m| !m.is_empty());
    status.last_phase_transition_time = Some(Time(seen.now));
    plan.update_status(volume, &PersistentVolume { status: Some(status), ..volume.clone() });
}
