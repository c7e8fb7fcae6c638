//! What feeds the graph: for each deletable resource either the cache that is there anyway, or a watch of metadata.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::CancellationToken;
use daemon::backoff::Backoff;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::task::JoinSet;

use super::graph::{Graph, Meta, Node, Owner};
use super::{GarbageCollector, Whole};
use crate::discovery::{Discovered, Resource, discover};
use crate::kind::Key;
use crate::queue::Queue;
use crate::runner::Run;
use crate::watch::{Sink, Source, run as watch};

/// How often discovery is asked for resources that came or went.
const REDISCOVER: Duration = Duration::from_secs(30);
/// After a failure it is asked again this soon, and then later and later.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// How long to wait for first lists before working without those that fail.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// Never collected: they end by themselves and are many.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// A monitor as its keeper holds it.
struct Held {
    resource: Arc<Resource>,
    stop: CancellationToken,
    synced: CancellationToken,
}

/// Monitors by group and plural.
type Monitors = HashMap<(String, String), Held>;

struct Monitor {
    resource: Arc<Resource>,
    queue: Arc<Queue>,
    graph: Arc<parking_lot::Mutex<Graph>>,
    complete: Arc<std::sync::atomic::AtomicBool>,
    /// Cancelled when the first list is in the graph.
    synced: CancellationToken,
}

impl Monitor {
    fn tell(&self, look: Vec<String>) {
        if self.complete.load(Ordering::Acquire) {
            look.into_iter().for_each(|uid| self.queue.add(Key::cluster(uid)));
        }
    }

    fn put_meta(&self, meta: Meta) {
        let uid = meta.uid.clone();
        let look = self.graph.lock().put(uid, Node::new(self.resource.clone(), meta));
        self.tell(look);
    }

    fn remove_uid(&self, uid: &str) {
        let look = self.graph.lock().remove(uid);
        self.tell(look);
    }
}

impl Sink for Monitor {
    fn replace(&self, items: &[String], _version: u64) {
        let mut gone: std::collections::HashSet<String> = self.graph.lock().of(&self.resource).into_iter().collect();
        for item in items {
            match serde_json::from_str::<Whole>(item) {
                Ok(whole) => {
                    gone.remove(&whole.metadata.uid);
                    self.put_meta(whole.metadata);
                }
                Err(error) => tracing::error!(resource = self.resource.plural, %error, "an object in the list cannot be read"),
            }
        }
        gone.iter().for_each(|uid| self.remove_uid(uid));
        self.synced.cancel();
    }

    fn put(&self, json: &str) -> serde_json::Result<()> {
        self.put_meta(serde_json::from_str::<Whole>(json)?.metadata);
        Ok(())
    }

    fn remove(&self, json: &str) -> serde_json::Result<()> {
        self.remove_uid(&serde_json::from_str::<Whole>(json)?.metadata.uid);
        Ok(())
    }
}

fn meta_of(meta: &ObjectMeta) -> Meta {
    let owner = |o: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| Owner {
        api_version: o.api_version.clone(),
        kind: o.kind.clone(),
        name: o.name.clone(),
        uid: o.uid.clone(),
        block_owner_deletion: o.block_owner_deletion,
    };
    Meta {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        owner_references: meta.owner_references.iter().flatten().map(owner).collect(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        deletion_timestamp: meta.deletion_timestamp.as_ref().map(|t| t.0.to_string()),
    }
}

/// Keeps a monitor for each resource that can be listed, watched and deleted, until the stop.
pub async fn keep(collector: &GarbageCollector, run: &Run) {
    let mut monitors = Monitors::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut backoff = Backoff::new(FIRST_RETRY, REDISCOVER);
    loop {
        match discover(run.executor.client()).await {
            Ok(found) => adapt(collector, run, found, &mut monitors, &mut tasks),
            Err(error) => {
                let delay = backoff.next_delay();
                tracing::warn!(error = crate::apply::message(&error), retry_in = ?delay, "discovery failed");
                tokio::time::sleep(delay).await;
                continue;
            }
        }
        backoff.reset();
        if !monitors.is_empty() && !collector.complete.load(Ordering::Acquire) {
            let all = futures::future::join_all(monitors.values().map(|m| m.synced.cancelled()));
            if tokio::time::timeout(FIRST_LISTS, all).await.is_err() {
                let late = monitors.values().filter(|m| !m.synced.is_cancelled()).map(|m| m.resource.plural.as_str());
                tracing::warn!(resources = late.collect::<Vec<_>>().join(","), "collecting without some resources, whose lists are late");
            }
            collector.complete.store(true, Ordering::Release);
            let all = collector.graph.lock().all_to_look_at();
            all.into_iter().for_each(|uid| run.queue.add(Key::cluster(uid)));
        }
        tokio::time::sleep(REDISCOVER).await;
    }
}

fn adapt(collector: &GarbageCollector, run: &Run, found: Discovered, monitors: &mut Monitors, tasks: &mut JoinSet<()>) {
    let failed: Vec<&str> = found.failed.iter().map(|(version, _)| crate::discovery::group(version)).collect();
    let all: Vec<Arc<Resource>> = found.resources.iter().cloned().map(Arc::new).collect();
    let wanted = |r: &&Arc<Resource>| r.can(&["list", "watch", "delete"]) && !IGNORED.contains(&(r.group(), r.plural.as_str()));
    let names: Vec<(String, String)> = all.iter().filter(wanted).map(|r| (r.group().to_owned(), r.plural.clone())).collect();
    monitors.retain(|name, held| {
        // A group that could not be asked this time is not gone.
        let keep = names.contains(name) || failed.contains(&name.0.as_str());
        if !keep {
            held.stop.cancel();
            let mut graph = collector.graph.lock();
            let look: Vec<String> = graph.of(&held.resource).iter().flat_map(|uid| graph.remove(uid)).collect();
            look.into_iter().for_each(|uid| run.queue.add(Key::cluster(uid)));
        }
        keep
    });
    for resource in all.iter().filter(wanted) {
        let name = (resource.group().to_owned(), resource.plural.clone());
        if monitors.contains_key(&name) {
            continue;
        }
        let (stop, synced) = (run.stop.child_token(), CancellationToken::new());
        let monitor = Arc::new(Monitor {
            resource: resource.clone(),
            queue: run.queue.clone(),
            graph: collector.graph.clone(),
            complete: collector.complete.clone(),
            synced: synced.clone(),
        });
        monitors.insert(name, Held { resource: resource.clone(), stop: stop.clone(), synced });
        match run.caches.of(&resource.api_version, &resource.kind).filter(|c| c.is_watched_whole()) {
            Some(cache) => {
                let sink = monitor.clone();
                cache.subscribe_meta(Box::new(move |old, new| match (old, new) {
                    (_, Some(new)) => sink.put_meta(meta_of(new)),
                    (Some(old), None) => sink.remove_uid(old.uid.as_deref().unwrap_or_default()),
                    (None, None) => {}
                }));
                tasks.spawn(async move {
                    cache.synced().await;
                    monitor.synced.cancel();
                });
            }
            None => {
                let client = run.executor.client().clone();
                let source = Source { path: resource.path(&Key::default()), fields: String::new(), metadata_only: true };
                tasks.spawn(async move { watch(client, source, monitor.as_ref(), stop).await });
            }
        }
    }
    *collector.resources.write() = all;
}
