//! A VolumeAttributesClass stays as long as a claim or a volume names it: its finalizer goes when it is being deleted and nobody does (KEP-3751).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::pv_protection::hold;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::runner::{Controller, View};

const FINALIZER: &str = "kubernetes.io/vac-protection";

/// Holds the class, or lets go of it.
#[must_use]
pub fn plan(class: &VolumeAttributesClass, claims: &[Arc<PersistentVolumeClaim>], volumes: &[Arc<PersistentVolume>]) -> Plan {
    let mut plan = Plan::default();
    let used =
        || claims.iter().any(|c| of_claim(c).any(|n| n == class.name())) || volumes.iter().any(|v| of_volume(v) == Some(class.name()));
    if !class.deleting() {
        plan.push(hold(class, FINALIZER, true));
    } else if !used() {
        plan.push(hold(class, FINALIZER, false));
    }
    plan
}

/// The classes that a claim wants, has, or is on its way to.
fn of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|s| s.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten()
}

fn of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

/// The controller.
pub struct VacProtection;

impl Controller for VacProtection {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.volume_attributes_classes.subscribe(move |change: Change<'_, VolumeAttributesClass>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.persistent_volume_claims.subscribe(move |change: Change<'_, PersistentVolumeClaim>| {
            change.both().flat_map(of_claim).for_each(|name| own.add(Key::cluster(name)));
        });
        let own = queue.clone();
        caches.persistent_volumes.subscribe(move |change: Change<'_, PersistentVolume>| {
            change.both().filter_map(of_volume).for_each(|name| own.add(Key::cluster(name)));
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(class) = view.caches.volume_attributes_classes.get(key) else { return Plan::default() };
        plan(&class, &view.caches.persistent_volume_claims.list(), &view.caches.persistent_volumes.list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::json;

    #[test]
    fn a_class_that_is_named_is_held() {
        let mut world = World::new();
        let (key, claim) = (Key::cluster("gold"), Key::new("default", "c"));
        world.add::<VolumeAttributesClass>(json!({"metadata": {"name": "gold"}, "driverName": "d", "parameters": {"a": "b"}}));
        world.add::<PersistentVolumeClaim>(
            json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeAttributesClassName": "gold"}}),
        );
        world.settle::<VolumeAttributesClass>(&VacProtection);
        assert_eq!(world.told(), "patch VolumeAttributesClass gold {\"metadata\":{\"finalizers\":[\"kubernetes.io/vac-protection\"]}}\n");
        let now = world.now;
        world.edit::<VolumeAttributesClass>(&key, |c| {
            c.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        });
        world.settle::<VolumeAttributesClass>(&VacProtection);
        assert_eq!(world.told(), "");
        // The claim wants another one, but its volume still has this.
        world.edit::<PersistentVolumeClaim>(&claim, |c| {
            c.spec.get_or_insert_default().volume_attributes_class_name = Some("silver".to_owned());
            c.status.get_or_insert_default().current_volume_attributes_class_name = Some("gold".to_owned());
        });
        world.settle::<VolumeAttributesClass>(&VacProtection);
        assert_eq!(world.told(), "");
        world.edit::<PersistentVolumeClaim>(&claim, |c| {
            c.status.get_or_insert_default().current_volume_attributes_class_name = Some("silver".to_owned());
        });
        world.settle::<VolumeAttributesClass>(&VacProtection);
        assert!(world.get::<VolumeAttributesClass>(&key).is_none());
    }
}
