//! Who a volume belongs to: the pod's `fsGroup`, and the user that all its containers run as.
//!
//! A volume with a group: every file belongs to it and it may read (write too, unless the volume is read-only);
//! directories pass the group on to what is made in them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags};
use rustix::io::Errno;

/// Directories in directories: each holds a descriptor open while it is walked.
const MAX_DEPTH: usize = 200;

/// The group that the pod's volumes belong to.
#[must_use]
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The user that all containers of the pod run as, when they agree and say so.
#[must_use]
pub fn fs_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then_some(first).and_then(|u| u32::try_from(u).ok())
}

/// A file's permissions in a volume with or without a group.
#[must_use]
pub fn file_mode(mode: u32, group: Option<u32>, read_only: bool) -> u32 {
    match (group, read_only) {
        (None, _) => mode,
        (Some(_), true) => mode | 0o440,
        (Some(_), false) => mode | 0o660,
    }
}

/// Sets a directory's permissions, and its group if there is one.
///
/// # Errors
/// What the file system says.
pub fn give_directory(dir: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mode = match group {
        Some(_) => mode | 0o2110,
        None => mode,
    };
    std::os::unix::fs::lchown(dir, None, group)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// Gives a whole tree to a group, without following links. With `only_on_mismatch`, a tree whose root already is the
/// group's is left alone (`fsGroupChangePolicy: OnRootMismatch`).
///
/// # Errors
/// What the file system says; a part of the tree is changed then.
pub fn give_tree(root: &Path, group: u32, read_only: bool, only_on_mismatch: bool) -> io::Result<()> {
    let wanted = if read_only { 0o2550 } else { 0o2770 };
    let root = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    if only_on_mismatch && stat.st_gid == group && stat.st_mode & wanted == wanted {
        return Ok(());
    }
    give_below(&root, Gid::from_raw(group), read_only, 0)
}

/// Walks by descriptor, so that nobody who writes in the tree meanwhile can lead us out of it.
fn give_below(dir: &OwnedFd, group: Gid, read_only: bool, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the volume's directories are nested too deeply"));
    }
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::openat(dir, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(child) => give_below(&child, group, read_only, depth + 1)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                rustix::fs::chownat(dir, name, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                let file = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                let stat = rustix::fs::fstat(&file)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                    let mode = file_mode(stat.st_mode & 0o7777, Some(group.as_raw()), read_only);
                    // A descriptor opened with O_PATH takes no fchmod; its name in /proc does.
                    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), fs::Permissions::from_mode(mode))?;
                }
            }
            Err(Errno::NOENT) => {} // gone meanwhile
            Err(error) => return Err(error.into()),
        }
    }
    // The directory after what is in it: its permissions say that the tree below is done.
    rustix::fs::fchown(dir, None, Some(group))?;
    let mode = rustix::fs::fstat(dir)?.st_mode & 0o7777 | if read_only { 0o2550 } else { 0o2770 };
    Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_user(spec: serde_json::Value, expected: Option<u32>) {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        assert_eq!(fs_user(&pod), expected);
    }

    #[test]
    fn the_user_is_the_one_all_containers_share() {
        let run_as = |user: u32| json!({"name": "c", "securityContext": {"runAsUser": user}});
        check_user(json!({"containers": [run_as(5), run_as(5)]}), Some(5));
        check_user(json!({"containers": [run_as(5), run_as(6)]}), None);
        check_user(json!({"containers": [run_as(5), {"name": "d"}]}), None);
        check_user(json!({"containers": [run_as(5), {"name": "d"}], "securityContext": {"runAsUser": 5}}), Some(5));
        check_user(json!({"containers": [run_as(5)], "initContainers": [{"name": "i"}]}), None);
    }

    #[test]
    fn a_tree_is_given_without_following_links() {
        if !rustix::process::geteuid().is_root() {
            return; // only root may give files away
        }
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "").unwrap();
        fs::set_permissions(dir.path().join("d/f"), fs::Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("l")).unwrap();
        give_tree(dir.path(), 77, false, true).unwrap();
        let of = |p: &Path| fs::metadata(p).map(|m| (m.gid(), m.mode() & 0o7777)).unwrap();
        assert_eq!(of(&dir.path().join("d/f")), (77, 0o664));
        assert_eq!(of(&dir.path().join("d")).1 & 0o2770, 0o2770);
        assert_ne!(of(outside.path()).0, 77);
        fs::write(dir.path().join("later"), "").unwrap();
        give_tree(dir.path(), 77, false, true).unwrap();
        assert_eq!(of(&dir.path().join("later")).1 & 0o060, 0o040, "a root that matches is left alone");
    }
}
