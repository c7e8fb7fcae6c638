//! ClusterRoles that are the sum of others: whatever a labelled role allows, the aggregating role allows too.
//!
//! The rules of an aggregating role are this controller's alone: each different rule once, in the order of the roles' names.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::ownership::{matches, selector};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// Gives `role` the rules of all the roles that it selects. `all` is in the order of names.
#[must_use]
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Plan {
    let mut plan = Plan::default();
    let Some(aggregation) = role.aggregation_rule.as_ref().filter(|_| !role.deleting()) else { return plan };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for wanted in aggregation.cluster_role_selectors.iter().flatten().map(selector) {
        for other in all.iter().filter(|o| o.name() != role.name() && matches(&wanted, o.as_ref())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    if rules.as_slice() != role.rules.as_deref().unwrap_or_default() {
        plan.update(role, &ClusterRole { rules: Some(rules), ..role.clone() });
    }
    plan
}

/// The controller.
pub struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let (all, queue) = (caches.clone(), queue.clone());
        caches.cluster_roles.subscribe(move |change: Change<'_, ClusterRole>| {
            // A role that itself aggregates may be summed up in another one: all of them are looked at.
            all.cluster_roles.list().iter().filter(|r| r.aggregation_rule.is_some()).for_each(|r| queue.add(r.key()));
            if change.latest().aggregation_rule.is_some() {
                queue.add(change.latest().key());
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let roles = &view.caches.cluster_roles;
        roles.get(key).map_or_else(Plan::default, |role| plan(&role, &roles.list()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::{Value, json};

    fn role(world: &mut World, name: &str, labels: Value, selects: Option<&str>, resource: Option<&str>) {
        let aggregation = selects.map(|label| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}));
        let rules = resource.map(|r| json!([{"verbs": ["get"], "apiGroups": [""], "resources": [r]}]));
        world.add::<ClusterRole>(json!({"metadata": {"name": name, "labels": labels}, "aggregationRule": aggregation, "rules": rules}));
    }

    fn resources(world: &World, name: &str) -> String {
        let role = world.get::<ClusterRole>(&Key::cluster(name)).expect("the role");
        let all = role.rules.iter().flatten().flat_map(|r| r.resources.clone().unwrap_or_default());
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sums_up_through_several_steps_and_follows_changes() {
        let mut world = World::new();
        role(&mut world, "edit", json!({}), Some("to-edit"), None);
        role(&mut world, "view", json!({"to-edit": "true"}), Some("to-view"), Some("secrets"));
        role(&mut world, "a", json!({"to-view": "true"}), None, Some("pods"));
        role(&mut world, "b", json!({"to-view": "true", "to-edit": "true"}), None, Some("services"));
        role(&mut world, "c", json!({"to-view": "true"}), None, Some("pods"));
        world.settle::<ClusterRole>(&ClusterRoleAggregation);
        assert_eq!((resources(&world, "view").as_str(), resources(&world, "edit").as_str()), ("pods services", "services pods"));
        world.remove::<ClusterRole>(&Key::cluster("b"));
        world.settle::<ClusterRole>(&ClusterRoleAggregation);
        assert_eq!((resources(&world, "view").as_str(), resources(&world, "edit").as_str()), ("pods", "pods"));
    }

    #[test]
    fn a_role_that_selects_itself_does_not_grow() {
        let mut world = World::new();
        role(&mut world, "view", json!({"to-view": "true"}), Some("to-view"), Some("own"));
        role(&mut world, "a", json!({"to-view": "true"}), None, Some("pods"));
        world.settle::<ClusterRole>(&ClusterRoleAggregation);
        assert_eq!(resources(&world, "view"), "pods");
    }
}
