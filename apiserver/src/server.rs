//! The server's parts, as the verbs see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::ObjectKey;
use api::schema::{Schema, SchemaNode};
use api::status::Status;
use arc_swap::ArcSwap;
use daemon::endpoints::Health;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admission::View;
use crate::admission::policies::Policies;
use crate::admission::policies::compile::{MutatingPolicy, ValidatingPolicy};
use crate::admission::policies::set::Bound;
use crate::admission::webhooks::Webhooks;
use crate::aggregation::Aggregation;
use crate::allocate::Extra;
use crate::auth::{Authenticator, Authorizer, User};
use crate::catalog::Catalog;
use crate::openapi::OpenApi;
use crate::outbound::Outbound;
use crate::storage::{Hub, keys};
use crate::verbs::Call;

/// One apiserver.
#[derive(Debug)]
pub struct Server {
    /// Storage and caches.
    pub hub: Arc<Hub>,
    /// What is served.
    pub catalog: ArcSwap<Catalog>,
    /// What is said of it in OpenAPI.
    pub openapi: ArcSwap<OpenApi>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Whether they may.
    pub authorizer: Authorizer,
    /// What asks others by HTTPS.
    pub outbound: Outbound,
    /// What others serve.
    pub aggregation: Aggregation,
    /// Moves when another catalog takes the place of the one before.
    pub catalogs: tokio::sync::watch::Sender<u64>,
    /// Admission by others.
    pub webhooks: Webhooks,
    /// How far the start is.
    pub start: crate::start::Start,
    /// Admission policies, compiled.
    pub policies: Policies,
    /// The health checks.
    pub health: Health,
    /// The process's metrics.
    pub metrics: daemon::metrics::Metrics,
    /// What is counted of requests.
    pub requests: crate::http::metrics::RequestMetrics,
    /// Which requests run, and which wait.
    pub gate: crate::flowcontrol::Gate,
    /// The upgraded connections to pods and nodes.
    pub tunnels: crate::connect::tunnel::Tunnels,
    /// The wall clock.
    pub clock: daemon::clock::Clock,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
    /// What the flags say.
    pub config: crate::flags::Config,
}

impl View for Server {
    fn get(&self, group: &str, plural: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        let cache = self.hub.cache(&prefix(group, plural));
        let entry = cache.get(&keys::rest(key))?;
        cache.tree(&entry).ok()
    }

    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let within = namespace.map(|n| format!("{n}/")).unwrap_or_default();
        let cache = self.hub.cache(&prefix(group, plural));
        let entries = cache.snapshot(&within, 0).0;
        entries.iter().filter_map(|e| cache.tree(e).ok()).collect()
    }

    fn allows(&self, user: &User, verb: &str, group: &str, plural: &str, name: &str) -> bool {
        let (verb, group, resource, name) = (verb.to_owned(), group.to_owned(), plural.to_owned(), name.to_owned());
        self.authorizer.allows(user, &crate::auth::Attributes { verb, group, resource, name, ..Default::default() })
    }

    fn holds(&self, user: &User, namespace: &str, rule: &crate::auth::rbac::Rule) -> bool {
        rule.requests(namespace).all(|request| self.authorizer.allows(user, &request))
    }

    fn stays(&self) -> crate::admission::Stays {
        self.config.stays
    }

    fn authorize(&self, user: &User, attributes: &crate::auth::Attributes) -> bool {
        self.authorizer.allows(user, attributes)
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    fn policies(&self) -> Bound<ValidatingPolicy> {
        self.policies.validating(&self.hub)
    }

    fn mutating_policies(&self) -> Bound<MutatingPolicy> {
        self.policies.mutating(&self.hub)
    }
}

fn prefix(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("/registry/{plural}/") } else { format!("/registry/{group}/{plural}/") }
}

impl Call {
    /// The schema of the row's kind.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaNode<'_>> {
        let schema = self.row.schema.as_ref().map_or(Schema::builtin(), |custom| &custom.schema);
        schema.node_of(&self.row.group, &self.row.version, &self.row.kind)
    }

    /// Notes that a pool value is taken, as a commit found.
    pub fn mark_taken(&self, taken: &mut [BTreeSet<String>], key: &str) {
        let pools = self.row.reserve.as_ref().map(|r| r.pools()).unwrap_or_default();
        for (pool, values) in pools.iter().zip(taken) {
            if let Some(value) = key.strip_prefix(pool.as_str()) {
                values.insert(value.to_owned());
            }
        }
    }

    /// The pool values that go back when an object is removed.
    ///
    /// # Errors
    /// What the row's rules find wrong.
    pub fn released(&self, old: &Value) -> Result<Vec<Extra>, Status> {
        match &self.row.reserve {
            Some(reserve) => reserve.reserve(None, Some(old), &self.taken(), 0),
            None => Ok(vec![]),
        }
    }
}
