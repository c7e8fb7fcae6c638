//! Deletes what nobody owns any more, and carries out deletions in the foreground and those that orphan.
//!
//! [`graph`] knows who owns whom and decides; [`monitors`] feed it from every deletable resource that discovery names. Here is
//! the work on one object: look afresh at it and at the owners the graph does not know, decide, act with preconditions.
//! Nothing is deleted because of what a cache says: an owner is absent when the apiserver has no object of its name and uid.

mod graph;
mod monitors;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::{Value, json};

use self::graph::{Decision, FOREGROUND, Graph, Meta, Node, ORPHAN, Owner, Verdict, decide};
use crate::apply::{Outcome, code, json_request, message};
use crate::caches::Caches;
use crate::discovery::{Resource, group};
use crate::kind::Key;
use crate::plan::{Failure, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// The controller. Its keys are uids.
#[derive(Default)]
pub struct GarbageCollector {
    graph: Arc<Mutex<Graph>>,
    resources: RwLock<Vec<Arc<Resource>>>,
    /// Set when all monitors had their first list: before, an unknown owner means nothing.
    complete: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Whole {
    metadata: Meta,
}

/// What the owners of an object turned out to be; or a reference that can never be right.
enum Owners {
    Known(Vec<(Owner, Verdict)>),
    /// An object outside of namespaces refers to one inside.
    Impossible(Owner),
}

impl Controller for GarbageCollector {
    fn subscribe(&self, _caches: &Arc<Caches>, _queue: &Arc<Queue>) {}

    fn plan(&self, _view: &View<'_>, _key: &Key) -> Plan {
        Plan::default() // what to do is known only after looking afresh: see `act`
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, _failure: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let done = self.look(run, &key.name).await;
            let outcome = match done {
                Ok(()) => Outcome::default(),
                Err(error) if code(&error) == Some(404) => Outcome::default(),
                Err(error) if code(&error) == Some(409) => Outcome { stale: true, failure: None },
                Err(error) => Outcome { failure: Some(Failure { reason: "", message: message(&error) }), stale: false },
            };
            (outcome, None)
        })
    }

    fn background<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, ()> {
        Box::pin(monitors::keep(self, run))
    }
}

impl GarbageCollector {
    async fn look(&self, run: &Run, uid: &str) -> kube::Result<()> {
        if !self.complete.load(Ordering::Acquire) {
            return Ok(()); // everything is looked at when the graph is complete
        }
        let Some(node) = self.graph.lock().get(uid).cloned() else { return Ok(()) };
        let client = run.executor.client();
        match (node.deleting, node.orphan, node.foreground) {
            (true, true, _) => self.orphan_dependents(client, uid, &node).await,
            (true, false, true) => self.go_after_dependents(run, uid, &node).await,
            (true, false, false) => Ok(()),
            (false, ..) => self.collect(run, uid, &node).await,
        }
    }

    /// An object that is not being deleted: does anybody still own it?
    async fn collect(&self, run: &Run, uid: &str, node: &Node) -> kube::Result<()> {
        let client = run.executor.client();
        let Some(meta) = read(client, &node.resource, &node.key).await?.filter(|m| m.uid == uid) else { return Ok(()) };
        if meta.deletion_timestamp.is_some() || meta.owner_references.is_empty() {
            return Ok(());
        }
        let owners = match self.owners(client, node, &meta).await? {
            Owners::Known(owners) => owners,
            Owners::Impossible(owner) => {
                let text =
                    format!("namespaced owner reference of a cluster-scoped object: {} {} {}", owner.api_version, owner.kind, owner.name);
                run.executor.events().record(&reference(node, uid), true, "OwnerRefInvalidNamespace", &text);
                return Ok(());
            }
        };
        let (dependents, circle) = {
            let graph = self.graph.lock();
            let waiting = |d: &str| graph.get(d).is_some_and(Node::waits_for_dependents);
            (graph.dependents(uid).next().is_some(), graph.dependents(uid).any(waiting))
        };
        match decide(&owners, dependents, &meta.finalizers) {
            Decision::Keep => Ok(()),
            Decision::Drop(gone) => drop_owners(client, node, &meta, |o| gone.contains(&o.uid)).await,
            Decision::Delete(policy) => {
                if policy == "Foreground" && circle {
                    // Its dependent waits for dependents too, perhaps for this one: nobody in a circle may block.
                    unblock(client, node, &meta).await?;
                }
                tracing::info!(
                    namespace = node.key.namespace,
                    name = node.key.name,
                    kind = node.resource.kind,
                    policy,
                    "deleting: its owners are gone"
                );
                let options =
                    json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid }, "propagationPolicy": policy });
                client
                    .request_text(json_request(Request::delete(node.resource.path(&node.key)), "application/json", &options)?)
                    .await
                    .map(drop)
            }
        }
    }

    async fn owners(&self, client: &Client, node: &Node, meta: &Meta) -> kube::Result<Owners> {
        let mut known = Vec::new();
        for owner in &meta.owner_references {
            let seen = {
                let graph = self.graph.lock();
                graph.get(&owner.uid).filter(|n| n.is(owner, &node.key.namespace)).map(Node::waits_for_dependents)
            };
            let verdict = match seen {
                Some(true) => Verdict::Waiting,
                Some(false) => Verdict::Solid,
                None => {
                    let resource = self.resource_of(owner)?;
                    if resource.namespaced && !node.resource.namespaced {
                        return Ok(Owners::Impossible(owner.clone()));
                    }
                    let namespace = if resource.namespaced { node.key.namespace.as_str() } else { "" };
                    match read(client, &resource, &Key::new(namespace, &owner.name)).await? {
                        Some(live) if live.uid == owner.uid && live.waits_for_dependents() => Verdict::Waiting,
                        Some(live) if live.uid == owner.uid => Verdict::Solid,
                        _ => Verdict::Absent,
                    }
                }
            };
            known.push((owner.clone(), verdict));
        }
        Ok(Owners::Known(known))
    }

    /// # Errors
    /// A kind that is not served: whether such an owner exists cannot be known, so nothing is deleted for its sake.
    fn resource_of(&self, owner: &Owner) -> kube::Result<Arc<Resource>> {
        let found = self.resources.read().iter().find(|r| r.kind == owner.kind && r.group() == group(&owner.api_version)).cloned();
        found.ok_or_else(|| {
            let text = format!("unable to get REST mapping for {}/{}", owner.api_version, owner.kind);
            kube::Error::Api(kube::core::Status::failure(&text, "ServiceUnavailable").with_code(503).boxed())
        })
    }

    /// An object deleted in the foreground: its dependents first.
    async fn go_after_dependents(&self, run: &Run, uid: &str, node: &Node) -> kube::Result<()> {
        let (blocking, others): (Vec<(String, bool)>, Vec<String>) = {
            let graph = self.graph.lock();
            (graph.blocking(uid), graph.dependents(uid).map(str::to_owned).collect())
        };
        if blocking.is_empty() {
            return drop_finalizer(run.executor.client(), node, uid, FOREGROUND).await;
        }
        let waits = |d: &String| blocking.iter().any(|(b, waits)| b == d && *waits);
        others.into_iter().filter(|d| !waits(d)).for_each(|d| run.queue.add(Key::cluster(d)));
        Ok(())
    }

    /// An object whose dependents stay: they forget it first.
    async fn orphan_dependents(&self, client: &Client, uid: &str, node: &Node) -> kube::Result<()> {
        let dependents: Vec<(String, Node)> = {
            let graph = self.graph.lock();
            graph.dependents(uid).filter_map(|d| Some((d.to_owned(), graph.get(d)?.clone()))).collect()
        };
        for (dependent, child) in dependents {
            if let Some(meta) = read(client, &child.resource, &child.key).await?.filter(|m| m.uid == dependent) {
                match drop_owners(client, &child, &meta, |o| o.uid == uid).await {
                    Err(error) if code(&error) != Some(404) => return Err(error),
                    _ => {}
                }
            }
        }
        drop_finalizer(client, node, uid, ORPHAN).await
    }
}

fn reference(node: &Node, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(node.resource.api_version.clone()),
        kind: Some(node.resource.kind.clone()),
        namespace: Some(node.key.namespace.clone()).filter(|n| !n.is_empty()),
        name: Some(node.key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// An object's metadata, fresh from the apiserver; nothing when there is no such object.
async fn read(client: &Client, resource: &Resource, key: &Key) -> kube::Result<Option<Meta>> {
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json";
    let request = Request::get(resource.path(key)).header(http::header::ACCEPT, accept).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match client.request::<Whole>(request).await {
        Ok(object) => Ok(Some(object.metadata)),
        Err(error) if code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Patches metadata, if the object is still as it was read.
async fn patch(client: &Client, node: &Node, meta: &Meta, mut metadata: Value) -> kube::Result<()> {
    metadata["uid"] = meta.uid.clone().into();
    metadata["resourceVersion"] = meta.resource_version.clone().into();
    let body = json!({ "metadata": metadata });
    let request = json_request(Request::patch(node.resource.path(&node.key)), "application/merge-patch+json", &body)?;
    client.request_text(request).await.map(drop)
}

/// The owner references as the object carries them: this program knows only some of their fields.
async fn raw_owners(client: &Client, node: &Node, meta: &Meta) -> kube::Result<Vec<Value>> {
    let request = Request::get(node.resource.path(&node.key)).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let object: Value = client.request(request).await?;
    if object["metadata"]["resourceVersion"] != *meta.resource_version {
        let status = kube::core::Status::failure("the object has been modified", "Conflict").with_code(409);
        return Err(kube::Error::Api(status.boxed()));
    }
    Ok(object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default())
}

async fn drop_owners(client: &Client, node: &Node, meta: &Meta, gone: impl Fn(&Owner) -> bool) -> kube::Result<()> {
    let uids: Vec<&str> = meta.owner_references.iter().filter(|o| gone(o)).map(|o| o.uid.as_str()).collect();
    if uids.is_empty() {
        return Ok(());
    }
    let mut owners = raw_owners(client, node, meta).await?;
    owners.retain(|o| !uids.contains(&o["uid"].as_str().unwrap_or_default()));
    let owners = if owners.is_empty() { Value::Null } else { owners.into() };
    patch(client, node, meta, json!({ "ownerReferences": owners })).await
}

async fn unblock(client: &Client, node: &Node, meta: &Meta) -> kube::Result<()> {
    let mut owners = raw_owners(client, node, meta).await?;
    owners.iter_mut().for_each(|o| o["blockOwnerDeletion"] = false.into());
    patch(client, node, meta, json!({ "ownerReferences": owners })).await
}

async fn drop_finalizer(client: &Client, node: &Node, uid: &str, finalizer: &str) -> kube::Result<()> {
    let Some(meta) = read(client, &node.resource, &node.key).await?.filter(|m| m.uid == uid) else { return Ok(()) };
    let left: Vec<&String> = meta.finalizers.iter().filter(|f| *f != finalizer).collect();
    if left.len() == meta.finalizers.len() {
        return Ok(());
    }
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    patch(client, node, &meta, json!({ "finalizers": left })).await
}
