//! Jobs.

use serde_json::{Value, json};

use super::{belongs_to, name, selected};
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted", test!(restarted)),
    Behaviour::new("[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname", test!(indexed)),
    Behaviour::new("[sig-apps] Job should adopt matching orphans and release non-matching pods", test!(adopts_and_releases)),
    Behaviour::new("[sig-apps] Job should delete a job", test!(deleted)),
    Behaviour::new("[sig-apps] Job should apply changes to a job status", test!(status)),
    Behaviour::new("[sig-apps] Job should manage the lifecycle of a job", test!(lifecycle)),
];

/// A Job whose pods run a script.
fn job(name: &str, script: &str, parallelism: u64, completions: u64) -> Value {
    let container = json!({"name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]});
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "parallelism": parallelism, "completions": completions, "backoffLimit": 6,
            "template": {
                "metadata": {"labels": {"job": name}},
                "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    })
}

fn path(f: &Framework, name: &str) -> String {
    f.group("batch/v1", &format!("jobs/{name}"))
}

async fn create(f: &Framework, job: &Value) -> Value {
    f.wire.post(&f.group("batch/v1", "jobs"), job).await.expect(201)
}

async fn pods(f: &Framework, job: &str) -> Vec<Value> {
    f.list(&f.core(&format!("pods{}", selected("job", job)))).await
}

async fn until_complete(f: &Framework, name: &str, completions: u64) -> Value {
    f.until_it(&path(f, name), "to be complete", POD, |job| {
        let conditions = job["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Complete" && c["status"] == "True"))
            && job["status"]["succeeded"] == completions
    })
    .await
}

async fn until_active(f: &Framework, name: &str, count: usize) -> Vec<Value> {
    f.until_it(&path(f, name), "to be active", POD, |job| job["status"]["active"] == count && job["status"]["ready"] == count).await;
    pods(f, name).await
}

async fn restarted(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "fail-once-local";
    let mut object = job(NAME, "[ -e /data/foo ] && exit 0; touch /data/foo; exit 1", 2, 2);
    let spec = &mut object["spec"]["template"]["spec"];
    spec["restartPolicy"] = json!("OnFailure");
    spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    create(&f, &object).await;
    until_complete(&f, NAME, 2).await;
    let pods = pods(&f, NAME).await;
    let once = |p: &Value| p["status"]["phase"] == "Succeeded" && p["status"]["containerStatuses"][0]["restartCount"] == 1;
    assert!(pods.len() == 2 && pods.iter().all(once), "{pods:?}");
    Ok(())
}

async fn indexed(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "indexed-job";
    let mut object = job(NAME, "echo $JOB_COMPLETION_INDEX $(hostname)", 2, 3);
    object["spec"]["completionMode"] = json!("Indexed");
    create(&f, &object).await;
    let done = until_complete(&f, NAME, 3).await;
    assert_eq!(done["status"]["completedIndexes"], "0-2");
    let mut indexes = vec![];
    for pod in pods(&f, NAME).await {
        let index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().expect("an index").to_owned();
        assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], *index);
        assert_eq!(pod["spec"]["hostname"], format!("{NAME}-{index}"));
        assert!(name(&pod).starts_with(&format!("{NAME}-{index}-")), "{}", name(&pod));
        assert_eq!(f.logs(name(&pod), "c").await, format!("{index} {NAME}-{index}\n"));
        indexes.push(index);
    }
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2"]);
    Ok(())
}

async fn adopts_and_releases(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "adopt-release";
    let made = create(&f, &job(NAME, "exec sleep 3600", 2, 2)).await;
    let before = until_active(&f, NAME, 2).await;
    let path = f.core(&format!("pods/{}", name(&before[0])));
    f.update(&path, |pod| pod["metadata"]["ownerReferences"] = json!([])).await;
    f.until_it(&path, "to be adopted again", POD, |pod| belongs_to(pod, &made)).await;
    f.update(&path, |pod| pod["metadata"]["labels"] = json!({})).await;
    let released = f.until_it(&path, "to be released", POD, |pod| !belongs_to(pod, &made)).await;
    assert!(released["metadata"].get("deletionTimestamp").is_none(), "{released}");
    // It belongs to nobody now, and holds its node.
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, POD).await;
    Ok(())
}

async fn deleted(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "foo";
    create(&f, &job(NAME, "exec sleep 3600", 2, 2)).await;
    until_active(&f, NAME, 2).await;
    f.wire.delete_with(&path(&f, NAME), &json!({"propagationPolicy": "Foreground"})).await.expect(200);
    f.until_gone(&path(&f, NAME), POD).await;
    assert_eq!(pods(&f, NAME).await, Vec::<Value>::new());
    Ok(())
}

async fn status(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "status";
    create(&f, &job(NAME, "exec sleep 3600", 1, 1)).await;
    until_active(&f, NAME, 1).await;
    let status = format!("{}/status", path(&f, NAME));
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"startTime": "2026-01-01T00:00:00Z"}});
    let patched = f.wire.patch("merge", &status, &patch).await.expect(200);
    assert_eq!(
        (&patched["status"]["startTime"], &patched["metadata"]["annotations"]["patchedstatus"]),
        (&json!("2026-01-01T00:00:00Z"), &json!("true"))
    );
    let updated = f.update(&status, |job| job["status"]["startTime"] = json!("2026-01-02T00:00:00Z")).await;
    assert_eq!(updated["status"]["startTime"], "2026-01-02T00:00:00Z");
    let read = f.wire.get(&status).await.expect(200);
    assert_eq!((&read["kind"], &read["status"]["startTime"]), (&json!("Job"), &json!("2026-01-02T00:00:00Z")));
    Ok(())
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "e2e-job";
    let label = f.unique("job");
    let mut object = job(NAME, "exec sleep 3600", 1, 1);
    object["spec"]["suspend"] = json!(true);
    object["metadata"]["labels"] = json!({"e2e-job-label": label});
    create(&f, &object).await;
    let path = path(&f, NAME);
    let patched = f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"e2e-patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["e2e-patched"], "true");
    // It says that it is suspended, and has no pods.
    f.until_it(&path, "to say so", SOON, |job| {
        job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Suspended" && c["status"] == "True"))
    })
    .await;
    assert_eq!(pods(&f, NAME).await, Vec::<Value>::new());
    let updated = f
        .update(&path, |job| {
            job["metadata"]["annotations"]["updated"] = json!("true");
            job["spec"]["suspend"] = json!(false);
        })
        .await;
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    until_active(&f, NAME, 1).await;
    let everywhere = format!("/apis/batch/v1/jobs{}", selected("e2e-job-label", &label));
    assert_eq!(f.list(&everywhere).await.len(), 1);
    let here = f.group("batch/v1", &format!("jobs{}", selected("e2e-job-label", &label)));
    f.wire.delete_with(&here, &json!({"propagationPolicy": "Background"})).await.expect(200);
    f.until_gone(&path, POD).await;
    f.until("its pods to go", POD, || async { pods(&f, NAME).await.is_empty().then_some(()) }).await;
    Ok(())
}
