//! Kernel settings without which packets do not reach pods. What they were is noted, and restored by `down`.

use std::path::Path;

use anyhow::Context as _;

use super::Outcome;
use crate::ledger::Ledger;
use crate::up::Up;

/// Paths below `/proc/sys`, and what must be there, on every node.
pub const WANTED: &[(&str, &str)] = &[
    // Packets to pods pass through the node.
    ("net/ipv4/ip_forward", "1"),
    // Host ports answer on 127.0.0.1; kube-proxy drops what others send there.
    ("net/ipv4/conf/all/route_localnet", "1"),
    // A Service's answer from a pod of the same node passes the bridge only; it must be translated back there.
    ("net/bridge/bridge-nf-call-iptables", "1"),
];

/// # Errors
/// A setting cannot be read or written.
pub async fn run(_: &Up) -> anyhow::Result<Outcome> {
    let mut ledger = Ledger::open()?;
    let mut changed = Vec::new();
    for (key, value) in WANTED {
        let path = Path::new("/proc/sys").join(key);
        let now = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        if now.trim() != *value {
            // Noted before it is changed: a crash in between loses nothing.
            ledger.sysctls.entry((*key).to_owned()).or_insert_with(|| now.trim().to_owned());
            ledger.save()?;
            set(key, value)?;
            changed.push(format!("{}={value}", key.replace('/', ".")));
        }
    }
    let what = if changed.is_empty() { "as needed".to_owned() } else { changed.join(", ") };
    Ok(Outcome::of(!changed.is_empty(), what))
}

/// Sets one.
///
/// # Errors
/// The kernel refuses.
pub fn set(key: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(key);
    std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
}
