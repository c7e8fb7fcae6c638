//! Jobs that know more than success and failure: policies of failure and success, limits for each index, others that run them.

use serde_json::{Value, json};

use crate::common::put;
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex",
        test!(per_index),
    ),
    Behaviour::new(
        "newer: [sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy",
        test!(fail_index),
    ),
    Behaviour::new(
        "newer: [sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes",
        test!(too_many_failed),
    ),
    Behaviour::new("newer: [sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early", test!(fail_job)),
    Behaviour::new(
        "newer: [sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition",
        test!(ignore_disruption),
    ),
    Behaviour::new(
        "newer: [sig-apps] Job should allow to use a pod failure policy to ignore failure matching on exit code",
        test!(ignore_code),
    ),
    Behaviour::new("newer: [sig-apps] Job with successPolicy should succeeded when all indexes succeeded", |f| {
        Box::pin(success(f, json!([{"succeededIndexes": "0,1"}]), "0 1", &[0, 1]))
    }),
    Behaviour::new(
        "newer: [sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending",
        |f| Box::pin(success(f, json!([{"succeededIndexes": "0"}]), "0", &[0])),
    ),
    Behaviour::new(
        "newer: [sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending",
        |f| Box::pin(success(f, json!([{"succeededCount": 1}]), "0", &[0])),
    ),
    Behaviour::new(
        "newer: [sig-apps] Job should recreate pods only after they have failed if pod replacement policy is set to Failed",
        test!(replaced),
    ),
    Behaviour::new("newer: [sig-apps] Job should allow to delegate reconciliation to external controller", test!(managed_by_others)),
    Behaviour::new(
        "newer: [sig-apps] Job should not create pods when created in suspend state, and take a changed template",
        test!(suspended),
    ),
    Behaviour::new("newer: [sig-apps] Job should scale an elastic indexed job", test!(elastic)),
];

/// An indexed Job of two, whose pods run a script.
fn job(name: &str, script: &str, spec: Value) -> Value {
    let container = json!({"name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]});
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "parallelism": 2, "completions": 2, "completionMode": "Indexed",
            "template": {
                "metadata": {"labels": {"job": name}},
                "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    });
    put(&mut job["spec"], spec);
    job
}

/// Ends at once and well for these indexes; for the others as `otherwise` says.
fn well_for(indexes: &str, otherwise: &str) -> String {
    format!("for i in {indexes}; do [ $i = $JOB_COMPLETION_INDEX ] && exit 0; done; {otherwise}")
}

async fn create(f: &Framework, job: &Value) -> Value {
    f.wire.post(&f.group("batch/v1", "jobs"), job).await.expect(201)
}

fn path(f: &Framework, name: &str) -> String {
    f.group("batch/v1", &format!("jobs/{name}"))
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind && c["status"] == "True")
}

/// Waits until the job is over, and gives it and why it is.
async fn until_over(f: &Framework, name: &str, kind: &str) -> (Value, String) {
    let job = f.until_it(&path(f, name), &format!("to be {kind}"), POD, |job| condition(job, kind).is_some()).await;
    let reason = condition(&job, kind).expect("just seen")["reason"].as_str().unwrap_or("").to_owned();
    // What announces the end stands there with the same reason.
    let target = if kind == "Failed" { "FailureTarget" } else { "SuccessCriteriaMet" };
    assert_eq!(condition(&job, target).map(|c| &c["reason"]), Some(&json!(reason)), "{}", job["status"]);
    assert_eq!(job["status"].get("active").unwrap_or(&json!(0)), 0, "{}", job["status"]);
    assert!(job["status"]["terminating"].as_u64().unwrap_or(0) == 0 && job["status"]["ready"] == 0, "{}", job["status"]);
    (job, reason)
}

async fn per_index(f: Framework) -> anyhow::Result<()> {
    let spec = json!({"backoffLimitPerIndex": 1});
    create(&f, &job("backofflimit-per-index", &well_for("1", "exit 1"), spec)).await;
    let (job, reason) = until_over(&f, "backofflimit-per-index", "Failed").await;
    let status = &job["status"];
    assert_eq!((&*reason, &status["failedIndexes"], &status["completedIndexes"]), ("FailedIndexes", &json!("0"), &json!("1")), "{status}");
    assert_eq!((&status["failed"], &status["succeeded"]), (&json!(2), &json!(1)), "the index that fails was tried again: {status}");
    let pods = f.list(&f.core("pods?labelSelector=job%3Dbackofflimit-per-index%2Cbatch.kubernetes.io%2Fjob-completion-index%3D0")).await;
    let mut counts: Vec<&str> =
        pods.iter().filter_map(|p| p["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"].as_str()).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["0", "1"]);
    Ok(())
}

async fn fail_index(f: Framework) -> anyhow::Result<()> {
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": rules}});
    create(&f, &job("failindex", &well_for("1", "exit 42"), spec)).await;
    let (job, reason) = until_over(&f, "failindex", "Failed").await;
    let status = &job["status"];
    assert_eq!((&*reason, &status["failedIndexes"], &status["completedIndexes"]), ("FailedIndexes", &json!("0"), &json!("1")), "{status}");
    assert_eq!(status["failed"], 1, "it is not tried again");
    Ok(())
}

async fn too_many_failed(f: Framework) -> anyhow::Result<()> {
    // One at a time, so that only one was made.
    let spec = json!({"parallelism": 1, "completions": 4, "backoffLimitPerIndex": 0, "maxFailedIndexes": 0});
    create(&f, &job("max-failed", "exit 1", spec)).await;
    let (job, reason) = until_over(&f, "max-failed", "Failed").await;
    let status = &job["status"];
    assert_eq!((&*reason, &status["failedIndexes"], &status["failed"]), ("MaxFailedIndexesExceeded", &json!("0"), &json!(1)), "{status}");
    f.until_pods("job=max-failed", 1).await;
    // What runs when that many have failed is ended.
    let spec = json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0});
    create(&f, &self::job("others", "[ $JOB_COMPLETION_INDEX = 0 ] && exit 1; exec sleep 3600", spec)).await;
    until_over(&f, "others", "Failed").await;
    f.until_pods("job=others", 1).await;
    Ok(())
}

async fn fail_job(f: Framework) -> anyhow::Result<()> {
    let rules = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]);
    let spec = json!({"backoffLimit": 6, "completionMode": "NonIndexed", "podFailurePolicy": {"rules": rules}});
    create(&f, &job("pod-failure-failjob", "exit 3", spec)).await;
    let (job, reason) = until_over(&f, "pod-failure-failjob", "Failed").await;
    assert_eq!(reason, "PodFailurePolicy");
    let message = condition(&job, "Failed").expect("seen")["message"].as_str().expect("words");
    assert!(message.starts_with(&format!("Container c for pod {}/pod-failure-failjob-", f.namespace)), "{message}");
    assert!(message.ends_with(" failed with exit code 3 matching FailJob rule at index 0"), "{message}");
    Ok(())
}

async fn ignore_disruption(f: Framework) -> anyhow::Result<()> {
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let spec = json!({"parallelism": 1, "completions": 1, "backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    // The first pod runs until it is evicted, the next ends well: the claim of which they know is a config map.
    let mut object = job("pod-failure-ignore", "[ -e /again/yes ] && exit 0; trap 'exit 1' TERM; while :; do sleep 0.1; done", spec);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "again", "configMap": {"name": "again", "optional": true}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "again", "mountPath": "/again"}]);
    pod["terminationGracePeriodSeconds"] = json!(5);
    create(&f, &object).await;
    let pods = f.until_pods("job=pod-failure-ignore", 1).await;
    let name = pods[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    f.until_ready(&name).await;
    f.wire.post(&f.core("configmaps"), &json!({"metadata": {"name": "again"}, "data": {"yes": ""}})).await.expect(201);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    f.wire.post(&f.core(&format!("pods/{name}/eviction")), &eviction).await.expect(201);
    let (job, _) = until_over(&f, "pod-failure-ignore", "Complete").await;
    assert_eq!(job["status"].get("failed").unwrap_or(&json!(0)), 0, "what is ignored is not counted: {}", job["status"]);
    Ok(())
}

async fn ignore_code(f: Framework) -> anyhow::Result<()> {
    let rules = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2]}}]);
    let spec = json!({"parallelism": 1, "completions": 1, "backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    let mut object = job("ignore-code", "[ -e /again/yes ] && exit 0; exit 2", spec);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "again", "configMap": {"name": "again", "optional": true}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "again", "mountPath": "/again"}]);
    create(&f, &object).await;
    f.until("a pod to have failed", POD, || async {
        let pods = f.list(&f.core("pods?labelSelector=job%3Dignore-code")).await;
        pods.iter().any(|p| p["status"]["phase"] == "Failed").then_some(())
    })
    .await;
    f.wire.post(&f.core("configmaps"), &json!({"metadata": {"name": "again"}, "data": {"yes": ""}})).await.expect(201);
    let (job, _) = until_over(&f, "ignore-code", "Complete").await;
    assert_eq!(job["status"].get("failed").unwrap_or(&json!(0)), 0, "{}", job["status"]);
    Ok(())
}

/// The job is over as soon as a rule is met, and its other pods go.
async fn success(f: Framework, rules: Value, well: &'static str, completed: &[u64]) -> anyhow::Result<()> {
    const NAME: &str = "with-success-policy";
    create(&f, &job(NAME, &well_for(well, "exec sleep 3600"), json!({"successPolicy": {"rules": rules}}))).await;
    let (job, reason) = until_over(&f, NAME, "Complete").await;
    assert_eq!(reason, "SuccessPolicy");
    assert_eq!(condition(&job, "Complete").expect("seen")["message"], "Matched rules at index 0");
    let indexes: Vec<String> = completed.iter().map(ToString::to_string).collect();
    let shown = if indexes.len() == 2 { "0,1".to_owned() } else { indexes.join(",") };
    assert_eq!((&job["status"]["completedIndexes"], &job["status"]["succeeded"]), (&json!(shown), &json!(completed.len())));
    f.until_pods(&format!("job={NAME}"), completed.len()).await;
    Ok(())
}

async fn replaced(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "pod-replacement";
    let spec =
        json!({"parallelism": 1, "completions": 1, "completionMode": "NonIndexed", "podReplacementPolicy": "Failed", "backoffLimit": 6});
    let mut object = job(NAME, "trap 'while [ ! -e /go ]; do sleep 0.1; done; exit 1' TERM; while :; do sleep 0.1; done", spec);
    object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(60);
    create(&f, &object).await;
    let first = f.until_pods(&format!("job={NAME}"), 1).await;
    let name = first[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    f.until_ready(&name).await;
    f.wire.delete(&f.core(&format!("pods/{name}"))).await.expect(200);
    // While it ends, nothing takes its place.
    f.until_it(&path(&f, NAME), "to tell of a pod that ends", SOON, |job| {
        job["status"]["terminating"] == 1 && job["status"].get("active").is_none_or(|n| *n == 0)
    })
    .await;
    assert_eq!(f.list(&f.core(&format!("pods?labelSelector=job%3D{NAME}"))).await.len(), 1);
    f.kubectl().ok(&["exec", &name, "--", "touch", "/go"]).await?;
    f.until_it(&path(&f, NAME), "to have counted it and made another", POD, |job| {
        job["status"]["failed"] == 1 && job["status"]["active"] == 1
    })
    .await;
    Ok(())
}

async fn managed_by_others(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "managed-by";
    create(&f, &job(NAME, "exit 0", json!({"managedBy": "example.com/custom-job-controller"}))).await;
    // Another job, made later, is done: the controller has had its time.
    create(&f, &job("own", "exit 0", json!({}))).await;
    until_over(&f, "own", "Complete").await;
    let untouched = f.wire.get(&path(&f, NAME)).await.expect(200);
    assert_eq!(untouched.get("status").unwrap_or(&json!({})), &json!({}), "{untouched}");
    assert_eq!(f.list(&f.core(&format!("pods?labelSelector=job%3D{NAME}"))).await, Vec::<Value>::new());
    let refused = f.wire.patch("merge", &path(&f, NAME), &json!({"spec": {"managedBy": null}})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    // The other controller writes the status.
    let status = format!("{}/status", path(&f, NAME));
    let patch = json!({"status": {"active": 1, "ready": 0, "startTime": "2026-01-01T00:00:00Z"}});
    assert_eq!(f.wire.patch("merge", &status, &patch).await.expect(200)["status"]["active"], 1);
    let bad = f.wire.post(&f.group("batch/v1", "jobs"), &job("bad", "exit 0", json!({"managedBy": "nobody"}))).await;
    assert_eq!(bad.code, 422, "{}", bad.text());
    Ok(())
}

async fn suspended(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "suspended";
    let spec = json!({"suspend": true, "parallelism": 1, "completions": 1});
    create(&f, &job(NAME, "sleep 3600", spec)).await;
    f.until_it(&path(&f, NAME), "to say that it is suspended", SOON, |job| condition(job, "Suspended").is_some()).await;
    // Where its pods run may be said as long as there are none (KEP-2926).
    let template = json!({"metadata": {"labels": {"changed": "yes"}, "annotations": {"a": "b"}}, "spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}});
    f.wire.patch("strategic", &path(&f, NAME), &json!({"spec": {"template": template}})).await.expect(200);
    assert_eq!(f.list(&f.core(&format!("pods?labelSelector=job%3D{NAME}"))).await, Vec::<Value>::new());
    f.wire.patch("merge", &path(&f, NAME), &json!({"spec": {"suspend": false}})).await.expect(200);
    let pods = f.until_pods(&format!("job={NAME},changed=yes"), 1).await;
    assert_eq!(pods[0]["spec"]["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    let refused = f.wire.patch("strategic", &path(&f, NAME), &json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    f.wire.patch("merge", &path(&f, NAME), &json!({"spec": {"suspend": true}})).await.expect(200);
    f.until_pods(&format!("job={NAME}"), 0).await;
    let job = f.until_it(&path(&f, NAME), "to be suspended again", SOON, |job| condition(job, "Suspended").is_some()).await;
    assert_eq!(job["status"].get("startTime"), None, "{}", job["status"]);
    assert_eq!(job["status"].get("failed").unwrap_or(&json!(0)), 0, "pods that were taken away have not failed");
    Ok(())
}

async fn elastic(f: Framework) -> anyhow::Result<()> {
    const NAME: &str = "elastic";
    create(&f, &job(NAME, &well_for("2 3", "exec sleep 3600"), json!({"parallelism": 4, "completions": 4}))).await;
    f.until_it(&path(&f, NAME), "to have two done", POD, |job| job["status"]["completedIndexes"] == "2,3" && job["status"]["active"] == 2)
        .await;
    let scaled = json!({"spec": {"parallelism": 3, "completions": 3}});
    f.wire.patch("merge", &path(&f, NAME), &scaled).await.expect(200);
    f.until_it(&path(&f, NAME), "to forget the index beyond", SOON, |job| {
        job["status"]["completedIndexes"] == "2" && job["status"]["succeeded"] == 1 && job["status"]["active"] == 2
    })
    .await;
    let refused = f.wire.patch("merge", &path(&f, NAME), &json!({"spec": {"parallelism": 1, "completions": 2}})).await;
    assert_eq!(refused.code, 422, "the two go together: {}", refused.text());
    f.wire.patch("merge", &path(&f, NAME), &json!({"spec": {"parallelism": 4, "completions": 4}})).await.expect(200);
    f.until_it(&path(&f, NAME), "to run it again", POD, |job| job["status"]["completedIndexes"] == "2,3").await;
    Ok(())
}
