//! The system's roles and bindings, from `roles.yaml` and `controllers.yaml`: data, so that they can be read as what they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The annotation of objects whose missing rights are put back.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const LABEL: &str = "kubernetes.io/bootstrapping";

/// The objects, roles before bindings. Each role may name the subjects it is bound to; the binding has the role's name.
#[must_use]
pub fn objects() -> Vec<Value> {
    let roles: Vec<Value> = serde_saphyr::from_str(include_str!("roles.yaml")).expect("roles.yaml is a list");
    let controllers: BTreeMap<String, Value> = serde_saphyr::from_str(include_str!("controllers.yaml")).expect("controllers.yaml is a map");
    let controllers = controllers.into_iter().map(|(name, rules)| {
        let subject = format!("ServiceAccount:kube-system:{name}");
        json!({"name": format!("system:controller:{name}"), "subjects": [subject], "rules": rules})
    });
    let mut out = vec![];
    for document in roles.into_iter().chain(controllers) {
        let name = document["name"].clone();
        let namespace = document.get("namespace");
        let mut metadata = json!({"name": name, "labels": {LABEL: "rbac-defaults"}, "annotations": {AUTOUPDATE: "true"}});
        if let Some(labels) = document.get("labels").and_then(Value::as_object) {
            for (key, value) in labels {
                metadata["labels"][key] = value.clone();
            }
        }
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.clone();
        }
        let (role, binding) = if namespace.is_some() { ("Role", "RoleBinding") } else { ("ClusterRole", "ClusterRoleBinding") };
        let api = "rbac.authorization.k8s.io/v1";
        let mut object = json!({"apiVersion": api, "kind": role, "metadata": metadata, "rules": rules(&document["rules"])});
        if let Some(selectors) = document.get("aggregate") {
            object["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {selectors.as_str().unwrap_or_default(): "true"}}]});
        }
        out.push(object);
        if let Some(subjects) = document.get("subjects").and_then(Value::as_array) {
            metadata["labels"] = json!({LABEL: "rbac-defaults"});
            let subjects: Vec<Value> = subjects.iter().filter_map(Value::as_str).map(subject).collect();
            let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name});
            out.push(json!({"apiVersion": api, "kind": binding, "metadata": metadata, "roleRef": reference, "subjects": subjects}));
        }
    }
    out
}

/// A rule is `verbs groups resources [names]`, each comma-separated, `core` for the core group; or `verbs /path,/path`.
fn rules(list: &Value) -> Vec<Value> {
    let split = |t: &str| -> Vec<String> { t.split(',').map(|p| if p == "core" { String::new() } else { p.to_owned() }).collect() };
    let one = |rule: &str| {
        let parts: Vec<&str> = rule.split_whitespace().collect();
        match parts.as_slice() {
            [verbs, paths] => json!({"verbs": split(verbs), "nonResourceURLs": split(paths)}),
            [verbs, groups, resources] => json!({"verbs": split(verbs), "apiGroups": split(groups), "resources": split(resources)}),
            [verbs, groups, resources, names] => {
                json!({"verbs": split(verbs), "apiGroups": split(groups), "resources": split(resources), "resourceNames": split(names)})
            }
            _ => panic!("the system's roles have the rule {rule:?}"),
        }
    };
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(one).collect()
}

/// `User:name`, `Group:name` or `ServiceAccount:namespace:name`.
fn subject(text: &str) -> Value {
    match text.split_once(':') {
        Some(("ServiceAccount", rest)) => {
            let (namespace, name) = rest.split_once(':').unwrap_or(("", rest));
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        Some((kind, name)) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}),
        None => panic!("the system's roles have the subject {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_object_is_whole() {
        let objects = objects();
        assert!(objects.iter().any(|o| o["metadata"]["name"] == "cluster-admin" && o["kind"] == "ClusterRoleBinding"));
        for object in &objects {
            if object["kind"] == "ClusterRole" || object["kind"] == "Role" {
                let aggregated = object.get("aggregationRule").is_some();
                assert!(aggregated || object["rules"].as_array().is_some_and(|r| !r.is_empty()), "{object}");
            }
        }
        let id = |o: &Value| format!("{} {} {}", o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]);
        let distinct: BTreeSet<String> = objects.iter().map(id).collect();
        assert_eq!(distinct.len(), objects.len(), "each is there once");
    }

    #[test]
    fn each_controller_has_its_rights_and_its_identity() {
        let objects = objects();
        let named = |kind: &str| objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == "system:controller:ttl-controller");
        let (role, binding) = (named("ClusterRole").expect("a role"), named("ClusterRoleBinding").expect("a binding"));
        let events = json!({"verbs": ["create", "patch", "update"], "apiGroups": ["", "events.k8s.io"], "resources": ["events"]});
        let nodes = json!({"verbs": ["list", "patch", "update", "watch"], "apiGroups": [""], "resources": ["nodes"]});
        assert_eq!(role["rules"], json!([nodes, events]));
        let identity = json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "ttl-controller"}]);
        assert_eq!(binding["subjects"], identity);
    }
}
