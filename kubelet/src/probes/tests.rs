//! Whole probers with paused time; commands are scripted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::scripted::Scripted;
use super::*;
use crate::events::Report;

struct World {
    prober: Prober,
    pod: Arc<Pod>,
    /// A line for each event.
    events: mpsc::Receiver<Report>,
    woken: Arc<AtomicUsize>,
}

/// A prober for a container `c` with these probes, in which command `name` answers as `says` does.
fn world(probes: serde_json::Value, says: impl Fn(&str) -> crate::runtime::Result<(i32, String)> + Send + Sync + 'static) -> World {
    let mut container = json!({"name": "c"});
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u-1"});
    let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": {"containers": [container]}})).unwrap();
    let runtime = Arc::new(Scripted { command: Some(Box::new(move |command| says(&command[0]))), ..Scripted::default() });
    let (events, reports) = Events::channel();
    let woken = Arc::<AtomicUsize>::default();
    let count = woken.clone();
    let wake: Wake = Arc::new(move |uid| {
        assert_eq!(uid, "u-1");
        count.fetch_add(1, Ordering::SeqCst);
    });
    World { prober: Prober::new(runtime, Arc::default(), events, wake), pod: Arc::new(pod), events: reports, woken }
}

impl World {
    fn runs(&self, id: &str) {
        let state = json!({"running": {"startedAt": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}});
        let status = json!({"podIP": "127.0.0.1", "containerStatuses": [{"name": "c", "containerID": format!("containerd://{id}"), "state": state,
            "image": "", "imageID": "", "ready": false, "restartCount": 0}]});
        self.prober.observe(&self.pod, &serde_json::from_value(status).unwrap());
    }

    fn ended(&self) {
        self.prober.observe(&self.pod, &PodStatus::default());
    }

    async fn event(&mut self) -> String {
        let report = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await.expect("no event came").unwrap();
        format!("{} {} {}", report.about.field_path.unwrap_or_default(), report.reason, report.message)
    }

    /// Waits until the probes of container `id` say so.
    async fn until(&self, id: &str, expected: Outcome) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        while self.prober.results().get(id) != expected {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", self.prober.results().get(id));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn exec(name: &str, period: u32) -> serde_json::Value {
    json!({"exec": {"command": [name]}, "periodSeconds": period, "failureThreshold": 3, "successThreshold": 1})
}

#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_restart_a_container_and_its_successor_starts_anew() {
    let mut world = world(json!({"livenessProbe": exec("alive", 10)}), |_| Ok((1, "it is not".into())));
    let started = tokio::time::Instant::now();
    world.runs("1");
    world.until("1", Outcome { failed: Some(Failed::Liveness), ..Outcome::default() }).await;
    assert!((20..22).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    for _ in 0..3 {
        assert_eq!(world.event().await, "spec.containers{c} Unhealthy Liveness probe failed: it is not");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.events.try_recv().is_err(), "it is not asked while it is being restarted");
    world.runs("2");
    assert_eq!((world.prober.results().get("1"), world.prober.results().get("2")), (Outcome::default(), Outcome::default()));
    world.until("2", Outcome { failed: Some(Failed::Liveness), ..Outcome::default() }).await;
    assert_eq!(world.woken.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_asked_before_the_container_has_started() {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let world = world(
        json!({"startupProbe": exec("started", 1), "readinessProbe": exec("ready", 1), "livenessProbe": exec("alive", 1)}),
        move |name| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            assert!(name == "started" || n > 2, "{name} was asked as number {n}");
            Ok((i32::from(name == "started" && n < 2), String::new()))
        },
    );
    world.runs("1");
    world.until("1", Outcome { started: Some(true), ready: Some(true), failed: None }).await;
    assert_eq!(world.woken.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_never_starts_is_restarted() {
    let world = world(json!({"startupProbe": exec("started", 1), "readinessProbe": exec("ready", 1)}), |_| Ok((1, String::new())));
    world.runs("1");
    world.until("1", Outcome { started: Some(false), ready: None, failed: Some(Failed::Startup) }).await;
}

#[tokio::test(start_paused = true)]
async fn readiness_comes_and_goes_and_outlives_the_order_to_stop() {
    let ready = Arc::new(AtomicUsize::new(0));
    let says = ready.clone();
    let mut world = world(json!({"readinessProbe": exec("ready", 1), "livenessProbe": exec("alive", 1)}), move |name| {
        Ok((i32::try_from(says.load(Ordering::SeqCst)).unwrap(), name.to_owned()))
    });
    world.runs("1");
    world.until("1", Outcome { ready: Some(true), ..Outcome::default() }).await;
    world.prober.terminating("u-1");
    ready.store(1, Ordering::SeqCst);
    world.until("1", Outcome { ready: Some(false), ..Outcome::default() }).await;
    for _ in 0..3 {
        assert_eq!(world.event().await, "spec.containers{c} Unhealthy Readiness probe failed: ready");
    }
    world.ended();
    assert_eq!(world.prober.results().get("1"), Outcome::default());
    world.prober.forget("u-1");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_says_nothing_about_the_container() {
    let mut world = world(json!({"livenessProbe": exec("alive", 1)}), |_| {
        Err(crate::runtime::Error {
            operation: "ExecSync",
            code: tonic::Code::Unknown,
            message: "container is in CONTAINER_EXITED state".into(),
        })
    });
    world.runs("1");
    let expected = "spec.containers{c} Unhealthy Liveness probe errored and resulted in unknown state: rpc error: code = Unknown desc = container is in CONTAINER_EXITED state";
    for _ in 0..5 {
        assert_eq!(world.event().await, expected);
    }
    assert_eq!(world.prober.results().get("1"), Outcome::default());
    let text = world.prober.results().metrics();
    assert!(
        text.contains(r#"prober_probe_total{container="c",namespace="ns",pod="p",pod_uid="u-1",probe_type="Liveness",result="unknown"} "#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restarted_kubelet_goes_on_from_what_the_last_one_said() {
    let mut world = world(json!({"startupProbe": exec("started", 1), "readinessProbe": exec("ready", 1)}), |name| {
        assert_eq!(name, "ready", "it has started before");
        Ok((0, String::new()))
    });
    let before = json!({"containerStatuses": [{"name": "c", "containerID": "containerd://1", "started": true, "ready": true,
        "image": "", "imageID": "", "restartCount": 0}]});
    let mut pod = (*world.pod).clone();
    pod.status = serde_json::from_value(before).unwrap();
    world.pod = Arc::new(pod);
    world.prober.recall(&world.pod);
    let outcome = Outcome { started: Some(true), ready: Some(true), failed: None };
    assert_eq!(world.prober.results().get("1"), outcome, "before the first look");
    world.runs("1");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.prober.results().get("1"), outcome);
    assert_eq!(world.woken.load(Ordering::SeqCst), 0);
    world.prober.recall(&world.pod);
    world.ended();
    assert_eq!(world.prober.results().get("1"), Outcome::default(), "it ended while no kubelet looked");
}
