//! Watches of the apiserver, as events for the proxy's one loop.

use std::fmt::Debug;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Config};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::{ObjectKey, Pod, Service, Slice};
use crate::observe;
use crate::policy::Policy;
use crate::routes::Host;

/// News of the objects of a kind.
#[derive(Debug)]
pub enum News<T> {
    /// All of them, as they are now.
    All(Vec<(ObjectKey, T)>),
    /// One of them, as it is now; none when it is gone or no business of ours.
    One(ObjectKey, Option<T>),
}

/// An EndpointSlice, and when what it tells happened.
#[derive(Debug)]
pub struct DatedSlice(pub Slice, pub Option<jiff::Timestamp>);

/// News of the cluster.
#[derive(Debug)]
pub enum Update {
    /// Of Services.
    Services(News<Service>),
    /// Of EndpointSlices.
    Slices(News<DatedSlice>),
    /// Of this node's pods, or of everybody's when there are policies.
    Pods(Whose, News<Pod>),
    /// Of the labels of namespaces; their key has no namespace.
    Namespaces(News<std::collections::BTreeMap<String, String>>),
    /// Of NetworkPolicies.
    Policies(News<Policy>),
    /// Of Nodes; their key has no namespace.
    Nodes(News<Host>),
}

/// Whose pods are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This node's.
    Ours,
    /// All nodes'.
    Everybody,
}

/// Not headless, and not for another proxy: what upstream's proxies select, too.
const OURS: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Starts and stops watches.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Watches {
    /// The client.
    pub client: kube::Client,
    /// Where the news goes.
    pub updates: mpsc::Sender<Update>,
}

impl Watches {
    /// Watches Services.
    pub async fn services(self, stop: CancellationToken) {
        let project = |s: core::Service| observe::service(&s);
        follow(Api::<core::Service>::all(self.client), Config::default().labels(OURS), project, Update::Services, self.updates, stop).await;
    }

    /// Watches EndpointSlices.
    pub async fn slices(self, stop: CancellationToken) {
        let project = |s: EndpointSlice| {
            let changed = s.annotations().get(TRIGGERED).and_then(|t| t.parse().ok());
            observe::slice(&s).map(|slice| DatedSlice(slice, changed))
        };
        follow(Api::<EndpointSlice>::all(self.client), Config::default().labels(OURS), project, Update::Slices, self.updates, stop).await;
    }

    /// Watches Pods: of one node, or of all.
    pub async fn pods(self, node: String, whose: Whose, stop: CancellationToken) {
        let everybody = whose == Whose::Everybody;
        let config = if everybody { Config::default() } else { Config::default().fields(&format!("spec.nodeName={node}")) };
        let project = move |p: core::Pod| observe::pod(&p, &node).map(|pod| if everybody { pod } else { Pod { labels: [].into(), ..pod } });
        follow(Api::<core::Pod>::all(self.client), config, project, move |news| Update::Pods(whose, news), self.updates, stop).await;
    }

    /// Watches the labels of Namespaces.
    pub async fn namespaces(self, stop: CancellationToken) {
        let project = |n: core::Namespace| Some(observe::labels(n.metadata.labels.as_ref()));
        follow(Api::<core::Namespace>::all(self.client), Config::default(), project, Update::Namespaces, self.updates, stop).await;
    }

    /// Watches NetworkPolicies.
    pub async fn policies(self, stop: CancellationToken) {
        let project = |p: NetworkPolicy| observe::policy(&p);
        // Policies are an extra: an apiserver that does not know the kind has none.
        let unknown = Update::Policies(News::All(vec![]));
        if self.is_unknown().await && self.updates.send(unknown).await.is_err() {
            return;
        }
        follow(Api::<NetworkPolicy>::all(self.client), Config::default(), project, Update::Policies, self.updates, stop).await;
    }

    /// Whether the apiserver says that it does not serve NetworkPolicies.
    async fn is_unknown(&self) -> bool {
        let listed = Api::<NetworkPolicy>::all(self.client.clone()).list_metadata(&ListParams::default().limit(1)).await;
        matches!(listed, Err(kube::Error::Api(status)) if status.code == 404)
    }

    /// Watches Nodes.
    pub async fn nodes(self, stop: CancellationToken) {
        let project = |n: core::Node| Some(Host::of(&n));
        follow(Api::<core::Node>::all(self.client), Config::default(), project, Update::Nodes, self.updates, stop).await;
    }
}

/// Watches a kind until told to stop, for as long as it takes: errors are logged and retried with back-off.
async fn follow<K, T>(
    api: Api<K>,
    config: Config,
    project: impl Fn(K) -> Option<T>,
    wrap: impl Fn(News<T>) -> Update,
    updates: mpsc::Sender<Update>,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let stream = watch(api, config).default_backoff();
    tokio::pin!(stream);
    let mut listed: Vec<(ObjectKey, T)> = Vec::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.try_next() => event,
        };
        let news = match event {
            Ok(Some(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Ok(Some(watcher::Event::InitApply(object))) => {
                let key = key(&object);
                listed.extend(project(object).map(|t| (key, t)));
                continue;
            }
            Ok(Some(watcher::Event::InitDone)) => News::All(std::mem::take(&mut listed)),
            Ok(Some(watcher::Event::Apply(object))) => {
                let key = key(&object);
                News::One(key, project(object))
            }
            Ok(Some(watcher::Event::Delete(object))) => News::One(key(&object), None),
            Ok(None) => return,
            // A server without this kind has none of it. It may learn the kind later, so one goes on asking.
            Err(error) if is_unknown_kind(&error) => News::All(Vec::new()),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), error = describe(&error), "watching");
                continue;
            }
        };
        if updates.send(wrap(news)).await.is_err() {
            return; // the loop has ended
        }
    }
}

/// Whether the server said, to a list, that there is no such thing to list.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text += &format!(": {c}");
        cause = c.source();
    }
    text
}
