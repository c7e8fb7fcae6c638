//! What a cluster has before anybody does anything: namespaces, roles and bindings, priority classes, flow schemas and priority
//! levels, the `kubernetes` Service.
//!
//! Written through the same verbs as everything else, again and again until it is there. What an administrator changed stays changed, but for
//! rights that the system's own roles lack (as upstream's reconciliation with `rbac.authorization.kubernetes.io/autoupdate`).

mod authentication;
mod endpoints;
pub mod flowcontrol;
mod priority_classes;
mod roles;
mod service_cidrs;

use std::sync::Arc;
use std::time::Duration;

use api::object::{Meta as _, split_api_version};
use api::status::Status;
use daemon::backoff::Backoff;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::auth::User;
use crate::http::negotiate::Media;
use crate::http::query::Query;
use crate::http::request_info::RequestInfo;
use crate::server::Server;
use crate::verbs::options::{Validation, WriteOptions};
use crate::verbs::projection::Part;
use crate::verbs::update::{Absent, update};
use crate::verbs::{Call, create};

/// The namespaces that are always there.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How often the `kubernetes` Service's endpoints are looked at.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(10);
/// Objects that are made at once: each waits for the storage most of the time.
const AT_ONCE: usize = 16;
/// Who the server is when it acts for itself.
pub const SELF: &str = "system:apiserver";

/// Makes everything, then keeps right what changes, for as long as the server runs.
pub async fn run(server: Arc<Server>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while let Err(status) = all(&server).await {
        tracing::warn!(%status, "making the system's own objects");
        tokio::time::sleep(backoff.next_delay()).await;
    }
    server.start.done(crate::start::Stage::SystemObjects);
    tokio::join!(endpoints::keep(server.clone(), ENDPOINTS_EVERY), flowcontrol::keep(server.clone()), service_cidrs::keep(server));
}

async fn all(server: &Arc<Server>) -> Result<(), Status> {
    server.hub.reach(0).await?;
    let namespace = |name| ensure(server, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    futures::future::try_join_all(NAMESPACES.map(namespace)).await?;
    // What does not need each other is made at once: a server is ready the sooner.
    tokio::try_join!(
        access(server),
        priority_classes::once(server),
        authentication::publish(server),
        service_cidrs::once(server),
        flowcontrol::once(server)
    )?;
    Ok(())
}

async fn access(server: &Arc<Server>) -> Result<(), Status> {
    let one = |object: Value| async move {
        match ensure(server, object.clone()).await? {
            None => Ok(()),
            Some(found) => complete(server, &found, object).await,
        }
    };
    stream::iter(roles::objects()).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// A call of the server's own about one object.
pub(crate) fn call(server: &Arc<Server>, object: &Value) -> Result<Call, Status> {
    let text = |f: &str| object.get(f).and_then(Value::as_str).unwrap_or("");
    let (group, version) = split_api_version(text("apiVersion"));
    let row = server.catalog.load().of_kind(group, version, text("kind")).cloned();
    let row = row.ok_or_else(|| Status::internal(format!("no row serves {} {}", text("apiVersion"), text("kind"))))?;
    let info = RequestInfo {
        is_resource: true,
        group: group.to_owned(),
        version: version.to_owned(),
        resource: row.plural.to_string(),
        namespace: object.namespace().to_owned(),
        ..RequestInfo::default()
    };
    let user =
        User { name: SELF.to_owned(), groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()], ..User::default() };
    let (query, headers) = (Query::default(), http::HeaderMap::new());
    Ok(Call { server: server.clone(), row, info, query, user, media: Media::JSON, headers, now: server.clock.now() })
}

/// The options of the server's own writes.
pub(crate) fn options() -> WriteOptions {
    WriteOptions { dry_run: false, manager: "apiserver".to_owned(), validation: Validation::Strict, force: None, apply: false }
}

/// Creates an object unless it is there; gives what is there.
pub(crate) async fn ensure(server: &Arc<Server>, object: Value) -> Result<Option<Value>, Status> {
    let call = call(server, &object)?;
    if let Some(found) = call.current(object.name(), false).await? {
        return Ok(Some(found.tree));
    }
    match create::create(&call, object, &options(), vec![]).await {
        Ok(_) => Ok(None),
        // Another apiserver was faster.
        Err(status) if status.reason == "AlreadyExists" => Ok(None),
        Err(status) => Err(status),
    }
}

/// Replaces an object's content by what `change` makes of it.
pub(crate) async fn change(server: &Arc<Server>, object: &Value, change: &(dyn Fn(&Value) -> Value + Sync)) -> Result<(), Status> {
    let mut call = call(server, object)?;
    call.info.name = object.name().to_owned();
    let compute = |old: Option<&Value>| Ok(change(old.unwrap_or(object)));
    update(&call, Part::Whole, Absent::Create, &options(), vec![], &compute).await.map(|_| ())
}

/// Adds the rules, subjects, labels and the aggregation that one of the system's objects lacks.
async fn complete(server: &Arc<Server>, found: &Value, wanted: Value) -> Result<(), Status> {
    if found.annotations().get(roles::AUTOUPDATE).map(String::as_str) != Some("true") {
        return Ok(());
    }
    let lacks = |found: &Value, field: &str| -> Vec<Value> {
        let have = found.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        wanted[field].as_array().into_iter().flatten().filter(|w| !have.contains(w)).cloned().collect()
    };
    let aggregates = |found: &Value| wanted.get("aggregationRule").filter(|_| found.get("aggregationRule").is_none()).cloned();
    let unlabelled = |found: &Value| -> Vec<(String, Value)> {
        let has = found.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
        let all = wanted.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
        all.into_iter().filter(|(key, _)| !has.contains_key(key)).collect()
    };
    let whole = lacks(found, "rules").is_empty() && lacks(found, "subjects").is_empty();
    if whole && aggregates(found).is_none() && unlabelled(found).is_empty() {
        return Ok(());
    }
    change(server, &wanted, &|old| {
        let mut new = old.clone();
        for field in ["rules", "subjects"] {
            let missing = lacks(old, field);
            if missing.is_empty() {
                continue;
            }
            let mut list = old.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
            list.extend(missing);
            new[field] = list.into();
        }
        if let Some(rule) = aggregates(old) {
            new["aggregationRule"] = rule;
        }
        for (key, value) in unlabelled(old) {
            new["metadata"]["labels"][key] = value;
        }
        new
    })
    .await
}
