//! Deletes bootstrap tokens that have expired.

use std::sync::Arc;

use jiff::Timestamp;

use crate::bootstrap::BootstrapToken;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan, Propagation};
use crate::queue::Queue;
use crate::runner::{Controller, View};

/// Deletes the token, when its time is over.
#[must_use]
pub fn plan(token: &BootstrapToken, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match token.expires_at() {
        Some(at) if at <= now => plan.push(Action::delete(token, Propagation::Default)),
        Some(at) => plan.recheck(at),
        None => {}
    }
    plan
}

/// The controller.
pub struct TokenCleaner;

impl Controller for TokenCleaner {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.bootstrap_tokens.subscribe(move |change: Change<'_, BootstrapToken>| queue.add(change.latest().key()));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        view.caches.bootstrap_tokens.get(key).map_or_else(Plan::default, |token| plan(&token, view.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use k8s_openapi::ByteString;
    use serde_json::json;

    #[test]
    fn goes_when_it_has_expired() {
        let mut world = World::new();
        for (name, expiration) in [("a", "2026-01-01T01:00:00Z"), ("b", ""), ("c", "2027-01-01T00:00:00Z")] {
            world.add::<BootstrapToken>(json!({"metadata": {"name": name, "namespace": "kube-system"},
                "data": {"expiration": ByteString(expiration.as_bytes().to_vec())}}));
        }
        world.settle::<BootstrapToken>(&TokenCleaner);
        assert_eq!(world.told(), "");
        world.pass(3600);
        world.settle::<BootstrapToken>(&TokenCleaner);
        assert_eq!(world.told(), "delete BootstrapToken a\n");
    }
}
