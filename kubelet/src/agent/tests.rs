//! Whole pods in a fake runtime, with an apiserver that has nothing and takes everything.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::flags::Flags;
use crate::node::machine::Machine;
use crate::objects::Apiserver;
use crate::resources::Amounts;
use crate::runtime::fake::Fake;

/// An apiserver that knows no object and takes every write; `writes` gets a line for each.
fn apiserver(writes: mpsc::UnboundedSender<String>) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let writes = writes.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body: Value = body.collect().await.map(|b| serde_json::from_slice(&b.to_bytes()).unwrap_or_default()).unwrap_or_default();
            let list = !parts.uri.path().ends_with("/kubernetes") && parts.method == "GET";
            let (code, answer) = match parts.method.as_str() {
                "GET" if parts.uri.path().ends_with("/nodes/n1") => (
                    200,
                    json!({
                        "metadata": {"name": "n1", "labels": {"since": "now"}},
                        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
                    }),
                ),
                "GET" if list => (200, json!({"metadata": {}, "items": []})),
                "GET" => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "none", "metadata": {}}),
                ),
                _ => {
                    let phase = body["status"]["phase"].as_str().map_or(String::new(), |p| format!(" {p}"));
                    // The test may have ended: nobody reads any more.
                    let _ = writes.send(format!("{} {}{phase}", parts.method, parts.uri.path()));
                    (200, json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "status": body["status"]}))
                }
            };
            let response = http::Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string())));
            Ok::<_, std::convert::Infallible>(response.expect("a response"))
        }
    });
    kube::Client::new(service, "default")
}

struct World {
    runtime: Arc<Fake>,
    events: mpsc::Sender<Event>,
    writes: mpsc::UnboundedReceiver<String>,
    told: mpsc::UnboundedReceiver<String>,
    shutdown: CancellationToken,
    agent: tokio::task::JoinHandle<()>,
    dir: Arc<tempfile::TempDir>,
}

fn start(runtime: Arc<Fake>, dir: Arc<tempfile::TempDir>) -> World {
    let path = |p: &str| dir.path().join(p).display().to_string();
    std::fs::write(path("resolv.conf"), "nameserver 192.0.2.1\n").expect("written");
    let flags = Flags::parse_from([
        "kubelet",
        &format!("--root-dir={}", path("root")),
        &format!("--pod-logs-dir={}", path("logs")),
        &format!("--resolv-conf={}", path("resolv.conf")),
    ]);
    let amounts: Amounts = [("cpu", "4"), ("memory", "8Gi"), ("pods", "10")]
        .map(|(k, v)| (k.to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(v.into())))
        .into();
    let machine =
        Machine { name: "n1".into(), ips: vec!["192.0.2.7".into()], capacity: amounts.clone(), allocatable: amounts, ..Machine::default() };
    let (sender, writes) = mpsc::unbounded_channel();
    let client = apiserver(sender);
    let shutdown = CancellationToken::new();
    let context = daemon::Context::embedded("kubelet", shutdown.clone());
    let mount = dir.path().join("cgroup");
    let objects = Arc::new(Apiserver(client.clone()));
    let (kubelet, mut reports) =
        crate::run::assemble(flags, machine, client.clone(), runtime.clone(), objects, &mount, &context).expect("a kubelet");
    kubelet.network.store(Arc::new(None));
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            // The test may have ended: nobody reads any more.
            let _ = tell.send(format!("{} {}", report.reason, report.message));
        }
    });
    tokio::spawn(crate::statuses::run(kubelet.statuses.clone(), client, shutdown.clone()));
    let (events, receiver) = mpsc::channel(QUEUE);
    let agent = tokio::spawn(Agent::new(kubelet, [Source::Api]).run(receiver, shutdown.clone()));
    World { runtime, events, writes, told, shutdown, agent, dir }
}

fn world() -> World {
    start(Arc::new(Fake::with_images(&["i:1"])), Arc::new(tempfile::tempdir().expect("a directory")))
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": spec})).expect("a pod")
}

fn one(container: &str) -> Pod {
    pod(json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": container, "image": "i:1"}]}))
}

impl World {
    async fn send(&self, event: Event) {
        self.events.send(event).await.expect("the agent runs");
    }

    async fn apply(&self, pod: &Pod) {
        self.send(Event::Applied(Source::Api, Box::new(pod.clone()))).await;
    }

    async fn delete(&self, pod: &Pod, grace: i64) {
        let mut pod = pod.clone();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.apply(&pod).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&Fake) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
        while !holds(&self.runtime) {
            assert!(tokio::time::Instant::now() < deadline, "{what} never came: {:?}", self.runtime.calls());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a write that starts so.
    async fn written(&mut self, start: &str) -> String {
        let found = async {
            loop {
                let line = self.writes.recv().await.expect("the kubelet runs");
                if line.starts_with(start) {
                    return line;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), found).await.unwrap_or_else(|_| panic!("{start} was never written"))
    }

    /// Waits for an event that starts so.
    async fn event(&mut self, start: &str) -> String {
        let found = async {
            loop {
                let line = self.told.recv().await.expect("the kubelet runs");
                if line.starts_with(start) {
                    return line;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), found).await.unwrap_or_else(|_| panic!("{start} was never told"))
    }

    async fn restart(self) -> Self {
        let (runtime, dir) = self.stop().await;
        start(runtime, dir)
    }

    async fn stop(self) -> (Arc<Fake>, Arc<tempfile::TempDir>) {
        self.shutdown.cancel();
        self.agent.await.expect("the agent ends");
        (self.runtime, self.dir)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_says_so() {
    let mut w = world();
    w.apply(&one("a")).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    w.written("PATCH /api/v1/namespaces/ns/pods/p/status Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_goes_without_a_trace() {
    let mut w = world();
    let p = one("a");
    w.apply(&p).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    w.delete(&p, 30).await;
    w.written("DELETE /api/v1/namespaces/ns/pods/p").await;
    assert!(w.runtime.is_empty());
    assert_eq!(
        w.runtime.calls(),
        ["sandbox s1 for p", "start a c2", "stop a c2 within 30s", "stop sandbox s1", "stop sandbox s1", "remove sandbox s1"]
    );
    assert!(!w.dir.path().join("root/pods/u1").exists() && !w.dir.path().join("logs/ns_p_u1").exists());
}

#[tokio::test(start_paused = true)]
async fn a_second_deletion_shortens_the_first() {
    let mut w = world();
    let p = one("stubborn");
    w.apply(&p).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    let began = tokio::time::Instant::now();
    w.delete(&p, 100).await;
    w.until("the stop", |r| r.calls().iter().any(|c| c.starts_with("stop stubborn"))).await;
    w.delete(&p, 3).await;
    w.written("DELETE").await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn containers_that_end_are_restarted_and_back_off() {
    let w = world();
    w.apply(&one("a")).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    w.runtime.exit("a", 1);
    w.until("the second", |r| r.running().len() == 1 && r.running() != ["a c2"]).await;
    assert_eq!(w.runtime.calls().len(), 3, "{:?}", w.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_kubelet_takes_over_what_runs() {
    let w = world();
    let p = one("a");
    w.apply(&p).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    let (runtime, dir) = w.stop().await;
    let before = runtime.calls();
    let w = start(runtime, dir);
    // Before the source has named its pods nothing is ended, however long that takes.
    tokio::time::sleep(Duration::from_secs(120)).await;
    w.apply(&p).await;
    w.send(Event::Synced(Source::Api, ["u1".to_owned()].into())).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(w.runtime.calls(), before);
    assert_eq!(w.runtime.running(), ["a c2"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_names_is_ended_once_the_source_has_spoken() {
    let w = world();
    w.apply(&one("a")).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    let (runtime, dir) = w.stop().await;
    let w = start(runtime, dir);
    w.send(Event::Synced(Source::Api, BTreeSet::new())).await;
    w.until("the end", Fake::is_empty).await;
}

#[tokio::test(start_paused = true)]
async fn a_reboot_starts_everything_again() {
    let w = world();
    w.apply(&one("a")).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    w.runtime.reboot();
    w.until("the container again", |r| !r.running().is_empty()).await;
    assert!(w.runtime.calls().iter().filter(|c| c.starts_with("sandbox")).count() == 2, "{:?}", w.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_and_keeps_its_containers_for_their_logs() {
    let mut w = world();
    w.apply(&pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}]}))).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    w.runtime.exit("a", 0);
    w.written("PATCH /api/v1/namespaces/ns/pods/p/status Succeeded").await;
    assert!(!w.runtime.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_told_to_end_does_not_wait_for_its_image() {
    let mut w = world();
    let p = pod(json!({"containers": [{"name": "a", "image": "none:1"}]}));
    w.apply(&p).await;
    w.until("the pull", |r| r.calls().iter().any(|c| c == "pull none:1")).await;
    w.delete(&p, 30).await;
    w.written("DELETE").await;
    assert!(w.runtime.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_fails_and_stays() {
    let mut w = world();
    w.apply(&one("a")).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    let verdict = Verdict { reason: "Evicted".into(), message: "low".into(), disruption: true, rejected: false };
    w.send(Event::End("u1".into(), verdict, 1)).await;
    w.written("PATCH /api/v1/namespaces/ns/pods/p/status Failed").await;
    assert!(w.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_changed_is_read_before_a_pod_is_refused() {
    let mut w = world();
    w.apply(&pod(json!({"nodeSelector": {"since": "now"}, "containers": [{"name": "a", "image": "i:1"}]}))).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    let mut other = pod(json!({"nodeSelector": {"since": "never"}, "containers": [{"name": "b", "image": "i:1"}]}));
    (other.metadata.name, other.metadata.uid) = (Some("q".into()), Some("u2".into()));
    w.apply(&other).await;
    w.written("PATCH /api/v1/namespaces/ns/pods/q/status Failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_has_given_its_place_away() {
    let w = world();
    let all = |name: &str| json!({"containers": [{"name": name, "image": "i:1", "resources": {"requests": {"cpu": "3"}}}]});
    let first = pod(all("stubborn"));
    w.apply(&first).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    let mut second = pod(all("b"));
    (second.metadata.name, second.metadata.uid) = (Some("q".into()), Some("u2".into()));
    w.send(Event::Gone(Source::Api, Box::new(first))).await;
    w.apply(&second).await;
    w.until("the second beside the first", |r| r.running().len() == 2).await;
}

/// A pod of this name whose container `c-NAME` asks for so much CPU, in this generation.
fn asking(name: &str, cpu: &str, generation: i64) -> Pod {
    let container = json!({"name": format!("c-{name}"), "image": "i:1", "resources": {"requests": {"cpu": cpu}}});
    let mut pod = pod(json!({"containers": [container]}));
    (pod.metadata.name, pod.metadata.uid) = (Some(name.to_owned()), Some(format!("u-{name}")));
    pod.metadata.generation = Some(generation);
    pod
}

/// Whether a container was given this many shares.
fn resized(name: &'static str, shares: i64) -> impl Fn(&Fake) -> bool {
    move |r| r.calls().iter().any(|c| c.starts_with(&format!("resize c-{name} ")) && c.ends_with(&format!("to {shares} shares")))
}

#[tokio::test(start_paused = true)]
async fn a_resize_is_carried_out_and_then_over() {
    let mut w = world();
    w.send(Event::Synced(Source::Api, BTreeSet::new())).await;
    w.apply(&asking("p", "1", 1)).await;
    w.until("the container", |r| !r.running().is_empty()).await;
    w.apply(&asking("p", "2", 2)).await;
    w.until("more", resized("p", 2048)).await;
    w.event("ResizeStarted Pod resize started: ").await;
    w.event("ResizeCompleted Pod resize completed: ").await;
    assert_eq!(w.runtime.running().len(), 1, "nothing was restarted: {:?}", w.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_does_not_fit_waits_until_another_pod_shrinks_or_goes() {
    let mut w = world();
    w.send(Event::Synced(Source::Api, BTreeSet::new())).await;
    let third = asking("third", "1", 1);
    for pod in [&asking("first", "1", 1), &asking("second", "2", 1), &third] {
        w.apply(pod).await;
    }
    w.until("the containers", |r| r.running().len() == 3).await;
    w.apply(&asking("first", "2", 2)).await;
    let words = "ResizeDeferred Pod resize Deferred: ";
    assert!(w.event(words).await.contains("Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"));
    w.apply(&asking("second", "1", 2)).await;
    w.until("the one that shrinks", resized("second", 1024)).await;
    w.until("the one that waited", resized("first", 2048)).await;
    w.apply(&asking("first", "3", 3)).await;
    w.event(words).await;
    w.send(Event::Gone(Source::Api, Box::new(third))).await;
    w.until("the one that waited again", resized("first", 3072)).await;
    w.apply(&asking("first", "5", 4)).await;
    assert!(
        w.event("ResizeInfeasible Pod resize Infeasible: ")
            .await
            .contains("Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000")
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_allocated_stays_when_the_kubelet_restarts() {
    let mut w = world();
    w.send(Event::Synced(Source::Api, BTreeSet::new())).await;
    for name in ["first", "second"] {
        w.apply(&asking(name, "2", 1)).await;
    }
    w.until("the containers", |r| r.running().len() == 2).await;
    w.apply(&asking("first", "3", 2)).await;
    w.event("ResizeDeferred ").await;
    let mut w = w.restart().await;
    for pod in [asking("first", "3", 2), asking("second", "2", 1)] {
        w.apply(&pod).await;
    }
    w.send(Event::Synced(Source::Api, ["u-first", "u-second"].map(str::to_owned).into())).await;
    w.event("ResizeDeferred ").await;
    w.apply(&asking("second", "1", 2)).await;
    w.until("the one that waited", resized("first", 3072)).await;
    assert_eq!(w.runtime.running().len(), 2, "nothing was restarted: {:?}", w.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn a_changed_image_is_started_though_the_policy_is_never() {
    let w = start(Arc::new(Fake::with_images(&["i:1", "i:2"])), Arc::new(tempfile::tempdir().expect("a directory")));
    let of = |image: &str| pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}));
    w.apply(&of("i:1")).await;
    w.until("the container", |r| r.running() == ["a c2"]).await;
    w.apply(&of("i:2")).await;
    w.until("the one in its place", |r| r.running() == ["a c3"]).await;
}
