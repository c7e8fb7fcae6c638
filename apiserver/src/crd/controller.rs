//! Keeps what is served in step with the definitions: a pass looks at all of them, serves those that are established, and only then says that
//! they are; a definition that goes takes its objects with it first.

use std::sync::Arc;
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;
use serde_json::{Value, json};

use super::row;
use super::status::{FINALIZER, is_finalizing, is_true, plan};
use crate::bootstrap::{call, options};
use crate::catalog::Catalog;
use crate::openapi::OpenApi;
use crate::resource::Resource;
use crate::resources::cells::text;
use crate::server::Server;
use crate::start::Stage;
use crate::storage::Entry;
use crate::verbs::options::DeleteOptions;
use crate::verbs::projection::Part;
use crate::verbs::update::{Absent, update};
use crate::verbs::{Call, delete};

/// Where definitions are stored.
const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// How often something that is not done yet is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs for as long as the server; tells the start when every definition was looked at once. `builtin` are the rows besides those of definitions.
pub async fn run(server: Arc<Server>, builtin: Vec<Resource>) {
    while let Err(status) = server.hub.reach(0).await {
        tracing::warn!(%status, "waiting for the storage to be listed");
    }
    let cache = server.hub.cache(PREFIX);
    let mut served = Served { builtin, definitions: vec![] };
    loop {
        let (entries, _, mut cursor) = cache.snapshot("", 0);
        let done = pass(&server, &mut served, &entries).await;
        server.start.done(Stage::CustomResources);
        tokio::select! {
            () = cursor.moved() => {}
            () = tokio::time::sleep(AGAIN), if !done => {}
        }
    }
}

/// What is served, to see when that has to change.
struct Served {
    builtin: Vec<Resource>,
    /// Everything that the rows of the definitions are made from.
    definitions: Vec<Value>,
}

impl Served {
    fn update(&mut self, server: &Server, crds: &[Value]) {
        let made_from = |c: &Value| {
            json!([
                c["spec"],
                c["status"]["acceptedNames"],
                c["status"]["storedVersions"],
                c.is_deleting(),
                c.pointer("/metadata/generation")
            ])
        };
        let definitions: Vec<Value> = crds.iter().map(made_from).collect();
        if definitions == self.definitions {
            return;
        }
        let rows: Vec<Resource> = self.builtin.iter().cloned().chain(crds.iter().flat_map(row::rows)).collect();
        server.openapi.store(Arc::new(OpenApi::new(rows.iter().filter_map(crate::run::document).collect())));
        server.catalog.store(Arc::new(Catalog::new(rows, &server.hub)));
        server.catalogs.send_modify(|n| *n += 1);
        tracing::info!(definitions = definitions.len(), "custom resources are served");
        self.definitions = definitions;
    }
}

/// One look at everything. Says whether nothing is left to do until something changes.
async fn pass(server: &Arc<Server>, served: &mut Served, entries: &[Arc<Entry>]) -> bool {
    let mut crds = vec![];
    for entry in entries {
        match entry.tree() {
            Ok(tree) => crds.push(tree),
            Err(error) => tracing::error!(name = entry.name(), %error, "a definition in the storage is no JSON"),
        }
    }
    let planned = plan(&crds, server.clock.now());
    let established: Vec<Value> = planned.iter().filter(|c| is_true(c, "Established")).cloned().collect();
    served.update(server, &established);
    let mut done = true;
    for (crd, planned) in crds.iter().zip(planned) {
        let mut result = Ok(true);
        if planned["status"] != crd["status"] {
            result = write_status(server, &planned).await.map(|()| true);
        }
        if result.is_ok() && is_finalizing(crd) {
            result = finalize(server, crd).await;
        }
        match result {
            Ok(finished) => done &= finished,
            // Somebody else changed it, which is an event of its own.
            Err(status) if matches!(status.reason, "Conflict" | "NotFound") => {}
            Err(status) => {
                tracing::warn!(name = crd.name(), %status, "following a definition");
                done = false;
            }
        }
    }
    done
}

async fn write_status(server: &Arc<Server>, planned: &Value) -> Result<(), Status> {
    let mut call = call(server, planned)?;
    call.info.name = planned.name().to_owned();
    let row = call.row.clone();
    let part = row.subresource("status").ok_or_else(|| Status::internal("definitions have a status"))?;
    update(&call, Part::Sub(part), Absent::NotFound, &options(), vec![], &|_| Ok(planned.clone())).await.map(|_| ())
}

/// Deletes the objects of a definition; takes its finalizer off when there are none left. Says whether it came to that.
async fn finalize(server: &Arc<Server>, crd: &Value) -> Result<bool, Status> {
    if let Some(objects) = objects(server, crd)? {
        server.hub.fresh().await?;
        if !objects.row.cache.is_empty() {
            // As upstream: nobody is asked about what goes with its definition.
            delete::collection(&objects, &DeleteOptions { admitted: true, ..DeleteOptions::default() }).await?;
            server.hub.fresh().await?;
        }
        if !objects.row.cache.is_empty() {
            return Ok(false);
        }
    }
    let mut call = call(server, crd)?;
    call.info.name = crd.name().to_owned();
    let release = |old: Option<&Value>| -> Result<Value, Status> {
        let mut new = old.cloned().unwrap_or_else(|| crd.clone());
        let left: Vec<&str> = new.finalizers().into_iter().filter(|f| *f != FINALIZER).collect();
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        new.set_meta("finalizers", left);
        Ok(new)
    };
    update(&call, Part::Whole, Absent::NotFound, &options(), vec![], &release).await?;
    tracing::info!(name = crd.name(), "every custom resource is gone, and so is the definition");
    Ok(true)
}

/// A call about all objects of a definition; nothing when it never was served.
fn objects(server: &Arc<Server>, crd: &Value) -> Result<Option<Call>, Status> {
    let (group, kind) = (text(crd, "/spec/group"), text(crd, "/status/acceptedNames/kind"));
    let plural = text(crd, "/status/acceptedNames/plural");
    let row = server.catalog.load().stored(group, plural).cloned();
    let Some(row) = row.filter(|_| !plural.is_empty()) else { return Ok(None) };
    call(server, &json!({"apiVersion": row.api_version(), "kind": kind})).map(Some)
}
