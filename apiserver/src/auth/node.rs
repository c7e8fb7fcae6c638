//! The node authorizer: a kubelet may do what a kubelet does, and look only at what the pods of its own node refer to.
//!
//! That a kubelet writes only its own Node, Lease and pods is the admission step NodeRestriction's business.

use std::sync::Arc;

use serde_json::Value;

use super::{Attributes, User};
use crate::storage::{Cache, Hub};

/// Decides for members of `system:nodes`.
#[derive(Debug)]
pub struct NodeAuthorizer {
    pods: Arc<Cache>,
    volumes: Arc<Cache>,
    claims: Arc<Cache>,
}

/// What every kubelet may do, whatever runs on its node: verbs, group, resources.
const ALWAYS: &[(&str, &str, &str)] = &[
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    ("get list watch", "", "services"),
    ("create get list watch", "", "nodes"),
    ("update patch", "", "nodes nodes/status"),
    ("create delete", "", "pods"),
    ("update patch", "", "pods/status"),
    ("create", "", "pods/eviction"),
    ("create update patch", "", "events"),
    ("create update patch", "events.k8s.io", "events"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("get list watch", "node.k8s.io", "runtimeclasses"),
    ("get list watch", "storage.k8s.io", "csidrivers"),
    ("get create update patch delete", "storage.k8s.io", "csinodes"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("get list watch create update patch delete deletecollection", "resource.k8s.io", "resourceslices"),
    ("get list watch", "certificates.k8s.io", "clustertrustbundles"),
    ("get", "", "serviceaccounts"),
];

impl NodeAuthorizer {
    /// An authorizer over what `hub` caches.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        Self {
            pods: hub.cache("/registry/pods/"),
            volumes: hub.cache("/registry/persistentvolumes/"),
            claims: hub.cache("/registry/persistentvolumeclaims/"),
        }
    }

    /// Whether `user`, if it is a node, may.
    #[must_use]
    pub fn allows(&self, user: &User, a: &Attributes) -> bool {
        let Some(node) = user.name.strip_prefix("system:node:") else { return false };
        if !user.groups.iter().any(|g| g == "system:nodes") || !a.path.is_empty() {
            return false;
        }
        let resource = if a.subresource.is_empty() { a.resource.clone() } else { format!("{}/{}", a.resource, a.subresource) };
        let listed = |list: &str, wanted: &str| list.split(' ').any(|x| x == wanted);
        if ALWAYS.iter().any(|(verbs, group, resources)| listed(verbs, &a.verb) && *group == a.group && listed(resources, &resource)) {
            return true;
        }
        let reads = matches!(a.verb.as_str(), "get" | "list" | "watch");
        match (a.group.as_str(), resource.as_str()) {
            ("coordination.k8s.io", "leases") => {
                a.namespace == "kube-node-lease"
                    && (a.verb == "create" || a.name == node)
                    && matches!(a.verb.as_str(), "create" | "get" | "update" | "patch" | "delete")
            }
            ("", "pods") if a.name.is_empty() => reads && a.node_name == node,
            ("", "pods") => reads && (a.node_name == node || self.runs(node, a)),
            ("", "configmaps" | "secrets" | "persistentvolumeclaims") => reads && !a.name.is_empty() && self.referred(node, a),
            ("", "persistentvolumeclaims/status") => {
                matches!(a.verb.as_str(), "update" | "patch")
                    && self.referred(node, &Attributes { subresource: String::new(), ..a.clone() })
            }
            ("", "persistentvolumes") => a.verb == "get" && self.mounted(node, &a.name),
            ("", "serviceaccounts/token") => {
                a.verb == "create"
                    && self
                        .any_pod(node, &a.namespace, |pod| pod.pointer("/spec/serviceAccountName").and_then(Value::as_str) == Some(&a.name))
            }
            ("resource.k8s.io", "resourceclaims") => a.verb == "get" && self.referred(node, a),
            _ => false,
        }
    }

    fn runs(&self, node: &str, a: &Attributes) -> bool {
        self.pods
            .get(&format!("{}/{}", a.namespace, a.name))
            .and_then(|e| e.tree().ok())
            .is_some_and(|p| p.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node))
    }

    fn any_pod(&self, node: &str, namespace: &str, wanted: impl Fn(&Value) -> bool) -> bool {
        let index = self.pods.selectable().iter().position(|s| s.field == "spec.nodeName");
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let here = self.pods.snapshot(&prefix, 0).0.into_iter().filter(|e| index.is_none_or(|i| e.field(i) == node));
        here.filter_map(|e| e.tree().ok()).any(|pod| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node) && wanted(&pod))
    }

    fn referred(&self, node: &str, a: &Attributes) -> bool {
        self.any_pod(node, &a.namespace, |pod| refers(pod, &a.resource, &a.name))
    }

    /// A volume is mounted on a node when a pod there uses the claim that the volume is bound to.
    fn mounted(&self, node: &str, volume: &str) -> bool {
        let Some(volume) = self.volumes.get(volume).and_then(|e| e.tree().ok()) else { return false };
        let text = |p: &str| volume.pointer(p).and_then(Value::as_str).unwrap_or("");
        let (namespace, claim) = (text("/spec/claimRef/namespace"), text("/spec/claimRef/name"));
        self.claims.get(&format!("{namespace}/{claim}")).is_some()
            && self.any_pod(node, namespace, |pod| refers(pod, "persistentvolumeclaims", claim))
    }
}

/// Whether a pod refers to an object of its namespace.
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    // The fields that hold references, by the resource they refer to. They are unambiguous anywhere in a pod's spec.
    let keys: &[(&str, &str)] = match resource {
        "configmaps" => &[("configMap", "name"), ("configMapRef", "name"), ("configMapKeyRef", "name")],
        "secrets" => &[
            ("secret", "secretName"),
            ("secret", "name"),
            ("secretRef", "name"),
            ("secretKeyRef", "name"),
            ("nodePublishSecretRef", "name"),
            ("imagePullSecrets", "name"),
        ],
        "persistentvolumeclaims" => &[("persistentVolumeClaim", "claimName")],
        "resourceclaims" => &[("resourceClaims", "resourceClaimName")],
        _ => &[],
    };
    let generic = resource == "persistentvolumeclaims" && ephemeral(pod, name);
    generic || pod.get("spec").is_some_and(|spec| finds(spec, keys, name))
}

/// An ephemeral volume's claim is named after the pod and the volume.
fn ephemeral(pod: &Value, name: &str) -> bool {
    use api::object::Meta as _;
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    volumes
        .into_iter()
        .flatten()
        .filter(|v| v.get("ephemeral").is_some())
        .any(|v| format!("{}-{}", pod.name(), v["name"].as_str().unwrap_or("")) == name)
}

fn finds(value: &Value, keys: &[(&str, &str)], name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let here = |v: &Value| keys.iter().any(|(k, field)| k == key && v.get(field).and_then(Value::as_str) == Some(name));
            here(value) || value.as_array().is_some_and(|list| list.iter().any(here)) || finds(value, keys, name)
        }),
        Value::Array(list) => list.iter().any(|v| finds(v, keys, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_they_stand() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "env"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "projected"}}]}}, {"name": "s", "secret": {"secretName": "mounted"}}, {"name": "e", "ephemeral": {}}],
        }});
        for (resource, name) in [
            ("secrets", "pull"),
            ("configmaps", "env"),
            ("secrets", "key"),
            ("configmaps", "projected"),
            ("secrets", "mounted"),
            ("persistentvolumeclaims", "p-e"),
        ] {
            assert!(refers(&pod, resource, name), "{resource} {name}");
        }
        assert!(!refers(&pod, "secrets", "env") && !refers(&pod, "configmaps", "other"));
    }
}
