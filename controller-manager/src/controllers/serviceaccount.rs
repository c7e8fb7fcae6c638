//! The ServiceAccount `default` in each namespace.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, View};

const NAME: &str = "default";

/// Creates the account in a namespace that is not going.
#[must_use]
pub fn plan(namespace: Option<&Namespace>, account: Option<&ServiceAccount>) -> Plan {
    let mut plan = Plan::default();
    if let (Some(namespace), None) = (namespace.filter(|n| is_active(n)), account) {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(NAME.to_owned());
        account.metadata.namespace = namespace.metadata.name.clone();
        plan.push(Action::create(&account));
    }
    plan
}

/// Whether objects may be created in the namespace.
#[must_use]
pub fn is_active(namespace: &Namespace) -> bool {
    !namespace.deleting() && namespace.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating")
}

/// The controller. Its keys are namespaces.
pub struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.namespaces.subscribe(move |change: Change<'_, Namespace>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.service_accounts.subscribe(move |change: Change<'_, ServiceAccount>| {
            let account = change.latest();
            if change.new.is_none() && account.name() == NAME {
                own.add(Key::cluster(account.namespace()));
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let namespace = view.caches.namespaces.get(key);
        let account = view.caches.service_accounts.get(&Key::new(&key.name, NAME));
        plan(namespace.as_deref(), account.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::json;

    #[test]
    fn each_namespace_gets_one_unless_it_is_going() {
        let mut world = World::new();
        world.add::<Namespace>(json!({"metadata": {"name": "a"}}));
        world.add::<Namespace>(json!({"metadata": {"name": "b"}, "status": {"phase": "Terminating"}}));
        world.settle::<Namespace>(&ServiceAccounts);
        assert_eq!(world.told(), "create ServiceAccount default\n");
        world.remove::<ServiceAccount>(&Key::new("a", "default"));
        world.settle::<Namespace>(&ServiceAccounts);
        assert_eq!(world.told(), "create ServiceAccount default\n");
    }
}
