//! Requests about single pods: many clients, each one request after the other, until all are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use http::Method;

use crate::pods;
use crate::report::{Costs, Report};
use crate::world::{NAMESPACE, World};

/// Requests before each measurement that are not counted, as part of all.
const WARM_UP: usize = 10;
/// Pods that are applied to, as part of all.
const APPLIED: usize = 4;

/// One request.
pub struct Ask {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
    code: u16,
}

impl Ask {
    fn new(method: Method, path: String, content_type: &'static str, body: String, code: u16) -> Self {
        Self { method, path, content_type, body: body.into_bytes(), code }
    }

    /// A merge patch that changes a pod's label.
    pub fn relabel(number: usize, round: usize) -> Self {
        Self::new(Method::PATCH, pods::path(number), "application/merge-patch+json", pods::relabelled(round).to_string(), 200)
    }
}

/// Makes the requests `from..to` by `clients` at once. Gives what the servers spent on them, and the bytes of all answers.
pub async fn run(
    world: &World,
    clients: usize,
    (from, to): (usize, usize),
    ask: impl Fn(usize) -> Ask + Send + Sync + 'static,
) -> anyhow::Result<(Costs, usize)> {
    let (next, ask) = (Arc::new(AtomicUsize::new(from)), Arc::new(ask));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(world.connect("bench").await?);
    }
    let before = world.times()?;
    let tasks = connections.into_iter().map(|mut connection| {
        let (next, ask) = (next.clone(), ask.clone());
        tokio::spawn(async move {
            let mut bytes = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return Ok(bytes);
                }
                let Ask { method, path, content_type, body, code: expected } = ask(number);
                let (code, body) = connection.send(method.clone(), &path, content_type, body).await?;
                ensure!(code == expected, "{method} {path} gave {code} {}", String::from_utf8_lossy(&body));
                bytes += body.len();
            }
        })
    });
    let mut bytes = 0;
    for task in tasks.collect::<Vec<_>>() {
        bytes += task.await??;
    }
    let after = world.times()?;
    let count = u32::try_from(to - from)?;
    Ok((Costs { apiserver: (after.0 - before.0) / count, etcd: (after.1 - before.1) / count }, bytes))
}

async fn measured(
    world: &World,
    what: &str,
    clients: usize,
    count: usize,
    report: &mut Report,
    ask: impl Fn(usize) -> Ask + Clone + Send + Sync + 'static,
) -> anyhow::Result<Duration> {
    eprintln!("{what}: {count}, {clients} at once");
    let warm = count / WARM_UP;
    run(world, clients, (0, warm), ask.clone()).await?;
    let (costs, bytes) = run(world, clients, (warm, count), ask).await?;
    report.operation(what, clients, costs, bytes / (count - warm));
    Ok(costs.apiserver)
}

/// Creates all pods, then says of each that it runs.
pub async fn writes(world: &World, pods: usize, clients: usize, report: &mut Report) -> anyhow::Result<()> {
    let all = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let create = move |n: usize| Ask::new(Method::POST, all.clone(), "application/json", pods::created(n).to_string(), 201);
    measured(world, "create", clients, pods, report, create).await?;
    let status = |n: usize| {
        let path = format!("{}/status", pods::path(n));
        Ask::new(Method::PATCH, path, "application/merge-patch+json", pods::running(n).to_string(), 200)
    };
    measured(world, "merge patch of the status", clients, pods, report, status).await?;
    Ok(())
}

/// Gets pods: by many clients, and by one.
pub async fn reads(world: &World, pods: usize, clients: usize, report: &mut Report) -> anyhow::Result<()> {
    let get = |n: usize| Ask::new(Method::GET, pods::path(n), "", String::new(), 200);
    measured(world, "get", clients, pods, report, get).await?;
    measured(world, "get", 1, pods / 4, report, get).await?;
    let cached = |n: usize| Ask::new(Method::GET, format!("{}?resourceVersion=0", pods::path(n)), "", String::new(), 200);
    measured(world, "get from the cache (resourceVersion=0)", clients, pods, report, cached).await?;
    Ok(())
}

/// Patches and applies. Gives what one merge patch costs the apiserver while nobody watches.
pub async fn patches(world: &World, pods: usize, clients: usize, report: &mut Report) -> anyhow::Result<Duration> {
    let cost = measured(world, "merge patch of a label", clients, pods, report, |n| Ask::relabel(n, 0)).await?;
    measured(world, "merge patch of a label", 1, pods / 8, report, |n| Ask::relabel(n, 1)).await?;
    let share = pods / APPLIED;
    let apply = move |n: usize| {
        let path = format!("{}?fieldManager=deployer&force=true", pods::path(n % share));
        Ask::new(Method::PATCH, path, "application/apply-patch+yaml", pods::applied(n % share, n / share).to_string(), 200)
    };
    measured(world, "server-side apply", clients, pods, report, apply).await?;
    Ok(cost)
}
