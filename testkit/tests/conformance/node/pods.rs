//! What a pod's status says of its quality of service.

use serde_json::json;

use crate::framework::{Behaviour, Framework, PAUSE, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu",
    test!(guaranteed),
)];

async fn guaranteed(f: Framework) -> anyhow::Result<()> {
    let amounts = json!({"cpu": "100m", "memory": "100Mi"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-qos-class"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": PAUSE, "imagePullPolicy": "IfNotPresent", "resources": {"requests": amounts, "limits": amounts},
        }]},
    });
    assert_eq!(f.create_pod(&pod).await["status"]["qosClass"], "Guaranteed");
    assert_eq!(f.until_ready("pod-qos-class").await["status"]["qosClass"], "Guaranteed");
    Ok(())
}
