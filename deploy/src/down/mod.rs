//! `ferrite down`: everything gone, and the machine as it was before `up`.
//!
//! It works after crashes, because it looks at the machine and not only at what was written down; running it again is harmless.
//! What others may have made as well (a bridge `cni0`, cgroups of pods, shared directories) is removed only while the ledger says
//! that there is a cluster of ours.

pub mod processes;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cgroups::Hierarchy;
use crate::cluster::POD_RANGE;
use crate::ledger::{Ledger, SHARED_DIRS};
use crate::manager::Manager;
use crate::steps::{network, sysctls};
use crate::{cgroups, command, files, mounts, paths, wait};

/// Killed processes go within this time.
const PROCESSES_WITHIN: Duration = Duration::from_secs(15);
/// kube-proxy's table.
const PROXY_TABLE: &str = "ferrite";
/// kube-proxy's tunnel to nodes that are not on the same wire.
const TUNNEL: &str = "ferrite.vxlan";
/// Where containers' cgroups are.
const POD_CGROUPS: &[&str] = &["kubepods", "k8s.io"];

/// Takes the cluster of this machine down.
///
/// # Errors
/// Something that cannot be removed, and why; the rest is tried nevertheless.
pub fn run() -> anyhow::Result<()> {
    crate::steps::prerequisites::needs_root()?;
    let ledger = Ledger::load()?;
    let hierarchies = cgroups::hierarchies(&mounts::all()?);
    let known = ledger.is_some();
    let mut report = Report::default();
    report.add("daemons", Manager::of_this_machine().stop().map(|()| 0));
    report.add("processes", kill_all(&hierarchies, known));
    report.add("mounts", mounts::detach_below(&[paths::RUN, paths::STATE, paths::KUBELET]));
    report.add("links", links(known));
    report.add("routes", if known { routes() } else { Ok(0) });
    report.add("nft tables", tables());
    report.add("cgroups", remove_cgroups(&hierarchies, known));
    if let Some(ledger) = &ledger {
        report.add("sysctls", restore(ledger));
    }
    // The ledger goes last, and only when nothing is left that needs it.
    if report.failed.is_empty() {
        report.add("files", remove_files(ledger.as_ref()));
    }
    match report.failed.as_slice() {
        [] if report.removed == 0 => eprintln!("There was nothing to take down."),
        [] => eprintln!("The cluster is gone."),
        failed => bail!("not everything could be removed; once the cause is gone, run deploy/down again:\n{}", failed.join("\n")),
    }
    Ok(())
}

#[derive(Default)]
struct Report {
    removed: usize,
    failed: Vec<String>,
}

impl Report {
    fn add(&mut self, what: &str, outcome: anyhow::Result<usize>) {
        match outcome {
            Ok(0) => {}
            Ok(count) => {
                self.removed += count;
                eprintln!("  {:<10} {what}: {count}", "removed");
            }
            Err(error) => {
                eprintln!("  {:<10} {what}", "failed");
                self.failed.push(format!("{what}: {error:#}"));
            }
        }
    }
}

/// Kills what is left, containers included, and waits until it is gone.
fn kill_all(hierarchies: &[Hierarchy], known: bool) -> anyhow::Result<usize> {
    use nix::sys::signal::{Signal, kill};
    let mut killed = std::collections::BTreeSet::new();
    let mut left = Vec::new();
    let gone = wait::until(PROCESSES_WITHIN, || {
        left = processes::ours(&crate::process::all(), std::process::id().cast_signed());
        left.extend(cgroups::processes(hierarchies, paths::CGROUP));
        if known {
            left.extend(POD_CGROUPS.iter().flat_map(|name| cgroups::processes(hierarchies, name)));
        }
        for pid in &left {
            // It may have ended meanwhile.
            let _ = kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL);
            killed.insert(*pid);
        }
        left.is_empty()
    });
    if !gone {
        bail!("processes {left:?} do not end even when killed: `ps -fp PID` shows what they are");
    }
    Ok(killed.len())
}

fn links(known: bool) -> anyhow::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir("/sys/class/net").context("reading /sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A pod's link goes with the pod's namespace, but not at once.
        let bridge = std::fs::read_link(format!("/sys/class/net/{name}/master")).ok();
        let of_pod = bridge.is_some_and(|b| b.file_name().is_some_and(|b| b == paths::POD_BRIDGE));
        let ours = name == TUNNEL || name == paths::NODE_BRIDGE || name.starts_with(&format!("{}-", paths::NODE_BRIDGE));
        if ours || (known && (of_pod || name == paths::POD_BRIDGE)) {
            match command::ip(&format!("link delete {name}")) {
                Ok(_) => removed += 1,
                // The other end of one that went before.
                Err(_) if !Path::new("/sys/class/net").join(&name).exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// Routes to pods of nodes that were reached directly.
fn routes() -> anyhow::Result<usize> {
    let shown = command::ip(&format!("-4 route show root {POD_RANGE}"))?;
    let mut removed = 0;
    for route in shown.lines().filter_map(|l| l.split_whitespace().next()) {
        command::ip(&format!("route delete {route}"))?;
        removed += 1;
    }
    Ok(removed)
}

fn tables() -> anyhow::Result<usize> {
    let mut removed = 0;
    for line in command::run("nft", ["list", "tables"])?.lines() {
        if let ["table", family, name] = line.split_whitespace().collect::<Vec<_>>()[..]
            && (name == PROXY_TABLE || name == network::TABLE)
        {
            command::run("nft", ["delete", "table", family, name])?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove_cgroups(hierarchies: &[Hierarchy], known: bool) -> anyhow::Result<usize> {
    let mut removed = cgroups::remove(hierarchies, paths::CGROUP)?;
    if known {
        for name in POD_CGROUPS {
            removed += cgroups::remove(hierarchies, name)?;
        }
    }
    Ok(removed)
}

fn restore(ledger: &Ledger) -> anyhow::Result<usize> {
    for (key, value) in &ledger.sysctls {
        sysctls::set(key, value)?;
    }
    Ok(ledger.sysctls.len())
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::ResourceBusy)
}

fn remove_files(ledger: Option<&Ledger>) -> anyhow::Result<usize> {
    let mut removed = 0;
    if let Some(ledger) = ledger {
        for dir in [paths::KUBERNETES, paths::KUBELET] {
            removed += usize::from(files::remove(Path::new(dir))?);
        }
        for dir in SHARED_DIRS.iter().filter(|d| !ledger.dirs.iter().any(|known| known == *d)) {
            match files::remove(Path::new(dir)) {
                Ok(was_there) => removed += usize::from(was_there),
                // Somebody else has mounted something there since, as `ip netns` does: it is theirs now.
                Err(error) if is_busy(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for dir in [paths::STATE, paths::RUN, paths::LOGS, paths::PROGRAMS, paths::CONFIG] {
        removed += usize::from(files::remove(Path::new(dir))?);
    }
    Ok(removed)
}
