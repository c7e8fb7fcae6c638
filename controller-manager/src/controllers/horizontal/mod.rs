//! Scales what has a `scale` subresource by what metrics say (HorizontalPodAutoscaler).
//!
//! Every autoscaler is looked at once in a sync period, and when its spec changes. Start reading at [`decide::decide`].

mod behavior;
mod decide;
mod metrics;
mod pods;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::labels::Selector;
use futures::future::BoxFuture;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use self::behavior::Memory;
use self::decide::{Observed, Scale, Settings, decide, settle};
use self::metrics::{Scope, read};
use self::pods::Youth;
use crate::apply::{Outcome, json_request, message};
use crate::cache::Change;
use crate::caches::Caches;
use crate::discovery::{Resource, discover, group};
use crate::flags::Flags;
use crate::kind::{Key, Object};
use crate::ownership::matches;
use crate::plan::{Failure, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// What is served is asked for anew at most this often.
const KINDS_FOR: Duration = Duration::from_secs(30);

/// What is remembered of an autoscaler between two looks.
#[derive(Default)]
struct Kept {
    memory: Memory,
    /// The selector of what it scales.
    selector: String,
}

/// The controller.
pub struct HorizontalPodAutoscalers {
    settings: Settings,
    period: SignedDuration,
    /// One entry for each autoscaler there is.
    kept: Mutex<HashMap<Key, Kept>>,
    kinds: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Resource>>)>>,
}

impl HorizontalPodAutoscalers {
    /// By the flags.
    #[must_use]
    pub fn new(flags: &Flags) -> Self {
        let signed = |d: Duration| d.try_into().unwrap_or(SignedDuration::MAX);
        let youth = Youth {
            initialization: signed(flags.horizontal_pod_autoscaler_cpu_initialization_period),
            readiness_delay: signed(flags.horizontal_pod_autoscaler_initial_readiness_delay),
        };
        let window = signed(flags.horizontal_pod_autoscaler_downscale_stabilization);
        let settings = Settings { tolerance: flags.horizontal_pod_autoscaler_tolerance, window, youth };
        let period = signed(flags.horizontal_pod_autoscaler_sync_period);
        Self { settings, period, kept: Mutex::default(), kinds: tokio::sync::Mutex::default() }
    }

    /// Which kinds are served, and how they are called in paths.
    async fn kinds(&self, client: &Client) -> Result<Arc<Vec<Resource>>, String> {
        let mut kinds = self.kinds.lock().await;
        if let Some((_, known)) = kinds.as_ref().filter(|(at, _)| at.elapsed() < KINDS_FOR) {
            return Ok(known.clone());
        }
        let found = Arc::new(discover(client).await.map_err(|e| message(&e))?.resources);
        *kinds = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Pods of the scale's selector, and the other autoscalers that scale some of them.
    fn pods(&self, run: &Run, key: &Key, selector: &str) -> (Vec<Arc<Pod>>, Vec<String>) {
        let in_namespace = run.caches.pods.in_namespace(&key.namespace);
        let of = |selector: &str| -> Vec<Arc<Pod>> {
            match Selector::parse(selector) {
                Ok(selector) => in_namespace.iter().filter(|p| matches(&selector, p.as_ref())).cloned().collect(),
                Err(error) => {
                    tracing::warn!(error, selector, key = %key, "the selector of a scale cannot be read");
                    Vec::new()
                }
            }
        };
        let pods = of(selector);
        let mut kept = self.kept.lock();
        kept.entry(key.clone()).or_default().selector = selector.to_owned();
        let others = kept.iter().filter(|(other, kept)| *other != key && other.namespace == key.namespace && !kept.selector.is_empty());
        let shares = |kept: &Kept| of(&kept.selector).iter().any(|p| pods.iter().any(|q| q.uid() == p.uid()));
        let rivals: Vec<String> = others.filter(|(_, kept)| shares(kept)).map(|(other, _)| other.to_string()).collect();
        if rivals.is_empty() {
            return (pods, rivals);
        }
        let mut all: Vec<String> = rivals.into_iter().chain([key.to_string()]).collect();
        all.sort();
        (pods, all)
    }

    async fn look(&self, run: &Run, key: &Key, hpa: &HorizontalPodAutoscaler) -> Outcome {
        let client = run.executor.client();
        let Some(spec) = &hpa.spec else { return Outcome::default() };
        let target = &spec.scale_target_ref;
        let kinds = self.kinds(client).await;
        let wanted = group(target.api_version.as_deref().unwrap_or_default());
        let path = kinds.clone().and_then(|kinds| {
            let found = kinds.iter().find(|r| r.kind == target.kind && r.group() == wanted);
            let path = found.map(|r| format!("{}/scale", r.path(&Key::new(&key.namespace, &target.name))));
            path.ok_or_else(|| format!("no matches for kind {:?} in group {wanted:?}", target.kind))
        });
        let raw: Result<Value, String> = match &path {
            Ok(path) => get(client, path).await,
            Err(why) => Err(why.clone()),
        };
        let scale = raw.as_ref().map(parse).map_err(Clone::clone);
        let (mut pods, mut rivals, mut readings) = (Vec::new(), Vec::new(), Vec::new());
        if let (Ok(scale), Ok(kinds)) = (&scale, &kinds)
            && !scale.selector.is_empty()
        {
            (pods, rivals) = self.pods(run, key, &scale.selector);
            let scope = Scope { namespace: &key.namespace, selector: &scale.selector };
            for metric in spec.metrics.iter().flatten() {
                readings.push(read(client, metric, &scope, kinds).await);
            }
        }
        let now = run.clock.now();
        let seen = Observed { hpa, scale, pods, rivals, readings, now };
        let decision = {
            let mut kept = self.kept.lock();
            decide(&seen, &self.settings, &mut kept.entry(key.clone()).or_default().memory)
        };
        let (from, to) = (decision.current, decision.desired);
        let scaled = match (&path, &raw) {
            (Ok(path), Ok(raw)) if decision.scales() => Some(put(client, path, raw, to).await),
            _ => None,
        };
        if let Some(Ok(())) = &scaled {
            tracing::info!(key = %key, from, to, reason = decision.reason, "scaled");
            self.kept.lock().entry(key.clone()).or_default().memory.scaled(from, to, now);
        }
        run.executor.apply(settle(hpa, decision, scaled.as_ref(), now)).await
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, String> {
    let request = Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
    client.request(request).await.map_err(|e| message(&e))
}

/// Writes the number, if the scale is still as it was read.
async fn put(client: &Client, path: &str, scale: &Value, replicas: i32) -> Result<(), String> {
    let mut scale = scale.clone();
    scale["spec"]["replicas"] = replicas.into();
    let request = json_request(Request::put(path), "application/json", &scale).map_err(|e| message(&e))?;
    client.request::<Value>(request).await.map(drop).map_err(|e| message(&e))
}

fn parse(scale: &Value) -> Scale {
    let number = |pointer: &str| scale.pointer(pointer).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    let selector = scale.pointer("/status/selector").and_then(Value::as_str).unwrap_or_default().to_owned();
    Scale { replicas: number("/spec/replicas"), running: number("/status/replicas"), selector }
}

impl Controller for HorizontalPodAutoscalers {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.horizontal_pod_autoscalers.subscribe(move |change: Change<'_, HorizontalPodAutoscaler>| {
            // Its own status is no reason to look again before the period is over.
            let same = matches!((change.old, change.new), (Some(old), Some(new)) if old.spec == new.spec);
            if !same {
                queue.add(change.latest().key());
            }
        });
    }

    /// Nothing without what the metrics APIs say: see [`Controller::act`].
    fn plan(&self, _: &View<'_>, _: &Key) -> Plan {
        Plan::default()
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, _: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let Some(hpa) = run.caches.horizontal_pod_autoscalers.get(key) else {
                self.kept.lock().remove(key);
                return (Outcome::default(), None);
            };
            let outcome = self.look(run, key, &hpa).await;
            (outcome, run.clock.now().checked_add(self.period).ok())
        })
    }
}
