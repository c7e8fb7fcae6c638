//! Mounts on the host: is there one, make one, and take every one below a directory away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Whether something is mounted on exactly this path; `false` when it does not exist.
///
/// # Errors
/// What the file system says.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a file system in memory on `dir`, of at most `size` bytes when given.
///
/// # Errors
/// What the kernel says.
pub fn tmpfs(dir: &Path, size: Option<u64>, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut options = format!("mode={mode:o}");
    if let Some(group) = group {
        options.push_str(&format!(",gid={group}"));
    }
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    Ok(rustix::mount::mount("tmpfs", dir, "tmpfs", MountFlags::empty(), options.as_c_str())?)
}

/// Makes `source` appear on `target`.
///
/// # Errors
/// What the kernel says.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(source, target)?)
}

/// Takes the mount on `target` away at once for new users; who has it open keeps it.
///
/// # Errors
/// What the kernel says.
pub fn detach(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Takes every mount below `dir` away, then the directory. A mount that stays keeps the directory, so that nothing
/// behind it is removed.
///
/// # Errors
/// A mount that is busy, or what the file system says.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let mut below = mounts_below(dir)?;
    below.reverse(); // the youngest first: it may lie on an older one
    for target in &below {
        rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
            .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("unmounting {}: {e}", target.display())))?;
    }
    if let Some(left) = mounts_below(dir)?.first() {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is still mounted", left.display())));
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The mount points at or below `dir`, the oldest first, as proc_pid_mountinfo(5) lists them.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).filter(|point| point.starts_with(&dir)).collect())
}

/// Undoes the octal escapes of spaces, tabs, newlines and backslashes.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c/ü"), PathBuf::from(r"/a b\c/ü"));
        assert_eq!(unescape(r"/a\9"), PathBuf::from(r"/a\9"));
    }

    #[test]
    fn a_tree_goes_with_its_mounts_and_not_with_what_is_behind_them() {
        if !rustix::process::geteuid().is_root() {
            return; // only root may mount
        }
        let (dir, behind) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(behind.path().join("kept"), "").unwrap();
        let tree = dir.path().join("a b");
        fs::create_dir_all(tree.join("bound")).unwrap();
        fs::create_dir_all(tree.join("memory")).unwrap();
        assert!(!is_mount_point(&tree.join("memory")).unwrap() && !is_mount_point(&tree.join("absent")).unwrap());
        bind(behind.path(), &tree.join("bound")).unwrap();
        tmpfs(&tree.join("memory"), Some(1 << 20), 0o2777, Some(7)).unwrap();
        assert!(is_mount_point(&tree.join("memory")).unwrap());
        fs::create_dir(tree.join("memory/inner")).unwrap();
        bind(behind.path(), &tree.join("memory/inner")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && behind.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }
}
