//! Brings PersistentVolumes and the claims on them together, and says what becomes of a volume whose claim is gone.
//!
//! A binding is two pointers, `claimRef` of the volume and `volumeName` of the claim, written one after the other: the volume's
//! first, so that no two claims ever get one volume. Each plan takes one step, and whatever was begun is found and finished by
//! the next ([`claim`], [`volume`]). Nothing here makes or deletes real storage: that is for provisioners outside.

mod claim;
mod matching;
#[cfg(test)]
mod tests;
mod volume;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// On a claim: volume and claim point to each other, so if the volume goes the claim is lost.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either: the pointer to the other was written by a controller, not by a person.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: what made it, and deletes what is behind it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the node that the scheduler chose for its first pod.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to provision a volume for it; the second name is from before 1.23.
const PROVISIONER: [&str; 2] = ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// The class, from before `storageClassName`.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a class: claims that name none get this one; the second name is from before v1.
const DEFAULT_CLASS: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// A class of this provisioner is for volumes made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The claim that a volume points to, as its index.
pub(crate) fn claim_index(volume: &PersistentVolume) -> Option<String> {
    let claim = claim_ref(volume)?;
    Some(format!("{}/{}", claim.namespace.as_deref().unwrap_or_default(), claim.name.as_deref().unwrap_or_default()))
}

/// Whether the volume points to the claim: by name, and by uid if it says one.
fn points_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(to) = claim_ref(volume) else { return false };
    let same = to.name.as_deref() == Some(claim.name()) && to.namespace.as_deref() == Some(claim.namespace());
    same && to.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid())
}

/// The name of the volume that a claim points to; empty for none.
fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// The claim's class; nothing when it does not say, which is not the same as the class without a name.
fn claim_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.annotation(CLASS).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

fn volume_class(volume: &PersistentVolume) -> &str {
    volume.annotation(CLASS).or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref()).unwrap_or_default()
}

/// Whether claims of the class wait until a pod that uses them has a node.
fn waits_for_consumer(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn annotate<K: Object>(object: &mut K, key: &str, value: &str) {
    object.meta_mut().annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
}

fn uses(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), v.name)),
        (None, None) => None,
    })
}

/// The controller. Keys without a namespace are volumes, the others claims.
pub struct PersistentVolumes;

impl Controller for PersistentVolumes {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let unbound = |all: &Caches, queue: &Queue| {
            let waiting = |c: &&Arc<PersistentVolumeClaim>| c.annotation(BIND_COMPLETED).is_none();
            all.persistent_volume_claims.list().iter().filter(waiting).for_each(|c| queue.add(c.key()));
        };
        let (all, own) = (caches.clone(), queue.clone());
        caches.persistent_volume_claims.subscribe(move |change: Change<'_, PersistentVolumeClaim>| {
            let key = change.latest().key();
            all.persistent_volumes.indexed(&key.to_string()).iter().for_each(|v| own.add(v.key()));
            change.both().map(volume_name).filter(|n| !n.is_empty()).for_each(|name| own.add(Key::cluster(name)));
            own.add(key);
        });
        let (all, own) = (caches.clone(), queue.clone());
        caches.persistent_volumes.subscribe(move |change: Change<'_, PersistentVolume>| {
            own.add(change.latest().key());
            for to in change.both().filter_map(claim_ref) {
                own.add(Key::new(to.namespace.clone().unwrap_or_default(), to.name.clone().unwrap_or_default()));
            }
            if change.new.is_some_and(|v| claim_ref(v).is_none()) {
                unbound(&all, &own);
            }
        });
        let (all, own) = (caches.clone(), queue.clone());
        caches.storage_classes.subscribe(move |_: Change<'_, StorageClass>| unbound(&all, &own));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            // Only what is told about a claim that waits depends on pods.
            let Some(pod) = change.new.filter(|p| crate::pod_state::node(p).is_empty()) else { return };
            for name in uses(pod) {
                let key = Key::new(pod.namespace(), name);
                if all.persistent_volume_claims.get(&key).is_some_and(|c| volume_name(&c).is_empty()) {
                    own.add(key);
                }
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        if key.namespace.is_empty() {
            let Some(volume) = caches.persistent_volumes.get(key) else { return Plan::default() };
            let claim = claim_index(&volume)
                .and_then(|i| i.split_once('/').map(|(ns, name)| Key::new(ns, name)))
                .and_then(|key| caches.persistent_volume_claims.get(&key));
            return volume::plan(&volume::Observed { volume, claim, now: view.now });
        }
        let Some(claim) = caches.persistent_volume_claims.get(key) else { return Plan::default() };
        let class = claim_class(&claim).filter(|c| !c.is_empty());
        let class = class.and_then(|name| caches.storage_classes.get(&Key::cluster(name)));
        let newest = |c: &Arc<StorageClass>| (c.metadata.creation_timestamp.as_ref().map(|t| t.0), std::cmp::Reverse(c.name().to_owned()));
        let is_default = |c: &Arc<StorageClass>| DEFAULT_CLASS.iter().any(|a| c.annotation(a) == Some("true"));
        let default_class = caches.storage_classes.list().into_iter().filter(is_default).max_by_key(newest);
        let waiting = || {
            let all = caches.pods.in_namespace(&key.namespace);
            let waits = |p: &Arc<Pod>| crate::pod_state::node(p).is_empty() && uses(p).any(|name| name == key.name);
            all.into_iter().filter(waits).map(|p| p.name().to_owned()).collect()
        };
        let pods = if waits_for_consumer(class.as_deref()) && volume_name(&claim).is_empty() { waiting() } else { Vec::new() };
        claim::plan(&claim::Observed { claim, class, default_class, volumes: caches.persistent_volumes.list(), pods })
    }
}
