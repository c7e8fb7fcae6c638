//! Statuses, as text, of small worlds.

use super::*;
use crate::pod::tests::{at, world};
use crate::pod::{Ending, Verdict};
use expect_test::{Expect, expect};

#[track_caller]
fn check(spec: &str, text: &str, expected: Expect) {
    check_with(spec, text, |_| {}, expected);
}

/// The status at second 1000: phase, true conditions and why others are not, then a line a container.
#[track_caller]
fn check_with(spec: &str, text: &str, change: impl FnOnce(&mut Observed), expected: Expect) {
    let mut pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
    (pod.metadata.name, pod.metadata.namespace, pod.metadata.uid) = (Some("p".into()), Some("ns".into()), Some("u".into()));
    let mut seen = world(pod.spec.as_ref().expect("set"), text);
    change(&mut seen);
    let s = status(&pod, &seen, at(1000));
    let word = |o: &Option<String>| o.clone().unwrap_or_default();
    let mut out = format!("{} {} {}", word(&s.phase), word(&s.reason), word(&s.pod_ip)).trim_end().to_owned() + "\n";
    for c in s.conditions.iter().flatten() {
        out += &match c.status.as_str() {
            "True" => format!("{}\n", c.type_),
            _ => format!("not {} {} {}", c.type_, word(&c.reason), word(&c.message)).trim_end().to_owned() + "\n",
        };
    }
    let state = |s: &Option<ContainerState>| match s.clone().unwrap_or_default() {
        ContainerState { waiting: Some(w), .. } => format!("waiting {} {}", word(&w.reason), word(&w.message)).trim_end().to_owned(),
        ContainerState { running: Some(_), .. } => "running".to_owned(),
        ContainerState { terminated: Some(t), .. } => format!("terminated {} {}", t.exit_code, word(&t.reason)),
        _ => "-".to_owned(),
    };
    for c in s.init_container_statuses.iter().chain(&s.container_statuses).chain(&s.ephemeral_container_statuses).flatten() {
        let flags = [(c.ready, " ready"), (c.started == Some(true), " started")].map(|(is, w)| if is { w } else { "" }).concat();
        out += &format!("{} {}{flags}: {} / {}\n", c.name, c.restart_count, state(&c.state), state(&c.last_state));
    }
    expected.assert_eq(&out);
}

const ONE: &str = r#"{"containers":[{"name":"a","image":"i"}]}"#;
const INIT: &str = r#"{"initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a"}]}"#;

#[test]
fn a_new_pod_is_pending() {
    check(
        ONE,
        "",
        expect![[r#"
            Pending
            not PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            a 0: waiting ContainerCreating / -
        "#]],
    );
}

#[test]
fn a_running_pod_is_ready() {
    check(
        ONE,
        "sandbox 0 ready\na 0 running",
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            Ready
            ContainersReady
            PodScheduled
            a 0 ready started: running / -
        "#]],
    );
}

#[test]
fn a_container_of_another_spec_is_told_of_until_it_is_replaced() {
    let pod: PodSpec = serde_json::from_str(ONE).expect("a spec");
    let running = world(&pod, "sandbox 0 ready\na 0 running");
    let previous = status(&Pod { spec: Some(pod), ..Pod::default() }, &running, at(990));
    let replaced = "sandbox 0 ready\na 0 exited=0 outdated";
    check_with(
        ONE,
        replaced,
        |seen| seen.previous = previous.clone(),
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            Ready
            ContainersReady
            PodScheduled
            a 0 ready started: running / -
        "#]],
    );
    // It could not be replaced.
    check_with(
        ONE,
        &format!("{replaced}\nwaiting a ErrImagePull 1010"),
        |seen| seen.previous = previous.clone(),
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            a 0: waiting ErrImagePull why / terminated 0 Completed
        "#]],
    );
}

#[test]
fn a_container_that_is_replaced_whatever_the_policy_is_told_of_too() {
    let never = r#"{"restartPolicy":"Never","containers":[{"name":"a","image":"i"}]}"#;
    let pod: PodSpec = serde_json::from_str(never).expect("a spec");
    let running = world(&pod, "sandbox 0 ready\na 0 running");
    let previous = status(&Pod { spec: Some(pod), ..Pod::default() }, &running, at(990));
    let told = expect![[r#"
        Running  10.244.0.0
        PodReadyToStartContainers
        Initialized
        Ready
        ContainersReady
        PodScheduled
        a 0 ready started: running / -
    "#]];
    check_with(never, "sandbox 0 ready\na 0 exited=143 outdated\nreplacing a0", |seen| seen.previous = previous.clone(), told);
    // It could not be replaced, and nothing will be started again.
    check_with(
        never,
        "sandbox 0 ready\na 0 exited=143 outdated\nwaiting a ErrImagePull 1010",
        |seen| seen.previous = previous.clone(),
        expect![[r#"
            Failed  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready PodFailed
            not ContainersReady PodFailed
            PodScheduled
            a 0: terminated 143 Error / -
        "#]],
    );
}

/// What a status says of resources, a line a container, and of resizes.
#[track_caller]
fn check_resources(spec: &str, text: &str, change: impl FnOnce(&mut Observed), expected: Expect) {
    let pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
    let mut seen = world(pod.spec.as_ref().expect("set"), text);
    change(&mut seen);
    let s = status(&pod, &seen, at(1000));
    let mut out = String::new();
    for c in s.init_container_statuses.iter().chain(&s.container_statuses).flatten() {
        out += &format!("{} {} allocated {}\n", c.name, json(&c.resources), json(&c.allocated_resources));
    }
    for c in s.conditions.iter().flatten().filter(|c| c.type_.starts_with("PodResize")) {
        let word = |o: &Option<String>| o.clone().unwrap_or_default();
        out += &format!("{} {} {} {} of {:?}\n", c.type_, c.status, word(&c.reason), word(&c.message), c.observed_generation);
    }
    expected.assert_eq(&out);
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

const ASKS: &str = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"25m","memory":"40Mi"},"limits":{"cpu":"35m"}}}]}"#;

#[test]
fn resources_are_those_that_a_container_was_given() {
    // Nothing is there yet.
    check_resources(
        ASKS,
        "sandbox 0 ready",
        |_| {},
        expect![[r#"
        a null allocated null
    "#]],
    );
    check_resources(
        ASKS,
        "sandbox 0 ready\na 0 running\ngiven a {\"requests\":{\"cpu\":\"20m\"}}",
        |_| {},
        expect![[r#"
            a {"requests":{"cpu":"20m"}} allocated {"cpu":"25m","memory":"40Mi"}
        "#]],
    );
    // It has ended: what it would be given.
    check_resources(
        ASKS,
        "sandbox 0 ready\na 0 exited=0\ngiven a {\"requests\":{\"cpu\":\"20m\"}}",
        |_| {},
        expect![[r#"
            a {"limits":{"cpu":"35m"},"requests":{"cpu":"25m","memory":"40Mi"}} allocated {"cpu":"25m","memory":"40Mi"}
        "#]],
    );
    check_resources(
        r#"{"containers":[{"name":"a"}]}"#,
        "sandbox 0 ready\na 0 running",
        |_| {},
        expect![[r#"
        a {} allocated null
    "#]],
    );
}

#[test]
fn what_the_runtime_says_counts_where_it_is_something_else() {
    let with = |shares, quota| {
        move |seen: &mut Observed| seen.containers[0].limits = Some(crate::cgroups::Limits { shares, quota, memory: 5, pids: 0 })
    };
    let same = expect![[r#"
        a {"limits":{"cpu":"35m"},"requests":{"cpu":"25m","memory":"40Mi"}} allocated {"cpu":"25m","memory":"40Mi"}
    "#]];
    check_resources(ASKS, "sandbox 0 ready\na 0 running", with(25, 3500), same);
    check_resources(
        ASKS,
        "sandbox 0 ready\na 0 running",
        with(512, 50_000),
        expect![[r#"
            a {"limits":{"cpu":"500m"},"requests":{"cpu":"500m","memory":"40Mi"}} allocated {"cpu":"25m","memory":"40Mi"}
        "#]],
    );
}

#[test]
fn conditions_of_resizes() {
    use crate::pod::Waiting;
    use crate::pod::resize::{DEFERRED, Pending};
    let pending = |seen: &mut Observed| {
        seen.resize.pending = Some(Pending { reason: DEFERRED, message: "no room".into(), generation: Some(3) });
        seen.resize.failure = Some(Waiting { reason: "Error".into(), message: "refused".into(), retry_at: at(1005) });
    };
    check_resources(
        r#"{"containers":[{"name":"a"}]}"#,
        "sandbox 0 ready\na 0 running\nresize 2",
        pending,
        expect![[r#"
        a {} allocated null
        PodResizePending True Deferred no room of Some(3)
        PodResizeInProgress True Error refused of Some(2)
    "#]],
    );
    check_resources(
        r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#,
        "sandbox 0 ready\na 0 exited=0\nresize 2",
        pending,
        expect![[r#"
            a {} allocated null
        "#]],
    );
}

#[test]
fn initialising() {
    check(
        INIT,
        "sandbox 0 ready\ni 0 running",
        expect![[r#"
            Pending  10.244.0.0
            PodReadyToStartContainers
            not Initialized ContainersNotInitialized containers with incomplete status: [i s]
            not Ready ContainersNotReady containers with unready status: [s a]
            not ContainersReady ContainersNotReady containers with unready status: [s a]
            PodScheduled
            i 0 started: running / -
            s 0: waiting PodInitializing / -
            a 0: waiting PodInitializing / -
        "#]],
    );
}

#[test]
fn crash_loop() {
    check(
        ONE,
        "sandbox 0 ready\na 1 exited=1\na 0 exited=2\nbackoff a 20",
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            a 1: waiting CrashLoopBackOff back-off 20s restarting failed container=a pod=p_ns(u) / terminated 1 Error
        "#]],
    );
}

#[test]
fn an_image_that_cannot_be_pulled() {
    check(
        ONE,
        "sandbox 0 ready\nwaiting a ErrImagePull 1002",
        expect![[r#"
            Pending  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            a 0: waiting ErrImagePull why / -
        "#]],
    );
}

#[test]
fn a_probe_keeps_a_container_unready() {
    let probed = r#"{"containers":[{"name":"a","readinessProbe":{},"startupProbe":{}}],"readinessGates":[{"conditionType":"g"}]}"#;
    check(
        probed,
        "sandbox 0 ready\na 0 running started",
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            a 0 started: running / -
        "#]],
    );
    check(
        probed,
        "sandbox 0 ready\na 0 running started ready",
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ReadinessGatesNotReady corresponding condition of pod readiness gate "g" does not exist.
            ContainersReady
            PodScheduled
            a 0 ready started: running / -
        "#]],
    );
}

#[test]
fn a_sidecar_that_is_not_ready_keeps_its_pod_unready() {
    check(
        r#"{"containers":[{"name":"a"}],"initContainers":[{"name":"s","restartPolicy":"Always","readinessProbe":{}}]}"#,
        "sandbox 0 ready\ns 0 running started\na 0 running",
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [s]
            not ContainersReady ContainersNotReady containers with unready status: [s]
            PodScheduled
            s 0 started: running / -
            a 0 ready started: running / -
        "#]],
    );
}

#[test]
fn a_job_succeeds_once_its_sidecar_has_ended() {
    let job = INIT.replacen('{', r#"{"restartPolicy":"Never","#, 1);
    check(
        &job,
        "sandbox 0 ready\ni 0 exited=0\ns 0 running\na 0 exited=0",
        expect![[r#"
            Pending  10.244.0.0
            PodReadyToStartContainers
            Initialized
            not Ready ContainersNotReady containers with unready status: [a]
            not ContainersReady ContainersNotReady containers with unready status: [a]
            PodScheduled
            i 0 ready: terminated 0 Completed / -
            s 0 ready started: running / -
            a 0: terminated 0 Completed / -
        "#]],
    );
    check(
        &job,
        "sandbox 0 dead\ni 0 exited=0\ns 0 exited=137\na 0 exited=0",
        expect![[r#"
            Succeeded
            not PodReadyToStartContainers
            Initialized
            not Ready PodCompleted
            not ContainersReady PodCompleted
            PodScheduled
            i 0 ready: terminated 0 Completed / -
            s 0: terminated 137 Error / -
            a 0: terminated 0 Completed / -
        "#]],
    );
}

#[test]
fn an_evicted_pod_fails_when_nothing_runs() {
    let evict = |seen: &mut Observed| {
        seen.previous.phase = Some("Running".into());
        let verdict = Verdict { reason: "Evicted".into(), message: "low".into(), disruption: true, rejected: false };
        seen.ending = Some(Ending { deadline: at(1001), verdict: Some(verdict) });
    };
    check_with(
        ONE,
        "sandbox 0 ready\na 0 running",
        evict,
        expect![[r#"
            Running  10.244.0.0
            PodReadyToStartContainers
            Initialized
            Ready
            ContainersReady
            PodScheduled
            DisruptionTarget
            a 0 ready started: running / -
        "#]],
    );
    check_with(
        ONE,
        "sandbox 0 dead\na 0 exited=137",
        evict,
        expect![[r#"
            Failed Evicted
            not PodReadyToStartContainers
            Initialized
            not Ready PodFailed
            not ContainersReady PodFailed
            PodScheduled
            DisruptionTarget
            a 0: terminated 137 Error / -
        "#]],
    );
}

#[test]
fn times_of_conditions_stay_while_their_status_does() {
    let pod = Pod { spec: Some(serde_json::from_str(ONE).expect("a spec")), ..Pod::default() };
    let spec = pod.spec.as_ref().expect("set");
    let first = status(&pod, &world(spec, "sandbox 0 ready"), at(1000));
    let mut seen = world(spec, "sandbox 0 ready\na 0 running");
    seen.previous = first.clone();
    let second = status(&pod, &seen, at(2000));
    let time = |s: &PodStatus, t: &str| {
        s.conditions.iter().flatten().find(|c| c.type_ == t).and_then(|c| c.last_transition_time.clone()).map(|t| t.0)
    };
    assert_eq!((time(&second, "PodScheduled"), time(&second, "Ready")), (Some(at(1000)), Some(at(2000))));
    seen.previous = second.clone();
    assert_eq!(status(&pod, &seen, at(3000)), second, "the same observation gives the same status");
}
