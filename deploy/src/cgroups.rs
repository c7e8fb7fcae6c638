//! cgroups of version 1 and 2: a subtree for each node in namespaces, and the removal of what is left of one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::mount::MsFlags;

use crate::mounts::Mount;
use crate::{files, paths, wait};

/// The kernel needs a moment to forget processes that were killed.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// Where a hierarchy is mounted, and what with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The mount point.
    pub point: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub kind: String,
    /// The options to mount it with again: its controllers, or its name.
    pub options: String,
}

/// The hierarchies among the mounts.
#[must_use]
pub fn hierarchies(mounts: &[Mount]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(|m| m.kind == "cgroup" || m.kind == "cgroup2") {
        // Not what the first mount decided already, and what only the first namespace may say.
        let keep = |o: &&str| {
            !matches!(*o, "rw" | "ro" | "xattr" | "nsdelegate" | "memory_recursiveprot" | "clone_children") && !o.contains("release_agent")
        };
        let options: Vec<&str> = if mount.kind == "cgroup" { mount.options.split(',').filter(keep).collect() } else { Vec::new() };
        if !found.iter().any(|h| h.point == mount.point) {
            found.push(Hierarchy { point: mount.point.clone(), kind: mount.kind.clone(), options: options.join(",") });
        }
    }
    found
}

/// Moves this process into the cgroup of the node, in every hierarchy, making it where it is missing.
///
/// # Errors
/// A cgroup that cannot be made or entered.
pub fn enter(hierarchies: &[Hierarchy], node: &str) -> anyhow::Result<()> {
    let only_v2 = hierarchies.iter().all(|h| h.kind == "cgroup2");
    for hierarchy in hierarchies {
        let mut dir = hierarchy.point.clone();
        for part in [paths::CGROUP, node] {
            if only_v2 {
                delegate(&dir)?;
            }
            let parent = dir.clone();
            dir.push(part);
            files::ensure_dir(&dir)?;
            // A cpuset that nobody filled takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if hierarchy.kind == "cgroup" && dir.join(file).exists() {
                    let value = std::fs::read(parent.join(file)).with_context(|| format!("reading {}/{file}", parent.display()))?;
                    std::fs::write(dir.join(file), value).with_context(|| format!("writing {}/{file}", dir.display()))?;
                }
            }
        }
        let procs = dir.join("cgroup.procs");
        std::fs::write(&procs, std::process::id().to_string()).with_context(|| format!("entering {}", dir.display()))?;
    }
    Ok(())
}

/// Gives the cgroup's children every controller that it has itself.
fn delegate(dir: &Path) -> anyhow::Result<()> {
    let read = std::fs::read_to_string(dir.join("cgroup.controllers"));
    let controllers = read.with_context(|| format!("reading the controllers of {}", dir.display()))?;
    for controller in controllers.split_whitespace() {
        let control = dir.join("cgroup.subtree_control");
        std::fs::write(&control, format!("+{controller}")).with_context(|| format!("writing +{controller} to {}", control.display()))?;
    }
    Ok(())
}

/// Mounts the hierarchies anew, so that a process in cgroup namespaces of its own sees its own cgroup as the root, and nothing of
/// the others. The old mounts must be gone.
///
/// # Errors
/// A mount that the kernel refuses.
pub fn mount_anew(hierarchies: &[Hierarchy]) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    if hierarchies.iter().any(|h| h.kind == "cgroup") {
        nix::mount::mount(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .context("mounting /sys/fs/cgroup")?;
    }
    for hierarchy in hierarchies {
        files::ensure_dir(&hierarchy.point)?;
        let options = Some(hierarchy.options.as_str()).filter(|o| !o.is_empty());
        let kind = hierarchy.kind.as_str();
        nix::mount::mount(Some(kind), &hierarchy.point, Some(kind), MsFlags::empty(), options.or(none))
            .with_context(|| format!("mounting {} with {options:?}", hierarchy.point.display()))?;
    }
    let [only] = hierarchies else { return Ok(()) };
    if only.kind == "cgroup2" {
        // A cgroup of version 2 holds processes or gives controllers to its children, never both.
        let init = only.point.join("init");
        files::ensure_dir(&init)?;
        std::fs::write(init.join("cgroup.procs"), "0").with_context(|| format!("entering {}", init.display()))?;
        delegate(&only.point)?;
    }
    Ok(())
}

/// Removes the cgroup and all below it, in every hierarchy. What is not there is not an error. Gives the number removed.
///
/// # Errors
/// A cgroup that still has processes after a while.
pub fn remove(hierarchies: &[Hierarchy], name: &str) -> anyhow::Result<usize> {
    let mut removed = 0;
    for dir in hierarchies.iter().flat_map(|h| below(&h.point.join(name))) {
        let mut outcome = Ok(());
        let gone = wait::until(REMOVE_WITHIN, || {
            outcome = std::fs::remove_dir(&dir);
            outcome.as_ref().map_or_else(|e| e.kind() == std::io::ErrorKind::NotFound, |()| true)
        });
        match outcome {
            Ok(()) => removed += 1,
            Err(_) if gone => {}
            Err(error) => {
                let left = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                bail!("removing {}: {error}; processes in it: {:?}", dir.display(), left.split_whitespace().collect::<Vec<_>>());
            }
        }
    }
    Ok(removed)
}

/// The directory and all below it, the deepest first; nothing when it does not exist.
fn below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all: Vec<PathBuf> =
        entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).flat_map(|e| below(&e.path())).collect();
    all.push(dir.to_owned());
    all
}

/// The processes in the cgroup and all below it, in every hierarchy.
#[must_use]
pub fn processes(hierarchies: &[Hierarchy], name: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = hierarchies
        .iter()
        .flat_map(|h| below(&h.point.join(name)))
        .filter_map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<i32>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_mounted_again_with_what_makes_them_theirs() {
        let mount = |point: &str, kind: &str, options: &str| Mount {
            root: "/".into(),
            point: point.into(),
            kind: kind.into(),
            options: options.into(),
        };
        let found = hierarchies(&[
            mount("/", "ext4", "rw"),
            mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            mount("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,release_agent=/lib/x,name=systemd"),
            mount("/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"),
        ]);
        let lines: Vec<String> = found.iter().map(|h| format!("{} {} {}", h.point.display(), h.kind, h.options)).collect();
        assert_eq!(
            lines,
            [
                "/sys/fs/cgroup/cpu,cpuacct cgroup cpu,cpuacct",
                "/sys/fs/cgroup/systemd cgroup name=systemd",
                "/sys/fs/cgroup/unified cgroup2 "
            ]
        );
    }
}
