//! A claim stays as long as a pod on a node uses it: its finalizer goes when it is being deleted and no such pod is left.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::ephemeral_volume::{claim_name, is_for};
use super::pv_protection::hold;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::Plan;
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

/// Holds the claim, or lets go of it. `pods` are those of its namespace.
#[must_use]
pub fn plan(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Plan {
    let mut plan = Plan::default();
    if !claim.deleting() {
        plan.push(hold(claim, FINALIZER, true));
    } else if !pods.iter().any(|pod| uses(pod, claim)) {
        plan.push(hold(claim, FINALIZER, false));
    }
    plan
}

/// Whether the pod, which must have a node, uses the claim. A pod without one will not get its claim any more: its kubelet would
/// refuse a claim that is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pod_state::node(pod).is_empty() {
        return false;
    }
    let shut_down = pod.deleting() && pod.metadata.deletion_grace_period_seconds == Some(0);
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|volume| {
        let named = volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == claim.name());
        let own = volume.ephemeral.is_some() && !shut_down && claim_name(pod, &volume.name) == claim.name() && is_for(pod, claim);
        named || own
    })
}

/// The controller.
pub struct PvcProtection;

impl Controller for PvcProtection {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.persistent_volume_claims.subscribe(move |change: Change<'_, PersistentVolumeClaim>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            let pod = change.latest();
            for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
                let name = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                    (Some(claim), _) => claim.claim_name.clone(),
                    (None, Some(_)) => claim_name(pod, &volume.name),
                    (None, None) => continue,
                };
                let key = Key::new(pod.namespace(), name);
                if all.persistent_volume_claims.get(&key).is_some_and(|c| c.deleting()) {
                    own.add(key);
                }
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(claim) = view.caches.persistent_volume_claims.get(key) else { return Plan::default() };
        let pods = if claim.deleting() { view.caches.pods.in_namespace(&key.namespace) } else { Vec::new() };
        plan(&claim, &pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    #[test]
    fn a_claim_in_use_is_held() {
        let mut world = World::new();
        let (claim, pod) = (Key::new("default", "c"), Key::new("default", "p"));
        world.add::<PersistentVolumeClaim>(json!({"metadata": {"name": "c", "namespace": "default"}}));
        world.add::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": "n", "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}));
        world.settle::<PersistentVolumeClaim>(&PvcProtection);
        assert_eq!(world.told(), "patch PersistentVolumeClaim c {\"metadata\":{\"finalizers\":[\"kubernetes.io/pvc-protection\"]}}\n");
        let now = world.now;
        world.edit::<PersistentVolumeClaim>(&claim, |c| c.metadata.deletion_timestamp = Some(Time(now)));
        world.edit::<Pod>(&pod, |p| p.status.get_or_insert_default().phase = Some("Succeeded".to_owned()));
        world.settle::<PersistentVolumeClaim>(&PvcProtection);
        assert_eq!(world.told(), "", "a pod that has ended still uses it");
        world.remove::<Pod>(&pod);
        world.settle::<PersistentVolumeClaim>(&PvcProtection);
        assert!(world.get::<PersistentVolumeClaim>(&claim).is_none());
    }

    #[test]
    fn a_pod_without_a_node_does_not_hold() {
        let mut world = World::new();
        let now = world.now;
        world.add::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}));
        world.add::<PersistentVolumeClaim>(json!({"metadata": {"name": "c", "namespace": "default", "finalizers": [FINALIZER],
            "deletionTimestamp": Time(now), "deletionGracePeriodSeconds": 0}}));
        world.settle::<PersistentVolumeClaim>(&PvcProtection);
        assert!(world.list::<PersistentVolumeClaim>().is_empty());
    }
}
