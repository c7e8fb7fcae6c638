//! Keeps APIServices: writes those of what this server serves, asks the others whether they are there and what they serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;
use serde_json::Value;

use super::availability::{self, Condition};
use super::local::{self, Action};
use super::registry::{Known, PREFIX, Remote};
use super::{discovery, proxy};
use crate::bootstrap::{call, change, ensure, options};
use crate::openapi::Addition;
use crate::outbound::Place;
use crate::server::Server;
use crate::verbs::delete;
use crate::verbs::options::DeleteOptions;
use crate::verbs::projection::Part;
use crate::verbs::update::{Absent, update};

/// How often servers that are there are asked whether they still are.
const EVERY: Duration = Duration::from_secs(10);
/// How often servers that are not there are looked for, and what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a server may take to say what it serves, as upstream.
const WITHIN: Duration = Duration::from_secs(5);
/// The most bytes of a discovery document or an index of OpenAPI documents.
const MOST: usize = 8 << 20;

/// Runs for as long as the server.
pub async fn run(server: Arc<Server>) {
    while let Err(status) = server.hub.reach(0).await {
        tracing::warn!(%status, "waiting for the storage to be listed");
    }
    let cache = server.hub.cache(PREFIX);
    let mut catalogs = server.catalogs.subscribe();
    loop {
        let mut cursor = cache.snapshot("", 0).2;
        catalogs.mark_unchanged();
        let wait = pass(&server).await;
        tokio::select! {
            () = cursor.moved() => {}
            changed = catalogs.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// One look at everything; says when to look again though nothing is known to have changed.
async fn pass(server: &Arc<Server>) -> Option<Duration> {
    let mut present = vec![];
    for entry in server.hub.cache(PREFIX).snapshot("", 0).0 {
        match entry.tree() {
            Ok(tree) => present.push(tree),
            Err(error) => tracing::error!(name = entry.name(), %error, "an APIService in the storage is no JSON"),
        }
    }
    let mut done = true;
    let wanted = local::wanted(&server.catalog.load());
    for action in local::plan(wanted, &present) {
        done &= settled(act(server, &action).await, "keeping the APIServices of what is served here");
    }
    let looks = present.iter().map(|service| look(server, service));
    let looks = futures::future::join_all(looks).await;
    let mut known = BTreeMap::new();
    let mut all_there = true;
    for (service, (condition, said)) in present.iter().zip(&looks) {
        if let Some(said) = said {
            all_there &= condition.status == "True";
            known.insert(service.name().to_owned(), said.clone());
        }
    }
    let remotes = !known.is_empty();
    // What discovery says is known before the condition says that it is.
    if **server.aggregation.known.load() != known {
        server.aggregation.known.store(Arc::new(known));
    }
    for (service, (condition, _)) in present.iter().zip(&looks) {
        let status = availability::status(service, condition, server.clock.now());
        if service["status"] != status {
            tracing::info!(name = service.name(), condition.status, condition.reason, condition.message, "an APIService's availability");
            done &= settled(write(server, service, status).await, "writing an APIService's condition");
        }
    }
    match (done && all_there, remotes) {
        (false, _) => Some(AGAIN),
        (true, true) => Some(EVERY),
        (true, false) => None,
    }
}

/// Whether an attempt came to its end; one that lost against another writer did, since that is an event of its own.
fn settled(result: Result<(), Status>, what: &str) -> bool {
    match result {
        Ok(()) => true,
        Err(status) if matches!(status.reason, "Conflict" | "NotFound") => true,
        Err(status) => {
            tracing::warn!(%status, "{what}");
            false
        }
    }
}

async fn act(server: &Arc<Server>, action: &Action) -> Result<(), Status> {
    match action {
        Action::Create(object) => ensure(server, object.clone()).await.map(drop),
        Action::Replace(object) => {
            let replaced = |old: &Value| {
                let mut new = old.clone();
                new["spec"] = object["spec"].clone();
                new
            };
            change(server, object, &replaced).await
        }
        Action::Remove(object) => {
            let mut call = call(server, object)?;
            call.info.name = object.name().to_owned();
            delete::delete(&call, &DeleteOptions::default()).await.map(drop)
        }
    }
}

async fn write(server: &Arc<Server>, service: &Value, status: Value) -> Result<(), Status> {
    let mut call = call(server, service)?;
    call.info.name = service.name().to_owned();
    let row = call.row.clone();
    let part = row.subresource("status").ok_or_else(|| Status::internal("APIServices have a status"))?;
    let compute = |old: Option<&Value>| {
        let mut new = old.unwrap_or(service).clone();
        new["status"] = status.clone();
        Ok(new)
    };
    update(&call, Part::Sub(part), Absent::NotFound, &options(), vec![], &compute).await.map(drop)
}

/// What is found out about an APIService; of one served by others, also what is known of it now.
async fn look(server: &Server, service: &Value) -> (Condition, Option<Known>) {
    let Some(remote) = Remote::parse(service) else { return (Condition::local(), None) };
    let before = server.aggregation.known.load().get(&remote.name).cloned().unwrap_or_default();
    let stale = |condition| (condition, Some(Known { stale: true, ..before.clone() }));
    if let Some(obstacle) = obstacle(server, service) {
        return stale(obstacle);
    }
    let path = remote.path();
    let url = match &remote.client {
        Ok(client) => format!("https://{}{path}", client.authority()),
        Err(why) => return stale(Condition::failed(&path, why)),
    };
    let list = match fetch(server, &remote, &path).await {
        Ok(list) => list,
        Err(why) => return stale(Condition::failed(&url, &why)),
    };
    // A server that says it serves nothing we understand is there all the same.
    let resources = discovery::resources(&list).unwrap_or_else(|why| {
        tracing::warn!(name = remote.name, why, "an aggregated server's discovery document");
        before.resources.clone()
    });
    // It need not have OpenAPI documents; what it had stays when it does not give them just now.
    let openapi = match fetch(server, &remote, "/openapi/v3").await {
        Ok(index) => discovery::openapi(&index, &remote.group, &remote.version).unwrap_or_default(),
        Err(why) => not_given(&remote, &why, before.openapi.clone()),
    };
    let mut swagger = before.swagger.clone();
    // It is large, and changes when the server does.
    if before.stale || swagger.is_none() || before.resources != resources {
        swagger = match fetch(server, &remote, "/openapi/v2").await {
            Ok(document) => Some(Arc::new(Addition::of(&document, &path))).filter(|a| !a.is_empty()),
            Err(why) => not_given(&remote, &why, swagger),
        };
    }
    (Condition::passed(), Some(Known { resources, stale: false, openapi, swagger }))
}

/// What was known before, of a document that a server did not give.
fn not_given<T>(remote: &Remote, why: &str, before: T) -> T {
    tracing::debug!(name = remote.name, why, "an aggregated server's OpenAPI document");
    before
}

/// What can be seen in the caches to be wrong with an APIService's Service.
fn obstacle(server: &Server, object: &Value) -> Option<Condition> {
    let Ok(Place::Service { namespace, name, .. }) = Place::service(&object["spec"]["service"]) else { return None };
    let service = server.hub.cache("/registry/services/").get(&format!("{namespace}/{name}")).and_then(|e| e.tree().ok());
    let entries = server.hub.cache("/registry/discovery.k8s.io/endpointslices/").snapshot(&format!("{namespace}/"), 0).0;
    let own = entries.iter().filter(|e| e.label("kubernetes.io/service-name") == Some(&name));
    let slices: Vec<Value> = own.filter_map(|e| e.tree().ok()).collect();
    availability::obstacle(&object["spec"], service.as_ref(), &slices)
}

/// A JSON document of an aggregated server.
async fn fetch(server: &Server, remote: &Remote, path: &str) -> Result<Value, String> {
    let client = remote.client.as_ref().map_err(Clone::clone)?;
    let answer = server.outbound.get(client, proxy::own(remote, path)?, WITHIN, MOST).await;
    let answer = answer.map_err(|why| format!("Get \"https://{}{path}\": {why}", client.authority()))?;
    if !(200..300).contains(&answer.code) {
        return Err(format!("bad status from https://{}{path}: {}", client.authority(), answer.code));
    }
    serde_json::from_slice(&answer.body).map_err(|e| format!("{path}: {e}"))
}
