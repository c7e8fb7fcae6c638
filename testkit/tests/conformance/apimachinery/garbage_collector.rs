//! What goes with its owner, what stays, and when.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, PAUSE, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning", test!(pods_go)),
    Behaviour::new("[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so", test!(pods_stay)),
    Behaviour::new(
        "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning",
        test!(replica_set_goes),
    ),
    Behaviour::new(
        "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan",
        test!(replica_set_stays),
    ),
    Behaviour::new(
        "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so",
        test!(owner_waits),
    ),
    Behaviour::new(
        "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted",
        test!(two_owners),
    ),
    Behaviour::new("[sig-api-machinery] Garbage collector should not be blocked by dependency circle", test!(circle)),
];

/// Replicas where a controller's pods are many: upstream takes ten at least.
const MANY: usize = 10;

async fn delete(f: &Framework, path: &str, object: &Value, policy: &str) {
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy, "preconditions": {"uid": object["metadata"]["uid"]},
    });
    f.wire.delete_with(path, &options).await.expect(200);
}

fn labels(name: &str) -> Value {
    json!({"gctest": name})
}

/// Makes a controller and waits until its status counts all its pods.
async fn controller(f: &Framework, name: &str, replicas: usize) -> Value {
    let object = Framework::replication_controller(name, replicas, &labels(name));
    f.wire.post(&f.core("replicationcontrollers"), &object).await.expect(201);
    let path = f.core(&format!("replicationcontrollers/{name}"));
    f.until_it(&path, "to have its pods", POD, |rc| rc["status"]["replicas"] == replicas && rc["metadata"]["uid"].is_string()).await
}

/// The collector has looked at all that happened before this returns: it has removed an object that was made now and has no owner left.
async fn collector_caught_up(f: &Framework) {
    let name = f.unique("dependent");
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "never-was", "uid": "00000000-0000-4000-8000-000000000000"});
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}});
    f.wire.post(&f.core("configmaps"), &object).await.expect(201);
    f.until_gone(&f.core(&format!("configmaps/{name}")), SOON).await;
}

/// The objects belong to nobody and nobody deletes them.
fn orphaned(objects: &[Value]) {
    for object in objects {
        let metadata = &object["metadata"];
        assert!(metadata.get("ownerReferences").is_none() && metadata.get("deletionTimestamp").is_none(), "{object}");
    }
}

async fn pods_go(f: Framework) -> anyhow::Result<()> {
    let rc = controller(&f, "simpletest.rc", 2).await;
    let path = f.core("replicationcontrollers/simpletest.rc");
    delete(&f, &path, &rc, "Background").await;
    f.until_gone(&path, SOON).await;
    f.until_pods("gctest=simpletest.rc", 0).await;
    Ok(())
}

async fn pods_stay(f: Framework) -> anyhow::Result<()> {
    let rc = controller(&f, "simpletest.rc", MANY).await;
    let path = f.core("replicationcontrollers/simpletest.rc");
    delete(&f, &path, &rc, "Orphan").await;
    f.until_gone(&path, SOON).await;
    orphaned(&f.until_pods("gctest=simpletest.rc", MANY).await);
    collector_caught_up(&f).await;
    orphaned(&f.until_pods("gctest=simpletest.rc", MANY).await);
    Ok(())
}

/// Makes a deployment and waits until its replica set has made its pods.
async fn deployment(f: &Framework) -> (Value, Value) {
    let object = Framework::workload("Deployment", "simpletest.deployment", 2, &labels("deployment"));
    let made = f.wire.post(&f.group("apps/v1", "deployments"), &object).await.expect(201);
    let sets = f.group("apps/v1", "replicasets");
    let set = f
        .until("the deployment's replica set", SOON, || async {
            f.list(&sets)
                .await
                .into_iter()
                .find(|s| s["status"]["replicas"] == 2 && s["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"])
        })
        .await;
    f.until_pods("gctest=deployment", 2).await;
    (made, set)
}

async fn replica_set_goes(f: Framework) -> anyhow::Result<()> {
    let (made, _) = deployment(&f).await;
    let path = f.group("apps/v1", "deployments/simpletest.deployment");
    delete(&f, &path, &made, "Background").await;
    f.until_gone(&path, SOON).await;
    let sets = f.group("apps/v1", "replicasets");
    f.until("the replica set to go", SOON, || async { f.list(&sets).await.is_empty().then_some(()) }).await;
    f.until_pods("gctest=deployment", 0).await;
    Ok(())
}

async fn replica_set_stays(f: Framework) -> anyhow::Result<()> {
    let (made, set) = deployment(&f).await;
    let path = f.group("apps/v1", "deployments/simpletest.deployment");
    delete(&f, &path, &made, "Orphan").await;
    f.until_gone(&path, SOON).await;
    collector_caught_up(&f).await;
    let sets = f.list(&f.group("apps/v1", "replicasets")).await;
    orphaned(&sets);
    assert_eq!(sets.iter().map(|s| &s["metadata"]["uid"]).collect::<Vec<_>>(), [&set["metadata"]["uid"]], "it is the same");
    for pod in f.until_pods("gctest=deployment", 2).await {
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], set["metadata"]["uid"], "its pods are still its own");
        assert!(pod["metadata"].get("deletionTimestamp").is_none(), "{pod}");
    }
    Ok(())
}

async fn owner_waits(f: Framework) -> anyhow::Result<()> {
    let rc = controller(&f, "simpletest.rc", MANY).await;
    let path = f.core("replicationcontrollers/simpletest.rc");
    let pods = f.core("pods?labelSelector=gctest%3Dsimpletest.rc");
    // From before the deletion, so that the order in which things went is on record.
    let version = f.wire.get(&pods).await.expect(200)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut went = f.wire.watch(&format!("{pods}&watch=true&resourceVersion={version}")).await;
    let mut owner = f.wire.watch(&f.core(&format!("replicationcontrollers?watch=true&resourceVersion={version}"))).await;
    delete(&f, &path, &rc, "Foreground").await;
    let waiting = f.wire.get(&path).await;
    if waiting.code == 200 {
        let metadata = &waiting.json()["metadata"];
        assert!(metadata["deletionTimestamp"].is_string(), "{metadata}");
        assert_eq!(metadata["finalizers"], json!(["foregroundDeletion"]));
    }
    f.until_gone(&path, POD).await;
    assert_eq!(f.list(&pods).await, Vec::<Value>::new(), "no pod outlives its controller");

    let at =
        |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok()).expect("a version");
    let mut last_pod = 0;
    for _ in 0..MANY {
        loop {
            let event = went.next().await.expect("another event");
            if event["type"] == "DELETED" {
                last_pod = last_pod.max(at(&event));
                break;
            }
        }
    }
    loop {
        let event = owner.next().await.expect("another event");
        if event["type"] == "DELETED" {
            assert!(at(&event) > last_pod, "the controller went before its last pod");
            return Ok(());
        }
    }
}

async fn two_owners(f: Framework) -> anyhow::Result<()> {
    let going = controller(&f, "simpletest-rc-to-be-deleted", MANY).await;
    let staying = controller(&f, "simpletest-rc-to-stay", 0).await;
    let pods = f.until_pods("gctest=simpletest-rc-to-be-deleted", MANY).await;
    let owner =
        json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "simpletest-rc-to-stay", "uid": staying["metadata"]["uid"]});
    let mut shared: Vec<&str> = vec![];
    for pod in &pods[..MANY / 2] {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        let patched = f.wire.patch("strategic", &f.core(&format!("pods/{name}")), &patch).await.expect(200);
        assert_eq!(patched["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(2), "a patch adds an owner: {patched}");
        shared.push(name);
    }
    let path = f.core("replicationcontrollers/simpletest-rc-to-be-deleted");
    delete(&f, &path, &going, "Foreground").await;
    f.until_gone(&path, POD).await;
    collector_caught_up(&f).await;

    let left = f.until_pods("gctest=simpletest-rc-to-be-deleted", shared.len()).await;
    for pod in &left {
        assert!(shared.contains(&pod["metadata"]["name"].as_str().expect("a name")), "{pod}");
        assert!(pod["metadata"].get("deletionTimestamp").is_none(), "{pod}");
        let owners: Vec<&Value> = pod["metadata"]["ownerReferences"].as_array().expect("owners").iter().map(|o| &o["name"]).collect();
        assert_eq!(owners, ["simpletest-rc-to-stay"]);
    }
    Ok(())
}

async fn circle(f: Framework) -> anyhow::Result<()> {
    let mut made = vec![];
    for name in ["pod1", "pod2", "pod3"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": PAUSE, "imagePullPolicy": "IfNotPresent"}]},
        });
        made.push(f.create_pod(&pod).await);
    }
    for (i, pod) in made.iter().enumerate() {
        let owner = &made[(i + 2) % 3]["metadata"];
        let owner = json!({
            "apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"], "controller": true, "blockOwnerDeletion": true,
        });
        let path = f.core(&format!("pods/{}", pod["metadata"]["name"].as_str().expect("a name")));
        let patched = f.wire.patch("strategic", &path, &json!({"metadata": {"ownerReferences": [owner]}})).await.expect(200);
        assert_eq!(patched["metadata"]["ownerReferences"], json!([owner]));
    }
    delete(&f, &f.core("pods/pod1"), &made[0], "Foreground").await;
    f.until("all pods to go", POD, || async { f.list(&f.core("pods")).await.is_empty().then_some(()) }).await;
    Ok(())
}
