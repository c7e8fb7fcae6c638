//! The claims of generic ephemeral volumes: each pod gets its own, which lives as long as the pod (KEP-1698).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::ownership::controls;
use crate::plan::{Action, Plan};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// The name of the claim of a pod's ephemeral volume.
#[must_use]
pub fn claim_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.name())
}

/// Whether the claim was made for the pod. One that only has the name is somebody else's, and must not be used.
#[must_use]
pub fn is_for(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    claim.namespace() == pod.namespace() && controls(pod, claim)
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| v.ephemeral.is_some())
}

/// Creates the claims that the pod lacks. `claims` are those with the names of its claims.
#[must_use]
pub fn plan(pod: &Pod, claims: &[Arc<PersistentVolumeClaim>]) -> Plan {
    let mut plan = Plan::default();
    if pod.deleting() || pod_state::is_terminal(pod) {
        return plan;
    }
    for volume in ephemeral(pod) {
        let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) else { continue };
        let name = claim_name(pod, &volume.name);
        match claims.iter().find(|c| c.name() == name) {
            Some(claim) if is_for(pod, claim) => {}
            Some(_) => {
                let text =
                    format!("PVC {}/{name} was not created for pod {}/{} (pod is not owner)", pod.namespace(), pod.namespace(), pod.name());
                plan.push(Action::warn(pod, "FailedBinding", format!("ephemeral volume {}: {text}", volume.name)));
            }
            None => {
                let from = template.metadata.clone().unwrap_or_default();
                let mut claim = PersistentVolumeClaim { spec: Some(template.spec.clone()), ..PersistentVolumeClaim::default() };
                claim.metadata.name = Some(name);
                claim.metadata.namespace = pod.metadata.namespace.clone();
                claim.metadata.labels = from.labels;
                claim.metadata.annotations = from.annotations;
                claim.metadata.owner_references = Some(vec![pod.controller_ref()]);
                let failed = ("FailedBinding", format!("ephemeral volume {}: create PVC {}: {{}}", volume.name, claim.name()));
                plan.push(Action::create(&claim).about(pod, None, failed));
            }
        }
    }
    plan
}

/// The controller. Its keys are pods.
pub struct EphemeralVolumes;

impl Controller for EphemeralVolumes {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            if change.new.is_some_and(|p| ephemeral(p).next().is_some()) {
                own.add(change.latest().key());
            }
        });
        let own = queue.clone();
        caches.persistent_volume_claims.subscribe(move |change: Change<'_, PersistentVolumeClaim>| {
            // One that is gone may be needed again.
            if let (Some(gone), None) = (change.old, change.new)
                && let Some(key) = crate::ownership::controller_key::<Pod>(&gone.metadata)
            {
                own.add(key);
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(pod) = view.caches.pods.get(key) else { return Plan::default() };
        let find = |v: &Volume| view.caches.persistent_volume_claims.get(&Key::new(&key.namespace, claim_name(&pod, &v.name)));
        let claims: Vec<_> = ephemeral(&pod).filter_map(find).collect();
        plan(&pod, &claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use expect_test::expect;
    use serde_json::json;

    fn world() -> World {
        let mut world = World::new();
        world.add::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [], "volumes": [
            {"name": "a", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"x": "y"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
            {"name": "b", "emptyDir": {}}]}}));
        world
    }

    #[test]
    fn a_pod_gets_its_own_claim() {
        let mut world = world();
        world.settle::<Pod>(&EphemeralVolumes);
        assert_eq!(world.told(), "create PersistentVolumeClaim p-a\n");
        let claim = world.get::<PersistentVolumeClaim>(&Key::new("default", "p-a")).expect("it");
        assert_eq!((claim.label("x"), is_for(&world.list::<Pod>()[0], &claim)), (Some("y"), true));
    }

    #[test]
    fn a_claim_of_the_same_name_is_left_alone_and_told_of() {
        let mut world = world();
        world.add::<PersistentVolumeClaim>(json!({"metadata": {"name": "p-a", "namespace": "default"}}));
        world.settle::<Pod>(&EphemeralVolumes);
        expect![[r#"
            event Warning FailedBinding ephemeral volume a: PVC default/p-a was not created for pod default/p (pod is not owner)
        "#]]
        .assert_eq(&world.told());
    }
}
