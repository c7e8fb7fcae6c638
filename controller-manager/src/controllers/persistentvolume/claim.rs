//! One step for a claim: towards a volume, or to know that it has lost its own.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, NO_PROVISIONER, PROVISIONER, SELECTED_NODE, annotate, claim_class, claim_ref, matching, points_to,
    volume_name, waits_for_consumer,
};
use crate::kind::Object as _;
use crate::plan::{Action, Plan};

/// What a plan is made from.
pub struct Observed {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// Its class, if it names one that there is.
    pub class: Option<Arc<StorageClass>>,
    /// The class of claims that name none.
    pub default_class: Option<Arc<StorageClass>>,
    /// All volumes, in the order of names.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// Names of the pods without a node that use the claim, when it waits for one.
    pub pods: Vec<String>,
}

/// The next step.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    if seen.claim.annotation(BIND_COMPLETED).is_some() {
        bound(seen, &mut plan)
    } else {
        unbound(seen, &mut plan)
    }
    plan
}

fn named(seen: &Observed) -> Option<&Arc<PersistentVolume>> {
    seen.volumes.iter().find(|v| v.name() == volume_name(&seen.claim))
}

/// A claim that was once bound stays so, or is lost: another volume would have other data.
fn bound(seen: &Observed, plan: &mut Plan) {
    let claim = seen.claim.as_ref();
    let lost = |plan: &mut Plan, reason: &'static str, message: &str| {
        let before = plan.actions.len();
        set_phase(claim, "Lost", None, plan);
        if plan.actions.len() > before {
            plan.push(Action::warn(claim, reason, message.to_owned()));
        }
    };
    if volume_name(claim).is_empty() {
        return lost(plan, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(volume) = named(seen) else {
        return lost(plan, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let to_another = claim_ref(volume).is_some() && !points_to(volume, claim);
    if to_another {
        return lost(plan, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly");
    }
    bind(claim, volume, plan);
}

fn unbound(seen: &Observed, plan: &mut Plan) {
    let claim = seen.claim.as_ref();
    if volume_name(claim).is_empty() {
        return search(seen, plan);
    }
    // A person, or a plan that was cut short, chose the volume.
    let Some(volume) = named(seen) else { return set_phase(claim, "Pending", None, plan) };
    if points_to(volume, claim) {
        return bind(claim, volume, plan);
    }
    if claim_ref(volume).is_some() {
        let text = format!("volume {:?} already bound to a different claim.", volume.name());
        plan.push(Action::warn(claim, "FailedBinding", text));
        return set_phase(claim, "Pending", None, plan);
    }
    match matching::check(volume, claim) {
        Ok(()) => bind(claim, volume, plan),
        Err(why) => {
            let text = format!("Cannot bind to requested volume {:?}: {why}", volume.name());
            plan.push(Action::warn(claim, "VolumeMismatch", text));
            set_phase(claim, "Pending", None, plan);
        }
    }
}

fn search(seen: &Observed, plan: &mut Plan) {
    let claim = seen.claim.as_ref();
    let waits = waits_for_consumer(seen.class.as_deref());
    if let Some(volume) = matching::best(claim, &seen.volumes, waits) {
        return bind(claim, volume, plan);
    }
    if claim.deleting() {
        return;
    }
    if let (None, Some(class)) = (claim_class(claim), &seen.default_class) {
        // The default class may be younger than the claim.
        let mut given = claim.clone();
        given.spec.get_or_insert_default().storage_class_name = Some(class.name().to_owned());
        return plan.update(claim, &given);
    }
    match claim_class(claim).filter(|c| !c.is_empty()) {
        Some(_) if waits && claim.annotation(SELECTED_NODE).is_none() => {
            let (reason, text) = match seen.pods.as_slice() {
                [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
                [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
                pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
            };
            plan.push(Action::tell(claim, reason, text));
        }
        Some(name) => provision(seen, name, plan),
        None => {
            let text = "no persistent volumes available for this claim and no storage class is set";
            plan.push(Action::tell(claim, "FailedBinding", text.to_owned()));
        }
    }
    set_phase(claim, "Pending", None, plan);
}

/// Asks the class's provisioner for a volume.
fn provision(seen: &Observed, class_name: &str, plan: &mut Plan) {
    let claim = seen.claim.as_ref();
    let failed = |why: String| Action::warn(claim, "ProvisioningFailed", why);
    let Some(class) = &seen.class else {
        return plan.push(failed(format!("storageclass.storage.k8s.io {class_name:?} not found")));
    };
    let provisioner = class.provisioner.as_str();
    if provisioner == NO_PROVISIONER || provisioner.starts_with("kubernetes.io/") {
        return plan.push(failed(format!("no volume plugin matched name: {provisioner}")));
    }
    let mut asked = claim.clone();
    PROVISIONER.iter().for_each(|key| annotate(&mut asked, key, provisioner));
    plan.update(claim, &asked);
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. \
         If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.push(Action::tell(claim, "ExternalProvisioning", text));
}

/// The next of the steps that bind: the volume points to the claim; the claim to the volume; the claim's status says so. Each
/// waits for the one before.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    let mut wanted = volume.clone();
    let spec = wanted.spec.get_or_insert_default();
    let by_us = spec.claim_ref.is_none();
    let whole = spec.claim_ref.as_ref().is_some_and(|r| r.uid.as_deref() == Some(claim.uid()));
    if !whole {
        spec.claim_ref = Some(ObjectReference { resource_version: None, ..claim.reference() });
        if by_us {
            annotate(&mut wanted, BOUND_BY_CONTROLLER, "yes");
        }
        return plan.update(volume, &wanted);
    }
    let mut wanted = claim.clone();
    if volume_name(claim).is_empty() {
        wanted.spec.get_or_insert_default().volume_name = Some(volume.name().to_owned());
        annotate(&mut wanted, BOUND_BY_CONTROLLER, "yes");
    }
    annotate(&mut wanted, BIND_COMPLETED, "yes");
    if let Some(action) = Action::update(claim, &wanted) {
        return plan.push(action);
    }
    set_phase(claim, "Bound", Some(volume), plan);
}

fn set_phase(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>, plan: &mut Plan) {
    let mut status: PersistentVolumeClaimStatus = claim.status.clone().unwrap_or_default();
    let moved = status.phase.as_deref() != Some(phase);
    status.phase = Some(phase.to_owned());
    match volume.and_then(|v| v.spec.as_ref()) {
        None => {
            status.access_modes = None;
            status.capacity = None;
        }
        Some(spec) => {
            status.access_modes.clone_from(&spec.access_modes);
            // Once it is bound, whoever resizes it says how large it is.
            if moved || status.capacity.is_none() {
                status.capacity.clone_from(&spec.capacity);
            }
            if moved {
                status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
            }
        }
    }
    plan.update_status(claim, &PersistentVolumeClaim { status: Some(status), ..claim.clone() });
}
