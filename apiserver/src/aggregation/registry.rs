//! Which group versions others serve, as the APIServices say, and what is known of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::availability;
use crate::openapi::Addition;
use crate::outbound::{ClientConfig, Place, Trust};
use crate::resources::cells::{flag, text};
use crate::storage::{Cache, Hub};

/// Where APIServices are stored.
pub const PREFIX: &str = "/registry/apiregistration.k8s.io/apiservices/";

/// A group version that another server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The APIService's name.
    pub name: String,
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// How to reach it.
    pub client: Result<ClientConfig, String>,
    /// Whether it was last found to be there.
    pub available: bool,
}

impl Remote {
    /// Reads an APIService; nothing for one that this server serves itself.
    #[must_use]
    pub fn parse(service: &Value) -> Option<Self> {
        let spec = &service["spec"];
        let reference = spec.get("service").filter(|s| s.is_object())?;
        let trust = if flag(spec, "/insecureSkipTLSVerify") { Ok(Trust::Anybody) } else { Trust::bundle(text(spec, "/caBundle")) };
        let client = trust.and_then(|trust| Ok(ClientConfig { place: Place::service(reference)?, trust, as_front_proxy: true }));
        Some(Self {
            name: text(service, "/metadata/name").to_owned(),
            group: text(spec, "/group").to_owned(),
            version: text(spec, "/version").to_owned(),
            client,
            available: availability::is_available(service),
        })
    }

    /// The path under which its discovery document is.
    #[must_use]
    pub fn path(&self) -> String {
        if self.group.is_empty() { format!("/api/{}", self.version) } else { format!("/apis/{}/{}", self.group, self.version) }
    }
}

/// What a remote server last said of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Its resources, in the aggregated form.
    pub resources: Vec<Value>,
    /// Whether that may be out of date, because it does not answer now.
    pub stale: bool,
    /// The URL of its OpenAPI 3 document; empty when it has none.
    pub openapi: String,
    /// What it adds to the OpenAPI 2 document.
    pub swagger: Option<Arc<Addition>>,
}

/// A group version that another server serves, as discovery shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// What is known of it.
    pub known: Known,
}

#[derive(Default)]
struct Read {
    sequence: Option<u64>,
    remotes: HashMap<(String, String), Arc<Remote>>,
}

/// Everything known of group versions that others serve.
#[derive(Default)]
pub struct Aggregation {
    cache: OnceLock<Arc<Cache>>,
    read: ArcSwap<Read>,
    /// What they said of themselves, by the APIService's name.
    pub known: ArcSwap<BTreeMap<String, Known>>,
}

impl std::fmt::Debug for Aggregation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregation").field("remotes", &self.read.load().remotes.len()).finish_non_exhaustive()
    }
}

impl Aggregation {
    fn read(&self, hub: &Hub) -> arc_swap::Guard<Arc<Read>> {
        let cache = self.cache.get_or_init(|| hub.cache(PREFIX));
        let read = self.read.load();
        let sequence = cache.sequence();
        if read.sequence == Some(sequence) {
            return read;
        }
        let mut remotes = HashMap::new();
        for entry in cache.snapshot("", 0).0 {
            match entry.tree() {
                Ok(tree) => {
                    if let Some(remote) = Remote::parse(&tree) {
                        remotes.insert((remote.group.clone(), remote.version.clone()), Arc::new(remote));
                    }
                }
                Err(error) => tracing::error!(name = entry.name(), %error, "an APIService in the storage is no JSON"),
            }
        }
        self.read.store(Arc::new(Read { sequence: Some(sequence), remotes }));
        self.read.load()
    }

    /// The server that a path belongs to; nothing for this one.
    #[must_use]
    pub fn of_path(&self, hub: &Hub, path: &str) -> Option<Arc<Remote>> {
        let read = self.read(hub);
        if read.remotes.is_empty() {
            return None;
        }
        read.remotes.get(&group_version(path)?).cloned()
    }

    /// What discovery says of them.
    #[must_use]
    pub fn others(&self, hub: &Hub) -> Vec<Other> {
        let known = self.known.load();
        let other = |remote: Arc<Remote>| {
            let known = known.get(&remote.name).cloned().unwrap_or(Known { stale: true, ..Known::default() });
            Other { group: remote.group.clone(), version: remote.version.clone(), known }
        };
        self.remotes(hub).into_iter().map(other).collect()
    }

    /// All of them, in the order of their names.
    #[must_use]
    pub fn remotes(&self, hub: &Hub) -> Vec<Arc<Remote>> {
        let mut all: Vec<Arc<Remote>> = self.read(hub).remotes.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The group and version that a path begins with, its OpenAPI document's path included.
fn group_version(path: &str) -> Option<(String, String)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let (group, version) = (parts.next()?, parts.next().filter(|v| !v.is_empty())?);
    Some((group.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::yaml;

    #[test]
    fn paths_name_group_versions() {
        let found = |path: &str| group_version(path).map(|(g, v)| format!("{g} {v}"));
        assert_eq!(found("/apis/x.io/v1/namespaces/a/foos").as_deref(), Some("x.io v1"));
        assert_eq!(found("/apis/x.io/v1").as_deref(), Some("x.io v1"));
        assert_eq!(found("/openapi/v3/apis/x.io/v1").as_deref(), Some("x.io v1"));
        assert_eq!([found("/apis/x.io"), found("/apis/x.io/"), found("/api/v1/pods"), found("/apis")], [None, None, None, None]);
    }

    #[test]
    fn an_apiservice_with_a_service_is_remote() {
        let service = "{metadata: {name: v1.x.io}, spec: {group: x.io, version: v1, insecureSkipTLSVerify: true, service: {name: s, namespace: ns, port: 8443}}}";
        let remote = Remote::parse(&yaml(service)).unwrap();
        let client = remote.client.clone().unwrap();
        assert_eq!((client.authority().as_str(), client.trust, client.as_front_proxy), ("s.ns.svc:8443", Trust::Anybody, true));
        assert_eq!((remote.path().as_str(), remote.available), ("/apis/x.io/v1", false));
        assert_eq!(Remote::parse(&yaml("{spec: {group: apps, version: v1}}")), None);
    }
}
