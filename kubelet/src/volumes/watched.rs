//! The objects that pods on this node show, kept fresh: one watch by name for each ConfigMap and Secret in use, and tokens
//! kept until most of their life is over.
//!
//! What no pod has needed for [`IDLE`] is let go; [`super::refresh`] says each minute what pods need. So a container can be
//! started again while the apiserver is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::objects::{Apiserver, Error, Objects};

/// A watch that no pod needed for this long ends.
const IDLE: Duration = Duration::from_secs(180);
/// How long a first answer may take.
const FIRST: Duration = Duration::from_secs(20);
/// Watches at once; a node with more objects in use asks for the rest each time.
const MAX_WATCHES: usize = 500;
/// Changes that may wait for [`super::refresh`]; if more come, it looks at everything.
const MAX_CHANGES: usize = 256;
/// Tokens kept: some pods with several audiences each.
const MAX_TOKENS: usize = 2_000;

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// An object that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known of an object.
#[derive(Debug, Clone)]
enum Seen<K> {
    /// Nothing yet.
    Pending,
    /// The apiserver does not give it to us.
    Refused,
    /// There is none.
    Absent,
    /// This.
    There(Arc<K>),
}

/// What an event of the watch makes of what is known; `None`: nothing new. `listed` gathers a list until it is complete.
fn step<K>(event: watcher::Event<K>, listed: &mut Option<Arc<K>>) -> Option<Seen<K>> {
    match event {
        watcher::Event::Init => {
            *listed = None;
            None
        }
        watcher::Event::InitApply(object) => {
            *listed = Some(Arc::new(object));
            None
        }
        watcher::Event::InitDone => Some(listed.take().map_or(Seen::Absent, Seen::There)),
        watcher::Event::Apply(object) => Some(Seen::There(Arc::new(object))),
        watcher::Event::Delete(_) => Some(Seen::Absent),
    }
}

struct Entry<K> {
    seen: watch::Receiver<Seen<K>>,
    asked: Arc<Mutex<Instant>>,
}

type Table<K> = Arc<Mutex<HashMap<(String, String), Entry<K>>>>;

/// [`Objects`] that are watched. Cheap to clone.
#[derive(Clone)]
pub struct Watched {
    client: Client,
    plain: Apiserver,
    config_maps: Table<ConfigMap>,
    secrets: Table<Secret>,
    tokens: Arc<Mutex<HashMap<String, Token>>>,
    changes: broadcast::Sender<Named>,
    shutdown: CancellationToken,
}

impl Watched {
    /// Objects as `client` may see them; watches end with `shutdown`.
    #[must_use]
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self {
            plain: Apiserver(client.clone()),
            client,
            config_maps: Table::default(),
            secrets: Table::default(),
            tokens: Arc::default(),
            changes: broadcast::channel(MAX_CHANGES).0,
            shutdown,
        }
    }

    /// The objects that change from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Named> {
        self.changes.subscribe()
    }

    /// Says that a pod needs an object, so that its watch goes on.
    pub fn keep(&self, object: &Named) {
        let key = (object.namespace.clone(), object.name.clone());
        let asked = match object.kind {
            Kind::ConfigMap => self.config_maps.lock().get(&key).map(|e| e.asked.clone()),
            Kind::Secret => self.secrets.lock().get(&key).map(|e| e.asked.clone()),
        };
        if let Some(asked) = asked {
            *asked.lock() = Instant::now();
        }
    }

    /// The watched object; `None` when there is no room for another watch, or the apiserver refuses it: then a plain
    /// request says why, or that it does not refuse any more.
    async fn watched<K>(&self, table: &Table<K>, namespace: &str, name: &str) -> Option<Result<K, Error>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let mut seen = self.entry(table, namespace, name)?;
        let kind: &'static str = if K::kind(&()) == "Secret" { "secret" } else { "configmap" };
        let known = match tokio::time::timeout(FIRST, seen.wait_for(|s| !matches!(s, Seen::Pending))).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) => return None, // the watch ended between the two
            Err(_) => return Some(Err(Error::Failed(format!("failed to sync {kind} cache: timed out waiting for the condition")))),
        };
        Some(match known {
            Seen::There(object) => Ok((*object).clone()),
            Seen::Absent => Err(Error::NotFound { kind, name: name.to_owned() }),
            Seen::Refused => return None,
            Seen::Pending => Err(Error::Failed(format!("{kind} {name:?} is not known yet"))),
        })
    }

    fn entry<K>(&self, table: &Table<K>, namespace: &str, name: &str) -> Option<watch::Receiver<Seen<K>>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let key = (namespace.to_owned(), name.to_owned());
        let mut entries = table.lock();
        if let Some(entry) = entries.get(&key) {
            *entry.asked.lock() = Instant::now();
            return Some(entry.seen.clone());
        }
        if entries.len() >= MAX_WATCHES {
            return None;
        }
        let (sender, seen) = watch::channel(Seen::Pending);
        let asked = Arc::new(Mutex::new(Instant::now()));
        entries.insert(key.clone(), Entry { seen: seen.clone(), asked: asked.clone() });
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let kind = if K::kind(&()) == "Secret" { Kind::Secret } else { Kind::ConfigMap };
        let changed = Named { kind, namespace: key.0.clone(), name: key.1.clone() };
        let (table, changes, shutdown) = (table.clone(), self.changes.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow(api, &key.1, &sender, || {
                    let _ = changes.send(changed.clone()); // nobody listening is fine
                }) => {}
                () = idle(&asked) => {}
            }
            table.lock().remove(&key);
        });
        Some(seen)
    }
}

/// Returns once nobody has asked for [`IDLE`].
async fn idle(asked: &Mutex<Instant>) {
    loop {
        let until = *asked.lock() + IDLE;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Publishes what the object is, as long as it runs.
async fn follow<K>(api: Api<K>, name: &str, seen: &watch::Sender<Seen<K>>, changed: impl Fn())
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = daemon::follow::events(api, config);
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let Some(mut now) = step(event, &mut listed) else { continue };
                if let Seen::There(object) = &mut now
                    && let Some(object) = Arc::get_mut(object)
                {
                    object.meta_mut().managed_fields = None;
                }
                let first = matches!(*seen.borrow(), Seen::Pending);
                seen.send_replace(now);
                if !first {
                    changed();
                }
            }
            Err(error) => {
                tracing::debug!(name, error = daemon::describe(&error), "watching an object");
                // What was seen before is better than nothing; without anything seen, who asks shall ask plainly.
                seen.send_if_modified(|known| {
                    let refused = matches!(known, Seen::Pending);
                    if refused {
                        *known = Seen::Refused;
                    }
                    refused
                });
            }
        }
    }
}

/// A token and when to ask for the next one.
#[derive(Debug, Clone)]
struct Token {
    status: TokenRequestStatus,
    renew_at: Timestamp,
}

/// Tokens are renewed after 80 % of their life, and after a day (upstream's rule).
fn renew_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let most = SignedDuration::from_hours(24);
    now.saturating_add((life * 4 / 5).clamp(SignedDuration::ZERO, most)).unwrap_or(Timestamp::MAX)
}

#[async_trait]
impl Objects for Watched {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap, Error> {
        match self.watched(&self.config_maps, namespace, name).await {
            Some(answer) => answer,
            None => self.plain.config_map(namespace, name).await,
        }
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, Error> {
        match self.watched(&self.secrets, namespace, name).await {
            Some(answer) => answer,
            None => self.plain.secret(namespace, name).await,
        }
    }

    async fn service_account(&self, namespace: &str, name: &str) -> Result<ServiceAccount, Error> {
        self.plain.service_account(namespace, name).await
    }

    async fn token(&self, namespace: &str, account: &str, request: TokenRequest) -> Result<TokenRequestStatus, Error> {
        let key = serde_json::to_string(&(namespace, account, &request.spec)).map_err(|e| Error::Failed(e.to_string()))?;
        let now = Timestamp::now();
        let known = self.tokens.lock().get(&key).cloned();
        if let Some(token) = known.as_ref().filter(|t| now < t.renew_at) {
            return Ok(token.status.clone());
        }
        match (self.plain.token(namespace, account, request).await, known) {
            (Ok(status), _) => {
                let mut tokens = self.tokens.lock();
                if tokens.len() >= MAX_TOKENS {
                    tokens.retain(|_, t| now < t.renew_at);
                }
                if tokens.len() < MAX_TOKENS {
                    tokens.insert(key, Token { renew_at: renew_at(now, status.expiration_timestamp.0), status: status.clone() });
                }
                Ok(status)
            }
            // The apiserver is away: the old one serves as long as it is good.
            (Err(Error::Failed(why)), Some(token)) if now < token.status.expiration_timestamp.0 => {
                tracing::warn!(namespace, account, why, "a service account token could not be renewed");
                Ok(token.status)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim, Error> {
        self.plain.claim(namespace, name).await
    }

    async fn volume(&self, name: &str) -> Result<PersistentVolume, Error> {
        self.plain.volume(name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let mut listed = None;
        let map = |v: &str| ConfigMap { data: Some([("k".to_owned(), v.to_owned())].into()), ..ConfigMap::default() };
        let mut feed = |event: watcher::Event<ConfigMap>| match step(event, &mut listed) {
            None => "-".to_owned(),
            Some(Seen::There(map)) => map.data.iter().flatten().map(|(_, v)| v.clone()).collect(),
            Some(Seen::Absent) => "absent".into(),
            Some(other) => format!("{other:?}"),
        };
        assert_eq!(feed(watcher::Event::Init), "-");
        assert_eq!(feed(watcher::Event::InitDone), "absent");
        assert_eq!(feed(watcher::Event::Apply(map("1"))), "1");
        assert_eq!(feed(watcher::Event::Delete(map("1"))), "absent");
        assert_eq!(feed(watcher::Event::Init), "-");
        assert_eq!(feed(watcher::Event::InitApply(map("2"))), "-");
        assert_eq!(feed(watcher::Event::InitDone), "2");
    }

    /// An apiserver with one list and one watch after it, into which the test writes.
    fn apiserver(list: serde_json::Value) -> (Client, tokio::sync::mpsc::Sender<String>) {
        let (lines, watch) = tokio::sync::mpsc::channel::<String>(4);
        let watch = Arc::new(Mutex::new(Some(watch)));
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("fieldSelector=metadata.name%3Dm"), "{query}");
            let body = if query.contains("watch=true") {
                let lines = watch.lock().take().map(tokio_stream::wrappers::ReceiverStream::new);
                let frames = futures::stream::iter(lines).flatten().map(|line| Ok::<_, std::io::Error>(format!("{line}\n")));
                axum::body::Body::from_stream(frames.chain(futures::stream::pending()))
            } else {
                axum::body::Body::from(list.to_string())
            };
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        (Client::new(service, "default"), lines)
    }

    #[tokio::test]
    async fn an_object_follows_the_apiserver_and_changes_are_told() {
        let object = |version: &str, text: &str| {
            let meta = serde_json::json!({"name": "m", "namespace": "ns", "resourceVersion": version});
            serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": text}})
        };
        let list = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "1"}, "items": [object("1", "old")]});
        let (client, lines) = apiserver(list);
        let stop = CancellationToken::new();
        let watched = Watched::new(client, stop.clone());
        let mut changes = watched.changes();
        let text = async || match watched.config_map("ns", "m").await {
            Ok(map) => map.data.iter().flatten().map(|(_, v)| v.clone()).collect(),
            Err(error) => error.to_string(),
        };
        assert_eq!(text().await, "old");
        lines.send(serde_json::json!({"type": "MODIFIED", "object": object("2", "new")}).to_string()).await.unwrap();
        let named = Named { kind: Kind::ConfigMap, namespace: "ns".into(), name: "m".into() };
        let change = async |changes: &mut broadcast::Receiver<Named>| tokio::time::timeout(FIRST, changes.recv()).await.unwrap().unwrap();
        assert_eq!(change(&mut changes).await, named);
        assert_eq!(text().await, "new");
        lines.send(serde_json::json!({"type": "DELETED", "object": object("3", "new")}).to_string()).await.unwrap();
        assert_eq!(change(&mut changes).await, named);
        assert_eq!(text().await, "configmap \"m\" not found");
        stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_when_no_pod_needs_it() {
        let asked = Arc::new(Mutex::new(Instant::now()));
        let (again, started) = (asked.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::time::sleep(IDLE / 2).await;
            *again.lock() = Instant::now();
        });
        idle(&asked).await;
        assert_eq!(started.elapsed().as_secs(), (IDLE + IDLE / 2).as_secs());
    }

    #[test]
    fn tokens_are_renewed_in_time() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let after = |seconds: i64| renew_at(now, now + SignedDuration::from_secs(seconds)).as_second() - now.as_second();
        assert_eq!(after(3_600), 2_880);
        assert_eq!(after(600), 480);
        assert_eq!(after(365 * 86_400), 86_400);
        assert_eq!(after(-5), 0);
    }
}
