//! Controllers that tests make, of pods that do nothing, and waiting for their pods.

use serde_json::{Value, json};

use super::{Framework, PAUSE, POD};

#[allow(dead_code, reason = "for whoever needs it")]
impl Framework {
    /// A template of pods that do nothing and go at once.
    pub fn idle_template(labels: &Value) -> Value {
        json!({
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": PAUSE, "imagePullPolicy": "IfNotPresent"}]},
        })
    }

    /// A ReplicationController of pods that do nothing.
    pub fn replication_controller(name: &str, replicas: usize, labels: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": labels, "template": Self::idle_template(labels)},
        })
    }

    /// A ReplicaSet or a Deployment of pods that do nothing.
    pub fn workload(kind: &str, name: &str, replicas: usize, labels: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": Self::idle_template(labels)},
        })
    }

    /// The objects of a collection: `list("pods?labelSelector=a%3Db")`.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.wire.get(path).await.expect(200);
        list["items"].as_array().expect("a list").clone()
    }

    /// Waits until the namespace has exactly so many pods of a selection, and gives them.
    pub async fn until_pods(&self, selector: &str, count: usize) -> Vec<Value> {
        let path = self.core(&format!("pods?labelSelector={}", selector.replace('=', "%3D").replace(',', "%2C")));
        self.until(&format!("{count} pods with {selector}"), POD, || async {
            Some(self.list(&path).await).filter(|pods| pods.len() == count)
        })
        .await
    }
}
