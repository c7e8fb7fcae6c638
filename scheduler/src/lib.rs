//! Picks a node for each pod that has none, and binds it there.
//!
//! Start reading at [`cycle::schedule`], a plain function of a pod and a snapshot. [`scheduler::Scheduler`] holds the state
//! around it (queue, cache) and is synchronous too: observations in, effects out. [`run`] connects it to the apiserver. A new
//! reason for or against a node is a file in [`plugins`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daemon::endpoints::Health;
use daemon::leader::{LeaderFlags, lead};
use daemon::{CancellationToken, CommonFlags, Context};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub mod bind;
pub mod cache;
pub mod cluster_event;
pub mod cycle;
pub mod diagnosis;
pub mod events;
pub mod execute;
pub mod identity;
pub mod metrics;
pub mod node;
pub mod node_selector;
pub mod observation;
pub mod plugins;
pub mod pod;
pub mod pod_terms;
pub mod preempt;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod serving;
pub mod snapshot;
pub mod status;
pub mod taints;
pub mod volumes;
pub mod watch;
#[cfg(test)]
mod world;

use events::Events;
use execute::Executor;
use metrics::Metrics;
use observation::Observation;
use scheduler::{Effect, Scheduler};
use serving::{ServingFlags, serve};
use watch::Told;

/// The scheduler's flags.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "scheduler", about = "Picks a node for each pod that has none")]
pub struct Flags {
    /// Flags that every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Says which apiserver to speak to, and as whom.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderFlags,
    /// Serving.
    #[command(flatten)]
    pub serving: ServingFlags,
}

impl AsRef<CommonFlags> for Flags {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// The Lease that the leader holds.
const LEASE: &str = "kube-scheduler";
/// Changes that may wait to be taken in; then the watches wait.
const FEED: usize = 1_024;
/// Changes taken in at once.
const BATCH: usize = 256;
/// Requests to the apiserver at a time; more bindings only queue up there.
const WRITES: usize = 128;
/// A change at rest is not looked for more often than this.
const IDLE: Duration = Duration::from_secs(3_600);

/// Runs the scheduler until it is told to stop or loses the leadership.
///
/// # Errors
/// What makes going on impossible: no usable kubeconfig or certificate, a port that is taken, the leadership lost.
pub async fn run(flags: Flags, context: Context) -> anyhow::Result<()> {
    let client = daemon::client::connect(&flags.kubeconfig, context.name).await?;
    let metrics = Metrics::new(&context.metrics, pod::DEFAULT_SCHEDULER);
    let serving = serve(&flags.serving, client.clone(), Health::new(), &context, context.shutdown.clone());
    let working = lead(client.clone(), LEASE, &flags.leader, &context, |stop| work(client.clone(), &context, metrics, stop));
    // Told to stop, both end by themselves, in order: the Lease is let go of. An error of either ends the process.
    tokio::try_join!(working, serving).map(|((), ())| ())
}

/// Everything that wakes the loop.
enum Woken {
    /// A write has ended.
    Wrote(Result<Option<Observation>, tokio::task::JoinError>),
    /// The watches have said something.
    Told,
    /// A pod is ready to be looked at.
    Ready,
    /// What waited for time to pass may go on.
    Time,
}

/// Schedules until `stop`.
async fn work(client: Client, context: &Context, metrics: Metrics, stop: CancellationToken) -> anyhow::Result<()> {
    let clock = context.clock;
    let executor = Executor { events: Events::new(client.clone(), pod::DEFAULT_SCHEDULER), client: client.clone(), clock };
    let (tell, mut told) = mpsc::channel(FEED);
    let mut watches = JoinSet::new();
    let mut unknown = watch::start(&client, &tell, &mut watches);
    let mut scheduler = Scheduler::new(pod::DEFAULT_SCHEDULER, plugins::PLUGINS);
    let mut writes = JoinSet::new();
    let mut todo = VecDeque::<Effect>::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        while writes.len() < WRITES
            && let Some(effect) = todo.pop_front()
        {
            let executor = executor.clone();
            writes.spawn(async move { executor.execute_or_say(effect).await });
        }
        let now = clock.now();
        todo.extend(scheduler.advance(now));
        metrics.stand(scheduler.lengths(), scheduler.sizes(), writes.len());
        // Before everything is known, every decision might be wrong.
        let ready = unknown == 0 && todo.is_empty() && writes.len() < WRITES && scheduler.is_ready(now);
        let nap = scheduler.next_wake().map_or(IDLE, |at| since(now, at).min(IDLE));
        let woken = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = watches.join_next() => anyhow::bail!("a watch ended: {ended:?}"),
            Some(done) = writes.join_next(), if !writes.is_empty() => Woken::Wrote(done),
            _ = told.recv_many(&mut batch, BATCH) => Woken::Told,
            () = std::future::ready(()), if ready => Woken::Ready,
            () = tokio::time::sleep(nap) => Woken::Time,
        };
        let now = clock.now();
        let mut seen = Vec::new();
        match woken {
            Woken::Wrote(done) => seen.extend(done?),
            Woken::Told => {
                for told in batch.drain(..) {
                    match told {
                        Told::Observed(observation) => seen.push(observation),
                        Told::Synced => {
                            unknown -= 1;
                            if unknown == 0 {
                                tracing::info!("the cluster is known; scheduling starts");
                            }
                        }
                    }
                }
            }
            Woken::Ready => {
                let started = Instant::now();
                if let Some((attempt, effects)) = scheduler.step(rand::random(), now) {
                    metrics.decided(attempt, &effects, started.elapsed());
                    todo.extend(effects);
                }
            }
            Woken::Time => {}
        }
        for observation in seen {
            if let Observation::Bound(uid, outcome) = &observation
                && let Some(waiting) = scheduler.binding(uid)
            {
                metrics.bound(outcome, waiting, now);
            }
            todo.extend(scheduler.observe(observation, now));
        }
    }
    // What is under way may end; nothing new begins.
    watches.shutdown().await;
    while writes.join_next().await.is_some() {}
    Ok(())
}

/// The time from `earlier` to `later`; zero when it is the other way round.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}
