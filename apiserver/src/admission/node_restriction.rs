//! A kubelet touches its own node, the pods on it, and what belongs to them.

use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use serde_json::{Map, Value};

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{items, map, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// Labels under `kubernetes.io` and `k8s.io` that a kubelet may set on its node, besides those of its own prefixes.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Upstream's `NodeRestriction`.
pub struct NodeRestriction;

impl Step for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        if !at.user.groups.iter().any(|g| g == "system:nodes") {
            return Ok(());
        }
        let user = &at.user.name;
        let Some(node) = user.strip_prefix("system:node:").filter(|n| !n.is_empty()) else {
            return Err(at.forbidden(&format!("could not determine node from user {user:?}")));
        };
        let node = Node { name: node, at, view };
        match (at.row.group.as_ref(), at.row.plural.as_ref(), at.subresource) {
            ("", "pods", "") => node.pods(obj),
            ("", "pods", "status") => node.pod_status(obj),
            ("", "pods", "eviction") => node.eviction(),
            ("", "pods", other) => node.no(&format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
            ("", "nodes", _) => node.nodes(obj),
            ("", "serviceaccounts", "token") => node.token(obj),
            ("coordination.k8s.io", "leases", _) => node.leases(obj),
            ("storage.k8s.io", "csinodes", _) => node.csi_nodes(obj),
            ("resource.k8s.io", "resourceslices", _) => node.resource_slices(obj),
            _ => Ok(()),
        }
    }
}

/// The node that asks.
struct Node<'a> {
    name: &'a str,
    at: &'a Attributes<'a>,
    view: &'a dyn View,
}

impl Node<'_> {
    fn no(&self, why: &str) -> Result<(), Status> {
        Err(self.at.forbidden(why))
    }

    fn pods(&self, pod: &Value) -> Result<(), Status> {
        let name = self.name;
        match self.at.operation {
            Operation::Create => {
                if !pod.annotations().contains_key(MIRROR) {
                    return self.no(&format!("pod does not have {MIRROR:?} annotation, node {name:?} can only create mirror pods"));
                }
                if text(pod, "/spec/nodeName") != name {
                    return self.no(&format!("node {name:?} can only create pods with spec.nodeName set to itself"));
                }
                self.mirror(pod)
            }
            Operation::Delete => {
                if self.at.old.is_some_and(|p| text(p, "/spec/nodeName") != name) {
                    return self.no(&format!("node {name:?} can only delete pods with spec.nodeName set to itself"));
                }
                Ok(())
            }
            operation => {
                self.no(&format!("unexpected operation {:?}, node {name:?} can only create and delete mirror pods", word(operation)))
            }
        }
    }

    /// A mirror pod belongs to its node and refers to nothing of the cluster's.
    fn mirror(&self, pod: &Value) -> Result<(), Status> {
        let name = self.name;
        let owners = items(pod, "/metadata/ownerReferences");
        if owners.len() > 1 {
            return self.no(&format!("node {name:?} can only create pods with a single owner reference set to itself"));
        }
        if let [owner] = owners
            && (owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != name)
        {
            return self.no(&format!("node {name:?} can only create pods with an owner reference set to itself"));
        }
        if !text(pod, "/spec/serviceAccountName").is_empty() {
            return self.no(&format!("node {name:?} can not create pods that reference a service account"));
        }
        for (field, what) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("projected", "projected volumes"),
        ] {
            if items(pod, "/spec/volumes").iter().any(|v| v.get(field).is_some()) {
                return self.no(&format!("node {name:?} can not create pods that reference {what}"));
            }
        }
        Ok(())
    }

    fn pod_status(&self, pod: &Value) -> Result<(), Status> {
        let name = self.name;
        let Some(old) = self.at.old else { return Ok(()) };
        if text(old, "/spec/nodeName") != name {
            return self.no(&format!("node {name:?} can only update pod status for pods with spec.nodeName set to itself"));
        }
        if old.labels() != pod.labels() {
            return self.no(&format!("node {name:?} cannot update labels through pod status"));
        }
        Ok(())
    }

    fn eviction(&self) -> Result<(), Status> {
        let pod = self.view.get("", "pods", &ObjectKey::namespaced(self.at.namespace, self.at.name));
        if pod.is_none_or(|p| text(&p, "/spec/nodeName") != self.name) {
            return self.no(&format!("node {:?} can only evict pods with spec.nodeName set to itself", self.name));
        }
        Ok(())
    }

    fn nodes(&self, node: &Value) -> Result<(), Status> {
        let name = self.name;
        if self.at.name != name {
            return self.no(&format!("node {name:?} is not allowed to modify node {:?}", self.at.name));
        }
        let empty = Value::Object(Map::new());
        let old = self.at.old.unwrap_or(&empty);
        match self.at.operation {
            Operation::Create | Operation::Update => {}
            _ => return Ok(()),
        }
        let (before, now) = (map(old, "/metadata/labels"), map(node, "/metadata/labels"));
        let changed: Vec<&String> = before.keys().chain(now.keys()).filter(|k| before.get(*k) != now.get(*k)).collect();
        let mut forbidden: Vec<&str> = changed.into_iter().map(String::as_str).filter(|k| !may_label(k)).collect();
        forbidden.sort_unstable();
        forbidden.dedup();
        if !forbidden.is_empty() {
            let what = if self.at.operation == Operation::Create { "set the following labels" } else { "modify labels" };
            return self.no(&format!("is not allowed to {what}: {}", forbidden.join(", ")));
        }
        if self.at.operation == Operation::Update {
            if node.pointer("/spec/taints") != old.pointer("/spec/taints") {
                return self.no(&format!("node {name:?} is not allowed to modify taints"));
            }
            if node.pointer("/spec/configSource") != old.pointer("/spec/configSource") {
                return self.no(&format!("node {name:?} is not allowed to update configSource to a new non-nil value"));
            }
            if node.pointer("/metadata/ownerReferences") != old.pointer("/metadata/ownerReferences") {
                return self.no(&format!("node {name:?} is not allowed to modify ownerReferences"));
            }
        }
        Ok(())
    }

    fn leases(&self, lease: &Value) -> Result<(), Status> {
        let subject = if lease.is_null() { self.at.old.map_or("", |o| o.name()) } else { lease.name() };
        if self.at.namespace != LEASES {
            return self.no(&format!("can only access leases in the {LEASES:?} system namespace"));
        }
        if subject != self.name && self.at.name != self.name {
            return self.no("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn csi_nodes(&self, node: &Value) -> Result<(), Status> {
        let subject = if node.is_null() { self.at.name } else { node.name() };
        if subject != self.name {
            return self.no("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn resource_slices(&self, slice: &Value) -> Result<(), Status> {
        let subject = if slice.is_null() { self.at.old.unwrap_or(slice) } else { slice };
        if text(subject, "/spec/nodeName") != self.name {
            return self.no("can only create or delete ResourceSlices with the same spec.nodeName as the requesting node");
        }
        Ok(())
    }

    /// A kubelet gets tokens for the pods on its node alone.
    fn token(&self, request: &Value) -> Result<(), Status> {
        let bound = &request["spec"]["boundObjectRef"];
        if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || text(bound, "/name").is_empty() {
            return self.no("node requested token not bound to a pod");
        }
        let uid = text(bound, "/uid");
        if uid.is_empty() {
            return self.no("node requested token with a pod binding without a uid");
        }
        let Some(pod) = self.view.get("", "pods", &ObjectKey::namespaced(self.at.namespace, text(bound, "/name"))) else {
            return self.no("node requested token bound to a pod that does not exist");
        };
        if pod.uid() != uid {
            return self.no(&format!("the UID in the bound object reference ({uid}) does not match the UID in record ({})", pod.uid()));
        }
        if text(&pod, "/spec/nodeName") != self.name {
            return self.no("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Whether a kubelet may set this label on its node: its own ones, and those outside Kubernetes' domains.
fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(d, _)| d);
    let under = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|d| d.ends_with('.'));
    if under("node-restriction.kubernetes.io") {
        return false;
    }
    if !under("kubernetes.io") && !under("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&key) || under("kubelet.kubernetes.io") || under("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, verdict};
    use super::NodeRestriction;
    use crate::resources::coordination::leases;
    use crate::resources::core::{nodes, pod, serviceaccounts};

    #[track_caller]
    fn check(request: Request<'_>, expected: &str) {
        let world = World::of(&[("", "pods", "{metadata: {name: p, namespace: x, uid: u}, spec: {nodeName: one}}")]);
        let verdict = verdict(&NodeRestriction, &world, &request.by("system:node:one"));
        assert!(verdict.ends_with(expected), "{verdict}");
    }

    #[test]
    fn its_own_node() {
        check(Request::create(nodes::row(), "{metadata: {name: one, labels: {kubernetes.io/hostname: one, a: b}}}"), "ok");
        check(Request::create(nodes::row(), "{metadata: {name: two}}"), "node \"one\" is not allowed to modify node \"two\"");
        check(
            Request::update(nodes::row(), "{metadata: {name: one}}", "{metadata: {name: one, labels: {node-role.kubernetes.io/x: ''}}}"),
            "is not allowed to modify labels: node-role.kubernetes.io/x",
        );
        let tainted = "{metadata: {name: one}, spec: {taints: [{key: a}]}}";
        check(Request::update(nodes::row(), "{metadata: {name: one}}", tainted), "node \"one\" is not allowed to modify taints");
        check(Request::update(leases::row(), "{}", "{metadata: {name: one, namespace: kube-node-lease}}"), "ok");
        check(
            Request::create(leases::row(), "{metadata: {name: two, namespace: kube-node-lease}}"),
            "with the same name as the requesting node",
        );
    }

    #[test]
    fn its_own_pods() {
        check(Request::create(pod::row(), "{metadata: {name: a}}"), "node \"one\" can only create mirror pods");
        check(
            Request::delete(pod::row(), "{metadata: {name: a}, spec: {nodeName: two}}"),
            "can only delete pods with spec.nodeName set to itself",
        );
        let on = |node: &'static str| {
            if node == "one" { "{metadata: {name: a}, spec: {nodeName: one}}" } else { "{metadata: {name: a}, spec: {nodeName: two}}" }
        };
        check(Request::update(pod::row(), on("one"), on("one")).part("status"), "ok");
        check(
            Request::update(pod::row(), on("two"), on("two")).part("status"),
            "can only update pod status for pods with spec.nodeName set to itself",
        );
    }

    #[test]
    fn tokens_of_its_pods() {
        let ask = |bound: &str| format!("{{metadata: {{name: s, namespace: x}}, spec: {{boundObjectRef: {bound}}}}}");
        let good = ask("{apiVersion: v1, kind: Pod, name: p, uid: u}");
        check(Request::create(serviceaccounts::row(), &good).part("token"), "ok");
        check(Request::create(serviceaccounts::row(), &ask("{}")).part("token"), "node requested token not bound to a pod");
    }
}
