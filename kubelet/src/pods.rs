//! The pods this kubelet knows, with the status it last worked out: what the server, the prober and eviction look at.
//!
//! Workers write here; everybody else reads. A pod is here from the moment its source names it until its worker is done.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::RwLock;

/// A pod as its source gives it, and its status as the kubelet knows it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Metadata and spec as the source gives them.
    pub pod: Arc<Pod>,
    /// The status last worked out; newer than `pod.status`.
    pub status: Arc<PodStatus>,
}

impl Known {
    /// The id of a container, without the `containerd://` before it, when it was ever created.
    #[must_use]
    pub fn container_id(&self, name: &str) -> Option<&str> {
        let lists = [&self.status.container_statuses, &self.status.init_container_statuses, &self.status.ephemeral_container_statuses];
        let status = lists.into_iter().flatten().flatten().find(|s| s.name == name)?;
        status.container_id.as_deref()?.split_once("://").map(|(_, id)| id)
    }

    /// The pod with its newest status in it.
    #[must_use]
    pub fn whole(&self) -> Pod {
        Pod { status: Some((*self.status).clone()), ..(*self.pod).clone() }
    }
}

/// The table of pods by uid.
#[derive(Debug, Default)]
pub struct Pods(RwLock<HashMap<String, Known>>);

impl Pods {
    /// The pod with this uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Known> {
        self.0.read().get(uid).cloned()
    }

    /// The pod of this name; the younger one while an old one of the same name is still ending.
    #[must_use]
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Known> {
        let pods = self.0.read();
        let same = pods.values().filter(|k| {
            let meta = &k.pod.metadata;
            meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
        });
        same.max_by_key(|k| k.pod.metadata.creation_timestamp.as_ref().map(|t| t.0)).cloned()
    }

    /// All pods.
    #[must_use]
    pub fn all(&self) -> Vec<Known> {
        self.0.read().values().cloned().collect()
    }

    /// Puts a pod and its status, as its worker knows them.
    pub fn put(&self, uid: &str, known: Known) {
        self.0.write().insert(uid.to_owned(), known);
    }

    /// Forgets a pod whose worker is done.
    pub fn remove(&self, uid: &str) {
        self.0.write().remove(uid);
    }
}
