//! `ferrite measure`: what the running cluster costs while nothing happens.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::cluster::Cluster;
use crate::manager;
use crate::process::Usage;
use crate::status::{megabytes, render};
use crate::up::{TIMING, Timing};

/// Daemons of Ferrite, the ones whose memory has an aim; etcd and containerd are others' programs.
const OURS: &[&str] = &["apiserver", "controller-manager", "scheduler", "kubelet", "kube-proxy", "coredns-lite"];

/// What `ferrite measure` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// For how long processor time is counted.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u64,
}

/// Prints the table.
///
/// # Errors
/// There is no cluster, or its supervisor does not answer.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let cluster = Cluster::load()?.context("there is no cluster on this machine: run deploy/up")?;
    let time = Duration::from_secs(flags.seconds.clamp(1, 3600));
    let before = sample(&cluster)?;
    eprintln!("counting processor time for {} s", time.as_secs());
    tokio::time::sleep(time).await;
    let after = sample(&cluster)?;
    let mut rows = Vec::new();
    for (node, name, usage) in &after {
        let cpu = before.iter().find(|(n, d, _)| n == node && d == name).map(|(_, _, b)| (usage.cpu - b.cpu) / time.as_secs_f64());
        let cpu = cpu.map_or("-".into(), |c| format!("{:.2} %", c * 100.0));
        rows.push(vec![node.clone(), name.clone(), megabytes(usage.rss), usage.pss.map_or("-".into(), megabytes), cpu]);
    }
    for node in &cluster.nodes {
        let ours = || after.iter().filter(|(n, d, _)| *n == node.name && OURS.contains(&d.as_str())).map(|(_, _, u)| u);
        let (rss, pss) = (ours().map(|u| u.rss).sum(), ours().map(|u| u.pss.unwrap_or(u.rss)).sum());
        rows.push(vec![node.name.clone(), "Ferrite's daemons together".into(), megabytes(rss), megabytes(pss), String::new()]);
    }
    println!("{}", render(&["NODE", "DAEMON", "RSS", "PSS", "CPU"], &rows));
    match std::fs::read(Path::new(TIMING)).ok().and_then(|t| serde_json::from_slice::<Timing>(&t).ok()) {
        Some(timing) => println!("\nfrom deploy/up to Ready nodes: {:.1} s", timing.ready_after),
        None => println!("\nfrom deploy/up to Ready nodes: not known, as the last deploy/up did not start the cluster"),
    }
    Ok(())
}

fn sample(cluster: &Cluster) -> anyhow::Result<Vec<(String, String, Usage)>> {
    let mut all = Vec::new();
    for (node, daemons) in manager::everywhere(cluster) {
        let daemons = daemons.with_context(|| format!("the daemons of {}", node.name))?;
        all.extend(daemons.into_iter().filter_map(|d| Some((node.name.clone(), d.name, d.usage?))));
    }
    Ok(all)
}
