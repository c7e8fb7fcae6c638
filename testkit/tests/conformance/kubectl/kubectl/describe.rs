//! `kubectl describe` prints what people look for.

use serde_json::json;

use super::create_primary;
use crate::framework::Framework;

/// Each requirement's first text is on a line after the one before, and its further texts are on that line too.
fn has(output: &str, required: &[&[&str]]) {
    let mut lines = output.lines().peekable();
    for requirement in required {
        while lines.next_if(|l| !l.contains(requirement[0])).is_some() {}
        let line = lines.peek().unwrap_or_else(|| panic!("no further {:?} in\n{output}", requirement[0]));
        for text in &requirement[1..] {
            assert!(line.contains(text), "no {text:?} in {line:?} of\n{output}");
        }
    }
}

pub async fn relevant(f: Framework) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "agnhost-primary", "labels": {"app": "agnhost", "role": "primary"}},
        "spec": {"ports": [{"port": 6379, "targetPort": "agnhost-server"}], "selector": {"app": "agnhost", "role": "primary"}},
    });
    let pod = create_primary(&f).await?;
    f.kubectl().stdin(service.to_string()).ok(&["create", "-f", "-"]).await?;
    let kubectl = f.kubectl();
    let namespace = f.namespace.as_str();

    let name = pod["metadata"]["name"].as_str().expect("a name");
    has(
        &kubectl.ok(&["describe", "pod", name]).await?,
        &[
            &["Name:", "agnhost-primary-"],
            &["Namespace:", namespace],
            &["Node:"],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Status:", "Running"],
            &["IP:"],
            &["Controlled By:", "ReplicationController/agnhost-primary"],
            &["Image:", "busybox"],
            &["State:", "Running"],
            &["QoS Class:", "BestEffort"],
            &["Events:"],
            &["Scheduled"],
            &["Started"],
        ],
    );
    // The counts of the controller follow its pod.
    let described = f
        .until("the controller to count its pod as running", crate::framework::SOON, || async {
            let said = kubectl.ok(&["describe", "rc", "agnhost-primary"]).await.expect("describe");
            said.contains("1 Running").then_some(said)
        })
        .await;
    has(
        &described,
        &[
            &["Name:", "agnhost-primary"],
            &["Namespace:", namespace],
            &["Selector:", "app=agnhost,role=primary"],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Replicas:", "1 current", "1 desired"],
            &["Pods Status:", "1 Running", "0 Waiting", "0 Succeeded", "0 Failed"],
            &["Pod Template:"],
            &["Image:", "busybox"],
            &["Events:"],
            &["SuccessfulCreate"],
        ],
    );
    has(
        &kubectl.ok(&["describe", "service", "agnhost-primary"]).await?,
        &[
            &["Name:", "agnhost-primary"],
            &["Namespace:", namespace],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Selector:", "app=agnhost", "role=primary"],
            &["Type:", "ClusterIP"],
            &["IP:"],
            &["Port:", "<unset>", "6379/TCP"],
            &["Endpoints:"],
            &["Session Affinity:", "None"],
        ],
    );
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    has(
        &kubectl.ok(&["describe", "node", node]).await?,
        &[
            &["Name:", node],
            &["Labels:"],
            &["Annotations:"],
            &["CreationTimestamp:"],
            &["Conditions:"],
            &["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"],
            &["Addresses:"],
            &["Capacity:"],
            &["Kernel Version:"],
            &["Container Runtime Version:"],
            &["Kubelet Version:"],
            &["Non-terminated Pods:"],
            &["Allocated resources:"],
        ],
    );
    has(
        &kubectl.ok(&["describe", "namespace", namespace]).await?,
        &[
            &["Name:", namespace],
            &["Labels:"],
            &["Annotations:"],
            &["Status:", "Active"],
            &["No resource quota."],
            &["No LimitRange resource."],
        ],
    );
    Ok(())
}
