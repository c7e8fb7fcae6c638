//! Follows collections of the apiserver and tells what changes in them, parsed into what the scheduler knows.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use api::labels::Selector;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{NotUsed, Object};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::identity::{NodeName, Uid};
use crate::node::NodeFacts;
use crate::observation::{Change, Key, Observation};
use crate::pod_terms::selector;
use crate::preempt::Budget;
use crate::volumes::{Claim, Class, Volume, limits};

/// What a watch says.
#[derive(Debug)]
pub enum Told {
    /// Something changed.
    Observed(Observation),
    /// A collection is known for the first time.
    Synced,
}

/// Objects asked for at once: small pages keep the memory for a list small.
const PAGE: u32 = 250;

/// Starts all watches; each sends [`Told::Synced`] once. Gives back how many there are.
pub fn start(client: &Client, tell: &mpsc::Sender<Told>, tasks: &mut JoinSet<()>) -> usize {
    let all = watcher::Config::default().page_size(PAGE);
    let living = all.clone().fields("status.phase!=Succeeded,status.phase!=Failed");
    let before = tasks.len();
    macro_rules! follow {
        ($api:expr, $config:expr, $what:expr, $parse:expr, $key:expr, $wrap:expr) => {
            tasks.spawn(follow($api, $config.clone(), $what, $key, $parse, $wrap, tell.clone()));
        };
    }
    follow!(
        Api::<Node>::all(client.clone()),
        all,
        "nodes",
        |node: Node| NodeFacts::parse(&node).map(Arc::new),
        |node: &Node| Some(NodeName::from(node.metadata.name.as_deref()?)),
        Observation::Node
    );
    follow!(
        Api::<Pod>::all(client.clone()),
        living,
        "pods",
        |pod: Pod| Ok(Arc::new(crate::pod::Pod::parse(&pod))),
        uid_of::<Pod>,
        Observation::Pod
    );
    follow!(
        Api::<Namespace>::all(client.clone()),
        all,
        "namespaces",
        |ns: Namespace| Ok(ns.metadata.labels.unwrap_or_default()),
        |ns: &Namespace| ns.metadata.name.clone(),
        Observation::Namespace
    );
    follow!(
        Api::<PersistentVolume>::all(client.clone()),
        all,
        "persistentvolumes",
        |v: PersistentVolume| Volume::parse(&v).map(Arc::new),
        |v: &PersistentVolume| v.metadata.name.clone(),
        Observation::Volume
    );
    follow!(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        all,
        "persistentvolumeclaims",
        |c: PersistentVolumeClaim| Claim::parse(&c).map(Arc::new),
        key_of,
        Observation::Claim
    );
    follow!(
        Api::<StorageClass>::all(client.clone()),
        all,
        "storageclasses",
        |c: StorageClass| Ok(Arc::new(Class::parse(&c))),
        |c: &StorageClass| c.metadata.name.clone(),
        Observation::Class
    );
    follow!(
        Api::<CSINode>::all(client.clone()),
        all,
        "csinodes",
        |n: CSINode| Ok(limits(&n)),
        |n: &CSINode| Some(NodeName::from(n.metadata.name.as_deref()?)),
        Observation::Limits
    );
    follow!(Api::<PodDisruptionBudget>::all(client.clone()), all, "poddisruptionbudgets", budget, key_of, Observation::Budget);
    follow!(groups::<Service, Plain>(client), all, "services", |s: Group<Plain>| plain(&s.spec), key_of, Observation::Service);
    follow!(
        groups::<ReplicationController, Plain>(client),
        all,
        "replicationcontrollers",
        |c: Group<Plain>| plain(&c.spec),
        uid_of,
        |change| Observation::Controller("replicationcontrollers", change)
    );
    follow!(
        groups::<ReplicaSet, Structured>(client),
        all,
        "replicasets",
        |c: Group<Structured>| selector(c.spec.selector.as_ref()),
        uid_of,
        |change| Observation::Controller("replicasets", change)
    );
    follow!(
        groups::<StatefulSet, Structured>(client),
        all,
        "statefulsets",
        |c: Group<Structured>| selector(c.spec.selector.as_ref()),
        uid_of,
        |change| Observation::Controller("statefulsets", change)
    );
    tasks.len() - before
}

/// An object of which only the selector of its spec is read.
type Group<S> = Object<S, NotUsed>;

#[derive(Debug, Clone, Deserialize)]
struct Plain {
    selector: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Structured {
    selector: Option<LabelSelector>,
}

fn groups<K: Resource<DynamicType = ()>, S: Clone + Debug + DeserializeOwned>(client: &Client) -> Api<Group<S>> {
    Api::all_with(client.clone(), &kube::core::ApiResource::erase::<K>(&()))
}

/// A Service without selector, or with an empty one, stands for no pods.
fn plain(spec: &Plain) -> Result<Selector, String> {
    match &spec.selector {
        Some(labels) if !labels.is_empty() => Selector::from_parts(Some(labels), []),
        _ => Ok(Selector::nothing()),
    }
}

fn budget(budget: PodDisruptionBudget) -> Result<Budget, String> {
    let spec = budget.spec.unwrap_or_default();
    let status = budget.status.unwrap_or_default();
    Ok(Budget {
        namespace: budget.metadata.namespace.unwrap_or_default(),
        selector: selector(spec.selector.as_ref())?,
        allowed: i64::from(status.disruptions_allowed),
        disrupted: status.disrupted_pods.unwrap_or_default().into_keys().collect(),
    })
}

fn uid_of<K: Resource>(object: &K) -> Option<Uid> {
    object.meta().uid.as_deref().map(Uid::from)
}

fn key_of<K: Resource>(object: &K) -> Option<Key> {
    Some((object.meta().namespace.clone()?, object.meta().name.clone()?))
}

/// Follows one collection until nobody listens any more.
async fn follow<K, Id, V>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    id: impl Fn(&K) -> Option<Id> + Send,
    parse: impl Fn(K) -> Result<V, String> + Send,
    wrap: impl Fn(Change<Id, V>) -> Observation + Send,
    tell: mpsc::Sender<Told>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    Id: Clone + Eq + Hash + Send,
    V: Send,
{
    let mut listed = HashSet::new();
    let (mut synced, mut failing) = (false, false);
    let mut events = daemon::follow::events(api, config);
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => {
                listed = HashSet::new();
                continue;
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let Some(id) = id(&object) else { continue };
                let name = object.name_any();
                listed.insert(id.clone());
                match parse(object) {
                    Ok(value) => Change::Put(id, value),
                    Err(error) => {
                        tracing::warn!(error, name, "cannot make sense of one of the {what}; left as it was");
                        continue;
                    }
                }
            }
            Ok(Event::Delete(object)) => match id(&object) {
                Some(id) => Change::Gone(id),
                None => continue,
            },
            Ok(Event::InitDone) => Change::Listed(std::mem::take(&mut listed)),
            // The apiserver does not know this resource: then there are none.
            Err(error) if daemon::follow::is_unknown_kind(&error) => {
                if synced {
                    continue;
                }
                tracing::info!("the apiserver does not serve {what}");
                Change::Listed(HashSet::new())
            }
            Err(error) => {
                // Told of once, not at every try.
                if failing {
                    tracing::debug!(error = daemon::describe(&error), "watching {what} still fails");
                } else {
                    tracing::warn!(error = daemon::describe(&error), "watching {what}");
                }
                failing = true;
                continue;
            }
        };
        failing = false;
        let first = !synced && matches!(change, Change::Listed(_));
        if tell.send(Told::Observed(wrap(change))).await.is_err() || (first && tell.send(Told::Synced).await.is_err()) {
            return;
        }
        synced |= first;
    }
}
