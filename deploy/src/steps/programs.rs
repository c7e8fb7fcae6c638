//! Copies the built daemons to where they run from, so that another build does not change what runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::Outcome;
use crate::up::Up;
use crate::{files, paths};

/// The programs of Ferrite.
pub const PROGRAMS: &[&str] = &["apiserver", "controller-manager", "coredns-lite", "ferrite", "kube-proxy", "kubelet", "scheduler"];

/// # Errors
/// A program was not built, or cannot be copied.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let mut copied = Vec::new();
    for name in PROGRAMS {
        let (from, to) = (up.built.join(name), Path::new(paths::PROGRAMS).join(name));
        if from == to {
            continue;
        }
        if !from.exists() {
            bail!("{} was not built: run `cargo build --release` (deploy/up does it by itself)", from.display());
        }
        if !is_same(&from, &to) {
            copy(&from, &to)?;
            copied.push(*name);
        }
    }
    Ok(Outcome::of(!copied.is_empty(), if copied.is_empty() { paths::PROGRAMS.to_owned() } else { copied.join(", ") }))
}

fn is_same(from: &Path, to: &Path) -> bool {
    let (Ok(a), Ok(b)) = (std::fs::metadata(from), std::fs::metadata(to)) else { return false };
    (a.len(), a.mtime(), a.mtime_nsec()) == (b.len(), b.mtime(), b.mtime_nsec())
}

/// Copies beside and renames, as a running program cannot be written to. The copy gets the original's time, by which `is_same` knows it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let attempted = || format!("copying {} to {}", from.display(), to.display());
    files::ensure_dir(Path::new(paths::PROGRAMS))?;
    let new = to.with_added_extension("new");
    std::fs::copy(from, &new).with_context(attempted)?;
    let modified = std::fs::metadata(from).and_then(|m| m.modified()).with_context(attempted)?;
    std::fs::File::options().write(true).open(&new).and_then(|f| f.set_modified(modified)).with_context(attempted)?;
    std::fs::rename(&new, to).with_context(attempted)
}
