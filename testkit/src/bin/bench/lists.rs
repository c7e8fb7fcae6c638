//! Lists of all pods, so many at once.

use anyhow::ensure;

use crate::report::Report;
use crate::world::World;

/// Lists that each client takes, one after the other, and at least this many in all.
const EACH: usize = 2;
const LEAST: usize = 10;

/// Takes lists by `at_once` clients.
pub async fn lists(world: &World, at_once: usize, report: &mut Report) -> anyhow::Result<()> {
    let each = EACH.max(LEAST / at_once);
    eprintln!("list: {} in all, {at_once} at once", each * at_once);
    let mut connections = Vec::new();
    for _ in 0..at_once {
        connections.push(world.connect("bench").await?);
    }
    // The text that lists need is there before the memory is looked at.
    world.connect("bench").await?.count("/api/v1/pods?limit=100").await?;
    let apiserver = world.apiserver();
    apiserver.forget_peak()?;
    let resident = world.memory()?.resident;
    let before = world.times()?;
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            tokio::spawn(async move {
                let mut bytes = 0;
                for _ in 0..each {
                    bytes += connection.count("/api/v1/pods").await?;
                }
                anyhow::Ok(bytes)
            })
        })
        .collect();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await??;
    }
    let after = world.times()?;
    ensure!(bytes > 0, "the lists are empty");
    let extra = apiserver.memory()?.peak.saturating_sub(resident) / at_once as u64;
    report.list(at_once, bytes / (each * at_once), after.0 - before.0, bytes, extra);
    Ok(())
}
