//! Probes: what they restart, what they keep out of service, and what they leave alone.
//!
//! Upstream's tests watch for minutes that nothing happens. Here the kubelet's own count of answers says that it has asked.

use serde_json::{Value, json};

use super::super::{condition, container_status, pod, put};
use crate::framework::{Behaviour, Framework, NGINX, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Probing container should be restarted with a exec \"cat /tmp/health\" liveness probe [NodeConformance]",
        |f| {
            Box::pin(restarted(
                f,
                exec("trap exit TERM; touch /tmp/health; sleep 2; rm /tmp/health; sleep 600 & wait"),
                "Liveness probe failed: cat: ",
                1,
            ))
        },
    ),
    Behaviour::new(
        "[sig-node] Probing container should *not* be restarted with a exec \"cat /tmp/health\" liveness probe [NodeConformance]",
        |f| Box::pin(left_alone(f, exec("echo ok > /tmp/health; sleep 600"))),
    ),
    Behaviour::new("[sig-node] Probing container should be restarted with a /healthz http liveness probe [NodeConformance]", |f| {
        Box::pin(restarted(f, http("/healthz"), "Liveness probe failed: HTTP probe failed with statuscode: 404", 1))
    }),
    Behaviour::new("[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [NodeConformance]", |f| {
        Box::pin(left_alone(f, http("/")))
    }),
    Behaviour::new("[sig-node] Probing container should have monotonically increasing restart count [NodeConformance]", |f| {
        Box::pin(restarted(f, http("/healthz"), "Liveness probe failed: HTTP probe failed with statuscode: 404", 2))
    }),
    Behaviour::new("[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [NodeConformance]", |f| {
        Box::pin(left_alone(f, probed(pod("p", SERVER, json!({}), json!({})), json!({"tcpSocket": {"port": 8080}}))))
    }),
    Behaviour::new("[sig-node] Probing container should *not* be restarted with a GRPC liveness probe [NodeConformance]", |f| {
        Box::pin(left_alone(f, grpc(5000)))
    }),
    Behaviour::new("[sig-node] Probing container should be restarted with a GRPC liveness probe [NodeConformance]", |f| {
        Box::pin(restarted(f, grpc(2333), "Liveness probe failed: timeout: failed to connect service ", 1))
    }),
    Behaviour::new(
        "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [NodeConformance]",
        test!(initial_delay),
    ),
    Behaviour::new(
        "[sig-node] Probing container with readiness probe that fails should never be ready and never restart [NodeConformance]",
        test!(never_ready),
    ),
];

/// Serves `/` for good and `/healthz` for two seconds.
const SERVER: &str =
    "trap exit TERM; mkdir /www; cd /www; echo ok > index.html; echo ok > healthz; httpd -p 8080; sleep 2; rm healthz; sleep 600 & wait";
/// A gRPC health service that says SERVING: an answer of five bytes of frame and the message `{status: 1}`, with a trailer.
const HEALTH: &str = r#"mkdir -p /www/grpc.health.v1.Health; printf '\0\0\0\0\2\10\1' > /www/grpc.health.v1.Health/Check
echo 'server { listen 5000 http2; root /www; default_type application/grpc; error_page 405 =200 $uri; add_trailer grpc-status 0 always; }' \
    > /etc/nginx/conf.d/health.conf
exec nginx -g "daemon off;""#;

/// A pod whose container is started again, with a liveness probe that asks each second and believes what it hears.
fn probed(mut pod: Value, action: Value) -> Value {
    let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5});
    put(&mut probe, action);
    pod["spec"]["restartPolicy"] = json!("Always");
    put(&mut pod["spec"]["containers"][0], json!({"livenessProbe": probe}));
    pod
}

fn exec(script: &str) -> Value {
    // Not before the script has written what is asked for.
    probed(pod("p", script, json!({}), json!({})), json!({"exec": {"command": ["cat", "/tmp/health"]}, "initialDelaySeconds": 1}))
}

fn http(path: &str) -> Value {
    probed(pod("p", SERVER, json!({}), json!({})), json!({"httpGet": {"path": path, "port": 8080}, "initialDelaySeconds": 1}))
}

fn grpc(port: u16) -> Value {
    let container = json!({"image": NGINX});
    probed(pod("p", HEALTH, json!({}), container), json!({"grpc": {"port": port}, "initialDelaySeconds": 2}))
}

/// How often the pod's probe was answered so, as its kubelet counts.
async fn answers(f: &Framework, pod: &Value, purpose: &str, result: &str) -> u64 {
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    let counted = f.wire.get(&format!("/api/v1/nodes/{node}/proxy/metrics/probes")).await;
    assert_eq!(counted.code, 200, "{}", counted.text());
    let labels = [format!("pod_uid={}", pod["metadata"]["uid"]), format!("probe_type=\"{purpose}\""), format!("result=\"{result}\"")];
    let text = counted.text();
    let mut lines = text.lines().filter(|l| l.starts_with("prober_probe_total{") && labels.iter().all(|label| l.contains(label)));
    lines.next().and_then(|l| l.rsplit(' ').next()).map_or(0, |count| count.parse().expect("a count"))
}

/// Waits until a probe was answered so three times, and gives the pod.
async fn asked(f: &Framework, purpose: &str, result: &str) -> Value {
    let path = f.core("pods/p");
    let placed = f.until_it(&path, "to be running", POD, |pod| pod["status"]["phase"] == "Running").await;
    f.until(&format!("three answers {result}"), POD, || async {
        let count = answers(f, &placed, purpose, result).await;
        let pod = f.wire.get(&path).await.expect(200);
        assert_eq!(container_status(&pod, "main")["restartCount"], 0, "{}", pod["status"]);
        (count >= 3).then_some(pod)
    })
    .await
}

async fn left_alone(f: Framework, mut pod: Value) -> anyhow::Result<()> {
    // A server that is slow to start is asked again.
    pod["spec"]["containers"][0]["livenessProbe"]["failureThreshold"] = json!(5);
    f.create_pod(&pod).await;
    let pod = asked(&f, "Liveness", "successful").await;
    assert!(container_status(&pod, "main")["state"]["running"].is_object(), "{}", pod["status"]);
    Ok(())
}

/// The container is restarted so many times, each counted once, and an event says why.
async fn restarted(f: Framework, pod: Value, why: &str, times: u64) -> anyhow::Result<()> {
    f.create_pod(&pod).await;
    let mut watch = f.wire.watch(&f.core("pods?watch=true&fieldSelector=metadata.name%3Dp")).await;
    let mut count = 0;
    while count < times {
        let event = watch.next().await.expect("another event");
        let now = container_status(&event["object"], "main")["restartCount"].as_u64().unwrap_or(0);
        assert!(now == count || now == count + 1, "from {count} to {now}");
        count = now;
    }
    let pod = f.until_it(&f.core("pods/p"), "to run again", POD, |p| container_status(p, "main")["state"]["running"].is_object()).await;
    assert!(container_status(&pod, "main")["lastState"]["terminated"].is_object(), "{}", pod["status"]);
    let events = f.core(&format!("events?fieldSelector=involvedObject.name%3Dp%2CinvolvedObject.uid%3D{}", uid(&pod)));
    for (reason, words) in [("Unhealthy", why), ("Killing", "Container main failed liveness probe, will be restarted")] {
        f.until(&format!("the event {reason}: {words}"), POD, || async {
            let all = f.list(&events).await;
            let said = |e: &&Value| e["reason"] == reason && e["message"].as_str().is_some_and(|m| m.starts_with(words));
            all.iter().find(said).map(|_| ())
        })
        .await;
    }
    Ok(())
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().expect("a uid")
}

async fn initial_delay(f: Framework) -> anyhow::Result<()> {
    let probe = json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 4, "periodSeconds": 1});
    f.create_pod(&pod("p", "sleep 600", json!({"restartPolicy": "Always"}), json!({"readinessProbe": probe}))).await;
    let running = f.until_it(&f.core("pods/p"), "to be running", POD, |pod| pod["status"]["phase"] == "Running").await;
    assert_eq!(condition(&running, "Ready"), "False ContainersNotReady containers with unready status: [main]");
    let ready = f.until_ready("p").await;
    let time = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let started = time(&container_status(&ready, "main")["state"]["running"]["startedAt"]);
    let became = ready["status"]["conditions"].as_array().expect("conditions").iter().find(|c| c["type"] == "Ready");
    let became = time(&became.expect("a condition")["lastTransitionTime"]);
    assert!(became.duration_since(started).as_secs() >= 4, "started at {started}, ready at {became}");
    assert_eq!(container_status(&ready, "main")["restartCount"], 0);
    Ok(())
}

async fn never_ready(f: Framework) -> anyhow::Result<()> {
    let probe = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    f.create_pod(&pod("p", "sleep 600", json!({"restartPolicy": "Always"}), json!({"readinessProbe": probe}))).await;
    let pod = asked(&f, "Readiness", "failed").await;
    assert_eq!(condition(&pod, "Ready"), "False ContainersNotReady containers with unready status: [main]");
    assert_eq!(answers(&f, &pod, "Readiness", "successful").await, 0);
    Ok(())
}
