//! The server's parts, as the verbs see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::schema::{Schema, SchemaNode};
use api::status::Status;
use arc_swap::ArcSwap;
use daemon::endpoints::Health;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admission::Operation;
use crate::allocate::Extra;
use crate::auth::{Authenticator, Authorizer};
use crate::catalog::Catalog;
use crate::openapi::OpenApi;
use crate::storage::Hub;
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
    /// The wall clock.
    pub clock: daemon::clock::Clock,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
    /// What the flags say.
    pub config: crate::flags::Config,
}

impl Server {
    /// Lets the mutating admission steps change an object.
    ///
    /// # Errors
    /// A step that says no.
    pub async fn admit(
        &self,
        _call: &Call,
        _operation: Operation,
        _obj: &mut Value,
        _old: Option<&Value>,
        _dry_run: bool,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Lets the validating admission steps look at a write.
    ///
    /// # Errors
    /// A step that says no.
    pub async fn validate(
        &self,
        _call: &Call,
        _operation: Operation,
        _obj: &Value,
        _old: Option<&Value>,
        _dry_run: bool,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

impl Call {
    /// The schema of the row's kind.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaNode<'static>> {
        Schema::builtin().node_of(&self.row.group, &self.row.version, &self.row.kind)
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
