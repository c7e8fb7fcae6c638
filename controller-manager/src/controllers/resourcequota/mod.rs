//! How much of its quotas a namespace uses.
//!
//! Admission counts what is created; here everything is counted anew, so that what went is given back. Pods, Services and
//! claims come from caches; other objects are counted at the apiserver, now and then.

mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use futures::future::BoxFuture;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kube::Client;
use serde_json::Value;

use self::usage::Amounts;
use crate::apply::{Outcome, code, message};
use crate::cache::Change;
use crate::caches::Caches;
use crate::discovery::{Resource, discover};
use crate::kind::{Key, Object};
use crate::plan::{Failure, Plan};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// How often objects without a cache are counted again.
const RECOUNT: SignedDuration = SignedDuration::from_secs(10);
/// How often everything else is, whatever happened (upstream's `--resource-quota-sync-period`).
const RESYNC: SignedDuration = SignedDuration::from_mins(5);
/// Kinds that may be limited by their plural alone.
const PLAIN: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// What a plan is made from.
pub struct Observed {
    /// The quota.
    pub quota: Arc<ResourceQuota>,
    /// The pods of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The Services of its namespace.
    pub services: Vec<Arc<Service>>,
    /// The claims of its namespace.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// How many there are of what has no cache, by the quota's names for them.
    pub counted: BTreeMap<String, u64>,
    /// The time.
    pub now: Timestamp,
}

/// Writes what is used of what is limited.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let quota = seen.quota.as_ref();
    let spec = quota.spec.clone().unwrap_or_default();
    let hard = spec.hard.clone().unwrap_or_default();
    let scoped = spec.scopes.is_some() || spec.scope_selector.is_some();
    let mut used = Amounts::new();
    seen.pods.iter().filter(|p| usage::in_scope(&spec, p)).for_each(|p| usage::pod(p, seen.now, &mut used));
    if !scoped {
        seen.services.iter().for_each(|s| usage::service(s, &mut used));
        seen.claims.iter().for_each(|c| usage::claim(c, &mut used));
        for (name, count) in &seen.counted {
            used.insert(name.clone(), Quantity::from_units(i64::try_from(*count).unwrap_or(i64::MAX)));
        }
    }
    let shown = |name: &String| (name.clone(), Written(used.get(name).copied().unwrap_or_default().to_string()));
    let mut new = quota.clone();
    let status = new.status.get_or_insert_default();
    status.used = Some(hard.keys().map(shown).collect());
    status.hard = Some(hard);
    plan.update_status(quota, &new);
    plan
}

/// The plural and group of what a limit counts, when that has no cache here.
fn uncached(name: &str) -> Option<(&str, &str)> {
    if PLAIN.contains(&name) {
        return Some((name, ""));
    }
    let (plural, group) = match name.strip_prefix("count/")? {
        full if full.contains('.') => full.split_once('.')?,
        plural => (plural, ""),
    };
    let cached = group.is_empty() && matches!(plural, "pods" | "services" | "persistentvolumeclaims");
    (!cached).then_some((plural, group))
}

/// How many objects there are: the first of them, and how many the server says remain.
async fn count(client: &Client, resource: &Resource, namespace: &str) -> kube::Result<u64> {
    let (mut total, mut token) = (0_u64, String::new());
    loop {
        let query = if token.is_empty() { "limit=1".to_owned() } else { format!("limit=500&continue={}", crate::watch::escape(&token)) };
        let uri = format!("{}?{query}", resource.path(&Key::new(namespace, "")));
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json";
        let request = Request::get(uri).header(http::header::ACCEPT, accept).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let list: Value = client.request(request).await?;
        total += list["items"].as_array().map_or(0, Vec::len) as u64;
        if let Some(rest) = list["metadata"]["remainingItemCount"].as_u64() {
            return Ok(total + rest);
        }
        match list["metadata"]["continue"].as_str().filter(|t| !t.is_empty()) {
            Some(next) => token = next.to_owned(),
            None => return Ok(total),
        }
    }
}

async fn count_all(client: &Client, names: &[&String], namespace: &str) -> kube::Result<BTreeMap<String, u64>> {
    let mut counted = BTreeMap::new();
    if names.is_empty() {
        return Ok(counted);
    }
    let found = discover(client).await?;
    for name in names {
        let Some((plural, group)) = uncached(name) else { continue };
        let resource = found.resources.iter().find(|r| r.plural == plural && r.group() == group && r.namespaced);
        let number = match resource {
            Some(resource) => count(client, resource, namespace).await?,
            None => 0, // not served: there are none
        };
        counted.insert((*name).clone(), number);
    }
    Ok(counted)
}

/// Whether a change of a quota is a reason to count. What admission adds to the status is none: who counts when a pod is charged for and not seen
/// yet gives its place away to another.
fn asks_for_a_count(change: &Change<'_, ResourceQuota>) -> bool {
    let Some(new) = change.new else { return false };
    let limits = new.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let shown = new.status.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    change.old.is_none_or(|old| old.spec != new.spec) || limits != shown
}

/// Whether a pod stops being counted. One that is new was counted by admission.
fn gives_back(change: &Change<'_, Pod>) -> bool {
    change.new.is_none_or(pod_state::is_terminal) && !change.old.is_some_and(pod_state::is_terminal)
}

/// The controller.
pub struct ResourceQuotas;

impl ResourceQuotas {
    fn observe(view: &View<'_>, quota: Arc<ResourceQuota>, counted: BTreeMap<String, u64>) -> Observed {
        let namespace = quota.namespace().to_owned();
        Observed {
            pods: view.caches.pods.in_namespace(&namespace),
            services: view.caches.services.in_namespace(&namespace),
            claims: view.caches.persistent_volume_claims.in_namespace(&namespace),
            quota,
            counted,
            now: view.now,
        }
    }
}

impl Controller for ResourceQuotas {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.resource_quotas.subscribe(move |change: Change<'_, ResourceQuota>| {
            if asks_for_a_count(&change) {
                own.add(change.latest().key());
            }
        });
        fn on<K: Object>(caches: &Arc<Caches>, queue: &Arc<Queue>, cache: &crate::cache::Cache<K>, matters: fn(&Change<'_, K>) -> bool) {
            let (all, own) = (caches.clone(), queue.clone());
            cache.subscribe(move |change: Change<'_, K>| {
                if matters(&change) {
                    all.resource_quotas.in_namespace(change.latest().namespace()).iter().for_each(|q| own.add(q.key()));
                }
            });
        }
        on(caches, queue, &caches.pods, gives_back);
        on(caches, queue, &caches.services, |c| c.old.is_some_and(|old| c.new.is_none_or(|new| old.spec != new.spec)));
        on(caches, queue, &caches.persistent_volume_claims, |c| c.old.is_some_and(|old| c.new.is_none_or(|new| old.spec != new.spec)));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(quota) = view.caches.resource_quotas.get(key).filter(|q| !q.deleting()) else { return Plan::default() };
        plan(&Self::observe(view, quota, BTreeMap::new()))
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, failure: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let Some(quota) = run.caches.resource_quotas.get(key).filter(|q| !q.deleting()) else { return (Outcome::default(), None) };
            let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
            let names: Vec<&String> = hard.keys().filter(|n| uncached(n).is_some()).collect();
            let now = run.clock.now();
            let counted = match count_all(run.executor.client(), &names, &key.namespace).await {
                Ok(counted) => counted,
                Err(error) if code(&error) == Some(404) => BTreeMap::new(),
                Err(error) => return (Outcome { failure: Some(Failure { reason: "", message: message(&error) }), stale: false }, None),
            };
            let seen = Self::observe(&View { caches: &run.caches, now, failure }, quota, counted);
            let recheck = now.checked_add(if names.is_empty() { RESYNC } else { RECOUNT }).ok();
            (run.executor.apply(plan(&seen)).await, recheck)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[track_caller]
    fn check(spec: Value, expected: Expect) {
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec})).expect("a quota");
        let pod = |spec: Value, phase: &str| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({"spec": spec, "status": {"phase": phase}})).expect("a pod"))
        };
        let busy = json!({
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}}, {"name": "b", "resources": {"requests": {"cpu": "250m"}}}]
        });
        let service: Service =
            serde_json::from_value(json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}})).expect("a service");
        let seen = Observed {
            quota: Arc::new(quota),
            pods: vec![
                pod(busy.clone(), "Running"),
                pod(json!({"containers": [{"name": "c"}], "activeDeadlineSeconds": 5}), "Pending"),
                pod(busy, "Succeeded"),
            ],
            services: vec![Arc::new(service)],
            claims: vec![],
            counted: [("secrets".to_owned(), 3)].into(),
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = plan(&seen);
        let used = plan.actions.iter().find_map(|a| match &a.op {
            crate::plan::Op::Patch { patch, .. } => Some(patch["status"]["used"].to_string()),
            _ => None,
        });
        expected.assert_eq(&used.unwrap_or_default());
    }

    #[test]
    fn amounts_and_counts() {
        check(
            json!({"hard": {"pods": "5", "count/pods": "5", "cpu": "1", "requests.memory": "1Gi", "limits.memory": "1", "services.nodeports": "1", "secrets": "9", "requests.storage": "1"}}),
            expect![[
                r#"{"count/pods":"3","cpu":"2","limits.memory":"2Gi","pods":"2","requests.memory":"1Gi","requests.storage":"0","secrets":"3","services.nodeports":"2"}"#
            ]],
        );
    }

    #[test]
    fn what_admission_counts_is_not_counted_again() {
        let quota = |hard: &str, shown: &str, used: &str| -> ResourceQuota {
            let status = json!({"hard": {"pods": shown}, "used": {"pods": used}});
            serde_json::from_value(json!({"metadata": {}, "spec": {"hard": {"pods": hard}}, "status": status})).expect("a quota")
        };
        let counts = |old: Option<&ResourceQuota>, new: Option<&ResourceQuota>| asks_for_a_count(&Change { old, new });
        let (before, charged) = (quota("2", "2", "0"), quota("2", "2", "1"));
        assert!(counts(None, Some(&before)) && !counts(Some(&before), Some(&charged)) && !counts(Some(&before), None));
        assert!(counts(Some(&charged), Some(&quota("3", "2", "1"))) && counts(Some(&charged), Some(&quota("2", "9", "1"))));
        let pod = |phase: &str| -> Pod { serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).expect("a pod") };
        let (pending, running, over) = (pod("Pending"), pod("Running"), pod("Succeeded"));
        let back = |old: Option<&Pod>, new: Option<&Pod>| gives_back(&Change { old, new });
        assert!(!back(None, Some(&pending)) && !back(Some(&pending), Some(&running)));
        assert!(back(Some(&running), Some(&over)) && back(Some(&running), None) && !back(Some(&over), None));
    }

    #[test]
    fn scopes_choose_pods_and_exclude_the_rest() {
        check(json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]}), expect![[r#"{"pods":"1"}"#]]);
        check(json!({"hard": {"pods": "5"}, "scopes": ["NotTerminating", "NotBestEffort"]}), expect![[r#"{"pods":"1"}"#]]);
        check(json!({"hard": {"pods": "5"}, "scopes": ["Terminating"]}), expect![[r#"{"pods":"1"}"#]]);
    }
}
