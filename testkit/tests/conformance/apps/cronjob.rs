//! CronJobs. Instead of waiting for full minutes the tests move the past: a CronJob whose status says that it last ran before a time that
//! its schedule names has missed that time, and makes up for it at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{belongs_to, name};
use crate::framework::{Behaviour, Framework, PAUSE, POD, Resource, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] CronJob should schedule multiple jobs concurrently", test!(allow)),
    Behaviour::new("[sig-apps] CronJob should not schedule jobs when suspended [Slow]", test!(suspended)),
    Behaviour::new("[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow]", test!(forbid)),
    Behaviour::new("[sig-apps] CronJob should replace jobs when ReplaceConcurrent", test!(replace)),
    Behaviour::new("[sig-apps] CronJob should support CronJob API operations", test!(operations)),
];

fn object(schedule: &str, policy: &str) -> Value {
    let container = json!({"name": "c", "image": PAUSE, "imagePullPolicy": "IfNotPresent"});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "spec": {
            "schedule": schedule, "concurrencyPolicy": policy,
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0, "containers": [container],
            }}}},
        },
    })
}

fn path(f: &Framework, name: &str) -> String {
    f.group("batch/v1", &format!("cronjobs/{name}"))
}

/// Makes one that has missed a time three minutes ago, and no other.
async fn missed(f: &Framework, name: &str, policy: &str, suspend: bool) -> Value {
    let time = Timestamp::now() - SignedDuration::from_mins(3);
    let mut cron = object(&time.strftime("%M * * * *").to_string(), policy);
    cron["metadata"] = json!({"name": name});
    cron["spec"]["suspend"] = json!(suspend);
    let made = f.wire.post(&f.group("batch/v1", "cronjobs"), &cron).await.expect(201);
    let before = (time - SignedDuration::from_mins(2)).strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    f.wire.patch("merge", &format!("{}/status", path(f, name)), &json!({"status": {"lastScheduleTime": before}})).await.expect(200);
    made
}

/// Has it miss the last full minute.
async fn miss_another(f: &Framework, name: &str) {
    f.wire.patch("merge", &path(f, name), &json!({"spec": {"schedule": "* * * * *"}})).await.expect(200);
}

/// Waits until so many jobs are active, and gives their names.
async fn until_active(f: &Framework, name: &str, count: usize) -> Vec<String> {
    let cron = f
        .until_it(&path(f, name), &format!("to have {count} active jobs"), POD, |cron| {
            cron["status"]["active"].as_array().is_some_and(|all| all.len() == count)
        })
        .await;
    let active = cron["status"]["active"].as_array().expect("a list");
    active.iter().map(|r| r["name"].as_str().expect("a name").to_owned()).collect()
}

async fn jobs(f: &Framework, cron: &Value) -> Vec<String> {
    let jobs = f.list(&f.group("batch/v1", "jobs")).await;
    jobs.iter().filter(|j| belongs_to(j, cron) && j["metadata"].get("deletionTimestamp").is_none()).map(|j| name(j).to_owned()).collect()
}

async fn allow(f: Framework) -> anyhow::Result<()> {
    let cron = missed(&f, "concurrent", "Allow", false).await;
    until_active(&f, "concurrent", 1).await;
    miss_another(&f, "concurrent").await;
    until_active(&f, "concurrent", 2).await;
    assert!(jobs(&f, &cron).await.len() >= 2);
    Ok(())
}

async fn suspended(f: Framework) -> anyhow::Result<()> {
    let cron = missed(&f, "suspended", "Allow", true).await;
    // One that is like it but for that runs meanwhile.
    missed(&f, "running", "Allow", false).await;
    until_active(&f, "running", 1).await;
    assert_eq!(jobs(&f, &cron).await, Vec::<String>::new());
    // It waits for nothing else.
    f.wire.patch("merge", &path(&f, "suspended"), &json!({"spec": {"suspend": false}})).await.expect(200);
    until_active(&f, "suspended", 1).await;
    Ok(())
}

async fn forbid(f: Framework) -> anyhow::Result<()> {
    let cron = missed(&f, "forbid", "Forbid", false).await;
    let active = until_active(&f, "forbid", 1).await;
    miss_another(&f, "forbid").await;
    f.until("it to say why it makes none", SOON, || async {
        let events = f.list(&f.core("events?fieldSelector=reason%3DJobAlreadyActive")).await;
        events.iter().any(|e| e["involvedObject"]["name"] == "forbid").then_some(())
    })
    .await;
    assert_eq!(jobs(&f, &cron).await, active);
    Ok(())
}

async fn replace(f: Framework) -> anyhow::Result<()> {
    let cron = missed(&f, "replace", "Replace", false).await;
    let first = until_active(&f, "replace", 1).await;
    miss_another(&f, "replace").await;
    f.until("another job instead of the first", POD, || async {
        let now = jobs(&f, &cron).await;
        (now.len() == 1 && now != first).then_some(())
    })
    .await;
    f.until_gone(&f.group("batch/v1", &format!("jobs/{}", first[0])), POD).await;
    Ok(())
}

async fn operations(f: Framework) -> anyhow::Result<()> {
    f.operations(&Resource {
        group_version: "batch/v1",
        name: "cronjobs",
        namespaced: true,
        object: object("0 0 31 2 *", "Allow"),
        status: Some(json!({"lastScheduleTime": "2026-01-01T00:00:00Z"})),
    })
    .await;
    Ok(())
}
