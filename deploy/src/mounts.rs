//! The mounts of this process, as `/proc/self/mountinfo` lists them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, umount2};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which part of the file system is mounted.
    pub root: String,
    /// Where.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: String,
    /// The options of the file system itself.
    pub options: String,
}

/// The mounts, in the order in which they were made.
///
/// # Errors
/// `/proc` cannot be read.
pub fn all() -> anyhow::Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (unescape(left.next()?), unescape(left.next()?));
    let mut right = right.split(' ');
    Some(Mount { root, point: point.into(), kind: right.next()?.to_owned(), options: right.nth(1)?.to_owned() })
}

/// Spaces, tabs, newlines and backslashes come as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].iter().fold(text.to_owned(), |t, (code, c)| t.replace(code, c))
}

/// Unmounts everything at or below the directories, the newest first. Gives the number of mounts that went.
///
/// # Errors
/// A mount that does not go even lazily.
pub fn detach_below(dirs: &[&str]) -> anyhow::Result<usize> {
    let below: Vec<PathBuf> = all()?.into_iter().map(|m| m.point).filter(|p| dirs.iter().any(|d| p.starts_with(d))).collect();
    for point in below.iter().rev() {
        detach(point)?;
    }
    Ok(below.len())
}

/// Unmounts what is mounted at `point`, whoever still uses it.
///
/// # Errors
/// The kernel's refusal, with the path.
pub fn detach(point: &Path) -> anyhow::Result<()> {
    match umount2(point, MntFlags::MNT_DETACH) {
        // It went with another one.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", point.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    40 28 0:35 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].root.as_str(), mounts[0].point.to_str()), ("/mnt1", Some("/mnt 2")));
        assert_eq!((mounts[1].kind.as_str(), mounts[1].options.as_str()), ("cgroup", "rw,cpu"));
    }
}
