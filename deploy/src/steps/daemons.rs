//! Writes each node's list of daemons and lets the manager of this machine start them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Outcome;
use crate::daemons::{self, Environment};
use crate::manager::write_daemons;
use crate::supervise::DAEMONS;
use crate::supervise::control::{self, Answer, Question};
use crate::supervise::policy::Changes;
use crate::up::Up;

/// # Errors
/// The manager refuses, or a file cannot be written.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let mut all = Changes::default();
    // The other nodes' lists first: starting this machine's daemons starts the nodes.
    for node in up.cluster.others() {
        let environment = Environment { resolv_conf: "/etc/resolv.conf".into() };
        let list = daemons::of(&up.cluster, node, &environment, &version);
        if write_daemons(&node.file(DAEMONS), &list)?
            && let Ok(Answer::Changes(changes)) = control::ask(&node.file(control::SOCKET), Question::Reload)
        {
            all.restarted.extend(changes.restarted.iter().map(|d| format!("{d} on {}", node.name)));
        }
    }
    let environment = Environment { resolv_conf: super::machine::resolv_conf().into() };
    let list = daemons::of(&up.cluster, up.cluster.host(), &environment, &version);
    let changes = up.manager.apply(&list)?;
    all.started.extend(changes.started);
    all.restarted.extend(changes.restarted);
    all.stopped.extend(changes.stopped);
    let said: Vec<String> = [("started", &all.started), ("restarted", &all.restarted), ("stopped", &all.stopped)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    Ok(Outcome::of(!said.is_empty(), if said.is_empty() { "all running".to_owned() } else { said.join("; ") }))
}

/// A daemon is another one when its program is, or a file that it reads only at its start.
fn version(program: &str, inputs: &[&str]) -> String {
    let program = std::fs::metadata(Path::new(program)).map_or_else(|_| "none".into(), |m| format!("{}.{}", m.mtime(), m.mtime_nsec()));
    let mut version = program;
    for input in inputs {
        let digest = Sha256::digest(std::fs::read(input).unwrap_or_default());
        version += &format!("-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    }
    version
}
