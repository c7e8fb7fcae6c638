//! Runs a controller: queue → observe → plan → apply, on a few workers.
//!
//! Starts when the caches it reads are synced. An object whose plan fails comes back with back-off; one whose plan panics does
//! too, and stops no other. A failure is remembered for the next plan of that object, so that a condition can show it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use daemon::clock::Clock;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::apply::{Executor, Outcome};
use crate::caches::Caches;
use crate::kind::Key;
use crate::plan::{Failure, Plan};
use crate::queue::Queue;

/// What a plan is made from, besides the key.
pub struct View<'a> {
    /// The caches.
    pub caches: &'a Caches,
    /// The time.
    pub now: Timestamp,
    /// Why the last plan for this key could not be carried out.
    pub failure: Option<&'a Failure>,
}

/// A control loop.
pub trait Controller: Send + Sync + 'static {
    /// Subscribes to the caches: says which keys to look at when an object changes.
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>);

    /// Observes and decides. Reads caches only.
    fn plan(&self, view: &View<'_>, key: &Key) -> Plan;

    /// Plans and applies. Only the controllers that must ask the apiserver before they can decide do more than this.
    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, failure: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let plan = self.plan(&View { caches: &run.caches, now: run.clock.now(), failure }, key);
            let recheck_at = plan.recheck_at;
            (run.executor.apply(plan).await, recheck_at)
        })
    }

    /// Work beside the queue, for the controllers that have some. Ends with the shutdown.
    fn background<'a>(&'a self, _run: &'a Run) -> BoxFuture<'a, ()> {
        Box::pin(futures::future::ready(()))
    }
}

/// A controller at work.
pub struct Run {
    /// Upstream's name for it.
    pub name: &'static str,
    /// Its queue.
    pub queue: Arc<Queue>,
    /// All caches.
    pub caches: Arc<Caches>,
    /// Carries out its plans.
    pub executor: Executor,
    /// The time.
    pub clock: Clock,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Run {
    /// Works until the stop, on `workers` keys at a time.
    pub async fn work(&self, controller: &dyn Controller, workers: usize) {
        let failures = Mutex::new(HashMap::new());
        let workers = futures::future::join_all((0..workers.max(1)).map(|_| self.worker(controller, &failures)));
        let all = async { tokio::join!(workers, controller.background(self)) };
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = all => {}
        }
    }

    async fn worker(&self, controller: &dyn Controller, failures: &Mutex<HashMap<Key, Failure>>) {
        loop {
            let key = self.queue.next().await;
            let started = Instant::now();
            let failure = failures.lock().get(&key).cloned();
            let acted = AssertUnwindSafe(async { controller.act(self, &key, failure.as_ref()).await }).catch_unwind().await;
            match acted {
                Ok((outcome, recheck_at)) => self.settle(&key, outcome, failure.is_some(), recheck_at, failures),
                Err(_) => {
                    tracing::error!(controller = self.name, key = %key, "planning panicked");
                    self.queue.retry(&key);
                }
            }
            self.queue.done(&key, started);
        }
    }

    fn settle(
        &self,
        key: &Key,
        outcome: Outcome,
        failed_before: bool,
        recheck_at: Option<Timestamp>,
        failures: &Mutex<HashMap<Key, Failure>>,
    ) {
        if let Some(at) = recheck_at {
            let delay = Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default();
            self.queue.add_after(key.clone(), delay.max(Duration::from_millis(1)));
        }
        match (outcome.failure, outcome.stale) {
            (Some(failure), _) => {
                let delay = self.queue.retry(key);
                tracing::warn!(controller = self.name, key = %key, error = failure.message, retry_in = ?delay, "sync failed");
                failures.lock().insert(key.clone(), failure);
            }
            (None, true) => {
                tracing::debug!(controller = self.name, key = %key, "planned on an old version, planning again");
                self.queue.retry(key);
            }
            (None, false) => {
                self.queue.forget(key);
                failures.lock().remove(key);
                if failed_before {
                    self.queue.add(key.clone()); // so that what showed the failure shows its end
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;
    use crate::queue::QueueMetrics;
    use tokio::sync::mpsc;

    /// Panics on the key `bad`, and tells of every look at the others.
    struct Touchy(mpsc::UnboundedSender<(String, bool)>);

    impl Controller for Touchy {
        fn subscribe(&self, _: &Arc<Caches>, _: &Arc<Queue>) {}

        fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
            assert_ne!(key.name, "bad", "as the test wants");
            // The receiver outlives the controller.
            let _ = self.0.send((key.name.clone(), view.failure.is_some()));
            let mut plan = Plan::default();
            if key.name == "failing" && view.failure.is_none() {
                let mut node = k8s_openapi::api::core::v1::Node::default();
                node.metadata.name = Some("n".to_owned());
                plan.push(crate::plan::Action::create(&node)); // nobody listens at the test's address
            }
            plan
        }
    }

    #[tokio::test]
    async fn one_object_that_panics_or_fails_stops_no_other() {
        daemon::tls::install_crypto();
        let (key, params) = (rcgen::KeyPair::generate().expect("a key"), rcgen::CertificateParams::new(vec![]).expect("parameters"));
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let roots = daemon::tls::Roots::from_pem(authority.as_bytes()).expect("an authority");
        let nobody = daemon::kubeconfig::Cluster::anonymous("https://127.0.0.1:1".parse().expect("a URI"), roots);
        let client = daemon::client::to(nobody, "test").expect("a client");
        let (recorder, _never_written) = events::channel(client.clone());
        let caches = Arc::new(Caches::default());
        let run = Run {
            name: "test",
            queue: Queue::new("test", QueueMetrics::new(&daemon::metrics::Metrics::new())),
            executor: Executor::new(client, caches.clone(), recorder),
            caches,
            clock: Clock::system(),
            stop: CancellationToken::new(),
        };
        let (send, mut looks) = mpsc::unbounded_channel();
        for name in ["bad", "failing", "good"] {
            run.queue.add(Key::cluster(name));
        }
        let touchy = Touchy(send);
        let see = async {
            let (mut good, mut told_of_failure) = (false, false);
            while !(good && told_of_failure) {
                let (name, failed) = looks.recv().await.expect("the controller works");
                good |= name == "good";
                told_of_failure |= name == "failing" && failed;
            }
            run.stop.cancel();
        };
        let both = async { tokio::join!(run.work(&touchy, 1), see) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("both objects are looked at");
    }
}
