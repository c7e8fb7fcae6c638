//! Binds a pod to its node.

use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use crate::identity::{NodeName, Uid};
use crate::observation::Binding;
use crate::pod::Pod;

/// POSTs `pods/binding`. The uid goes along: a pod that took over the name is left alone.
pub async fn bind(client: &Client, pod: &Pod, node: &NodeName) -> Binding {
    let pods: Api<core::Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": &*pod.namespace, "name": &*pod.name, "uid": pod.uid.as_ref().map(Uid::as_str)},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node.as_str()},
    });
    let answer = pods.create_subresource::<_, serde_json::Value>("binding", &pod.name, &PostParams::default(), &binding).await;
    outcome(answer.map(|_| ()))
}

fn outcome(answer: kube::Result<()>) -> Binding {
    match answer {
        Ok(()) => Binding::Done,
        Err(kube::Error::Api(status)) if status.code == 404 => Binding::Gone,
        Err(kube::Error::Api(status)) if status.code == 409 => Binding::Conflict,
        Err(kube::Error::Api(status)) => Binding::Failed(status.message),
        Err(error) => Binding::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_bound_or_deleted_meanwhile_is_no_error() {
        let status = |code| Err(kube::Error::Api(kube::core::Status { code, message: "m".to_owned(), ..Default::default() }.boxed()));
        assert_eq!(outcome(Ok(())), Binding::Done);
        assert_eq!(outcome(status(404)), Binding::Gone);
        assert_eq!(outcome(status(409)), Binding::Conflict);
        assert_eq!(outcome(status(403)), Binding::Failed("m".to_owned()));
    }
}
