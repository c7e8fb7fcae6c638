//! What `/proc` says about processes.

use std::path::PathBuf;
use std::time::Duration;

use procfs::process::Process;
use serde::{Deserialize, Serialize};

/// A process that may have been replaced by another with the same number since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in ticks since boot: no two processes share both.
    pub start_time: u64,
}

impl Identity {
    /// The process that now has this number; `None` when there is none, or only a zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        (stat.state != 'Z' && stat.state != 'X').then_some(Self { pid, start_time: stat.starttime })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Its share of it, where pages that several processes use are split among them; not known where the kernel does not say.
    #[serde(default)]
    pub pss: Option<u64>,
    /// Processor time so far, in seconds.
    pub cpu: f64,
}

/// What the process uses now; `None` when it is gone.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    let stat = Process::new(pid).ok()?.stat().ok()?;
    let ticks = procfs::ticks_per_second();
    let cpu = Duration::from_millis((stat.utime + stat.stime) * 1000 / ticks).as_secs_f64();
    Some(Usage { rss: stat.rss * procfs::page_size(), pss: pss(pid), cpu })
}

fn pss(pid: i32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kilobytes: u64 = rollup.lines().find_map(|l| l.strip_prefix("Pss:"))?.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// A process as `down` looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its program.
    pub exe: PathBuf,
    /// Its arguments.
    pub argv: Vec<String>,
    /// Where the upper directory of its root file system is, when that is an overlay.
    pub overlay: Option<String>,
    /// Its process namespace.
    pub pid_namespace: Option<u64>,
}

/// Every process that there is. One that ends meanwhile is left out.
#[must_use]
pub fn all() -> Vec<Seen> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    processes.filter_map(Result::ok).filter_map(|p| see(&p)).collect()
}

fn see(process: &Process) -> Option<Seen> {
    let stat = process.stat().ok()?;
    let overlay = process.mountinfo().ok().and_then(|mounts| {
        let root = mounts.0.into_iter().rfind(|m| m.mount_point.as_os_str() == "/")?;
        root.super_options.get("upperdir").cloned().flatten()
    });
    let pid_namespace = process.namespaces().ok().and_then(|n| n.0.get(std::ffi::OsStr::new("pid")).map(|n| n.identifier));
    Some(Seen {
        pid: process.pid,
        parent: stat.ppid,
        // Kernel threads have none.
        exe: process.exe().unwrap_or_default(),
        argv: process.cmdline().unwrap_or_default(),
        overlay,
        pid_namespace,
    })
}

/// The number that the process has in its own namespace.
#[must_use]
pub fn innermost_pid(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id().cast_signed();
        assert!(Identity::of(me).is_some_and(Identity::is_alive));
        assert!(usage(me).is_some_and(|u| u.rss > 0 && u.pss.is_some_and(|pss| pss > 0)));
        assert!(all().iter().any(|p| p.pid == me && !p.argv.is_empty()));
        assert_eq!(Identity::of(0), None);
    }
}
