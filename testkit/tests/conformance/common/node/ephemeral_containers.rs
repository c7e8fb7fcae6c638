//! Containers that are added to a pod that runs.

use serde_json::{Value, json};

use super::super::{container_status, pod};
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an existing pod",
        test!(started),
    ),
    Behaviour::new(
        "[sig-node] Ephemeral Containers [NodeConformance] should update the ephemeral containers in an existing pod",
        test!(updated),
    ),
];

/// With a terminal, as somebody who looks into a pod has it.
fn ephemeral(name: &str) -> Value {
    json!({
        "name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "stdin": true, "tty": true,
        "command": ["sh", "-c", "while true; do echo polo; sleep 1; done"],
    })
}

async fn running(f: &Framework) -> Value {
    f.create_pod(&pod("p", "sleep 600", json!({"restartPolicy": "Always"}), json!({}))).await;
    f.until_ready("p").await
}

/// Waits until the ephemeral container runs and says what it has to.
async fn speaks(f: &Framework, name: &str) {
    f.until_it(&f.core("pods/p"), "to run the container", POD, |p| container_status(p, name)["state"]["running"].is_object()).await;
    f.until("its words", SOON, || async { f.logs("p", name).await.contains("polo").then_some(()) }).await;
}

async fn add(f: &Framework, name: &str) -> Value {
    let patch = json!({"spec": {"$setElementOrder/ephemeralContainers": [{"name": name}], "ephemeralContainers": [ephemeral(name)]}});
    f.wire.patch("strategic", &f.core("pods/p/ephemeralcontainers"), &patch).await.expect(200)
}

async fn started(f: Framework) -> anyhow::Result<()> {
    let before = running(&f).await;
    add(&f, "debugger").await;
    speaks(&f, "debugger").await;
    let said = f.kubectl().ok(&["exec", "p", "-c", "debugger", "--", "sh", "-c", "echo marco"]).await?;
    assert_eq!(said, "marco\n");
    let now = f.wire.get(&f.core("pods/p")).await.expect(200);
    assert_eq!(container_status(&now, "main"), container_status(&before, "main"), "nothing happened to the others");
    Ok(())
}

async fn updated(f: Framework) -> anyhow::Result<()> {
    running(&f).await;
    let names = |pod: &Value| {
        let all = pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
        all.iter().map(|c| c["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&add(&f, "debugger").await), ["debugger"]);
    speaks(&f, "debugger").await;
    let path = f.core("pods/p/ephemeralcontainers");
    f.until("an update without a conflict", SOON, || async {
        let mut read = f.wire.get(&path).await.expect(200);
        assert_eq!(names(&read), ["debugger"]);
        read["spec"]["ephemeralContainers"].as_array_mut().expect("a list").push(ephemeral("debugger2"));
        let answer = f.wire.put(&path, &read).await;
        (answer.code != 409).then(|| assert_eq!(names(&answer.expect(200)), ["debugger", "debugger2"]))
    })
    .await;
    speaks(&f, "debugger2").await;
    Ok(())
}
