//! The server over real connections; the apiserver and the runtime are scripted.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cri;
use crate::pods::Known;
use crate::probes::scripted::Scripted;

/// An apiserver that knows the token `good` and allows its user what is in `rights`, such as `create nodes/proxy`.
fn apiserver(rights: &'static [&'static str]) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap();
        review["status"] = if review["kind"] == "TokenReview" {
            json!({"authenticated": review["spec"]["token"] == "good", "user": {"username": "alice", "groups": ["system:authenticated"]}})
        } else {
            let asked = &review["spec"]["resourceAttributes"];
            let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
            let right = format!("{} {}/{}", text("verb"), text("resource"), text("subresource"));
            json!({"allowed": text("name") == "n1" && review["spec"]["user"] == "alice" && rights.contains(&right.as_str())})
        };
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(review.to_string()))))
    });
    kube::Client::new(service, "default")
}

struct World {
    port: u16,
    runtime: Arc<Scripted>,
    _dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// A server with a running pod `ns/p` whose container `c` has the log `one\ntwo\n`.
async fn world(rights: &'static [&'static str], mut runtime: Scripted) -> World {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(&log, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n").unwrap();
    let status = cri::ContainerStatus { log_path: log.display().to_string(), state: 2, ..cri::ContainerStatus::default() };
    runtime.statuses.lock().insert("c1".into(), status);
    runtime.sandboxes = vec![cri::PodSandbox {
        id: "s1".into(),
        labels: [("io.kubernetes.pod.uid".into(), "u-1".into())].into(),
        ..cri::PodSandbox::default()
    }];
    let container = json!([{"name": "c", "containerID": "containerd://c1", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "image": "img", "imageID": "", "ready": true, "restartCount": 0}]);
    let waiting = json!([{"name": "w", "state": {"waiting": {"reason": "ContainerCreating"}}, "image": "", "imageID": "", "ready": false, "restartCount": 0}]);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u-1"},
        "spec": {"containers": [{"name": "c", "tty": true}], "initContainers": [{"name": "w"}]}}))
    .unwrap();
    let status = serde_json::from_value(json!({"containerStatuses": container, "initContainerStatuses": waiting})).unwrap();
    let pods = Arc::new(Pods::default());
    pods.put("u-1", Known { pod: Arc::new(pod), status: Arc::new(status) });
    let runtime = Arc::new(runtime);
    let server = Server {
        runtime: runtime.clone(),
        pods,
        probes: Arc::default(),
        delegated: Delegated::new(apiserver(rights)),
        metrics: Metrics::new(),
        health: Health::new(),
        node_name: "n1".into(),
        root_dir: dir.path().to_owned(),
        pod_logs_dir: dir.path().to_owned(),
        settings: json!({"maxPods": 110}),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    tokio::spawn(daemon::http::serve(listener, None, router(server), stop.clone()));
    World { port, runtime, _dir: dir, _stop: stop.drop_guard() }
}

impl World {
    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "n1");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
    }

    async fn check(&self, path: &str, status: u16, text: &str) {
        let (code, body) = self.ask("GET", path, Some("good")).await;
        assert_eq!((code, body.as_str()), (status, text), "{path}");
    }
}

#[tokio::test]
async fn only_who_may_gets_an_answer() {
    let world = world(&["get nodes/pods", "get nodes/proxy"], Scripted::default()).await;
    assert_eq!(world.ask("GET", "/pods", None).await.0, 403);
    assert_eq!(world.ask("GET", "/pods", Some("bad")).await, (401, "Unauthorized".into()));
    assert_eq!(world.ask("GET", "/pods", Some("good")).await.0, 200);
    assert_eq!(world.ask("GET", "/healthz", Some("good")).await, (200, "ok".into()), "nodes/proxy opens what has a right of its own");
    assert_eq!(
        world.ask("GET", "/metrics", Some("good")).await,
        (403, "Forbidden (user=alice, verb=get, resource=nodes, subresource=metrics, name=n1)".into())
    );
    assert_eq!(world.ask("POST", "/exec/ns/p/c?output=1&command=x", Some("good")).await.0, 403, "to create is more than to get");
}

#[tokio::test]
async fn logs_are_read_and_refused_in_upstreams_words() {
    let world = world(&["get nodes/proxy"], Scripted::default()).await;
    world.check("/containerLogs/ns/p/c", 200, "one\ntwo\n").await;
    world.check("/containerLogs/ns/p/c?tailLines=1&timestamps=true", 200, "2026-01-01T00:00:01.000000000Z two\n").await;
    world.check("/containerLogs/ns/p/c?follow=true", 200, "one\ntwo\n").await; // the runtime says that it has ended
    world.check("/containerLogs/ns/q/c", 404, "pod \"q\" does not exist\n").await;
    world.check("/containerLogs/ns/p/d", 404, "container \"d\" not found in pod \"p\"\n").await;
    world.check("/containerLogs/ns/p/w", 400, "container \"w\" in pod \"p\" is waiting to start: ContainerCreating").await;
    world.check("/containerLogs/ns/p/c?previous=true", 400, "previous terminated container \"c\" in pod \"p\" not found").await;
    world.check("/containerLogs/ns/p/c?tailLines=x", 422, "invalid tailLines: \"x\"").await;
}

#[tokio::test]
async fn pods_settings_and_numbers_are_shown() {
    let value = |value| Some(cri::UInt64Value { value });
    let label = |name: &str, value: &str| (format!("io.kubernetes.{name}"), value.to_owned());
    let labels = [label("pod.name", "p"), label("pod.namespace", "ns"), label("pod.uid", "u-1"), label("container.name", "c")];
    let attributes = cri::ContainerAttributes { id: "c1".into(), labels: labels.into(), ..cri::ContainerAttributes::default() };
    let cpu =
        cri::CpuUsage { timestamp: 1_800_000_000_123_000_000, usage_core_nano_seconds: value(2_500_000_000), usage_nano_cores: value(7) };
    let memory = cri::MemoryUsage { working_set_bytes: value(4_096), ..cri::MemoryUsage::default() };
    let ended = cri::ContainerAttributes { id: "c0".into(), ..attributes.clone() };
    let stats = [attributes, ended].map(|a| cri::ContainerStats {
        attributes: Some(a),
        cpu: Some(cpu),
        memory: Some(memory),
        ..cri::ContainerStats::default()
    });
    let world =
        world(&["get nodes/proxy", "get nodes/stats", "get nodes/metrics"], Scripted { stats: stats.into(), ..Scripted::default() }).await;
    let json = |(status, body): (u16, String)| -> serde_json::Value {
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let pods = json(world.ask("GET", "/pods", Some("good")).await);
    assert_eq!((&pods["kind"], &pods["items"][0]["status"]["containerStatuses"][0]["ready"]), (&json!("PodList"), &json!(true)));
    assert_eq!(json(world.ask("GET", "/runningpods/", Some("good")).await)["items"].as_array().unwrap().len(), 1);
    assert_eq!(json(world.ask("GET", "/configz", Some("good")).await), json!({"kubeletconfig": {"maxPods": 110}}));
    let summary = json(world.ask("GET", "/stats/summary", Some("good")).await);
    assert_eq!(summary["pods"][0]["podRef"], json!({"name": "p", "namespace": "ns", "uid": "u-1"}));
    let expected = json!({"time": "2027-01-15T08:00:00Z", "usageNanoCores": 7, "usageCoreNanoSeconds": 2_500_000_000_u64});
    assert_eq!(summary["pods"][0]["containers"][0]["cpu"], expected);
    assert_eq!(summary["pods"][0]["memory"]["workingSetBytes"], 4_096);
    assert!(
        summary["node"]["memory"]["availableBytes"].as_u64().unwrap() > 0 && summary["node"]["fs"]["capacityBytes"].as_u64().unwrap() > 0
    );
    let (_, text) = world.ask("GET", "/metrics/resource", Some("good")).await;
    assert!(text.contains("\ncontainer_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\"} 2.5 1800000000123\n"), "{text}");
    assert!(text.contains("\npod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 4096 1800000000123\n"), "{text}");
    assert!(text.ends_with("resource_scrape_error 0\n"));
    let (_, text) = world.ask("GET", "/metrics/cadvisor", Some("good")).await;
    let line = "container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id=\"/kubepods/podu-1/c1\",image=\"img\",name=\"c1\",namespace=\"ns\",pod=\"p\"} 2.5 ";
    assert!(text.contains(line), "{text}");
}

/// A streaming server as the runtime's: answers 101 with bytes right behind it, echoes, and tells how much it saw when the
/// client has closed its half.
async fn streaming_server() -> (String, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    let (sender, head) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        sender.send(String::from_utf8(head).unwrap()).unwrap();
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nEARLY\0\xff";
        stream.write_all(answer).await.unwrap();
        let (mut total, mut buffer) = (0, vec![0; 65_536]);
        loop {
            let n = stream.read(&mut buffer).await.unwrap();
            if n == 0 {
                break;
            }
            total += n;
            stream.write_all(&buffer[..n]).await.unwrap();
        }
        stream.write_all(format!("EOF:{total}").as_bytes()).await.unwrap();
    });
    (url, head)
}

#[tokio::test]
async fn an_upgraded_connection_is_carried_byte_for_byte() {
    let (url, head) = streaming_server().await;
    let world = world(&["create nodes/proxy"], Scripted { url, ..Scripted::default() }).await;
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let request = "POST /exec/ns/p/u-1/c?command=sh&command=-c&command=a%20b&input=1&output=1 HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer good\r\n\
        Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let payload: Vec<u8> = (0..1_000_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let sent = payload.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut all = vec![];
    tokio::time::timeout(std::time::Duration::from_secs(30), read.read_to_end(&mut all)).await.unwrap().unwrap();
    writer.await.unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let (answer, body) = all.split_at(end);
    let answer = String::from_utf8_lossy(answer);
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("X-Stream-Protocol-Version: v4.channel.k8s.io"), "{answer}");
    assert!(body.starts_with(b"EARLY\0\xff") && body[7..7 + payload.len()] == payload[..] && body.ends_with(b"EOF:1000000"));
    let head = head.await.unwrap();
    assert!(head.starts_with("POST /exec/token HTTP/1.1\r\n"), "{head}");
    let versions: Vec<&str> = head.lines().filter(|l| l.starts_with("X-Stream-Protocol-Version: ")).collect();
    assert_eq!(versions, ["X-Stream-Protocol-Version: v4.channel.k8s.io", "X-Stream-Protocol-Version: v3.channel.k8s.io"]);
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    assert_eq!(*world.runtime.asked.lock(), ["exec c1 [\"sh\", \"-c\", \"a b\"] true true false false"]);
}

#[tokio::test]
async fn streams_that_cannot_be_are_refused_before_the_upgrade() {
    let world = world(&["create nodes/proxy"], Scripted { url: "http://127.0.0.1:1/x".into(), ..Scripted::default() }).await;
    let post = async |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer good\r\nConnection: Upgrade, close\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.split(' ').nth(1).unwrap())
    };
    assert_eq!(post("/exec/ns/q/c?output=1&command=x").await, "404 pod does not exist");
    assert_eq!(post("/exec/ns/p/other-uid/c?output=1&command=x").await, "404 pod does not exist");
    assert_eq!(post("/exec/ns/p/w?output=1&command=x").await, "500 container not found (\"w\")");
    assert_eq!(post("/exec/ns/p/c?command=x").await, "400 you must specify at least 1 of stdin, stdout, stderr");
    assert!(post("/attach/ns/p/c?stdin=true&stdout=true&stderr=true").await.starts_with("502 connecting to the container runtime: "));
    assert!(post("/portForward/ns/p?port=80,81").await.starts_with("502 "));
    assert_eq!(*world.runtime.asked.lock(), ["attach c1 true true false true", "forward s1 [80, 81]"]);
    assert_eq!(world.ask("POST", "/exec/ns/p/c?output=1&command=x", Some("good")).await, (400, "Upgrade request required".into()));
}
