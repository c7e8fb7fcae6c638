//! The server's parts, as the verbs see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::{Meta as _, ObjectKey};
use api::schema::{Schema, SchemaNode};
use api::status::Status;
use arc_swap::ArcSwap;
use daemon::endpoints::Health;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admission::{Attributes, Charge, Notes, Operation, View, chain};
use crate::allocate::Extra;
use crate::auth::{Authenticator, Authorizer, User};
use crate::catalog::Catalog;
use crate::openapi::OpenApi;
use crate::storage::{Expect, Hub, Outcome, keys};
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
    /// Whether the system's own objects are there.
    pub bootstrapped: std::sync::atomic::AtomicBool,
    /// The health checks.
    pub health: Health,
    /// The process's metrics.
    pub metrics: daemon::metrics::Metrics,
    /// What is counted of requests.
    pub requests: crate::http::metrics::RequestMetrics,
    /// How many requests run at once.
    pub limits: crate::http::limits::Limits,
    /// The wall clock.
    pub clock: daemon::clock::Clock,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
    /// What the flags say.
    pub config: crate::flags::Config,
}

/// How often a quota that changed meanwhile is charged again.
const CHARGES: usize = 10;

/// One pass of admission over a write.
#[derive(Clone, Copy)]
pub struct Admission<'a> {
    /// The request.
    pub call: &'a Call,
    /// What it does.
    pub operation: Operation,
    /// The subresource; empty for the whole object.
    pub part: &'a str,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

impl Admission<'_> {
    fn attributes<'b>(&'b self, name: &'b str) -> Attributes<'b> {
        let call = self.call;
        Attributes {
            row: &call.row.resource,
            subresource: self.part,
            operation: self.operation,
            namespace: &call.info.namespace,
            name,
            user: &call.user,
            dry_run: self.dry_run,
            old: self.old,
            now: call.now,
            random: rand::random(),
        }
    }

    /// Lets the mutating steps change an object. A refusal is believed only when the caches were fresh.
    ///
    /// # Errors
    /// A step that says no.
    pub async fn admit(&self, obj: &mut Value) -> Result<(), Status> {
        let name = if obj.name().is_empty() { self.call.info.name.clone() } else { obj.name().to_owned() };
        let attempt = |obj: &mut Value| {
            let at = self.attributes(&name);
            chain::admit(chain::BEFORE_WEBHOOKS, &at, obj, &*self.call.server)?;
            chain::admit(chain::AFTER_WEBHOOKS, &at, obj, &*self.call.server)
        };
        let before = obj.clone();
        match attempt(obj) {
            Ok(()) => Ok(()),
            Err(_) => {
                self.call.server.hub.fresh().await?;
                *obj = before;
                attempt(obj)
            }
        }
    }

    /// Lets the validating steps look at a write, and charges quotas. A refusal is believed only when the caches were fresh.
    ///
    /// # Errors
    /// A step that says no.
    pub async fn validate(&self, obj: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
        let name = if obj.name().is_empty() { self.call.info.name.clone() } else { obj.name().to_owned() };
        let attempt = || {
            let (at, mut notes) = (self.attributes(&name), Notes::default());
            chain::validate(chain::BEFORE_WEBHOOKS, &at, obj, &*self.call.server, &mut notes)?;
            chain::validate(chain::AFTER_WEBHOOKS, &at, obj, &*self.call.server, &mut notes)?;
            Ok::<Notes, Status>(notes)
        };
        for _ in 0..CHARGES {
            let notes = match attempt() {
                Ok(notes) => notes,
                Err(_) => {
                    self.call.server.hub.fresh().await?;
                    attempt()?
                }
            };
            if self.dry_run || self.charge(&notes.charges).await? {
                warnings.extend(notes.warnings);
                return Ok(());
            }
            self.call.server.hub.fresh().await?;
        }
        Err(Status::conflict("", "resourcequotas", &name, "the quota changed too often; try again"))
    }

    /// Writes what is used of each quota; `false` when one of them was changed by another request.
    async fn charge(&self, charges: &[Charge]) -> Result<bool, Status> {
        let hub = &self.call.server.hub;
        for charge in charges {
            let rest = keys::rest(&charge.quota);
            let key = format!("/registry/resourcequotas/{rest}");
            let Some(entry) = hub.cache("/registry/resourcequotas/").get(&rest) else { return Ok(false) };
            let mut quota = entry.tree().map_err(Status::internal)?;
            if quota.resource_version() != charge.resource_version {
                return Ok(false);
            }
            quota["status"]["used"] = serde_json::json!(charge.used);
            let value = self.call.encode(&key, &quota)?;
            match self.call.commit(&key, Expect::Revision(entry.revision), Some(value), &[]).await? {
                Outcome::Done(revision) => hub.reach(revision).await?,
                _ => return Ok(false),
            };
        }
        Ok(true)
    }
}

impl View for Server {
    fn get(&self, group: &str, plural: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        let entry = self.hub.cache(&prefix(group, plural)).get(&keys::rest(key))?;
        entry.tree().ok().map(Arc::new)
    }

    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let within = namespace.map(|n| format!("{n}/")).unwrap_or_default();
        let entries = self.hub.cache(&prefix(group, plural)).snapshot(&within, 0).0;
        entries.iter().filter_map(|e| e.tree().ok().map(Arc::new)).collect()
    }

    fn allows(&self, user: &User, verb: &str, group: &str, plural: &str, name: &str) -> bool {
        let (verb, group, resource, name) = (verb.to_owned(), group.to_owned(), plural.to_owned(), name.to_owned());
        self.authorizer.allows(user, &crate::auth::Attributes { verb, group, resource, name, ..Default::default() })
    }

    fn holds(&self, user: &User, namespace: &str, rule: &crate::auth::rbac::Rule) -> bool {
        rule.requests(namespace).all(|request| self.authorizer.allows(user, &request))
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
