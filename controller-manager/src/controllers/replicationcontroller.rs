//! ReplicationControllers: ReplicaSets by an older name. The plan is [`replicaset::plan`](super::replicaset::plan).

use std::collections::HashMap;
use std::sync::Arc;

use api::labels::Selector;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};

use super::replicaset::{Observed, Replicated, plan, wake_for_pods};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object as _};
use crate::plan::Plan;
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};

impl Replicated for ReplicationController {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Selector {
        let labels = self.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
        labels.and_then(|l| Selector::from_parts(Some(l), []).ok()).unwrap_or_else(Selector::nothing)
    }

    fn template(&self) -> Option<PodTemplateSpec> {
        self.spec.as_ref()?.template.clone()
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        ReplicaSetStatus {
            replicas: status.replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

/// The controller.
pub struct ReplicationControllers;

impl Controller for ReplicationControllers {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.replication_controllers.subscribe(move |change: Change<'_, ReplicationController>| own.add(change.latest().key()));
        wake_for_pods::<ReplicationController>(caches, queue, |caches| &caches.replication_controllers);
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(owner) = view.caches.replication_controllers.get(key) else { return Plan::default() };
        let pods = view.caches.pods.claimable(owner.as_ref());
        let mut on_node = HashMap::new();
        for pod in pods.iter().filter(|p| pod_state::is_active(p)) {
            *on_node.entry(pod_state::node(pod).to_owned()).or_default() += 1;
        }
        plan(&Observed { pods, on_node, owner, failure: view.failure.cloned(), now: view.now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn settles_at_the_number_asked_for_and_shows_it() {
        let mut world = World::new();
        world.add::<ReplicationController>(json!({
            "metadata": {"name": "rc", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"app": "x"}, "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}}
        }));
        let key = Key::new("default", "rc");
        world.settle_with(|w| w.step(&ReplicationControllers, &key) | kubelet(w));
        assert_eq!(world.list::<Pod>().len(), 2);
        let status = world.get::<ReplicationController>(&key).and_then(|rc| rc.status).expect("a status");
        assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (2, Some(2), Some(1)));
    }
}
