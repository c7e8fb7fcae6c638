//! The ConfigMap kube-root-ca.crt in each namespace: the authority that pods trust the apiserver by.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};

use super::serviceaccount::is_active;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, View};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
/// As upstream words it.
const DESCRIBED: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
                         internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Creates the ConfigMap, or puts back what was changed in it.
#[must_use]
pub fn plan(namespace: Option<&Namespace>, published: Option<&ConfigMap>, bundle: &str) -> Plan {
    let mut plan = Plan::default();
    let Some(namespace) = namespace.filter(|n| is_active(n)) else { return plan };
    let mut wanted = published.cloned().unwrap_or_default();
    wanted.data = Some([(FILE.to_owned(), bundle.to_owned())].into());
    wanted.binary_data = None;
    wanted.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.to_owned(), DESCRIBED.to_owned());
    match published {
        Some(published) => plan.update(published, &wanted),
        None => {
            wanted.metadata.name = Some(NAME.to_owned());
            wanted.metadata.namespace = namespace.metadata.name.clone();
            plan.push(Action::create(&wanted));
        }
    }
    plan
}

/// The controller. Its keys are namespaces.
pub struct RootCa {
    bundle: String,
}

impl RootCa {
    /// Publishes the certificates in `file`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let bundle = std::fs::read_to_string(file).with_context(|| format!("reading the root CA {}", file.display()))?;
        Ok(Self { bundle })
    }
}

impl Controller for RootCa {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.namespaces.subscribe(move |change: Change<'_, Namespace>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.config_maps.subscribe(move |change: Change<'_, ConfigMap>| own.add(Key::cluster(change.latest().namespace())));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let published = view.caches.config_maps.get(&Key::new(&key.name, NAME));
        plan(view.caches.namespaces.get(key).as_deref(), published.as_deref(), &self.bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::json;

    #[test]
    fn is_published_and_put_back() {
        let mut world = World::new();
        let controller = RootCa { bundle: "PEM".into() };
        world.add::<Namespace>(json!({"metadata": {"name": "a"}}));
        world.settle::<Namespace>(&controller);
        assert_eq!(world.told(), "create ConfigMap kube-root-ca.crt\n");
        world.edit::<ConfigMap>(&Key::new("a", NAME), |c| c.data = Some([("other".to_owned(), "x".to_owned())].into()));
        world.settle::<Namespace>(&controller);
        assert_eq!(world.told(), "patch ConfigMap kube-root-ca.crt {\"data\":{\"ca.crt\":\"PEM\",\"other\":null}}\n");
    }
}
