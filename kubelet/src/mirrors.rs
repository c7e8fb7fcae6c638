//! Mirror pods: what the apiserver shows of static pods.
//!
//! A mirror is made for each static pod and carries its status. It commands nothing: deleting it brings it back, changing it changes nothing.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::manifests::{HASH, SOURCE};
use crate::pod::identity;

/// The annotation by which a mirror is known; its value is the hash of the static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The mirrors that the apiserver has, by namespace and name.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<HashMap<(String, String), Mirror>>);

#[derive(Debug, Clone)]
struct Mirror {
    uid: String,
    hash: String,
    deleting: bool,
}

/// Whether a pod is the mirror of another.
#[must_use]
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR))
}

/// Whether a pod comes from a file of this node.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE)).is_some_and(|s| s == "file")
}

fn key(pod: &Pod) -> (String, String) {
    let (namespace, name, _) = identity(pod);
    (namespace.to_owned(), name.to_owned())
}

impl Mirrors {
    /// The apiserver has this mirror.
    pub fn seen(&self, pod: &Pod) {
        let hash = pod.metadata.annotations.as_ref().and_then(|a| a.get(MIRROR)).cloned().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.0.lock().insert(key(pod), Mirror { uid, hash, deleting: pod.metadata.deletion_timestamp.is_some() });
    }

    /// It has it no more.
    pub fn gone(&self, pod: &Pod) {
        self.0.lock().remove(&key(pod));
    }

    /// The uid of the mirror of `pod`, made now if it is not there or is of an older form.
    ///
    /// # Errors
    /// The apiserver does not take it.
    pub async fn ensure(&self, client: &Client, pod: &Pod, node_uid: Option<String>) -> Result<String, kube::Error> {
        let hash = pod.metadata.annotations.as_ref().and_then(|a| a.get(HASH)).cloned().unwrap_or_default();
        let known = self.0.lock().get(&key(pod)).cloned();
        if let Some(mirror) = known {
            if mirror.hash == hash && !mirror.deleting {
                return Ok(mirror.uid);
            }
            self.remove(client, pod).await?;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), identity(pod).0);
        let made = match api.create(&PostParams::default(), &mirror(pod, &hash, node_uid)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(identity(pod).1).await?,
            other => other?,
        };
        self.seen(&made);
        Ok(made.metadata.uid.unwrap_or_default())
    }

    /// Deletes the mirror of `pod`, if there is one.
    ///
    /// # Errors
    /// The apiserver does not do it.
    pub async fn remove(&self, client: &Client, pod: &Pod) -> Result<(), kube::Error> {
        let Some(mirror) = self.0.lock().get(&key(pod)).cloned() else { return Ok(()) };
        let (namespace, name, _) = identity(pod);
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let preconditions = Some(Preconditions { uid: Some(mirror.uid), resource_version: None });
        match api.delete(name, &DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() }).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            other => drop(other?),
        }
        self.gone(pod);
        Ok(())
    }
}

fn mirror(pod: &Pod, hash: &str, node_uid: Option<String>) -> Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash.to_owned());
    let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    mirror.metadata.owner_references = node_uid.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node,
            uid,
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    mirror.status = None;
    mirror
}
