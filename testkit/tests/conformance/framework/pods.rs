//! Pods that tests make, and waiting for them.

use serde_json::{Value, json};

use super::{BUSYBOX, Framework, POD};

#[allow(dead_code, reason = "for whoever needs it")]
impl Framework {
    /// A pod of one busybox container that runs a shell script and is not started again.
    pub fn script(name: &str, script: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"name": name}},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}],
            },
        })
    }

    /// Creates a pod in the namespace.
    pub async fn create_pod(&self, pod: &Value) -> Value {
        self.wire.post(&self.core("pods"), pod).await.expect(201)
    }

    /// Waits until a pod runs and is ready.
    pub async fn until_ready(&self, name: &str) -> Value {
        self.until_it(&self.core(&format!("pods/{name}")), "to be running and ready", POD, |pod| {
            let conditions = pod["status"]["conditions"].as_array();
            pod["status"]["phase"] == "Running"
                && conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        })
        .await
    }

    /// Waits until a pod has ended, and gives it; how it ended is in `status.phase`.
    pub async fn until_ended(&self, name: &str) -> Value {
        self.until_it(&self.core(&format!("pods/{name}")), "to end", POD, |pod| {
            pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
        })
        .await
    }

    /// What a container has written.
    pub async fn logs(&self, pod: &str, container: &str) -> String {
        let answer = self.wire.get(&self.core(&format!("pods/{pod}/log?container={container}"))).await;
        assert_eq!(answer.code, 200, "logs of {pod}/{container}: {}", answer.text());
        answer.text()
    }

    /// Runs a pod to its end, which must be success, and gives what it wrote.
    pub async fn output_of(&self, pod: &Value) -> String {
        let name = pod["metadata"]["name"].as_str().expect("a named pod");
        self.create_pod(pod).await;
        let ended = self.until_ended(name).await;
        let container = pod["spec"]["containers"][0]["name"].as_str().expect("a named container");
        let said = self.logs(name, container).await;
        assert_eq!(ended["status"]["phase"], "Succeeded", "pod {name} ended as {}: {said}", ended["status"]);
        said
    }
}
