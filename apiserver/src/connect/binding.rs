//! `pods/binding`: the scheduler's decision becomes the pod's node.

use api::object::Meta as _;
use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::http::{decode, render, respond};
use crate::verbs::options::WriteOptions;
use crate::verbs::{Call, metadata, update};

/// Binds a pod to a node.
pub fn bind(mut call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let options = WriteOptions::parse(&call)?;
        let body = decode::read(&call.headers, request.into_body()).await?;
        let (mut binding, mut warnings) = (decode::tree(&call.headers, &body)?, vec![]);
        if call.info.name.is_empty() {
            call.info.name = binding.name().to_owned();
        }
        Admission::new(&call, Operation::Create, &call.info.subresource, options.dry_run).run(&mut binding, &mut warnings).await?;
        let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or("").to_owned();
        if node.is_empty() || !matches!(binding.pointer("/target/kind").and_then(Value::as_str), None | Some("" | "Node")) {
            let mut errors = api::field::Errors::new();
            errors.required(&api::field::Path::new("target").child("name"), "");
            return Err(Status::invalid("", "Binding", &call.info.name, &errors));
        }
        update::rewrite(&call, &options, &|pod| assigned(pod, &binding, &node, &metadata::timestamp(call.now))).await?;
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let mut response = respond::with_type(201, "application/json", render::bytes(&done, crate::http::negotiate::Format::Json)?);
        respond::warn(response.headers_mut(), &warnings);
        Ok(response)
    })
}

/// The pod on its node.
fn assigned(pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Status> {
    let name = pod.name();
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, &why));
    if !binding.uid().is_empty() && binding.uid() != pod.uid() {
        return conflict(format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", binding.uid(), pod.uid()));
    }
    if pod.is_deleting() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or("");
    if !current.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {current:?}"));
    }
    if pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|g| !g.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    for (field, given) in [("annotations", binding.annotations()), ("labels", binding.labels())] {
        if !given.is_empty() {
            let mut all = api::object::string_map(pod.meta().and_then(|m| m.get(field)));
            all.extend(given);
            pod.set_meta(field, json!(all));
        }
    }
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    if let Some(generation) = pod.meta().and_then(|m| m.get("generation")) {
        condition["observedGeneration"] = generation.clone();
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|c| c["type"] != "PodScheduled").collect();
    conditions.push(condition);
    pod["status"]["conditions"] = conditions.into();
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}});
        let binding = json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"name": "n"}});
        let bound = assigned(&pod, &binding, "n", "now").unwrap();
        assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]), (&json!("n"), &json!({"a": "b"})));
        assert_eq!(bound["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let again = assigned(&bound, &binding, "m", "now").unwrap_err();
        assert_eq!(
            (again.code, again.message.as_str()),
            (409, r#"Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n""#)
        );
    }
}
