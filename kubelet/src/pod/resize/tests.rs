//! Resizes, as text, of small worlds (see [`world`]).

use super::*;
use crate::pod::plan::plan;
use crate::pod::tests::{at, world};
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Pod;

fn container(name: &str, resources: &str) -> String {
    format!(r#"{{"name":"{name}","resources":{resources}}}"#)
}

fn spec(containers: &[String]) -> PodSpec {
    serde_json::from_str(&format!(r#"{{"containers":[{}]}}"#, containers.join(","))).expect("a spec")
}

fn show(action: &PodAction) -> String {
    match action {
        PodAction::ResizePod { limits } => {
            let fields = [("shares", limits.shares), ("quota", limits.quota), ("memory", limits.memory)];
            let shown: Vec<String> = fields.iter().filter(|(_, v)| *v > 0).map(|(n, v)| format!("{n}={v}")).collect();
            format!("pod {}", shown.join(" "))
        }
        PodAction::ResizeContainer { id, resource, .. } => format!("{id} {resource:?}"),
        PodAction::FailResize { message } => message.clone(),
        PodAction::KillContainer { id, why, replaced: true, .. } => format!("kill {id}: {why}"),
        other => format!("{other:?}"),
    }
}

/// The plan for containers in a world with a sandbox.
#[track_caller]
fn check(containers: &[String], text: &str, expected: Expect) {
    let spec = spec(containers);
    let seen = world(&spec, &format!("sandbox 0 ready\n{text}"));
    let pod = Pod { spec: Some(spec), ..Pod::default() };
    let lines: Vec<String> = plan(&pod, &seen, at(1000)).iter().map(show).collect();
    expected.assert_eq(&lines.join("\n"));
}

const OLD: &str = r#"{"requests":{"cpu":"20m","memory":"35Mi"},"limits":{"cpu":"30m","memory":"45Mi"}}"#;
const MORE: &str = r#"{"requests":{"cpu":"25m","memory":"40Mi"},"limits":{"cpu":"35m","memory":"50Mi"}}"#;
const LESS: &str = r#"{"requests":{"cpu":"15m","memory":"30Mi"},"limits":{"cpu":"25m","memory":"40Mi"}}"#;

/// Takes the steps of a resize in a world where each does what it says; gives them in their order. Wanted amounts of the pod's cgroup are
/// the sums of those of the containers.
#[track_caller]
fn settles(given: &[(&str, &str)], wanted: &[(&str, &str)], expected: Expect) {
    let spec = spec(&wanted.iter().map(|(name, r)| container(name, r)).collect::<Vec<_>>());
    let parse = |text: &str| serde_json::from_str::<ResourceRequirements>(text).expect("resources");
    let names = given.iter().map(|(name, _)| format!("{name} 0 running")).collect::<Vec<_>>().join("\n");
    let mut seen = world(&spec, &format!("sandbox 0 ready\n{names}\nresize 2"));
    let limits = |list: &[(&str, &str)]| {
        let spec = self::spec(&list.iter().map(|(name, r)| container(name, r)).collect::<Vec<_>>());
        crate::cgroups::pod_limits(&spec, crate::pod::qos::QosClass::Burstable)
    };
    seen.resize.actuated = given.iter().map(|(name, r)| ((*name).to_owned(), parse(r))).collect();
    seen.resize.cgroup = Some(PodCgroup { now: limits(given), wanted: limits(wanted), usage: None });
    let mut steps = vec![];
    while let Some(action) = step(&spec, &seen) {
        assert!(steps.len() < 20, "does not settle: {steps:?}");
        assert!(is_in_progress(&spec, &seen));
        steps.push(show(&action));
        match action {
            PodAction::ResizePod { limits } => {
                let now = &mut seen.resize.cgroup.as_mut().expect("set").now;
                for (field, value) in [(&mut now.shares, limits.shares), (&mut now.quota, limits.quota), (&mut now.memory, limits.memory)] {
                    *field = if value > 0 { value } else { *field };
                }
            }
            PodAction::ResizeContainer { name, resource, .. } => {
                let to = wanted.iter().find(|(n, _)| *n == name).map(|(_, r)| parse(r)).expect("wanted");
                let has = mixed(&to, &seen.resize.actuated[&name], resource);
                seen.resize.actuated.insert(name, has);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(!is_in_progress(&spec, &seen), "nothing is left to do");
    expected.assert_eq(&steps.join("\n"));
}

#[test]
fn the_pod_grows_before_its_containers() {
    settles(
        &[("a", OLD)],
        &[("a", MORE)],
        expect![[r#"
            pod memory=52428800
            a0 Memory
            pod quota=3500
            pod shares=25
            a0 Cpu"#]],
    );
}

#[test]
fn the_pod_shrinks_after_its_containers() {
    settles(
        &[("a", OLD)],
        &[("a", LESS)],
        expect![[r#"
            a0 Memory
            pod memory=41943040
            a0 Cpu
            pod shares=15
            pod quota=2500"#]],
    );
}

#[test]
fn containers_that_shrink_go_before_those_that_grow() {
    settles(
        &[("a", OLD), ("b", OLD), ("c", OLD)],
        &[("a", MORE), ("b", OLD), ("c", LESS)],
        expect![[r#"
            c0 Memory
            a0 Memory
            c0 Cpu
            a0 Cpu"#]],
    );
}

#[test]
fn limits_and_requests_come() {
    settles(
        &[("a", r#"{"requests":{"cpu":"20m"}}"#), ("b", r#"{"requests":{"memory":"35Mi"}}"#)],
        &[
            ("a", r#"{"requests":{"cpu":"25m"},"limits":{"cpu":"35m"}}"#),
            ("b", r#"{"requests":{"memory":"30Mi","cpu":"5m"},"limits":{"memory":"50Mi"}}"#),
        ],
        expect![[r#"
            b0 Memory
            pod shares=30
            a0 Cpu
            b0 Cpu"#]],
    );
}

#[test]
fn nothing_is_resized_while_none_is_under_way_or_the_last_step_failed_a_moment_ago() {
    check(&[container("a", MORE)], &format!("a 0 running\ngiven a {OLD}"), expect![""]);
    let spec = spec(&[container("a", MORE)]);
    let mut seen = world(&spec, &format!("sandbox 0 ready\na 0 running\ngiven a {OLD}\nresize 2"));
    seen.resize.failure = Some(Waiting { reason: "Error".into(), message: "no".into(), retry_at: at(1005) });
    let pod = Pod { spec: Some(spec), ..Pod::default() };
    assert_eq!(plan(&pod, &seen, at(1000)), [PodAction::WaitUntil(at(1005))]);
    assert!(matches!(plan(&pod, &seen, at(1005))[..], [PodAction::ResizeContainer { .. }]));
}

#[test]
fn containers_that_do_not_run_get_theirs_when_they_start() {
    check(
        &[container("a", MORE)],
        &format!("a 0 exited=1\ngiven a {OLD}\nresize 2\nbackoff a 10"),
        expect!["BackOff { name: \"a\", until: 1970-01-01T00:16:45Z }"],
    );
}

#[test]
fn a_policy_may_ask_for_a_restart() {
    let with = |resource: &str| {
        let policy = format!(r#"[{{"resourceName":"{resource}","restartPolicy":"RestartContainer"}}]"#);
        format!(r#"{{"name":"a","resources":{MORE},"resizePolicy":{policy}}}"#)
    };
    let world = format!("a 0 running\ngiven a {OLD}\nresize 2");
    check(&[with("memory")], &world, expect!["kill a0: Container a resize requires restart"]);
    // Only CPU changes.
    let cpu = OLD.replace("20m", "25m");
    check(&[with("memory").replace(MORE, &cpu)], &world, expect!["a0 Cpu"]);
    // Even when it ends well and would not be restarted.
    let on_failure: PodSpec =
        serde_json::from_str(&format!(r#"{{"restartPolicy":"OnFailure","containers":[{}]}}"#, with("memory"))).expect("a spec");
    let seen = crate::pod::tests::world(&on_failure, &format!("sandbox 0 ready\na 0 exited=0\nreplacing a0\ngiven a {OLD}\nresize 2"));
    assert!(is_in_progress(&on_failure, &seen) && !crate::pod::phase::finished(&on_failure, &seen));
    let pod = Pod { spec: Some(on_failure), ..Pod::default() };
    assert!(matches!(plan(&pod, &seen, at(1000))[..], [PodAction::StartContainer { attempt: 1, after: None, .. }]));
}

#[test]
fn the_pod_does_not_shrink_while_a_container_that_is_to_restart_still_runs() {
    let policy = r#"[{"resourceName":"memory","restartPolicy":"RestartContainer"}]"#;
    let containers = [format!(r#"{{"name":"a","resources":{LESS},"resizePolicy":{policy}}}"#)];
    let world = format!("given a {OLD}\nresize 2\ncgroup now.memory=47185920 wanted.memory=41943040 usage=1");
    check(&containers, &format!("{world}\na 0 running"), expect!["kill a0: Container a resize requires restart"]);
    check(
        &containers,
        &format!("{world}\na 0 exited=143\nreplacing a0"),
        expect![[r#"
            pod memory=41943040
            StartContainer { name: "a", attempt: 1, after: None }"#]],
    );
}

#[test]
fn memory_in_use_is_not_taken_away() {
    let world = format!("a 0 running\ngiven a {OLD}\nresize 2");
    check(
        &[container("a", LESS)],
        &format!("{world}\nusage a0 41943040\ncgroup now.memory=47185920 wanted.memory=41943040 usage=42000000"),
        expect![[
            r#"cannot decrease memory limits: [attempting to set pod memory limit (41943040) below current usage (42000000), attempting to set container "a" memory limit (41943040) below current usage (41943040)]"#
        ]],
    );
    check(
        &[container("a", LESS)],
        &format!("{world}\nusage a0 41943041"),
        expect![[
            r#"cannot decrease memory limits: attempting to set container "a" memory limit (41943040) below current usage (41943041)"#
        ]],
    );
    check(&[container("a", LESS)], &format!("{world}\nusage a0 41943039"), expect!["a0 Memory"]);
    // A limit where there was none is a lower one.
    check(
        &[container("a", LESS)],
        "a 0 running\ngiven a\nresize 2\nusage a0 50000000",
        expect![[
            r#"cannot decrease memory limits: attempting to set container "a" memory limit (41943040) below current usage (50000000)"#
        ]],
    );
    check(&[container("a", MORE)], &format!("{world}\nusage a0 99999999"), expect!["a0 Memory"]);
}

#[test]
fn of_a_container_that_is_not_known_nothing_is_changed() {
    check(&[container("a", MORE)], "a 0 running\nresize 2", expect![""]);
}
