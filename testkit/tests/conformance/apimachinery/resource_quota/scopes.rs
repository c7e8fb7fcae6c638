//! Quotas that count some pods and not others.

use serde_json::{Value, json};

use super::{create, until_used};
use crate::framework::{Framework, PAUSE};

fn pod(name: &str, resources: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent", "resources": resources}]},
    })
}

/// Makes a pod that one quota counts and the other does not, and deletes it.
async fn counted(f: &Framework, pod: &Value, by: &str, not_by: &str, none: &[(&str, &str)], used: &[(&str, &str)]) {
    f.create_pod(pod).await;
    until_used(f, by, used).await;
    until_used(f, not_by, none).await;
    let path = f.core(&format!("pods/{}", pod["metadata"]["name"].as_str().expect("a name")));
    let answer = f.wire.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await;
    assert!((200..300).contains(&answer.code), "{}", answer.text());
    until_used(f, by, none).await;
    until_used(f, not_by, none).await;
}

pub async fn terminating(f: Framework) -> anyhow::Result<()> {
    let hard = [("pods", "5"), ("requests.cpu", "1"), ("requests.memory", "500Mi"), ("limits.cpu", "2"), ("limits.memory", "1Gi")];
    let none = hard.map(|(what, _)| (what, "0"));
    for (name, scope) in [("quota-terminating", "Terminating"), ("quota-not-terminating", "NotTerminating")] {
        create(&f, name, &hard, &[scope]).await;
        until_used(&f, name, &none).await;
    }
    let used = [("pods", "1"), ("requests.cpu", "500m"), ("requests.memory", "200Mi"), ("limits.cpu", "1"), ("limits.memory", "400Mi")];
    let resources = json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
    let mut object = pod("test-pod", &resources);
    counted(&f, &object, "quota-not-terminating", "quota-terminating", &none, &used).await;
    object["metadata"]["name"] = json!("terminating-pod");
    object["spec"]["activeDeadlineSeconds"] = json!(3600);
    counted(&f, &object, "quota-terminating", "quota-not-terminating", &none, &used).await;
    Ok(())
}

pub async fn best_effort(f: Framework) -> anyhow::Result<()> {
    let none = [("pods", "0")];
    for (name, scope) in [("quota-besteffort", "BestEffort"), ("quota-not-besteffort", "NotBestEffort")] {
        create(&f, name, &[("pods", "5")], &[scope]).await;
        until_used(&f, name, &none).await;
    }
    counted(&f, &pod("besteffort-pod", &json!({})), "quota-besteffort", "quota-not-besteffort", &none, &[("pods", "1")]).await;
    let resources = json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
    let burstable = pod("burstable-pod", &resources);
    counted(&f, &burstable, "quota-not-besteffort", "quota-besteffort", &none, &[("pods", "1")]).await;
    Ok(())
}
