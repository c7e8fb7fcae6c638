//! Containers that come and go: hooks that sleep, sidecars, and containers with a restart policy of their own.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{container_status, put};
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-node] Lifecycle Sleep Hook when create a pod with lifecycle hook using sleep action valid prestop hook using sleep action",
        test!(sleeps),
    ),
    Behaviour::new(
        "newer: [sig-node] Lifecycle Sleep Hook when create a pod with lifecycle hook using sleep action reduce GracePeriodSeconds during runtime",
        test!(less_time),
    ),
    Behaviour::new(
        "newer: [sig-node] Lifecycle Sleep Hook when create a pod with lifecycle hook using sleep action ignore terminated container",
        test!(ended_before),
    ),
    Behaviour::new("newer: [sig-node] Lifecycle Sleep Hook (with zero duration) and in postStart", test!(zero_and_post_start)),
    Behaviour::new(
        "newer: [sig-node] Restartable init containers start in order, gated by their startup probes, and end after the others from the last to the first",
        test!(sidecars),
    ),
    Behaviour::new(
        "newer: [sig-node] Restartable init containers are started again, and do not keep a pod or a Job from ending",
        test!(sidecars_of_a_job),
    ),
    Behaviour::new("newer: [sig-node] Restartable init containers with probes of readiness and liveness", test!(probed_sidecars)),
    Behaviour::new(
        "newer: [sig-node] Container Restart Rules: a container of a pod that is never restarted restarts by its own rules",
        test!(restart_rules),
    ),
    Behaviour::new(
        "newer: [sig-node] PreStop graceful pod terminated should wait until preStop hook completes the process",
        test!(pre_stop_in_full),
    ),
];

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
}

fn sidecar(name: &str, script: &str) -> Value {
    let mut sidecar = container(name, script);
    sidecar["restartPolicy"] = json!("Always");
    sidecar
}

const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A pod that ends when it is told, with a preStop hook that sleeps.
async fn with_hook(f: &Framework, seconds: u64, grace: u64, script: &str) {
    let mut pod = Framework::script("pod-with-sleep", script);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": seconds}}});
    f.create_pod(&pod).await;
}

/// How long it takes until the pod is gone after it was deleted.
async fn takes(f: &Framework, options: Value) -> Duration {
    let path = f.core("pods/pod-with-sleep");
    let began = Instant::now();
    f.wire.delete_with(&path, &options).await.expect(200);
    f.until_gone(&path, POD).await;
    began.elapsed()
}

async fn sleeps(f: Framework) -> anyhow::Result<()> {
    with_hook(&f, 5, 30, FOREVER).await;
    f.until_ready("pod-with-sleep").await;
    let took = takes(&f, json!({})).await;
    assert!((5..25).contains(&took.as_secs()), "{took:?}");
    Ok(())
}

async fn less_time(f: Framework) -> anyhow::Result<()> {
    with_hook(&f, 60, 100, FOREVER).await;
    f.until_ready("pod-with-sleep").await;
    let took = takes(&f, json!({"gracePeriodSeconds": 5})).await;
    assert!((4..40).contains(&took.as_secs()), "{took:?}");
    Ok(())
}

async fn ended_before(f: Framework) -> anyhow::Result<()> {
    with_hook(&f, 60, 100, "exit 0").await;
    f.until_ended("pod-with-sleep").await;
    let took = takes(&f, json!({})).await;
    assert!(took.as_secs() < 30, "what has ended has no hook to run: {took:?}");
    Ok(())
}

async fn zero_and_post_start(f: Framework) -> anyhow::Result<()> {
    with_hook(&f, 0, 30, FOREVER).await;
    f.until_ready("pod-with-sleep").await;
    let took = takes(&f, json!({})).await;
    assert!(took.as_secs() < 20, "{took:?}");

    let mut pod = Framework::script("post-start", FOREVER);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(10);
    pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"sleep": {"seconds": 4}}});
    f.create_pod(&pod).await;
    let ready = f.until_ready("post-start").await;
    let at = |v: &Value| v.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let started = at(&container_status(&ready, "main")["state"]["running"]["startedAt"]).context("a start")?;
    let conditions = ready["status"]["conditions"].as_array().context("conditions")?;
    let became = conditions.iter().find(|c| c["type"] == "Ready").and_then(|c| at(&c["lastTransitionTime"])).context("a time")?;
    assert!(became.duration_since(started).as_secs() >= 3, "ready only when the hook is done: {started} {became}");

    let mut wrong = Framework::script("wrong", FOREVER);
    wrong["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 40}}});
    wrong["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let refused = f.wire.post(&f.core("pods"), &wrong).await;
    assert_eq!(refused.code, 422, "no longer than the grace period: {}", refused.text());
    Ok(())
}

/// Writes when it starts and when it ends into the file that all containers share.
fn told(name: &str, body: &str) -> String {
    format!("echo {name} starts >>/log/all; trap 'echo {name} ends >>/log/all; exit 0' TERM; {body}; while :; do sleep 0.1; done")
}

/// A pod whose containers share a log on its node, and what is in it.
fn sharing(name: &str, directory: &str, init: Vec<Value>, containers: Vec<Value>) -> Value {
    let mount = json!([{"name": "log", "mountPath": "/log"}]);
    let with = |mut c: Value| {
        c["volumeMounts"] = mount.clone();
        c
    };
    let init: Vec<Value> = init.into_iter().map(with).collect();
    let containers: Vec<Value> = containers.into_iter().map(with).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "initContainers": init, "containers": containers,
            "volumes": [{"name": "log", "hostPath": {"path": directory, "type": "DirectoryOrCreate"}}],
        },
    })
}

async fn sidecars(f: Framework) -> anyhow::Result<()> {
    // On the node's disk, so that it can be read when the pod is gone.
    let directory = format!("/tmp/{}", f.namespace);
    let mut first = sidecar("first", &told("first", "sleep 3; echo first is up >>/log/all; touch /up"));
    first["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1, "failureThreshold": 60});
    let init = vec![
        first,
        container("plain", "echo plain starts >>/log/all; sleep 1; echo plain ends >>/log/all"),
        sidecar("second", &told("second", ":")),
    ];
    let pod = sharing("ordered", &directory, init, vec![container("main", &told("main", ":"))]);
    f.create_pod(&pod).await;
    let ready = f.until_ready("ordered").await;
    let node = ready["spec"]["nodeName"].clone();
    for name in ["first", "second"] {
        let status = container_status(&ready, name);
        assert!(status["ready"] == true && status["started"] == true, "{status}");
    }
    f.wire.delete(&f.core("pods/ordered")).await.expect(200);
    f.until_gone(&f.core("pods/ordered"), POD).await;

    let mut reader = sharing("reader", &directory, vec![], vec![container("main", "cat /log/all; rm /log/all")]);
    reader["spec"]["nodeName"] = node;
    let said = f.output_of(&reader).await;
    let lines: Vec<&str> = said.lines().collect();
    let wanted = [
        "first starts",
        "first is up",
        "plain starts",
        "plain ends",
        "second starts",
        "main starts",
        "main ends",
        "second ends",
        "first ends",
    ];
    assert_eq!(lines, wanted);
    Ok(())
}

async fn sidecars_of_a_job(f: Framework) -> anyhow::Result<()> {
    let mut template = Framework::script("x", "while [ ! -e /share/go ]; do sleep 0.1; done; echo done");
    template["metadata"] = json!({"labels": {"job": "with-sidecar"}});
    let share = json!([{"name": "share", "mountPath": "/share"}]);
    template["spec"]["containers"][0]["volumeMounts"] = share;
    template["spec"]["volumes"] = json!([{"name": "share", "emptyDir": {}}]);
    // It ends once by itself, and is started again though the pod's policy is Never; the second time it lets the others go on.
    let mut side = sidecar("side", "[ -e /share/was ] && { touch /share/go; exec sleep 3600; }; touch /share/was; exit 3");
    side["volumeMounts"] = share_mount();
    template["spec"]["initContainers"] = json!([side]);
    template["spec"]["terminationGracePeriodSeconds"] = json!(2);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "with-sidecar"},
        "spec": {"backoffLimit": 0, "template": {"metadata": template["metadata"], "spec": template["spec"]}}});
    f.wire.post(&f.group("batch/v1", "jobs"), &job).await.expect(201);
    f.until_it(&f.group("batch/v1", "jobs/with-sidecar"), "to be complete", POD, |job| {
        job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Complete" && c["status"] == "True"))
    })
    .await;
    let pods = f.until_pods("job=with-sidecar", 1).await;
    let side = container_status(&pods[0], "side");
    assert_eq!((&pods[0]["status"]["phase"], &side["restartCount"]), (&json!("Succeeded"), &json!(1)), "{side}");
    assert!(side["state"]["terminated"].is_object(), "{side}");
    Ok(())
}

fn share_mount() -> Value {
    json!([{"name": "share", "mountPath": "/share"}])
}

async fn probed_sidecars(f: Framework) -> anyhow::Result<()> {
    let mut side = sidecar("side", "touch /alive; trap 'exit 0' TERM; while :; do sleep 0.1; done");
    put(
        &mut side,
        json!({
            "livenessProbe": {"exec": {"command": ["test", "-e", "/alive"]}, "periodSeconds": 1, "failureThreshold": 2, "initialDelaySeconds": 2},
            "readinessProbe": {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1},
        }),
    );
    let mut pod = Framework::script("probed", FOREVER);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["initContainers"] = json!([side]);
    f.create_pod(&pod).await;
    let path = f.core("pods/probed");
    let is = |pod: &Value, name: &str, field: &str, value: Value| container_status(pod, name)[field] == value;
    // Main runs, and the pod is not ready as long as its sidecar is not.
    let running = f.until_it(&path, "to have its main container ready", POD, |p| is(p, "main", "ready", json!(true))).await;
    assert!(is(&running, "side", "ready", json!(false)) && is(&running, "side", "started", json!(true)), "{running}");
    let has = |pod: &Value, kind: &str, status: &str| {
        pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == status))
    };
    assert!(has(&running, "Initialized", "True") && has(&running, "Ready", "False"), "{running}");
    f.kubectl().ok(&["exec", "probed", "-c", "side", "--", "touch", "/ready"]).await?;
    f.until_ready("probed").await;
    f.kubectl().ok(&["exec", "probed", "-c", "side", "--", "rm", "/alive"]).await?;
    f.until_it(&path, "to have its sidecar started again", POD, |p| is(p, "side", "restartCount", json!(1))).await;
    assert!(is(&f.wire.get(&path).await.expect(200), "main", "restartCount", json!(0)), "the others are left alone");
    Ok(())
}

async fn restart_rules(f: Framework) -> anyhow::Result<()> {
    let script = "[ -e /share/was ] && exit 1; touch /share/was; exit 42";
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let mut ruled = container("ruled", script);
    put(&mut ruled, json!({"restartPolicy": "Never", "restartPolicyRules": rules, "volumeMounts": share_mount()}));
    let plain = container("plain", "exit 0");
    let mut own = container("own", "[ -e /share/own ] && exit 0; touch /share/own; exit 7");
    put(&mut own, json!({"restartPolicy": "OnFailure", "volumeMounts": share_mount()}));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ruled"},
        "spec": {"restartPolicy": "Never", "containers": [ruled, plain, own], "volumes": [{"name": "share", "emptyDir": {}}]},
    });
    f.create_pod(&pod).await;
    let ended = f.until_ended("ruled").await;
    let told = |name: &str| {
        let status = container_status(&ended, name);
        (status["restartCount"].as_u64(), status["state"]["terminated"]["exitCode"].as_u64())
    };
    assert_eq!(
        (told("ruled"), told("plain"), told("own")),
        ((Some(1), Some(1)), (Some(0), Some(0)), (Some(1), Some(0))),
        "{}",
        ended["status"]
    );
    assert_eq!(ended["status"]["phase"], "Failed", "one of them ended badly and for good");
    Ok(())
}

async fn pre_stop_in_full(f: Framework) -> anyhow::Result<()> {
    // The hook lasts longer than a request for a hook does, and the container sees its end.
    let mut pod = Framework::script("slow", "trap 'cat /hook; exit 0' TERM; while :; do sleep 0.1; done");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
    pod["spec"]["containers"][0]["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["sh", "-c", "sleep 6; echo hook is done >/hook; sleep 1; echo hook ends >/proc/1/fd/1"]}}});
    f.create_pod(&pod).await;
    f.until_ready("slow").await;
    let mut following = f.kubectl().command(&["logs", "-f", "slow"]).stdout(std::process::Stdio::piped()).spawn()?;
    let mut out = following.stdout.take().context("kubectl's output")?;
    f.wire.delete(&f.core("pods/slow")).await.expect(200);
    let mut said = String::new();
    tokio::time::timeout(POD, tokio::io::AsyncReadExt::read_to_string(&mut out, &mut said)).await.context("the log ends")??;
    following.wait().await?;
    assert_eq!(said, "hook ends\nhook is done\n");
    f.until_gone(&f.core("pods/slow"), POD).await;
    Ok(())
}
