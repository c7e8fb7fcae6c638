//! A PersistentVolume stays as long as it is bound: its finalizer goes when it is being deleted and no claim has it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, View};

const FINALIZER: &str = "kubernetes.io/pv-protection";

/// The patch that puts the finalizer on `object`, or takes it off; nothing when it is so already.
pub(super) fn hold<K: Object>(object: &K, finalizer: &str, held: bool) -> Option<Action> {
    let mut wanted = object.clone();
    let finalizers = wanted.meta_mut().finalizers.get_or_insert_default();
    if finalizers.iter().any(|f| f == finalizer) == held {
        return None;
    }
    if held {
        finalizers.push(finalizer.to_owned());
    } else {
        finalizers.retain(|f| f != finalizer);
    }
    if finalizers.is_empty() {
        wanted.meta_mut().finalizers = None;
    }
    Action::update(object, &wanted)
}

/// Holds the volume, or lets go of it.
#[must_use]
pub fn plan(volume: &PersistentVolume) -> Plan {
    let mut plan = Plan::default();
    let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    if !volume.deleting() {
        plan.push(hold(volume, FINALIZER, true));
    } else if !bound {
        plan.push(hold(volume, FINALIZER, false));
    }
    plan
}

/// The controller.
pub struct PvProtection;

impl Controller for PvProtection {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.persistent_volumes.subscribe(move |change: Change<'_, PersistentVolume>| queue.add(change.latest().key()));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        view.caches.persistent_volumes.get(key).map_or_else(Plan::default, |volume| plan(&volume))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::json;

    #[test]
    fn a_bound_volume_is_held() {
        let mut world = World::new();
        let key = Key::cluster("v");
        world.add::<PersistentVolume>(json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"}}));
        world.settle::<PersistentVolume>(&PvProtection);
        assert_eq!(world.told(), "patch PersistentVolume v {\"metadata\":{\"finalizers\":[\"kubernetes.io/pv-protection\"]}}\n");
        let now = world.now;
        world.edit::<PersistentVolume>(&key, |v| {
            v.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        });
        world.settle::<PersistentVolume>(&PvProtection);
        assert_eq!(world.told(), "");
        world.edit::<PersistentVolume>(&key, |v| v.status.get_or_insert_default().phase = Some("Released".to_owned()));
        world.settle::<PersistentVolume>(&PvProtection);
        assert!(world.get::<PersistentVolume>(&key).is_none());
    }
}
