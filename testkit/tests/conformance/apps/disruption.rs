//! PodDisruptionBudgets, and what may be evicted.

use serde_json::{Value, json};

use super::{name, selected};
use crate::framework::{Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] DisruptionController should create a PodDisruptionBudget", test!(lifecycle)),
    Behaviour::new("[sig-apps] DisruptionController should observe PodDisruptionBudget status updated", test!(observed)),
    Behaviour::new("[sig-apps] DisruptionController should update/patch PodDisruptionBudget status", test!(status)),
    Behaviour::new("[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it", test!(blocks)),
    Behaviour::new(
        "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets",
        test!(collection),
    ),
];

fn path(f: &Framework, rest: &str) -> String {
    f.group("policy/v1", &format!("poddisruptionbudgets{rest}"))
}

async fn create(f: &Framework, name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "labels": {"foo": f.namespace}}, "spec": spec,
    });
    object["spec"]["selector"] = json!({"matchLabels": {"foo": "bar"}});
    f.wire.post(&path(f, ""), &object).await.expect(201)
}

/// Waits until the controller has seen the newest generation, and the budget is as `wanted`.
async fn until_processed(f: &Framework, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    f.until_it(&path(f, &format!("/{name}")), what, POD, |pdb| {
        pdb["status"]["observedGeneration"] == pdb["metadata"]["generation"] && wanted(&pdb["status"])
    })
    .await
}

/// Makes pods that the budgets select, and waits until they run.
async fn pods(f: &Framework, count: usize) -> Vec<String> {
    let mut names = vec![];
    for number in 0..count {
        let mut pod = Framework::idle_template(&json!({"foo": "bar"}));
        (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!(format!("pod-{number}")));
        pod["spec"]["restartPolicy"] = json!("Always");
        names.push(name(&f.create_pod(&pod).await).to_owned());
    }
    for name in &names {
        f.until_ready(name).await;
    }
    names
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    create(&f, "foo", json!({"minAvailable": 1})).await;
    until_processed(&f, "foo", "to be seen", |_| true).await;
    let updated = f.update(&path(&f, "/foo"), |pdb| pdb["spec"]["minAvailable"] = json!("50%")).await;
    assert_eq!(updated["spec"]["minAvailable"], "50%");
    until_processed(&f, "foo", "to be seen again", |_| true).await;
    let patched = f.wire.patch("strategic", &path(&f, "/foo"), &json!({"spec": {"minAvailable": "25%"}})).await.expect(200);
    assert_eq!(patched["spec"]["minAvailable"], "25%");
    until_processed(&f, "foo", "to be seen a third time", |_| true).await;
    f.wire.delete(&path(&f, "/foo")).await.expect(200);
    f.until_gone(&path(&f, "/foo"), SOON).await;
    Ok(())
}

async fn observed(f: Framework) -> anyhow::Result<()> {
    create(&f, "foo", json!({"minAvailable": 1})).await;
    until_processed(&f, "foo", "to allow nothing", |s| s["disruptionsAllowed"] == 0).await;
    pods(&f, 3).await;
    let pdb = until_processed(&f, "foo", "to allow two", |s| s["disruptionsAllowed"] == 2).await;
    let status = &pdb["status"];
    assert_eq!((&status["currentHealthy"], &status["desiredHealthy"], &status["expectedPods"]), (&json!(3), &json!(1), &json!(3)));
    let conditions = status["conditions"].as_array().expect("conditions");
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionAllowed" && c["status"] == "True"), "{status}");
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    create(&f, "foo", json!({"minAvailable": 1})).await;
    let pod = pods(&f, 1).await.remove(0);
    until_processed(&f, "foo", "to count the pod", |s| s["currentHealthy"] == 1).await;
    let path = path(&f, "/foo/status");
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let updated = f.update(&path, |pdb| pdb["status"]["disruptedPods"] = json!({&*pod: now})).await;
    assert_eq!(updated["status"]["disruptedPods"], json!({&*pod: now}));
    let patched = f.wire.patch("merge", &path, &json!({"status": {"disruptedPods": {&*pod: null}}})).await.expect(200);
    assert!(patched["status"]["disruptedPods"].get(&pod).is_none(), "{patched}");
    until_processed(&f, "foo", "to be as before", |s| s["currentHealthy"] == 1).await;
    Ok(())
}

async fn evict(f: &Framework, pod: &str) -> testkit::Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": f.namespace}});
    f.wire.post(&f.core(&format!("pods/{pod}/eviction")), &eviction).await
}

/// It is refused for its budget's sake, in upstream's words, and the pod stays.
async fn refused(f: &Framework, pod: &str) {
    let answer = evict(f, pod).await;
    assert_eq!(answer.refusal(), "429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &answer.json()["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget", "{cause}");
    assert!(f.wire.get(&f.core(&format!("pods/{pod}"))).await.expect(200)["metadata"].get("deletionTimestamp").is_none());
}

async fn allowed(f: &Framework, pod: &str) {
    f.until(&format!("{pod} to be evicted"), SOON, || async { matches!(evict(f, pod).await.code, 201).then_some(()) }).await;
    f.until_gone(&f.core(&format!("pods/{pod}")), POD).await;
}

async fn blocks(f: Framework) -> anyhow::Result<()> {
    let pods = pods(&f, 3).await;
    create(&f, "foo", json!({"minAvailable": 3})).await;
    until_processed(&f, "foo", "to count them", |s| s["currentHealthy"] == 3).await;
    refused(&f, &pods[0]).await;
    f.update(&path(&f, "/foo"), |pdb| pdb["spec"]["minAvailable"] = json!(2)).await;
    until_processed(&f, "foo", "to allow one", |s| s["disruptionsAllowed"] == 1).await;
    allowed(&f, &pods[0]).await;
    until_processed(&f, "foo", "to allow no more", |s| s["disruptionsAllowed"] == 0 && s["currentHealthy"] == 2).await;
    refused(&f, &pods[1]).await;
    let patch = json!({"spec": {"minAvailable": null, "maxUnavailable": 0}});
    f.wire.patch("strategic", &path(&f, "/foo"), &patch).await.expect(200);
    until_processed(&f, "foo", "to have no rule for lone pods", |_| true).await;
    refused(&f, &pods[1]).await;
    f.wire.delete(&path(&f, "/foo")).await.expect(200);
    f.until_gone(&path(&f, "/foo"), SOON).await;
    allowed(&f, &pods[1]).await;
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let other = f.in_namespace(&f.new_namespace("e2e-pdb").await?);
    create(&f, "foo", json!({"minAvailable": 1})).await;
    create(&f, "foo2", json!({"minAvailable": "1%"})).await;
    create(&other, "foo3", json!({"minAvailable": 1})).await;
    let all = f.list("/apis/policy/v1/poddisruptionbudgets").await;
    let ours = |n: &str| all.iter().filter(|p| p["metadata"]["namespace"] == *n).count();
    assert_eq!((ours(&f.namespace), ours(&other.namespace)), (2, 1));
    f.delete_collection(&path(&f, &selected("foo", &f.namespace))).await;
    assert_eq!(f.list(&path(&other, "")).await.len(), 1);
    Ok(())
}
