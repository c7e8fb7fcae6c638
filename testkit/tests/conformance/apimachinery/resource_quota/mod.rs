//! Quotas: what is counted, what is refused, and the quota as an object.

mod life;
mod object;
mod scopes;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.",
        test!(life::promptly),
    ),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service.",
        test!(life::service),
    ),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret.",
        test!(life::secret),
    ),
    Behaviour::new("[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod.", test!(life::pod)),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap.",
        test!(life::config_map),
    ),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller.",
        test!(life::replication_controller),
    ),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set.",
        test!(life::replica_set),
    ),
    Behaviour::new("[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes.", test!(scopes::terminating)),
    Behaviour::new("[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope.", test!(scopes::best_effort)),
    Behaviour::new(
        "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota.",
        test!(object::updated_and_deleted),
    ),
    Behaviour::new("[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota", test!(object::lifecycle)),
    Behaviour::new("[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status", test!(object::status)),
];

const NAME: &str = "test-quota";

/// What upstream's quota allows.
const HARD: &[(&str, &str)] = &[
    ("pods", "5"),
    ("services", "10"),
    ("services.nodeports", "1"),
    ("services.loadbalancers", "1"),
    ("replicationcontrollers", "10"),
    ("resourcequotas", "1"),
    ("cpu", "1"),
    ("memory", "500Mi"),
    ("configmaps", "10"),
    ("secrets", "10"),
    ("requests.storage", "10Gi"),
    ("persistentvolumeclaims", "10"),
    ("ephemeral-storage", "50Gi"),
    ("gold.storageclass.storage.k8s.io/requests.storage", "10Gi"),
    ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "10"),
    ("count/replicasets.apps", "5"),
    ("requests.example.com/dongtu", "3"),
];

/// Creates a quota.
async fn create(f: &Framework, name: &str, hard: &[(&str, &str)], scopes: &[&str]) -> Value {
    let hard: BTreeMap<&str, &str> = hard.iter().copied().collect();
    let mut quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}});
    if !scopes.is_empty() {
        quota["spec"]["scopes"] = json!(scopes);
    }
    let made = f.wire.post(&f.core("resourcequotas"), &quota).await.expect(201);
    assert_eq!(made["spec"]["hard"], json!(hard));
    made
}

/// Waits until the quota's status has the hard values of its spec and these used ones.
async fn until_used(f: &Framework, name: &str, used: &[(&str, &str)]) {
    f.until_it(&f.core(&format!("resourcequotas/{name}")), &format!("to have used {used:?}"), POD, |quota| {
        quota["status"]["hard"] == quota["spec"]["hard"] && used.iter().all(|(what, count)| quota["status"]["used"][what] == *count)
    })
    .await;
}

/// The refusal of something that a quota forbids.
fn exceeds(refusal: &str, quota: &str) {
    assert!(refusal.starts_with("403 Forbidden: ") && refusal.contains(&format!("exceeded quota: {quota}, requested: ")), "{refusal}");
    assert!(refusal.contains(", used: ") && refusal.contains(", limited: "), "{refusal}");
}
