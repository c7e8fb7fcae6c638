//! Up in order, down in reverse, and not past a pod that is not well; all at once where that is asked for.

use serde_json::{Value, json};

use super::super::name;
use super::{create, path, pods, until_ready};
use crate::framework::{BUSYBOX, Framework, POD};

/// Pods that are ready while `/tmp/ready` is there.
fn probed(set: &mut Value) {
    set["spec"]["template"]["spec"]["containers"] = json!([{
        "name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "touch /tmp/ready; exec sleep 3600"],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
    }]);
}

/// Has a pod found well, or not, at its next probe.
async fn make_well(f: &Framework, pod: &str, well: bool) -> anyhow::Result<()> {
    let command: &[&str] = if well { &["touch", "/tmp/ready"] } else { &["rm", "/tmp/ready"] };
    f.kubectl().ok(&[&["exec", pod, "--"], command].concat()).await?;
    Ok(())
}

async fn set_well(f: &Framework, pod: &str, well: bool) -> anyhow::Result<()> {
    make_well(f, pod, well).await?;
    f.until_it(&f.core(&format!("pods/{pod}")), "to be found so", POD, |pod| {
        let wanted = if well { "True" } else { "False" };
        pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == wanted))
    })
    .await;
    Ok(())
}

async fn resize(f: &Framework, replicas: u64) {
    f.wire.patch("merge", &format!("{}/scale", path(f)), &json!({"spec": {"replicas": replicas}})).await.expect(200);
}

/// The controller has seen the new size and that a pod is not well, and left the pods alone.
async fn until_halted(f: &Framework, replicas: u64, ready: u64) {
    let counts: Vec<(&str, u64)> = vec![("replicas", replicas), ("readyReplicas", ready)];
    super::until_status(f, &path(f), &counts).await;
    assert_eq!(pods(f).await.len() as u64, replicas);
}

pub async fn ordered(f: Framework) -> anyhow::Result<()> {
    let mut watch = f.watch_from_now(&f.core("pods?labelSelector=foo%3Dbar")).await;
    create(&f, 1, probed).await;
    until_ready(&f, 1).await;
    set_well(&f, "ss-0", false).await?;
    resize(&f, 3).await;
    until_halted(&f, 1, 0).await;
    set_well(&f, "ss-0", true).await?;
    until_ready(&f, 3).await;
    // Only the first of those that are not well may go, and only last.
    for pod in ["ss-0", "ss-1", "ss-2"] {
        set_well(&f, pod, false).await?;
    }
    resize(&f, 0).await;
    until_halted(&f, 3, 0).await;
    for pod in ["ss-2", "ss-1"] {
        make_well(&f, pod, true).await?;
        f.until_gone(&f.core(&format!("pods/{pod}")), POD).await;
    }
    f.until("all to go", POD, || async { pods(&f).await.is_empty().then_some(()) }).await;

    let (mut came, mut went) = (vec![], vec![]);
    while went.len() < 3 {
        let event = watch.next().await.expect("another event");
        let list = match event["type"].as_str() {
            Some("ADDED") => &mut came,
            Some("DELETED") => &mut went,
            _ => continue,
        };
        list.push(name(&event["object"]).to_owned());
    }
    assert_eq!((came, went), (vec!["ss-0".into(), "ss-1".into(), "ss-2".into()], vec!["ss-2".into(), "ss-1".into(), "ss-0".to_owned()]));
    Ok(())
}

pub async fn burst(f: Framework) -> anyhow::Result<()> {
    create(&f, 1, |set| {
        probed(set);
        set["spec"]["podManagementPolicy"] = json!("Parallel");
    })
    .await;
    until_ready(&f, 1).await;
    set_well(&f, "ss-0", false).await?;
    resize(&f, 3).await;
    super::until_status(&f, &path(&f), &[("replicas", 3), ("readyReplicas", 2)]).await;
    set_well(&f, "ss-0", true).await?;
    for pod in ["ss-0", "ss-1", "ss-2"] {
        set_well(&f, pod, false).await?;
    }
    resize(&f, 0).await;
    f.until("all to go", POD, || async { pods(&f).await.is_empty().then_some(()) }).await;
    Ok(())
}
