//! How containers end, as the pod's status tells it.

use serde_json::{Value, json};

use super::super::{condition, container_status, pod};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [NodeConformance]",
        test!(expected_status),
    ),
    Behaviour::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path [NodeConformance]",
        |f| {
            let own = json!({"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 1000}});
            Box::pin(message(f, "echo -n DONE > /dev/termination-custom-log", own, "DONE"))
        },
    ),
    Behaviour::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance]",
        |f| Box::pin(message(f, "echo -n DONE; false", json!({"terminationMessagePolicy": "FallbackToLogsOnError"}), "DONE")),
    ),
    Behaviour::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance]",
        |f| Box::pin(message(f, "echo -n DONE", json!({"terminationMessagePolicy": "FallbackToLogsOnError"}), "")),
    ),
    Behaviour::new(
        "[sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance]",
        |f| {
            let policy = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
            Box::pin(message(f, "echo -n OK > /dev/termination-log; echo log", policy, "OK"))
        },
    ),
];

async fn message(f: Framework, script: &str, container: Value, expected: &str) -> anyhow::Result<()> {
    f.create_pod(&pod("p", script, json!({}), container)).await;
    f.until_ended("p").await;
    // It is told as long as the pod is there, not only while something of it runs.
    let cleared = |p: &Value| condition(p, "PodReadyToStartContainers").starts_with("False");
    let ended = f.until_it(&f.core("pods/p"), "to be cleared away", POD, cleared).await;
    let terminated = &container_status(&ended, "main")["state"]["terminated"];
    assert_eq!(terminated["message"].as_str().unwrap_or_default(), expected, "{terminated}");
    assert_eq!(ended["status"]["phase"], if script.ends_with("false") { "Failed" } else { "Succeeded" });
    Ok(())
}

/// Fails the first time, succeeds the second, runs on the third; how often it ran is in a volume.
const TIMES: &str = "echo again >> /v/times; case $(wc -l < /v/times) in 1) exit 1;; 2) exit 0;; esac; sleep 600";

async fn expected_status(f: Framework) -> anyhow::Result<()> {
    for policy in ["Always", "OnFailure", "Never"] {
        let spec = json!({"restartPolicy": policy, "volumes": [{"name": "v", "emptyDir": {}}]});
        f.create_pod(&pod(&policy.to_lowercase(), TIMES, spec, json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))).await;
    }
    let rows = [
        ("never", "Failed", 0, "terminated", false),
        ("onfailure", "Succeeded", 1, "terminated", false),
        ("always", "Running", 2, "running", true),
    ];
    for (name, phase, restarts, state, ready) in rows {
        let as_expected = |pod: &Value| {
            let status = container_status(pod, "main");
            let verdict = if ready { condition(pod, "Ready").starts_with("True") } else { condition(pod, "Ready").starts_with("False") };
            pod["status"]["phase"] == phase
                && status["restartCount"] == restarts
                && status["state"][state].is_object()
                && status["ready"] == ready
                && verdict
        };
        f.until_it(&f.core(&format!("pods/{name}")), &format!("{phase}, {state}, restarted {restarts} times"), POD, as_expected).await;
    }
    Ok(())
}
