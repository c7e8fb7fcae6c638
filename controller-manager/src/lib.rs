//! The control loops of a cluster.
//!
//! Start reading at [`run`], then [`runner`] (queue → observe → plan → apply), then any file of [`controllers`]. A controller
//! reads caches and decides in a plain function; [`apply`] does the IO; nothing else writes, but for the few controllers
//! that must ask the apiserver before they can decide (`garbage_collector`, `namespace`).

pub mod apply;
pub mod bootstrap;
pub mod cache;
pub mod caches;
pub mod controllers;
pub mod discovery;
pub mod events;
pub mod flags;
pub mod history;
pub mod kind;
pub mod node_affinity;
pub mod ownership;
pub mod plan;
pub mod pod_state;
pub mod queue;
pub mod runner;
pub mod serve;
pub mod service_pods;
pub mod slices;
pub mod watch;
#[cfg(test)]
mod world;

use std::sync::Arc;

use anyhow::Context as _;
use daemon::{CancellationToken, Context};
use futures::FutureExt as _;
use kube::Client;
use tokio::task::JoinSet;

pub use flags::Flags;

use crate::caches::Caches;
use crate::kind::Key;
use crate::queue::{Queue, QueueMetrics};
use crate::runner::Run;

/// Serves health and metrics, and runs the controllers while this process leads.
///
/// # Errors
/// A kubeconfig or certificate that cannot be used, a port that is taken, or the loss of the Lease.
pub async fn run(flags: Flags, context: Context) -> anyhow::Result<()> {
    let client = daemon::client::connect(&flags.kubeconfig, &format!("controller-manager/{}", daemon::KUBERNETES_VERSION)).await?;
    let metrics = QueueMetrics::new(&context.metrics);
    let serving = serve::serve(&flags, &context, client.clone()).await?;
    let leading = daemon::leader::lead(client.clone(), "kube-controller-manager", &flags.leader, &context, |stop| {
        lead(&flags, &context, client.clone(), metrics, stop)
    });
    tokio::pin!(serving, leading);
    let result = tokio::select! {
        result = &mut leading => result,
        result = &mut serving => result.context("serving health and metrics"),
    };
    context.shutdown.cancel();
    result
}

/// Runs the wanted controllers until `stop`.
async fn lead(flags: &Flags, context: &Context, client: Client, metrics: QueueMetrics, stop: CancellationToken) -> anyhow::Result<()> {
    let caches = Arc::new(Caches::default());
    let (recorder, write_events) = events::channel(client.clone());
    let mut tasks: JoinSet<()> = JoinSet::new();
    tasks.spawn(stop.clone().run_until_cancelled_owned(write_events).map(drop));
    let mut watched: Vec<(&str, &str)> = Vec::new();
    for row in controllers::ALL.iter().filter(|row| flags.wants(row.name)) {
        let made = (row.make)(flags).with_context(|| format!("starting {}", row.name))?;
        let Some(controller) = made else {
            tracing::info!(controller = row.name, "not started: its flags are not set");
            continue;
        };
        for reads in row.reads {
            if !watched.contains(reads) {
                watched.push(*reads);
                caches.of(reads.0, reads.1).with_context(|| format!("there is no cache of {reads:?}"))?.set_watched();
            }
        }
        let queue = Queue::new(row.queue, metrics.clone());
        controller.subscribe(&caches, &queue);
        let run = Run {
            name: row.name,
            queue,
            caches: caches.clone(),
            executor: apply::Executor::new(client.clone(), caches.clone(), recorder.named(row.component)),
            clock: context.clock,
            stop: stop.clone(),
        };
        let workers = (row.workers)(flags);
        tasks.spawn(async move {
            let synced = async {
                for (version, kind) in row.reads {
                    match run.caches.of(version, kind) {
                        Some(cache) => cache.synced().await,
                        None => tracing::error!(controller = row.name, kind, "there is no cache of this kind"),
                    }
                }
            };
            if run.stop.run_until_cancelled(synced).await.is_none() {
                return;
            }
            tracing::info!(controller = run.name, "started");
            run.work(controller.as_ref(), workers).await;
        });
    }
    drop(recorder);
    for (version, kind) in watched {
        let cache = caches.of(version, kind).with_context(|| format!("there is no cache of {version} {kind}"))?;
        let (client, stop) = (client.clone(), stop.clone());
        tasks.spawn(async move {
            let (fields, namespace) = cache.bounds();
            let source =
                watch::Source { path: cache.kind().path(&Key::new(namespace, ""), ""), fields: fields.to_owned(), metadata_only: false };
            watch::run(client, source, &watch::Fill(cache.as_ref()), stop).await;
        });
    }
    let (resynced, period) = (caches.clone(), flags.min_resync_period);
    tasks.spawn(
        stop.clone()
            .run_until_cancelled_owned(async move {
                loop {
                    tokio::time::sleep(period).await;
                    resynced.all().iter().for_each(|cache| cache.resync());
                }
            })
            .map(drop),
    );
    stop.cancelled().await;
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of the controller manager panicked")?;
    }
    caches.all().iter().for_each(|cache| cache.unsubscribe_all());
    Ok(())
}
