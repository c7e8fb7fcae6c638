//! One probe of one container: when it asks, whom, and what it does with the answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::step::{Change, State, Thresholds, step};
use super::{AGENT, Answer, Failed, Purpose, Results, Wake, exec, grpc, http, tcp};
use crate::events::{self, Events, Kind};
use crate::runtime::Runtime;

/// How often a container is asked again at once when it could not be asked (upstream's number).
const TRIES: usize = 3;

/// What all probes share.
#[derive(Clone)]
pub struct Desk {
    pub runtime: Arc<dyn Runtime>,
    pub results: Arc<Results>,
    pub events: Events,
    pub wake: Wake,
}

pub struct Task {
    pub desk: Desk,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub id: String,
    pub pod_ip: String,
    pub purpose: Purpose,
    pub probe: Probe,
    /// Whether the container has started; the startup probe says so, the others wait for it.
    pub started: watch::Sender<bool>,
    pub running_since: Timestamp,
    /// What an earlier kubelet said last.
    pub verdict: Option<bool>,
}

impl Task {
    /// Asks until there is nothing more to say; readiness never ends by itself.
    pub async fn run(self) {
        if self.purpose != Purpose::Startup && self.started.subscribe().wait_for(|started| *started).await.is_err() {
            return;
        }
        let thresholds =
            Thresholds { success: positive(self.probe.success_threshold, 1), failure: positive(self.probe.failure_threshold, 3) };
        let period = Duration::from_secs(positive(self.probe.period_seconds, 10).into());
        let mut ticks = interval_at(Instant::now() + self.first_after(Timestamp::now(), period), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut state = State::said(self.verdict);
        loop {
            ticks.tick().await;
            let answer = self.ask().await;
            self.tell(&answer);
            let passed = match answer {
                Answer::Passed | Answer::Warned(_) => true,
                Answer::Failed(_) => false,
                Answer::Errored(_) => continue,
            };
            let change;
            (state, change) = step(state, passed, thresholds);
            if let Some(Change(yes)) = change
                && self.conclude(yes)
            {
                return;
            }
        }
    }

    /// How long until the first asking. A container that has run for long was there before this kubelet; its probes are
    /// spread over a period.
    fn first_after(&self, now: Timestamp, period: Duration) -> Duration {
        let delay = Duration::from_secs(u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
        let ran = Duration::try_from(now.duration_since(self.running_since)).unwrap_or(Duration::ZERO);
        if ran > delay + period { period.mul_f64(rand::random_range(0.0..1.0)) } else { delay.saturating_sub(ran) }
    }

    /// Writes a verdict down; gives whether the probe is done.
    fn conclude(&self, yes: bool) -> bool {
        let results = &self.desk.results;
        let (news, done) = match (self.purpose, yes) {
            (Purpose::Readiness, ready) => (results.update(&self.id, |o| o.ready = Some(ready)), false),
            (Purpose::Startup, true) => (results.update(&self.id, |o| o.started = Some(true)), true),
            (Purpose::Startup, false) => (results.update(&self.id, |o| (o.started, o.failed) = (Some(false), Some(Failed::Startup))), true),
            (Purpose::Liveness, true) => (false, false),
            (Purpose::Liveness, false) => (results.update(&self.id, |o| o.failed = Some(Failed::Liveness)), true),
        };
        if self.purpose == Purpose::Startup && yes {
            self.started.send_replace(true);
        }
        if news {
            (self.desk.wake)(self.pod.metadata.uid.as_deref().unwrap_or_default());
        }
        done
    }

    async fn ask(&self) -> Answer {
        let mut answer = self.ask_once().await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Errored(_)) {
                break;
            }
            answer = self.ask_once().await;
        }
        answer
    }

    async fn ask_once(&self) -> Answer {
        let timeout = Duration::from_secs(positive(self.probe.timeout_seconds, 1).into());
        let pod_host = |host: &Option<String>| host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| self.pod_ip.clone());
        if let Some(action) = &self.probe.exec {
            let command = action.command.as_deref().unwrap_or_default();
            exec::probe(&*self.desk.runtime, &self.id, command, &self.container, timeout).await
        } else if let Some(action) = &self.probe.http_get {
            let target =
                http::port_number(&action.port, &self.container).and_then(|port| http::Target::new(action, port, &self.pod_ip, AGENT));
            match target {
                Ok(target) => http::probe(target, timeout).await,
                Err(error) => Answer::Errored(error),
            }
        } else if let Some(action) = &self.probe.tcp_socket {
            match http::port_number(&action.port, &self.container) {
                Ok(port) => tcp::probe(&pod_host(&action.host), port, timeout).await,
                Err(error) => Answer::Errored(error),
            }
        } else if let Some(action) = &self.probe.grpc {
            match http::port_number(&IntOrString::Int(action.port), &self.container) {
                Ok(port) => grpc::probe(&self.pod_ip, port, action.service.as_deref().unwrap_or_default(), timeout).await,
                Err(error) => Answer::Errored(error),
            }
        } else {
            Answer::Errored("missing probe handler".into())
        }
    }

    /// Counts the answer, and tells people unless all is well.
    fn tell(&self, answer: &Answer) {
        let word = self.purpose.as_str();
        let (result, event) = match answer {
            Answer::Passed => ("successful", None),
            Answer::Warned(text) => ("successful", Some(("ProbeWarning", format!("{word} probe warning: {text}")))),
            Answer::Failed(text) => ("failed", Some(("Unhealthy", format!("{word} probe failed: {text}")))),
            Answer::Errored(text) => {
                ("unknown", Some(("Unhealthy", format!("{word} probe errored and resulted in unknown state: {text}"))))
            }
        };
        let meta = &self.pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let labels = format!(
            "container={:?},namespace={:?},pod={:?},pod_uid={:?},probe_type={word:?},result={result:?}",
            self.container.name,
            part(&meta.namespace),
            part(&meta.name),
            part(&meta.uid),
        );
        self.desk.results.count(&self.id, labels);
        if let Some((reason, message)) = event {
            let path = events::container_path(&self.pod, &self.container.name);
            self.desk.events.pod(&self.pod, path, Kind::Warning, reason, message);
        }
    }
}

/// A number that the API's defaults fill in; zero and less count as not given.
fn positive(given: Option<i32>, default: u32) -> u32 {
    given.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
}
