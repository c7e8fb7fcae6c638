//! Empties a namespace that is being deleted, and then lets it go.
//!
//! Pods go first (KEP-5080), so that what they rely on outlives them; then every object of every resource that discovery names.
//! The conditions say what remains. The last step removes the finalizer `kubernetes` through `/finalize`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::apply::{Outcome, code, json_request, message};
use crate::cache::Change;
use crate::caches::Caches;
use crate::discovery::{Discovered, Resource, discover};
use crate::kind::{Key, Object};
use crate::plan::{Failure, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

const FINALIZER: &str = "kubernetes";
/// How long, at most, until a namespace with content is looked at again.
const RECHECK: SignedDuration = SignedDuration::from_secs(10);
/// How many resources are emptied at a time.
const AT_ONCE: usize = 8;
/// Objects looked at for the count of what remains; more are left for the next time.
const PAGE: u32 = 500;

/// What was found in a namespace.
#[derive(Debug, Default)]
pub struct Findings {
    /// Groups whose resources are unknown, and why.
    pub undiscovered: Vec<(String, String)>,
    /// What could not be deleted.
    pub failed: Vec<String>,
    /// How many objects of each resource remain.
    pub remaining: BTreeMap<String, usize>,
    /// How many objects wait for each finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    /// Whether the namespace may go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.undiscovered.is_empty() && self.failed.is_empty() && self.remaining.is_empty()
    }
}

/// The status that shows the findings, with upstream's reasons and messages.
#[must_use]
pub fn show(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Namespace {
    let mut shown = namespace.clone();
    let list = |items: &[String]| items.join(", ");
    let undiscovered: Vec<String> = findings.undiscovered.iter().map(|(group, why)| format!("{group}: {why}")).collect();
    let remaining: Vec<String> = findings.remaining.iter().map(|(r, n)| format!("{r} has {n} resource instances")).collect();
    let finalizers: Vec<String> = findings.finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
    let rows: [(&str, bool, &str, String, &str, &str); 5] = [
        (
            "NamespaceDeletionDiscoveryFailure",
            !undiscovered.is_empty(),
            "DiscoveryFailed",
            format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                undiscovered.len(),
                list(&undiscovered)
            ),
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "GroupVersionParsingFailed",
            String::new(),
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            !findings.failed.is_empty(),
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {} remaining: {}", findings.failed.len(), list(&findings.failed)),
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            !remaining.is_empty(),
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", list(&remaining)),
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            !finalizers.is_empty(),
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", list(&finalizers)),
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let conditions = shown.status.get_or_insert_default().conditions.get_or_insert_default();
    for (type_, bad, reason, text, good_reason, good_text) in rows {
        let (status, reason, text) = if bad { ("True", reason, text) } else { ("False", good_reason, good_text.to_owned()) };
        let old = conditions.iter().position(|c| c.type_ == type_);
        let since = old.map(|i| &conditions[i]).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(text),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match old {
            Some(i) => conditions[i] = condition,
            None => conditions.push(condition),
        }
    }
    shown
}

/// The controller.
pub struct Namespaces;

impl Controller for Namespaces {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.namespaces.subscribe(move |change: Change<'_, Namespace>| {
            if change.latest().deleting() {
                own.add(change.latest().key());
            }
        });
        // Pods are what a namespace waits for the longest: go on when one is gone.
        let (all, own) = (caches.clone(), queue.clone());
        caches.pods.subscribe(move |change: Change<'_, Pod>| {
            let Change { old: Some(pod), new: None } = change else { return };
            let key = Key::cluster(pod.namespace());
            if all.namespaces.get(&key).is_some_and(|n| n.deleting()) {
                own.add(key);
            }
        });
    }

    /// The first step needs no look at the content: to be Terminating.
    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let mut plan = Plan::default();
        if let Some(namespace) = view.caches.namespaces.get(key).filter(|n| n.deleting()) {
            let mut going = namespace.as_ref().clone();
            going.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            plan.update_status(namespace.as_ref(), &going);
        }
        plan
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, failure: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let now = run.clock.now();
            let first = self.plan(&View { caches: &run.caches, now, failure }, key);
            if !first.actions.is_empty() {
                return (run.executor.apply(first).await, None);
            }
            let waits =
                |n: &Arc<Namespace>| n.deleting() && n.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER);
            let Some(namespace) = run.caches.namespaces.get(key).filter(waits) else { return (Outcome::default(), None) };
            match empty(run.executor.client(), &key.name).await {
                Ok(findings) => {
                    let mut plan = Plan::default();
                    plan.update_status(namespace.as_ref(), &show(&namespace, &findings, now));
                    let mut outcome = run.executor.apply(plan).await;
                    if findings.is_empty() && outcome.failure.is_none() {
                        finalize(run, &key.name, &mut outcome).await;
                        return (outcome, None);
                    }
                    outcome.stale = true; // look again, with back-off
                    (outcome, now.checked_add(RECHECK).ok())
                }
                Err(error) => (failed(&error), None),
            }
        })
    }
}

fn failed(error: &kube::Error) -> Outcome {
    Outcome { failure: Some(Failure { reason: "", message: message(error) }), stale: false }
}

/// Deletes everything in the namespace that it can, and tells what remains.
async fn empty(client: &Client, namespace: &str) -> kube::Result<Findings> {
    use futures::StreamExt as _;
    let Discovered { resources, failed } = discover(client).await?;
    let mut findings = Findings { undiscovered: failed, ..Findings::default() };
    let deletable = resources.into_iter().filter(|r| r.namespaced && r.can(&["list", "delete"]));
    let (pods, others): (Vec<Resource>, Vec<Resource>) = deletable.partition(|r| r.plural == "pods" && r.group().is_empty());
    for resources in [pods, others] {
        let results = futures::stream::iter(resources).map(|r| async move {
            let left = empty_resource(client, &r, namespace).await;
            (r, left)
        });
        let results: Vec<_> = results.buffer_unordered(AT_ONCE).collect().await;
        for (resource, left) in results {
            match left {
                Ok(left) => {
                    if !left.is_empty() {
                        findings.remaining.insert(resource.qualified(), left.len());
                    }
                    for finalizer in left.iter().flat_map(|o| &o.metadata.finalizers) {
                        *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
                    }
                }
                // The resource is not served any more, or has no collection.
                Err(error) if matches!(code(&error), Some(404 | 405)) => {}
                Err(error) => findings.failed.push(format!("{}: {}", resource.qualified(), message(&error))),
            }
        }
        if !findings.remaining.is_empty() || !findings.failed.is_empty() {
            break; // pods first
        }
    }
    Ok(findings)
}

#[derive(Deserialize)]
struct Items {
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemMeta {
    name: String,
    #[serde(default)]
    finalizers: Vec<String>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

async fn list(client: &Client, resource: &Resource, namespace: &str) -> kube::Result<Vec<Item>> {
    let uri = format!("{}?limit={PAGE}", resource.path(&Key::new(namespace, "")));
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json";
    let request = Request::get(uri).header(http::header::ACCEPT, accept).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let items: Items = client.request(request).await?;
    Ok(items.items.unwrap_or_default())
}

async fn empty_resource(client: &Client, resource: &Resource, namespace: &str) -> kube::Result<Vec<Item>> {
    let there = list(client, resource, namespace).await?;
    let waiting: Vec<&Item> = there.iter().filter(|o| o.metadata.deletion_timestamp.is_none()).collect();
    if waiting.is_empty() {
        return Ok(there);
    }
    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
    let delete = |key: &Key| json_request(Request::delete(resource.path(key)), "application/json", &options);
    if resource.can(&["deletecollection"]) {
        client.request_text(delete(&Key::new(namespace, ""))?).await?;
    } else {
        for object in waiting {
            match client.request_text(delete(&Key::new(namespace, &object.metadata.name))?).await {
                Err(error) if code(&error) != Some(404) => return Err(error),
                _ => {}
            }
        }
    }
    list(client, resource, namespace).await
}

async fn finalize(run: &Run, name: &str, outcome: &mut Outcome) {
    let result = async {
        let uri = Namespace::KIND.path(&Key::cluster(name), "");
        let request = Request::get(&uri).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let mut namespace: Value = run.executor.client().request(request).await?;
        if let Some(finalizers) = namespace["spec"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f != FINALIZER);
        }
        let request = json_request(Request::put(format!("{uri}/finalize")), "application/json", &namespace)?;
        run.executor.client().request_text(request).await
    };
    match result.await {
        Ok(_) => tracing::info!(namespace = name, "the namespace is empty and may go"),
        Err(error) if code(&error) == Some(404) => {}
        Err(error) if code(&error) == Some(409) => outcome.stale = true,
        Err(error) => *outcome = failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(findings: &Findings, expected: Expect) {
        let shown = show(&Namespace::default(), findings, Timestamp::UNIX_EPOCH);
        let lines = shown.status.into_iter().flat_map(|s| s.conditions.unwrap_or_default()).filter(|c| c.status == "True");
        expected.assert_eq(
            &lines
                .map(|c| format!("{} {}: {}\n", c.type_, c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
                .collect::<String>(),
        );
    }

    #[test]
    fn what_remains_is_told() {
        check(&Findings::default(), expect![""]);
        check(
            &Findings {
                remaining: [("pods.".to_owned(), 2)].into(),
                finalizers: [("x.io/keep".to_owned(), 1)].into(),
                ..Findings::default()
            },
            expect![[r#"
                NamespaceContentRemaining SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances
                NamespaceFinalizersRemaining SomeFinalizersRemain: Some content in the namespace has finalizers remaining: x.io/keep in 1 resource instances
            "#]],
        );
    }
}
