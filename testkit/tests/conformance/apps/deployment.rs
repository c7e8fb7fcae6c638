//! Deployments, and the ReplicaSets they roll over.

use serde_json::{Value, json};

use super::{belongs_to, name, selected, until_status};
use crate::framework::{BUSYBOX, Behaviour, Framework, PAUSE, POD, SOON, has_condition, test, until_event};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] Deployment should run the lifecycle of a Deployment", test!(lifecycle)),
    Behaviour::new("[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones", test!(rolling_update)),
    Behaviour::new("[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones", test!(recreate)),
    Behaviour::new("[sig-apps] Deployment deployment should delete old replica sets", test!(history_limit)),
    Behaviour::new("[sig-apps] Deployment deployment should support rollover", test!(rollover)),
    Behaviour::new("[sig-apps] Deployment deployment should support proportional scaling", test!(proportional)),
    Behaviour::new("[sig-apps] Deployment Deployment should have a working scale subresource", test!(scale)),
    Behaviour::new("[sig-apps] Deployment should validate Deployment Status endpoints", test!(status)),
];

const REVISION: &str = "deployment.kubernetes.io/revision";
/// No registry has it, nor any node.
const NOWHERE: &str = "registry.invalid/no-such-image:1";

fn path(f: &Framework, name: &str) -> String {
    f.group("apps/v1", &format!("deployments/{name}"))
}

async fn create(f: &Framework, kind: &str, name: &str, replicas: usize, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = Framework::workload(kind, name, replicas, &json!({"name": "sample"}));
    change(&mut object);
    let plural = if kind == "Deployment" { "deployments" } else { "replicasets" };
    f.wire.post(&f.group("apps/v1", plural), &object).await.expect(201)
}

/// Pods of this image, which run.
fn runs(image: &str) -> Value {
    json!({"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]})
}

fn set_container(container: &Value) -> impl Fn(&mut Value) + use<> {
    let container = json!([container]);
    move |d| d["spec"]["template"]["spec"]["containers"] = container.clone()
}

async fn until_complete(f: &Framework, name: &str, replicas: u64) -> Value {
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].map(|field| (field, replicas));
    until_status(f, &path(f, name), &[&counts[..], &[("unavailableReplicas", 0)]].concat()).await
}

/// The ReplicaSets of a Deployment, oldest revision first.
async fn replica_sets(f: &Framework, owner: &Value) -> Vec<Value> {
    let mut all = f.list(&f.group("apps/v1", "replicasets")).await;
    all.retain(|rs| belongs_to(rs, owner));
    all.sort_by_key(|rs| rs["metadata"]["annotations"][REVISION].as_str().and_then(|r| r.parse::<i64>().ok()));
    all
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("deployment");
    let everywhere = format!("/apis/apps/v1/deployments{}", selected("test-deployment-static", &label));
    let mut watch = f.watch_from_now(&everywhere).await;
    create(&f, "Deployment", "test-deployment", 1, |d| d["metadata"]["labels"]["test-deployment-static"] = json!(label)).await;
    let path = path(&f, "test-deployment");
    until_event(&mut watch, "ADDED", |_| true).await;
    until_event(&mut watch, "MODIFIED", |d| d["status"]["readyReplicas"] == 1).await;

    let patch = json!({
        "metadata": {"labels": {"test-deployment": "patched"}},
        "spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [runs(BUSYBOX)]}}},
    });
    f.wire.patch("strategic", &path, &patch).await.expect(200);
    until_event(&mut watch, "MODIFIED", |d| d["metadata"]["labels"]["test-deployment"] == "patched").await;
    until_event(&mut watch, "MODIFIED", |d| d["status"]["readyReplicas"] == 2 && d["status"]["updatedReplicas"] == 2).await;
    let all = f.list(&everywhere).await;
    assert_eq!((all.len(), &all[0]["spec"]["replicas"]), (1, &json!(2)));

    let status = format!("{path}/status");
    let patch =
        json!({"metadata": {"labels": {"test-deployment": "patched-status"}}, "status": {"readyReplicas": 0, "availableReplicas": 0}});
    f.wire.patch("strategic", &status, &patch).await.expect(200);
    until_event(&mut watch, "MODIFIED", |d| d["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0).await;
    until_event(&mut watch, "MODIFIED", |d| d["status"]["readyReplicas"] == 2).await;
    assert_eq!(f.wire.get(&status).await.expect(200)["status"]["readyReplicas"], 2);
    f.wire.delete(&f.group("apps/v1", &format!("deployments{}", selected("test-deployment-static", &label)))).await.expect(200);
    until_event(&mut watch, "DELETED", |_| true).await;
    Ok(())
}

async fn rolling_update(f: Framework) -> anyhow::Result<()> {
    const LARGE: &str = "3546343826724305832";
    let old = create(&f, "ReplicaSet", "test-rolling-update-controller", 1, |rs| {
        rs["metadata"]["annotations"] = json!({REVISION: LARGE});
    })
    .await;
    until_status(&f, &f.group("apps/v1", "replicasets/test-rolling-update-controller"), &[("readyReplicas", 1)]).await;
    let made = create(&f, "Deployment", "test-rolling-update-deployment", 1, set_container(&runs(BUSYBOX))).await;
    f.until_it(&path(&f, "test-rolling-update-deployment"), "to go on counting", SOON, |d| {
        d["metadata"]["annotations"][REVISION] == "3546343826724305833"
    })
    .await;
    let done = until_complete(&f, "test-rolling-update-deployment", 1).await;
    assert!(has_condition(&done, "Available") && has_condition(&done, "Progressing"), "{}", done["status"]);
    let sets = f
        .until("the old pods to go", POD, || async {
            Some(replica_sets(&f, &made).await).filter(|sets| sets.len() == 2 && sets[0]["status"]["replicas"] == 0)
        })
        .await;
    assert_eq!((&sets[0]["metadata"]["uid"], &sets[0]["spec"]["replicas"]), (&old["metadata"]["uid"], &json!(0)), "it was adopted");
    let pods = f.until_pods("name=sample", 1).await;
    assert_eq!(pods[0]["spec"]["containers"][0]["image"], BUSYBOX);
    Ok(())
}

async fn recreate(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "test-recreate-deployment";
    create(&f, "Deployment", NAME, 1, |d| d["spec"]["strategy"] = json!({"type": "Recreate"})).await;
    until_complete(&f, NAME, 1).await;
    let before = f.until_pods("name=sample", 1).await;
    let mut watch = f.watch_from_now(&f.core(&format!("pods{}", selected("name", "sample")))).await;
    f.update(&path(&f, NAME), set_container(&runs(BUSYBOX))).await;
    until_complete(&f, NAME, 1).await;
    // The old pod had ended before the new one was there.
    let mut ended = false;
    loop {
        let event = watch.next().await.expect("another event");
        if name(&event["object"]) == name(&before[0]) {
            let phase = &event["object"]["status"]["phase"];
            ended |= event["type"] == "DELETED" || phase == "Succeeded" || phase == "Failed";
        } else {
            assert!(ended, "{event}");
            return Ok(());
        }
    }
}

async fn history_limit(f: Framework) -> anyhow::Result<()> {
    create(&f, "ReplicaSet", "test-cleanup-controller", 1, |_| ()).await;
    let old = f.group("apps/v1", "replicasets/test-cleanup-controller");
    until_status(&f, &old, &[("readyReplicas", 1)]).await;
    let made = create(&f, "Deployment", "test-cleanup-deployment", 1, |d| {
        set_container(&runs(BUSYBOX))(d);
        d["spec"]["revisionHistoryLimit"] = json!(0);
    })
    .await;
    f.until_gone(&old, POD).await;
    until_complete(&f, "test-cleanup-deployment", 1).await;
    assert_eq!(replica_sets(&f, &made).await.len(), 1);
    Ok(())
}

async fn rollover(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "test-rollover-deployment";
    create(&f, "ReplicaSet", "test-rollover-controller", 1, |_| ()).await;
    until_status(&f, &f.group("apps/v1", "replicasets/test-rollover-controller"), &[("readyReplicas", 1)]).await;
    let made = create(&f, "Deployment", NAME, 1, |d| {
        d["spec"]["minReadySeconds"] = json!(2);
        d["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        set_container(&runs(NOWHERE))(d);
    })
    .await;
    f.until("the rollout that gets nowhere to begin", POD, || async {
        let sets = replica_sets(&f, &made).await;
        (sets.len() == 2 && sets[1]["status"]["replicas"] == 1).then_some(())
    })
    .await;
    f.update(&path(&f, NAME), set_container(&runs(BUSYBOX))).await;
    until_complete(&f, NAME, 1).await;
    let sets = replica_sets(&f, &made).await;
    assert_eq!(sets.iter().map(|rs| rs["spec"]["replicas"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(0), Some(1)], "{sets:?}");
    assert_eq!(sets[2]["spec"]["template"]["spec"]["containers"][0]["image"], BUSYBOX);
    f.until_pods("name=sample", 1).await;
    Ok(())
}

async fn proportional(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "webserver-deployment";
    let made = create(&f, "Deployment", NAME, 5, |d| {
        d["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 2}});
    })
    .await;
    until_complete(&f, NAME, 5).await;
    f.update(&path(&f, NAME), |d| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(NOWHERE)).await;
    let until_sizes = async |sizes: [u64; 2]| {
        f.until(&format!("ReplicaSets of {sizes:?}"), POD, || async {
            let sets = replica_sets(&f, &made).await;
            let now: Vec<u64> = sets.iter().filter_map(|rs| rs["spec"]["replicas"].as_u64()).collect();
            (now == sizes && sets[0]["status"]["availableReplicas"] == 4).then_some(())
        })
        .await;
    };
    // One may be missing and two too many: four of the old, and the new up to seven.
    until_sizes([4, 3]).await;
    f.update(&path(&f, NAME), |d| d["spec"]["replicas"] = json!(9)).await;
    // Eleven in all, in the proportion of four to three.
    f.until("both to grow", POD, || async {
        let now: Vec<u64> = replica_sets(&f, &made).await.iter().filter_map(|rs| rs["spec"]["replicas"].as_u64()).collect();
        (now == [6, 5]).then_some(())
    })
    .await;
    Ok(())
}

async fn scale(f: Framework) -> anyhow::Result<()> {
    create(&f, "Deployment", "test-new-deployment", 1, |_| ()).await;
    until_complete(&f, "test-new-deployment", 1).await;
    f.scaled(&path(&f, "test-new-deployment"), 1, 2, 4).await;
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    create(&f, "Deployment", "test-deployment", 1, set_container(&json!({"name": "main", "image": PAUSE}))).await;
    until_complete(&f, "test-deployment", 1).await;
    f.status_conditions(&path(&f, "test-deployment")).await;
    Ok(())
}
