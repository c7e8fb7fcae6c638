//! A resource that only one test knows: nodes can be filled with it while other tests run on them.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::framework::{Framework, POD, SOON};

/// Held while a Node is read and written back: whoever wrote in between would have its resource forgotten.
static ADVERTISING: Mutex<()> = Mutex::const_new(());

/// Has a node say that it has so much of a resource of the test's own, and gives the resource's name. As upstream's tests do, only the capacity
/// is written, whatever version the object has; the kubelet makes it allocatable.
pub async fn advertise(f: &Framework, node: &str, amount: &str) -> String {
    let resource = format!("example.com/{}", f.namespace);
    let path = format!("/api/v1/nodes/{node}");
    let advertising = ADVERTISING.lock().await;
    let mut object = f.wire.get(&path).await.expect(200);
    object["status"]["capacity"][&resource] = json!(amount);
    object["metadata"]["resourceVersion"] = json!("0");
    f.wire.put(&format!("{path}/status"), &object).await.expect(200);
    drop(advertising);
    f.until_it(&path, "to have it to give", SOON, |node| node["status"]["allocatable"][&resource] == amount).await;
    resource
}

/// A pod that does nothing and holds so much of a resource on a node.
pub fn idle(name: &str, node: &str, resource: &str, amount: &str) -> Value {
    let mut pod = Framework::idle_template(&json!({"name": name}));
    (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!(name));
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {resource: amount}, "limits": {resource: amount}});
    pod
}

/// Waits until the scheduler has said that a pod fits nowhere, and gives its words.
pub async fn unschedulable(f: &Framework, name: &str) -> String {
    let condition = |pod: &Value| {
        let all = pod["status"]["conditions"].as_array()?;
        all.iter().find(|c| c["type"] == "PodScheduled" && c["status"] == "False" && c["reason"] == "Unschedulable").cloned()
    };
    let pod = f.until_it(&f.core(&format!("pods/{name}")), "to fit nowhere", POD, |pod| condition(pod).is_some()).await;
    assert_eq!(pod["spec"].get("nodeName"), None);
    condition(&pod).and_then(|c| c["message"].as_str().map(str::to_owned)).expect("a message")
}
