//! A pod runs as a ServiceAccount that is there, and finds a token of it in each container.

use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Step, View};
use crate::resources::cells::{items, text};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour, and a little so that clients that round do not renew at once.
const TOKEN_SECONDS: i64 = 3607;

/// Upstream's `ServiceAccount`.
pub struct ServiceAccount;

impl Step for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn admit(&self, at: &Attributes<'_>, pod: &mut Value, view: &dyn View) -> Result<(), Status> {
        if !at.creates("", "pods") || !pod["spec"].is_object() {
            return Ok(());
        }
        if pod.annotations().contains_key(MIRROR) {
            return check_mirror(at, pod);
        }
        if text(pod, "/spec/serviceAccountName").is_empty() {
            pod["spec"]["serviceAccountName"] = "default".into();
            pod["spec"]["serviceAccount"] = "default".into();
        }
        let name = text(pod, "/spec/serviceAccountName").to_owned();
        let Some(account) = view.get("", "serviceaccounts", &ObjectKey::namespaced(at.namespace, &name)) else {
            let namespace = at.namespace;
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(at.forbidden(&why));
        };
        let automount = pod["spec"]["automountServiceAccountToken"].as_bool().or_else(|| account["automountServiceAccountToken"].as_bool());
        if automount.unwrap_or(true) {
            mount_token(pod, at.random);
        }
        if items(pod, "/spec/imagePullSecrets").is_empty()
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            pod["spec"]["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }
}

/// A pod from a file of the node has nothing of the cluster's.
fn check_mirror(at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(at.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = items(pod, "/spec/volumes");
    if volumes.iter().any(|v| v.get("secret").is_some()) {
        return Err(at.forbidden("a mirror pod may not reference secrets"));
    }
    let has_token = |v: &Value| items(v, "/projected/sources").iter().any(|s| s.get("serviceAccountToken").is_some());
    if volumes.iter().any(has_token) {
        return Err(at.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn mount_token(pod: &mut Value, random: u64) {
    let name = volume_name(pod, random);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if items(container, "/volumeMounts").iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounted = true;
            push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
        }
    }
    if mounted {
        push(&mut pod["spec"], "volumes", token_volume(&name));
    }
}

fn push(parent: &mut Value, field: &str, value: Value) {
    match parent.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.push(value),
        None => parent[field] = json!([value]),
    }
}

/// A name that no volume of the pod has.
fn volume_name(pod: &Value, random: u64) -> String {
    let mut random = random;
    loop {
        let name = crate::verbs::metadata::generated_name("kube-api-access-", random);
        if items(pod, "/spec/volumes").iter().all(|v| v["name"] != name) {
            return name;
        }
        random = random.wrapping_add(1);
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left, verdict};
    use super::ServiceAccount;
    use crate::resources::core::pod;
    use expect_test::expect;

    fn world() -> World {
        World::of(&[
            ("", "serviceaccounts", "{metadata: {name: default, namespace: x}, imagePullSecrets: [{name: s}]}"),
            ("", "serviceaccounts", "{metadata: {name: quiet, namespace: x}, automountServiceAccountToken: false}"),
        ])
    }

    #[test]
    fn a_token_in_each_container() {
        let request = Request::create(pod::row(), "{metadata: {name: a, namespace: x}, spec: {containers: [{name: c}]}}");
        expect![[r#"{"containers":[{"name":"c","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-bbbbb","readOnly":true}]}],"imagePullSecrets":[{"name":"s"}],"serviceAccount":"default","serviceAccountName":"default","volumes":[{"name":"kube-api-access-bbbbb","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}}]}"#]]
            .assert_eq(&left(&ServiceAccount, &world(), &request, "/spec"));
        let quiet = "{metadata: {name: a, namespace: x}, spec: {serviceAccountName: quiet, containers: [{name: c}]}}";
        assert_eq!(left(&ServiceAccount, &world(), &Request::create(pod::row(), quiet), "/spec/volumes"), "null");
    }

    #[test]
    fn the_account_must_be_there() {
        let gone = "{metadata: {name: a, namespace: x}, spec: {serviceAccountName: gone, containers: []}}";
        expect![[r#"pods "a" is forbidden: error looking up service account x/gone: serviceaccount "gone" not found"#]]
            .assert_eq(&verdict(&ServiceAccount, &world(), &Request::create(pod::row(), gone)));
        let mirror = "{metadata: {name: a, annotations: {kubernetes.io/config.mirror: h}}, spec: {volumes: [{name: v, secret: {}}]}}";
        expect![[r#"pods "a" is forbidden: a mirror pod may not reference secrets"#]].assert_eq(&verdict(
            &ServiceAccount,
            &world(),
            &Request::create(pod::row(), mirror),
        ));
    }
}
