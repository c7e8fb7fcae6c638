//! Watchers of all pods, each on a connection of its own, while pods are patched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use crate::load::{self, Ask};
use crate::report::Report;
use crate::world::World;

/// Events that are delivered in all, about.
const DELIVERIES: usize = 400_000;
/// How long the last event may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);
/// Watches that are being opened at once.
const OPENING: usize = 8;

/// Lets `watchers` see patches. `patch` is what a patch costs the apiserver when nobody watches, which is subtracted.
pub async fn watches(
    world: &World,
    watchers: usize,
    pods: usize,
    clients: usize,
    patch: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let changes = (DELIVERIES / watchers).clamp(200, 4_000).min(pods);
    eprintln!("watch: {changes} events to {watchers} watchers");
    let heap = world.memory()?.anonymous;
    let mut admin = world.connect("bench").await?;
    let (_, list) = admin.send(Method::GET, "/api/v1/pods?limit=1", "", vec![]).await?;
    let list: serde_json::Value = serde_json::from_slice(&list)?;
    let version = list.pointer("/metadata/resourceVersion").and_then(serde_json::Value::as_str).context("a list's version")?;
    let path = format!("/api/v1/pods?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=600");
    let (arrived, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let expected = watchers * changes;
    let mut tasks = tokio::task::JoinSet::new();
    let mut opened = 0;
    while opened < watchers {
        let some = OPENING.min(watchers - opened);
        let connections = futures::future::try_join_all((0..some).map(|_| world.connect("bench"))).await?;
        for mut connection in connections {
            let (code, mut body) = connection.start(Method::GET, &path, "", vec![]).await?;
            ensure!(code == 200, "a watch gave {code}");
            let (arrived, all) = (arrived.clone(), all.clone());
            tasks.spawn(async move {
                let _connection = connection;
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame.data_ref().map_or(0, |d| d.iter().filter(|b| **b == b'\n').count());
                    if arrived.fetch_add(lines, Ordering::AcqRel) + lines >= expected {
                        all.notify_one();
                    }
                }
            });
        }
        opened += some;
    }
    let per_watcher = world.memory()?.anonymous.saturating_sub(heap) / watchers as u64;
    let before = world.times()?;
    let round = watchers + 10;
    load::run(world, clients, (0, changes), move |n| Ask::relabel(n, round)).await?;
    let waiting = tokio::time::timeout(ARRIVES_WITHIN, async {
        while arrived.load(Ordering::Acquire) < expected {
            all.notified().await;
        }
    });
    waiting.await.with_context(|| format!("{} of {expected} events arrived", arrived.load(Ordering::Acquire)))?;
    let spent = world.times()?.0 - before.0;
    tasks.abort_all();
    let fan_out = spent.saturating_sub(patch * u32::try_from(changes)?);
    report.watch(watchers, changes, fan_out / u32::try_from(expected)?, per_watcher);
    Ok(())
}
