use expect_test::{Expect, expect};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Jobs, index_of};
use crate::kind::{Key, Object as _};
use crate::pod_state;
use crate::world::{World, kubelet};

fn key() -> Key {
    Key::new("default", "j")
}

fn world(spec: Value) -> World {
    let mut world = World::new();
    let mut full = json!({
        "selector": {"matchLabels": {"job": "j"}},
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    });
    for (k, v) in spec.as_object().expect("a map") {
        full[k] = v.clone();
    }
    world.add::<Job>(json!({"metadata": {"name": "j", "namespace": "default"}, "spec": full}));
    world
}

/// Runs the job; `exit` says how each pod ends: an exit code, or nothing while it runs.
fn run(world: &mut World, mut exit: impl FnMut(&Pod) -> Option<i32>) {
    world.settle_with(|w| {
        let mut busy = w.step(&Jobs, &key()) | kubelet(w);
        for pod in w.list::<Pod>() {
            if pod_state::phase(&pod) == "Running"
                && !pod.deleting()
                && let Some(code) = exit(&pod)
            {
                let now = w.now;
                w.edit::<Pod>(&pod.key(), |p| {
                    let status = p.status.get_or_insert_default();
                    status.phase = Some(if code == 0 { "Succeeded" } else { "Failed" }.into());
                    status.container_statuses = serde_json::from_value(json!([{
                        "name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": code, "finishedAt": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)}}
                    }]))
                    .ok();
                });
                busy = true;
            }
        }
        busy
    });
}

fn status(world: &World) -> String {
    let s = world.get::<Job>(&key()).and_then(|j| j.status).expect("a status");
    let conditions: Vec<String> = s
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.status == "True")
        .map(|c| format!("{}/{}", c.type_, c.reason.as_deref().unwrap_or("-")))
        .collect();
    let n = |n: Option<i32>| n.unwrap_or(0);
    format!(
        "active {} succeeded {} failed {} [{}] {}",
        n(s.active),
        n(s.succeeded),
        n(s.failed),
        s.completed_indexes.unwrap_or_default(),
        conditions.join(" ")
    )
}

#[track_caller]
fn is(world: &World, expected: Expect) {
    expected.assert_eq(&status(world));
}

#[test]
fn runs_to_the_number_of_completions_with_bounded_parallelism() {
    let mut world = world(json!({"completions": 5, "parallelism": 2}));
    let mut most = 0;
    run(&mut world, |_| None);
    most = most.max(world.list::<Pod>().len());
    is(&world, expect!["active 2 succeeded 0 failed 0 [] "]);
    run(&mut world, |_| Some(0));
    is(&world, expect!["active 0 succeeded 5 failed 0 [] SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached"]);
    assert_eq!((most, world.list::<Pod>().len()), (2, 5));
    assert!(world.list::<Pod>().iter().all(|p| p.metadata.finalizers.is_none()), "no finalizer is left");
}

#[test]
fn a_pod_that_is_released_is_let_go_of() {
    let mut world = world(json!({"completions": 2, "parallelism": 2}));
    run(&mut world, |_| None);
    let name = world.list::<Pod>()[0].key();
    world.edit::<Pod>(&name, |p| p.metadata.labels = None);
    run(&mut world, |_| None);
    let released = world.get::<Pod>(&name).expect("it is left alone");
    assert_eq!((released.metadata.owner_references.clone(), released.metadata.finalizers.clone()), (None, None));
    assert_eq!(world.list::<Pod>().len(), 3, "another takes its place");
}

#[test]
fn orphans_of_a_job_that_is_gone_are_let_go_of() {
    let mut world = world(json!({"completions": 1, "parallelism": 1}));
    run(&mut world, |_| None);
    let name = world.list::<Pod>()[0].key();
    world.edit::<Pod>(&name, |p| {
        p.metadata.owner_references = None;
        p.metadata.labels = Some([(super::JOB_NAME.to_owned(), "j".to_owned())].into());
    });
    world.remove::<Job>(&key());
    run(&mut world, |_| None);
    assert_eq!(world.get::<Pod>(&name).expect("it stays").metadata.finalizers, None);
}

#[test]
fn failures_are_retried_after_a_while_up_to_the_limit() {
    let mut world = world(json!({"completions": 1, "parallelism": 1, "backoffLimit": 1}));
    run(&mut world, |_| Some(1));
    is(&world, expect!["active 0 succeeded 0 failed 1 [] "]);
    world.pass(10);
    run(&mut world, |_| Some(1));
    is(&world, expect!["active 0 succeeded 0 failed 2 [] FailureTarget/BackoffLimitExceeded Failed/BackoffLimitExceeded"]);
}

#[test]
fn each_index_runs_until_it_succeeds() {
    let mut world = world(json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"}));
    run(&mut world, |p| Some(i32::from(index_of(p) == Some(2))));
    is(&world, expect!["active 0 succeeded 3 failed 1 [0,1,3] "]);
    world.pass(10);
    run(&mut world, |_| Some(0));
    is(&world, expect!["active 0 succeeded 4 failed 1 [0-3] SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached"]);
}

#[test]
fn suspending_takes_the_pods_away_and_resuming_brings_them_back() {
    let mut world = world(json!({"completions": 2, "parallelism": 2}));
    run(&mut world, |_| None);
    world.edit::<Job>(&key(), |j| j.spec.get_or_insert_default().suspend = Some(true));
    run(&mut world, |_| None);
    is(&world, expect!["active 0 succeeded 0 failed 0 [] Suspended/JobSuspended"]);
    world.edit::<Job>(&key(), |j| j.spec.get_or_insert_default().suspend = Some(false));
    run(&mut world, |_| Some(0));
    is(&world, expect!["active 0 succeeded 2 failed 0 [] SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached"]);
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let mut world = world(json!({"completions": 1, "parallelism": 1, "activeDeadlineSeconds": 30}));
    run(&mut world, |_| None);
    world.pass(30);
    run(&mut world, |_| None);
    is(&world, expect!["active 0 succeeded 0 failed 0 [] FailureTarget/DeadlineExceeded Failed/DeadlineExceeded"]);
}

#[test]
fn the_failure_policy_may_end_the_job_or_ignore_a_failure() {
    let rules = json!([
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    ]);
    let mut world = world(json!({"completions": 1, "parallelism": 1, "podFailurePolicy": {"rules": rules}}));
    run(&mut world, |_| Some(7));
    is(&world, expect!["active 0 succeeded 0 failed 0 [] "]);
    world.pass(20);
    run(&mut world, |_| Some(42));
    is(&world, expect!["active 0 succeeded 0 failed 1 [] FailureTarget/PodFailurePolicy Failed/PodFailurePolicy"]);
}

#[test]
fn without_completions_one_success_is_enough() {
    let mut world = world(json!({"parallelism": 3}));
    let mut done = false;
    run(&mut world, |_| (!std::mem::replace(&mut done, true)).then_some(0));
    is(&world, expect!["active 2 succeeded 1 failed 0 [] "]);
    run(&mut world, |_| Some(0));
    is(&world, expect!["active 0 succeeded 3 failed 0 [] SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached"]);
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let policy = json!({"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]});
    let mut world = world(json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": policy}));
    run(&mut world, |p| (index_of(p) == Some(3)).then_some(0));
    is(&world, expect!["active 3 succeeded 1 failed 0 [3] "]);
    run(&mut world, |p| (index_of(p) == Some(1)).then_some(0));
    is(&world, expect!["active 0 succeeded 2 failed 0 [1,3] SuccessCriteriaMet/SuccessPolicy Complete/SuccessPolicy"]);
    let conditions = world.get::<Job>(&key()).and_then(|j| j.status?.conditions).expect("conditions");
    assert!(conditions.iter().all(|c| c.message.as_deref() == Some("Matched rules at index 0")));
}

#[test]
fn with_a_limit_for_each_index_one_that_fails_holds_no_other_back() {
    let mut world =
        world(json!({"completions": 2, "parallelism": 1, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 100}));
    run(&mut world, |p| Some(i32::from(index_of(p) == Some(0))));
    is(&world, expect!["active 0 succeeded 1 failed 1 [1] "]);
    world.pass(10);
    run(&mut world, |_| Some(1));
    is(&world, expect!["active 0 succeeded 1 failed 2 [1] FailureTarget/FailedIndexes Failed/FailedIndexes"]);
    let status = world.get::<Job>(&key()).and_then(|j| j.status).expect("a status");
    assert_eq!(status.failed_indexes.as_deref(), Some("0"));
}

#[test]
fn a_smaller_indexed_job_forgets_the_indexes_beyond() {
    let mut world = world(json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"}));
    run(&mut world, |p| (index_of(p) >= Some(2)).then_some(0));
    is(&world, expect!["active 2 succeeded 2 failed 0 [2,3] "]);
    world.edit::<Job>(&key(), |j| {
        let spec = j.spec.get_or_insert_default();
        (spec.completions, spec.parallelism) = (Some(2), Some(2));
    });
    run(&mut world, |_| None);
    is(&world, expect!["active 2 succeeded 0 failed 0 [] "]);
    run(&mut world, |_| Some(0));
    is(&world, expect!["active 0 succeeded 2 failed 0 [0,1] SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached"]);
}

#[test]
fn the_index_of_a_long_named_job_is_not_cut_off() {
    assert_eq!(super::generate_name("short", 7), "short-7-");
    let name = super::generate_name(&"n".repeat(63), 1234);
    assert!(name.len() == 58 && name.ends_with("nn-1234-"), "{name}");
}
