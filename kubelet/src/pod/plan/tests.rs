//! Plans, as text, of small worlds.

use super::*;
use crate::pod::tests::{at, world};
use expect_test::{Expect, expect};

/// The plan at second 1000 for a spec and a world (see [`world`]), a line an action.
#[track_caller]
fn check(spec: &str, text: &str, expected: Expect) {
    check_with(spec, text, |_| {}, expected);
}

#[track_caller]
fn check_with(spec: &str, text: &str, change: impl FnOnce(&mut Observed), expected: Expect) {
    let pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
    let mut seen = world(pod.spec.as_ref().expect("it has one"), text);
    change(&mut seen);
    let line = |action: &PodAction| match action {
        PodAction::CreateSandbox { attempt } => format!("create sandbox {attempt}\n"),
        PodAction::StopSandbox { id } => format!("stop sandbox {id}\n"),
        PodAction::KillContainer { id, grace, why, replaced, .. } => {
            format!("kill {id} in {grace}s{}: {why}\n", if *replaced { ", then replace" } else { "" })
        }
        PodAction::ResizePod { limits } => format!("pod cgroup: {limits:?}\n"),
        PodAction::ResizeContainer { id, resource, .. } => format!("resize {id}: {resource:?}\n"),
        PodAction::FailResize { message } => format!("resize fails: {message}\n"),
        PodAction::StartContainer { name, attempt, after } => {
            format!("start {name} {attempt}{}\n", after.map_or(String::new(), |a| format!(" after {}", a.as_second())))
        }
        PodAction::BackOff { name, until } => format!("back off {name} until {}\n", until.as_second()),
        PodAction::WaitUntil(until) => format!("wait until {}\n", until.as_second()),
    };
    expected.assert_eq(&plan(&pod, &seen, at(1000)).iter().map(line).collect::<String>());
}

const ONE: &str = r#"{"containers":[{"name":"a","image":"i"}]}"#;
const NEVER: &str = r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#;
const INIT: &str =
    r#"{"initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"},{"name":"j"}],"containers":[{"name":"a"},{"name":"b"}]}"#;

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers() {
    check(
        ONE,
        "",
        expect![[r#"
        create sandbox 0
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready",
        expect![[r#"
        start a 0
    "#]],
    );
    check(ONE, "sandbox 0 ready\na 0 running", expect![""]);
}

#[test]
fn a_failed_sandbox_waits_for_its_time() {
    let failed = |until| {
        move |s: &mut Observed| {
            s.sandbox_failure = Some(super::super::Waiting { reason: "r".into(), message: "m".into(), retry_at: at(until) })
        }
    };
    check_with(
        ONE,
        "",
        failed(1005),
        expect![[r#"
        wait until 1005
    "#]],
    );
    check_with(
        ONE,
        "",
        failed(1000),
        expect![[r#"
        create sandbox 0
    "#]],
    );
}

#[test]
fn init_containers_go_one_after_another_and_sidecars_stay() {
    check(
        INIT,
        "sandbox 0 ready",
        expect![[r#"
        start i 0
    "#]],
    );
    check(INIT, "sandbox 0 ready\ni 0 running", expect![""]);
    check(
        INIT,
        "sandbox 0 ready\ni 0 exited=0",
        expect![[r#"
        start s 0
    "#]],
    );
    check(
        INIT,
        "sandbox 0 ready\ni 0 exited=0\ns 0 running",
        expect![[r#"
        start j 0
    "#]],
    );
    check(
        INIT,
        "sandbox 0 ready\ni 0 exited=0\ns 0 running\nj 0 exited=0",
        expect![[r#"
        start a 0
        start b 0
    "#]],
    );
    // A sidecar that ends beside the others is restarted, init containers that are gone are not missed.
    check(
        INIT,
        "sandbox 0 ready\ns 0 exited=1 finished=999\na 0 running\nb 0 running",
        expect![[r#"
        start s 1 after 999
    "#]],
    );
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_rest_back() {
    let spec = r#"{"initContainers":[{"name":"s","restartPolicy":"Always","startupProbe":{}}],"containers":[{"name":"a"}]}"#;
    check(spec, "sandbox 0 ready\ns 0 running", expect![""]);
    check(
        spec,
        "sandbox 0 ready\ns 0 running started",
        expect![[r#"
        start a 0
    "#]],
    );
}

#[test]
fn a_failed_init_container_is_retried_or_fails_the_pod() {
    check(
        INIT,
        "sandbox 0 ready\ni 0 exited=1",
        expect![[r#"
        start i 1 after 995
    "#]],
    );
    check(
        INIT,
        "sandbox 0 ready\ni 1 exited=1\nbackoff i 10",
        expect![[r#"
        back off i until 1005
    "#]],
    );
    let never = INIT.replacen('{', r#"{"restartPolicy":"Never","#, 1);
    check(&never, "sandbox 0 ready\ni 0 exited=1", expect![""]);
    check(&never, "sandbox 0 dead\ni 0 exited=1", expect![""]);
}

#[test]
fn a_container_that_ends_is_restarted_with_back_off() {
    check(
        ONE,
        "sandbox 0 ready\na 0 exited=0",
        expect![[r#"
        start a 1 after 995
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready\na 1 exited=1\na 0 exited=1\nbackoff a 10",
        expect![[r#"
        back off a until 1005
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready\na 1 exited=1 finished=990\nbackoff a 10",
        expect![[r#"
        start a 2 after 990
    "#]],
    );
}

#[test]
fn never_means_never_even_when_the_sandbox_goes() {
    check(NEVER, "sandbox 0 ready\na 0 exited=1", expect![""]);
    check(NEVER, "sandbox 0 dead\na 0 exited=1", expect![""]);
    check(
        r#"{"restartPolicy":"OnFailure","containers":[{"name":"a"},{"name":"b"}]}"#,
        "sandbox 0 ready\na 0 exited=0\nb 0 exited=3",
        expect![[r#"
        start b 1 after 995
    "#]],
    );
}

#[test]
fn a_lost_sandbox_is_cleared_away_and_made_anew() {
    check(
        ONE,
        "sandbox 0 dead\na 0 running",
        expect![[r#"
        kill a0 in 30s: Pod sandbox changed, it will be killed and re-created.
    "#]],
    );
    check(
        ONE,
        "sandbox 0 dead\na 0 exited=137",
        expect![[r#"
        create sandbox 1
    "#]],
    );
    check(
        ONE,
        "sandbox 1 ready\nsandbox 0 dead\na 0 exited=137",
        expect![[r#"
        start a 1
    "#]],
    );
    check(
        ONE,
        "sandbox 1 ready\nsandbox 0 ready\na 0 running",
        expect![[r#"
        kill a0 in 30s: Pod sandbox changed, it will be killed and re-created.
        stop sandbox s1
        stop sandbox s0
    "#]],
    );
    // Init containers run again in the new sandbox.
    check(
        INIT,
        "sandbox 1 ready\nsandbox 0 dead\ni 0 exited=0\na 0 exited=1",
        expect![[r#"
        start i 1
    "#]],
    );
}

#[test]
fn probes_and_changed_specs_kill() {
    let probed = r#"{"containers":[{"name":"a","livenessProbe":{"terminationGracePeriodSeconds":7}}]}"#;
    check(
        probed,
        "sandbox 0 ready\na 0 running unhealthy",
        expect![[r#"
        kill a0 in 7s: Container a failed liveness probe, will be restarted
    "#]],
    );
    check(
        NEVER,
        "sandbox 0 ready\na 0 running unstarted",
        expect![[r#"
        kill a0 in 30s: Container a failed startup probe
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready\na 0 running outdated",
        expect![[r#"
        kill a0 in 30s, then replace: Container a definition changed, will be restarted
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready\na 0 exited=1 outdated\nbackoff a 40",
        expect![[r#"
        start a 1
    "#]],
    );
}

#[test]
fn a_container_of_another_spec_is_replaced_whatever_the_policy() {
    check(
        NEVER,
        "sandbox 0 ready\na 0 running outdated",
        expect![[r#"
        kill a0 in 30s, then replace: Container a definition changed, will be restarted
    "#]],
    );
    check(
        NEVER,
        "sandbox 0 ready\na 0 exited=143 outdated\nreplacing a0\nbackoff a 40",
        expect![[r#"
        start a 1
    "#]],
    );
    // It had ended before its spec changed.
    check(NEVER, "sandbox 0 ready\na 0 exited=0 outdated", expect![""]);
    check(
        NEVER,
        "sandbox 0 dead\na 0 exited=143 outdated\nreplacing a0",
        expect![[r#"
        create sandbox 1
    "#]],
    );
}

#[test]
fn what_could_not_start_waits() {
    check(
        ONE,
        "sandbox 0 ready\nwaiting a ErrImagePull 1010",
        expect![[r#"
        wait until 1010
    "#]],
    );
    check(
        ONE,
        "sandbox 0 ready\nwaiting a ErrImagePull 1000",
        expect![[r#"
        start a 0
    "#]],
    );
}

#[test]
fn ephemeral_containers_start_once() {
    let spec = r#"{"containers":[{"name":"a"}],"ephemeralContainers":[{"name":"e"}]}"#;
    check(
        spec,
        "sandbox 0 ready\na 0 running",
        expect![[r#"
        start e 0
    "#]],
    );
    check(spec, "sandbox 0 ready\na 0 running\ne 0 exited=1", expect![""]);
}

#[test]
fn the_end_takes_containers_then_sidecars_then_the_sandbox() {
    let end = |seen: &mut Observed| seen.ending = Some(Ending { deadline: at(1020), verdict: None });
    check_with(
        INIT,
        "sandbox 0 ready\ni 0 exited=0\ns 0 running\na 0 running\nb 0 exited=0",
        end,
        expect![[r#"
        kill a0 in 20s: Stopping container a
    "#]],
    );
    check_with(
        INIT,
        "sandbox 0 ready\ns 0 running\na 0 exited=0",
        end,
        expect![[r#"
        kill s0 in 20s: Stopping container s
    "#]],
    );
    check_with(
        INIT,
        "sandbox 0 ready\ns 0 exited=0",
        end,
        expect![[r#"
        stop sandbox s0
    "#]],
    );
    check_with(INIT, "sandbox 0 dead\ns 0 exited=0", end, expect![""]);
    let late = |seen: &mut Observed| seen.ending = Some(Ending { deadline: at(900), verdict: None });
    check_with(
        ONE,
        "sandbox 0 ready\na 0 running",
        late,
        expect![[r#"
        kill a0 in 2s: Stopping container a
    "#]],
    );
}

#[test]
fn restart_counts_survive_collected_containers() {
    let known = |seen: &mut Observed| {
        seen.previous.container_statuses = Some(vec![k8s_openapi::api::core::v1::ContainerStatus {
            name: "a".into(),
            restart_count: 4,
            container_id: Some("containerd://x".into()),
            ..Default::default()
        }]);
    };
    check_with(
        ONE,
        "sandbox 0 ready",
        known,
        expect![[r#"
        start a 5
    "#]],
    );
}

/// Taking every plan's actions in a small world comes to rest, for every exit code and policy.
#[test]
fn every_pod_settles() {
    for policy in ["Always", "OnFailure", "Never"] {
        for code in [0, 1] {
            let spec = format!(r#"{{"restartPolicy":"{policy}","initContainers":[{{"name":"i"}}],"containers":[{{"name":"a"}}]}}"#);
            let pod = Pod { spec: Some(serde_json::from_str(&spec).expect("a spec")), ..Pod::default() };
            let pod_spec = pod.spec.clone().expect("set");
            let (mut sandboxes, mut lines, mut rounds) = (String::new(), String::new(), 0);
            loop {
                let actions = plan(&pod, &world(&pod_spec, &format!("{sandboxes}{lines}")), at(1000));
                let Some(action) = actions.into_iter().next() else { break };
                rounds += 1;
                assert!(rounds < 10, "{policy} {code} does not settle: {action:?}");
                match action {
                    PodAction::CreateSandbox { attempt } => sandboxes += &format!("sandbox {attempt} ready\n"),
                    PodAction::StartContainer { name, attempt, .. } if name == "i" => {
                        lines += &format!("i {attempt} exited={code}\nbackoff i 10\n")
                    }
                    PodAction::StartContainer { name, attempt, .. } => {
                        lines += &format!("{name} {attempt} exited={code}\nbackoff {name} 10\n")
                    }
                    PodAction::BackOff { until, .. } => {
                        assert!(until > at(1000) && policy != "Never", "back-off only where there are restarts");
                        break;
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }
}
