//! New templates, one pod after the other, down to the partition; and back.

use serde_json::{Value, json};

use super::super::name;
use super::{create, path, pods, until_ready, until_status};
use crate::framework::{Framework, POD};

const REVISION: &str = "controller-revision-hash";

fn text<'a>(set: &'a Value, field: &str) -> &'a str {
    set["status"][field].as_str().expect("a revision")
}

fn revisions(pods: &[Value]) -> Vec<&str> {
    pods.iter().map(|p| p["metadata"]["labels"][REVISION].as_str().expect("a revision")).collect()
}

/// Changes what the pods run.
async fn set_template(f: &Framework, value: &str) {
    f.update(&path(f), |set| set["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "E2E", "value": value}])).await;
}

async fn set_partition(f: &Framework, partition: u64) {
    let patch = json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}});
    f.wire.patch("merge", &path(f), &patch).await.expect(200);
}

/// Waits until the pods are well and of these revisions.
async fn until_revisions(f: &Framework, wanted: &[&str]) -> Vec<Value> {
    until_ready(f, wanted.len() as u64).await;
    f.until(&format!("pods of {wanted:?}"), POD, || async {
        let now = pods(f).await;
        let well = |p: &Value| {
            p["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        (revisions(&now) == wanted && now.iter().all(well)).then_some(now)
    })
    .await
}

pub async fn rolling(f: Framework) -> anyhow::Result<()> {
    create(&f, 3, |set| set["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "E2E", "value": "1"}])).await;
    let set = until_ready(&f, 3).await;
    let first = text(&set, "currentRevision").to_owned();
    assert_eq!(text(&set, "updateRevision"), first);
    until_revisions(&f, &[first.as_str(); 3]).await;

    let mut watch = f.watch_from_now(&f.core("pods?labelSelector=foo%3Dbar")).await;
    set_template(&f, "2").await;
    let set = until_status(&f, &path(&f), &[("updatedReplicas", 3), ("readyReplicas", 3)]).await;
    let second = text(&set, "updateRevision").to_owned();
    assert_ne!(second, first);
    until_revisions(&f, &[second.as_str(); 3]).await;
    let mut went = vec![];
    while went.len() < 3 {
        let event = watch.next().await.expect("another event");
        if event["type"] == "DELETED" {
            went.push(name(&event["object"]).to_owned());
        }
    }
    assert_eq!(went, ["ss-2", "ss-1", "ss-0"]);

    // What was before is no new revision.
    set_template(&f, "1").await;
    let back = f
        .until_it(&path(&f), "to be rolled back", POD, |s| {
            let status = &s["status"];
            status["currentRevision"] == *first && status["updateRevision"] == *first && status["readyReplicas"] == 3
        })
        .await;
    assert_eq!(back["status"]["updatedReplicas"], 3);
    until_revisions(&f, &[first.as_str(); 3]).await;
    Ok(())
}

pub async fn canary(f: Framework) -> anyhow::Result<()> {
    create(&f, 3, |set| set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}})).await;
    let set = until_ready(&f, 3).await;
    let first = text(&set, "currentRevision").to_owned();
    set_template(&f, "2").await;
    // Nothing is below the partition: the new revision is known, and no pod has it.
    let set = f
        .until_it(&path(&f), "to know the new revision", POD, |s| {
            s["status"]["updateRevision"].as_str().is_some_and(|u| u != first)
                && s["status"]["observedGeneration"] == s["metadata"]["generation"]
        })
        .await;
    let second = text(&set, "updateRevision").to_owned();
    assert_eq!(text(&set, "currentRevision"), first);
    until_revisions(&f, &[first.as_str(); 3]).await;

    set_partition(&f, 2).await;
    until_revisions(&f, &[&first, &first, &second]).await;
    until_status(&f, &path(&f), &[("updatedReplicas", 1), ("currentReplicas", 2)]).await;

    // What is deleted comes back as it was.
    for pod in ["ss-0", "ss-2"] {
        let uid = f.wire.get(&f.core(&format!("pods/{pod}"))).await.expect(200)["metadata"]["uid"].clone();
        f.wire.delete(&f.core(&format!("pods/{pod}"))).await.expect(200);
        f.until_it(&f.core(&format!("pods/{pod}")), "to be another", POD, |p| p["metadata"]["uid"] != uid).await;
    }
    until_revisions(&f, &[&first, &first, &second]).await;

    set_partition(&f, 1).await;
    until_revisions(&f, &[&first, &second, &second]).await;
    set_partition(&f, 0).await;
    until_revisions(&f, &[second.as_str(); 3]).await;
    f.until_it(&path(&f), "to have gone over", POD, |s| s["status"]["currentRevision"] == *second).await;
    Ok(())
}
