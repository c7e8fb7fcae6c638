//! What the apiserver and etcd cost, in processor time per operation: `deploy/bench`, described in `docs/performance.md`.
//!
//! Both run as processes of their own, as deployed: TLS on every connection, client certificates, RBAC. Processor time is read from the
//! processes' own clocks, so what else the machine does matters little; the clients in this process are not counted. Everything is on
//! loopback, bounded in number and time, and gone when this ends.

mod client;
mod lists;
mod load;
mod pods;
mod report;
mod usage;
mod watches;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;
use crate::world::World;

/// The whole run may take this long; then it stops by itself.
const WITHIN: Duration = Duration::from_secs(30 * 60);

/// What the benchmark is told.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", about = "Measures processor time and memory of the apiserver and of etcd")]
struct Flags {
    /// The apiserver's program, built for release.
    #[arg(long, default_value = "target/release/apiserver")]
    apiserver: PathBuf,
    /// How many pods are stored.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How many clients, each with a connection of its own, write and read at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// The version of HTTP: 2 as client-go and Ferrite's own daemons speak it, or 1.
    #[arg(long, default_value_t = 2)]
    http: u8,
    /// For how long an idle server is watched, in seconds.
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// Numbers of watchers, comma-separated.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    watchers: Vec<usize>,
    /// Numbers of lists at once, comma-separated.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    lists: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    daemon::tls::install_crypto();
    usage::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(async {
        let mut told_to_stop = signal(SignalKind::terminate())?;
        tokio::select! {
            report = tokio::time::timeout(WITHIN, run(&flags)) => report.context("the benchmark took too long")?,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = told_to_stop.recv() => anyhow::bail!("told to stop"),
        }
    })?;
    print!("{}", report.table());
    Ok(())
}

async fn run(flags: &Flags) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut world = World::start(&flags.apiserver, flags.http == 1).await?;
    report.started("empty storage", &world);
    world.idle(Duration::from_secs(flags.idle), "empty storage", &mut report).await?;
    let empty = world.memory()?;
    world.furnish().await?;

    load::writes(&world, flags.pods, flags.clients, &mut report).await?;
    let after_writes = world.memory()?;
    report.memory("after the writes", after_writes);
    load::reads(&world, flags.pods, flags.clients, &mut report).await?;
    let patch = load::patches(&world, flags.pods, flags.clients, &mut report).await?;

    world.restart().await?;
    report.started(&format!("{} pods", flags.pods), &world);
    world.idle(Duration::from_secs(flags.idle), &format!("{} pods", flags.pods), &mut report).await?;
    // Both servers have let go of the text that only a start needs.
    report.per_pod(empty, world.memory()?, flags.pods);
    for &at_once in &flags.lists {
        lists::lists(&world, at_once, &mut report).await?;
    }
    for &watchers in &flags.watchers {
        watches::watches(&world, watchers, flags.pods, flags.clients, patch, &mut report).await?;
    }
    Ok(report)
}
