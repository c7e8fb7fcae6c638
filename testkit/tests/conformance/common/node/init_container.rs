//! Init containers: one after another, each to its success, before the others; what a watcher sees meanwhile.

use serde_json::{Value, json};

use super::super::{condition, container_status, pod};
use crate::framework::{BUSYBOX, Behaviour, Framework, PAUSE, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartNever pod", test!(on_never)),
    Behaviour::new("[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartAlways pod", test!(on_always)),
    Behaviour::new(
        "[sig-node] InitContainer [NodeConformance] should not start app containers if init containers fail on a RestartAlways pod",
        test!(failing_on_always),
    ),
    Behaviour::new(
        "[sig-node] InitContainer [NodeConformance] should not start app containers and fail the pod if init containers fail on a RestartNever pod",
        test!(failing_on_never),
    ),
];

fn with_init(policy: &str, commands: [&str; 2]) -> Value {
    let init = |(i, command): (usize, &str)| json!({"name": format!("init{}", i + 1), "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": [command]});
    let init: Vec<Value> = commands.into_iter().enumerate().map(init).collect();
    let resources = json!({"limits": {"cpu": "100m", "memory": "50Mi"}});
    let mut pod =
        pod("p", "true", json!({"restartPolicy": policy, "initContainers": init}), json!({"name": "run1", "resources": resources}));
    if policy == "Always" {
        pod["spec"]["containers"][0]["image"] = json!(PAUSE);
        pod["spec"]["containers"][0].as_object_mut().expect("a container").remove("command");
    }
    pod
}

/// Follows the pod until it is as wanted, calling `look` with each form it has had, and gives the last.
async fn follow(f: &Framework, pod: &Value, look: impl Fn(&Value), wanted: impl Fn(&Value) -> bool) -> Value {
    f.create_pod(pod).await;
    let mut watch = f.wire.watch(&f.core("pods?watch=true&fieldSelector=metadata.name%3Dp")).await;
    loop {
        let event = watch.next().await.expect("another event");
        assert_ne!(event["type"], "DELETED");
        look(&event["object"]);
        if wanted(&event["object"]) {
            return event["object"].clone();
        }
    }
}

/// What an init container that has succeeded looks like.
fn succeeded(pod: &Value, name: &str) {
    let status = container_status(pod, name);
    assert_eq!((&status["ready"], &status["state"]["terminated"]["exitCode"]), (&json!(true), &json!(0)), "{status}");
    assert_eq!(status["state"]["terminated"]["reason"], "Completed", "{status}");
}

/// No container but the first init container is further than waiting.
fn waits(pod: &Value, names: &[&str]) {
    for name in names {
        let status = container_status(pod, name);
        if !status.is_null() {
            assert_eq!(status["state"]["waiting"]["reason"], "PodInitializing", "{name}: {}", pod["status"]);
        }
    }
}

async fn on_never(f: Framework) -> anyhow::Result<()> {
    let pod = with_init("Never", ["true", "true"]);
    let ended = follow(&f, &pod, |_| {}, |p| p["status"]["phase"] == "Succeeded").await;
    assert_eq!(condition(&ended, "Initialized"), "True PodCompleted");
    succeeded(&ended, "init1");
    succeeded(&ended, "init2");
    let at = |name: &str, field: &str| container_status(&ended, name)["state"]["terminated"][field].as_str().expect("a time").to_owned();
    assert!(at("init1", "finishedAt") <= at("init2", "startedAt") && at("init2", "finishedAt") <= at("run1", "startedAt"));
    Ok(())
}

async fn on_always(f: Framework) -> anyhow::Result<()> {
    let pod = with_init("Always", ["true", "true"]);
    let running = follow(&f, &pod, |_| {}, |p| p["status"]["phase"] == "Running").await;
    assert_eq!(condition(&running, "Initialized"), "True");
    succeeded(&running, "init1");
    succeeded(&running, "init2");
    Ok(())
}

async fn failing_on_always(f: Framework) -> anyhow::Result<()> {
    let pod = with_init("Always", ["false", "true"]);
    let look = |p: &Value| {
        waits(p, &["init2", "run1"]);
        assert_ne!(container_status(p, "init1")["state"]["terminated"]["exitCode"], 0, "{}", p["status"]);
    };
    let failing = follow(&f, &pod, look, |p| container_status(p, "init1")["restartCount"].as_u64() >= Some(2)).await;
    assert_eq!(failing["status"]["phase"], "Pending");
    assert_eq!(
        condition(&failing, "Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [init1 init2]",
        "{}",
        failing["status"]
    );
    Ok(())
}

async fn failing_on_never(f: Framework) -> anyhow::Result<()> {
    let pod = with_init("Never", ["true", "false"]);
    let failed = follow(&f, &pod, |p| waits(p, &["run1"]), |p| p["status"]["phase"] == "Failed").await;
    succeeded(&failed, "init1");
    let status = container_status(&failed, "init2");
    assert_eq!((&status["ready"], &status["state"]["terminated"]["exitCode"]), (&json!(false), &json!(1)), "{status}");
    assert_eq!(condition(&failed, "Initialized"), "False ContainersNotInitialized containers with incomplete status: [init2]");
    Ok(())
}
