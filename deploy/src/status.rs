//! `ferrite status`: a table of every node's daemons.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cluster::{Cluster, Node};
use crate::manager;
use crate::process;
use crate::supervise::control;
use crate::supervise::control::DaemonStatus;

/// Prints the table.
///
/// # Errors
/// There is no cluster, or a daemon does not run.
pub fn run() -> anyhow::Result<()> {
    crate::steps::prerequisites::needs_root()?;
    let cluster = Cluster::load()?.context("there is no cluster on this machine: run deploy/up")?;
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for (node, daemons) in manager::everywhere(&cluster) {
        match daemons {
            Ok(daemons) => {
                let translate = pids_of(&node);
                for daemon in daemons {
                    if daemon.state != "running" {
                        missing.push(format!("{} on {}", daemon.name, node.name));
                    }
                    rows.push(row(&node, &daemon, &translate));
                }
            }
            Err(error) => {
                eprintln!("{}: {error:#}", node.name);
                missing.push(format!("every daemon on {}", node.name));
            }
        }
    }
    println!("{}", render(&["NODE", "DAEMON", "PID", "STATE", "RESTARTS", "UPTIME", "RSS", "CPU", "LAST EXIT"], &rows));
    if !missing.is_empty() {
        bail!("not running: {} (deploy/up starts what is missing; logs are in {})", missing.join(", "), crate::paths::LOGS);
    }
    Ok(())
}

/// The numbers that a node's processes have in its own namespace, with those they have on this machine.
fn pids_of(node: &Node) -> Vec<(i32, i32)> {
    if node.is_host() {
        return Vec::new();
    }
    let inner = UnixStream::connect(node.file(control::SOCKET))
        .and_then(|s| Ok(nix::sys::socket::getsockopt(&s, nix::sys::socket::sockopt::PeerCredentials)?.pid()));
    let Ok(inner) = inner else { return Vec::new() };
    let all = process::all();
    let namespace = all.iter().find(|p| p.pid == inner).and_then(|p| p.pid_namespace);
    let same = all.iter().filter(|p| namespace.is_some() && p.pid_namespace == namespace);
    same.filter_map(|p| Some((process::innermost_pid(p.pid)?, p.pid))).collect()
}

fn row(node: &Node, daemon: &DaemonStatus, translate: &[(i32, i32)]) -> Vec<String> {
    let none = || "-".to_owned();
    let pid = daemon.pid.map(|pid| translate.iter().find(|(inside, _)| *inside == pid).map_or(pid, |(_, outside)| *outside));
    vec![
        node.name.clone(),
        daemon.name.clone(),
        pid.map_or_else(none, |p| p.to_string()),
        daemon.state.clone(),
        daemon.restarts.to_string(),
        daemon.uptime.map_or_else(none, age),
        daemon.usage.map_or_else(none, |u| megabytes(u.rss)),
        daemon.usage.map_or_else(none, |u| format!("{:.2} s", u.cpu)),
        daemon.last_exit.clone().unwrap_or_else(none),
    ]
}

/// A duration as `kubectl` shows ages.
#[must_use]
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes in megabytes.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// A table with aligned columns.
#[must_use]
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let width = |column: usize| rows.iter().chain([&head]).filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    std::iter::once(&head).chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["vm".into(), "1".into()], vec!["vm-22".into(), "10".into()]];
        assert_eq!(render(&["NODE", "PID"], &rows), "NODE    PID\nvm      1\nvm-22   10");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (megabytes(7_654_321), age(Duration::from_secs(119)), age(Duration::from_secs(7300))),
            ("7.2 MB".into(), "119s".into(), "2h".into())
        );
    }
}
