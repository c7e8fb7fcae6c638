//! Watches of the apiserver, as events for the proxy's one loop.

use daemon::follow::{events, follow};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::runtime::watcher::Config;
use kube::{Api, Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::{ObjectKey, Pod, Service, Slice};
use crate::observe;
use crate::policy::Policy;
use crate::routes::Host;

/// News of the objects of a kind.
pub type News<T> = daemon::follow::News<ObjectKey, T>;

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
        follow(
            events(Api::<core::Service>::all(self.client), Config::default().labels(OURS)),
            key,
            project,
            Update::Services,
            self.updates,
            stop,
        )
        .await;
    }

    /// Watches EndpointSlices.
    pub async fn slices(self, stop: CancellationToken) {
        let project = |s: EndpointSlice| {
            let changed = s.annotations().get(TRIGGERED).and_then(|t| t.parse().ok());
            observe::slice(&s).map(|slice| DatedSlice(slice, changed))
        };
        follow(
            events(Api::<EndpointSlice>::all(self.client), Config::default().labels(OURS)),
            key,
            project,
            Update::Slices,
            self.updates,
            stop,
        )
        .await;
    }

    /// Watches Pods: of one node, or of all.
    pub async fn pods(self, node: String, whose: Whose, stop: CancellationToken) {
        let everybody = whose == Whose::Everybody;
        let config = if everybody { Config::default() } else { Config::default().fields(&format!("spec.nodeName={node}")) };
        let project = move |p: core::Pod| observe::pod(&p, &node).map(|pod| if everybody { pod } else { Pod { labels: [].into(), ..pod } });
        follow(events(Api::<core::Pod>::all(self.client), config), key, project, move |news| Update::Pods(whose, news), self.updates, stop)
            .await;
    }

    /// Watches the labels of Namespaces.
    pub async fn namespaces(self, stop: CancellationToken) {
        let project = |n: core::Namespace| Some(observe::labels(n.metadata.labels.as_ref()));
        follow(events(Api::<core::Namespace>::all(self.client), Config::default()), key, project, Update::Namespaces, self.updates, stop)
            .await;
    }

    /// Watches NetworkPolicies.
    pub async fn policies(self, stop: CancellationToken) {
        let project = |p: NetworkPolicy| observe::policy(&p);
        // Policies are an extra: an apiserver that does not know the kind has none.
        let unknown = Update::Policies(News::All(vec![]));
        if self.is_unknown().await && self.updates.send(unknown).await.is_err() {
            return;
        }
        follow(events(Api::<NetworkPolicy>::all(self.client), Config::default()), key, project, Update::Policies, self.updates, stop).await;
    }

    /// Whether the apiserver says that it does not serve NetworkPolicies.
    async fn is_unknown(&self) -> bool {
        let listed = Api::<NetworkPolicy>::all(self.client.clone()).list_metadata(&ListParams::default().limit(1)).await;
        matches!(listed, Err(kube::Error::Api(status)) if status.code == 404)
    }

    /// Watches Nodes.
    pub async fn nodes(self, stop: CancellationToken) {
        let project = |n: core::Node| Some(Host::of(&n));
        follow(events(Api::<core::Node>::all(self.client), Config::default()), key, project, Update::Nodes, self.updates, stop).await;
    }
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}
