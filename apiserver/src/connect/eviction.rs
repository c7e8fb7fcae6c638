//! `pods/eviction`: a deletion that PodDisruptionBudgets may forbid for now.

use api::labels::Selector;
use api::object::Meta as _;
use api::status::{Cause, Status};
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::http::{decode, respond};
use crate::storage::Entry;
use crate::verbs::options::{DeleteOptions, WriteOptions};
use crate::verbs::{Call, delete, metadata, update};

/// A budget remembers at most so many evicted pods that are still there.
const DISRUPTED_MAX: usize = 2_000;

/// Evicts a pod.
pub fn evict(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let body = decode::read(&call.headers, request.into_body()).await?;
        let mut eviction = decode::tree(&call.headers, &body)?;
        let mut warnings = vec![];
        let asked = DeleteOptions::parse(&call, eviction.get("deleteOptions").filter(|o| o.is_object()))?;
        Admission::new(&call, Operation::Create, "eviction", asked.dry_run).run(&mut eviction, &mut warnings).await?;
        let options = DeleteOptions { admitted: true, ..asked };
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, &call.info.name)).ok_or_else(|| call.not_found())?;
        let pod = call.tree(&entry)?;
        let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("");
        // A pod that does not run, or is going already, disrupts nothing.
        if !matches!(phase, "Succeeded" | "Failed" | "Pending") && !pod.is_deleting() {
            let budgets = budgets(&call, &pod)?;
            match budgets.as_slice() {
                [] => {}
                [budget] if !guards(&call.tree(budget)?, &pod) => {}
                [budget] => spend(&call, budget, &pod, options.dry_run).await?,
                _ => {
                    return Err(Status::internal(
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                    ));
                }
            }
        }
        if !pod.is_deleting() {
            let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::parse(&call)? };
            update::rewrite(&call, &write, &|pod| Ok(marked(pod, &metadata::timestamp(call.now)))).await?;
        }
        delete::delete(&call, &options).await?;
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let mut response = respond::with_type(201, "application/json", done.to_string());
        respond::warn(response.headers_mut(), &warnings);
        Ok(response)
    })
}

/// Whether a budget guards a pod: one that is not ready is guarded only where its going could leave too few, as the budget's
/// `unhealthyPodEvictionPolicy` says (KEP-3017).
fn guards(budget: &Value, pod: &Value) -> bool {
    let ready = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut ready = ready.filter(|c| c["type"] == "Ready" && c["status"] == "True");
    let number = |f: &str| budget["status"][f].as_i64().unwrap_or(0);
    let enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    ready.next().is_some() || !(budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || enough)
}

/// The pod with the condition that tells its controllers why it goes (KEP-3329).
fn marked(pod: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let old = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_it = |c: &&Value| c["type"] == "DisruptionTarget";
    let since = old.iter().find(is_it).filter(|c| c["status"] == "True").map_or_else(|| now.into(), |c| c["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    if let Some(generation) = pod.meta().and_then(|m| m.get("generation")).cloned() {
        condition["observedGeneration"] = generation;
    }
    pod["status"]["conditions"] = old.iter().filter(|c| !is_it(c)).cloned().chain([condition]).collect();
    pod
}

/// The budgets that cover a pod.
fn budgets(call: &Call, pod: &Value) -> Result<Vec<std::sync::Arc<Entry>>, Status> {
    let cache = call.server.hub.cache("/registry/policy/poddisruptionbudgets/");
    let (labels, prefix) = (pod.labels(), format!("{}/", pod.namespace()));
    let mut found = vec![];
    for entry in cache.snapshot(&prefix, 0).0 {
        let budget = call.tree(&entry)?;
        let selector = Selector::from_object(budget.pointer("/spec/selector").unwrap_or(&Value::Null)).map_err(Status::internal)?;
        if selector.matches(&labels) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Takes one disruption out of a budget.
async fn spend(call: &Call, budget: &Entry, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let row = call.server.catalog.load().stored("policy", "poddisruptionbudgets").cloned().ok_or_else(Status::no_such_resource)?;
    let mut on = call.clone();
    on.row = row;
    on.info.name = budget.name().to_owned();
    let options = WriteOptions { dry_run, ..WriteOptions::parse(call)? };
    let (name, now) = (pod.name().to_owned(), metadata::timestamp(call.now));
    update::rewrite(&on, &options, &|budget| spent(budget, &name, &now)).await.map(|_| ())
}

/// The budget after one more disruption.
fn spent(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let refuse = |detail: String, retry: u32| {
        let mut status = Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry);
        status.details.get_or_insert_default().causes =
            vec![Cause { reason: "DisruptionBudget".into(), message: detail, field: String::new() }];
        Err(status)
    };
    let status = &budget["status"];
    let number = |f: &str| status[f].as_i64().unwrap_or(0);
    if number("observedGeneration") < budget.meta().and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(0) {
        return refuse(format!("The disruption budget {} is still being processed by the server.", budget.name()), 10);
    }
    if number("disruptionsAllowed") <= 0 {
        let detail = format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            budget.name(),
            number("desiredHealthy"),
            number("currentHealthy")
        );
        return refuse(detail, 0);
    }
    if status["disruptedPods"].as_object().is_some_and(|d| d.len() > DISRUPTED_MAX) {
        return Err(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            budget.name(),
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    let mut budget = budget.clone();
    budget["status"]["disruptionsAllowed"] = (number("disruptionsAllowed") - 1).into();
    if !budget["status"]["disruptedPods"].is_object() {
        budget["status"]["disruptedPods"] = json!({});
    }
    budget["status"]["disruptedPods"][pod] = now.into();
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_are_not_ready_are_guarded_where_too_few_would_be_left() {
        let pod = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let budget = |policy: Value, current: i64| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"currentHealthy": current, "desiredHealthy": 2}});
        let cases =
            [(Value::Null, 1, true), (Value::Null, 2, false), (json!("IfHealthyBudget"), 1, true), (json!("AlwaysAllow"), 1, false)];
        for (policy, current, guarded) in cases {
            assert_eq!(guards(&budget(policy.clone(), current), &pod("False")), guarded, "{policy} {current}");
            assert!(guards(&budget(policy, current), &pod("True")), "who is ready counts");
        }
        assert!(guards(&json!({"status": {"currentHealthy": 0, "desiredHealthy": 0}}), &pod("False")));
    }

    #[test]
    fn an_evicted_pod_says_so_once() {
        let pod = json!({"metadata": {"generation": 3}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let once = marked(&pod, "then");
        assert_eq!(once["status"]["conditions"][0]["type"], "Ready");
        assert_eq!(
            once["status"]["conditions"][1],
            json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
                "lastProbeTime": null, "lastTransitionTime": "then", "observedGeneration": 3})
        );
        assert_eq!(marked(&once, "now"), once);
    }

    #[test]
    fn a_budget_is_spent_and_then_refuses() {
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3}});
        let after = spent(&budget, "p", "now").unwrap();
        assert_eq!(after["status"]["disruptedPods"], json!({"p": "now"}));
        let refused = spent(&after, "q", "now").unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
    }
}
