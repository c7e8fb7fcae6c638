//! `subPath`: a part of a volume, resolved so that no link leads out of the volume, and held by a bind mount so that
//! nobody can swap it between the check and the use.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{VolumeError, mounting};

/// Checks the words of a `subPath`, as upstream does after expansion.
///
/// # Errors
/// An absolute path, or one with `..` in it.
pub fn check(sub_path: &str) -> Result<(), VolumeError> {
    if sub_path.starts_with('/') {
        return Err(VolumeError(format!("error SubPath `{sub_path}` must not be an absolute path")));
    }
    if Path::new(sub_path).components().any(|c| c == Component::ParentDir) {
        return Err(VolumeError(format!("unable to provision SubPath `{sub_path}`: must not contain '..'")));
    }
    Ok(())
}

/// Opens `sub_path` below `volume`; makes the directories that are missing, with the volume's own permissions.
///
/// # Errors
/// A link that leads out of the volume, or what the file system says.
pub fn open(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let beneath = |path: &Path| {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
    };
    let wanted: PathBuf = Path::new(sub_path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
    if wanted.as_os_str().is_empty() {
        return Ok(root);
    }
    match beneath(&wanted) {
        Err(Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let stat = rustix::fs::fstat(&root)?;
    let mut at = PathBuf::new();
    let mut parent = beneath(Path::new("."))?;
    for part in wanted.components() {
        at.push(part);
        match beneath(&at) {
            Ok(found) => parent = found,
            Err(Errno::NOENT) => {
                // A link to nowhere is there already: mkdir says so and does not follow it.
                rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, part.as_os_str(), flags, Mode::empty())?;
                rustix::fs::fchown(&made, None, Some(rustix::fs::Gid::from_raw(stat.st_gid)))?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
                parent = made;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(parent)
}

/// The text of the regular file `path` below `volume`, of at most `most` bytes.
///
/// # Errors
/// Nothing there, a link that leads out of the volume, something that is no file of text or larger, or what the file system says.
pub fn read(volume: &Path, path: &str, most: u64) -> io::Result<String> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let wanted: PathBuf = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
    // A pipe that nobody writes to must not hold anybody up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = fs::File::from(rustix::fs::openat2(&root, &wanted, flags, Mode::empty(), beneath)?);
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut text = String::new();
    let length = opened.take(most + 1).read_to_string(&mut text)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(text)
}

/// Puts what `opened` is on `target` by a bind mount; a mount there of something else, such as the file before an
/// update, makes room.
///
/// # Errors
/// What the file system and the kernel say.
pub fn hold(opened: &OwnedFd, target: &Path) -> io::Result<()> {
    let stat = rustix::fs::fstat(opened)?;
    while mounting::is_mount_point(target)? {
        let there = fs::symlink_metadata(target)?;
        if (there.dev(), there.ino()) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        mounting::detach(target)?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() != is_dir => {
            if meta.is_dir() {
                fs::remove_dir(target)?;
            } else {
                fs::remove_file(target)?;
            }
            place(target, is_dir)?;
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => place(target, is_dir)?,
        Err(error) => return Err(error),
    }
    mounting::bind(Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())), target)
}

fn place(target: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir { fs::create_dir(target) } else { fs::File::create_new(target).map(drop) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn real(fd: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    #[test]
    fn words_are_checked() {
        let text = |p: &str| check(p).map_or_else(|e| e.to_string(), |()| "ok".into());
        assert_eq!(text("a/b"), "ok");
        assert_eq!(text("a..b/..c"), "ok");
        assert_eq!(text("/tmp"), "error SubPath `/tmp` must not be an absolute path");
        assert_eq!(text("a/../b"), "unable to provision SubPath `a/../b`: must not contain '..'");
    }

    #[test]
    fn missing_directories_are_made_like_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        let fd = open(dir.path(), "a/b").unwrap();
        assert_eq!(real(&fd), dir.path().join("a/b"));
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().mode() & 0o7777, 0o2775);
        assert_eq!(real(&open(dir.path(), "a/b").unwrap()), dir.path().join("a/b"));
        assert_eq!(real(&open(dir.path(), ".").unwrap()), dir.path());
    }

    #[test]
    fn links_are_followed_inside_and_never_out() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "").unwrap();
        fs::create_dir(dir.path().join("..data")).unwrap();
        fs::write(dir.path().join("..data/key"), "").unwrap();
        symlink("..data/key", dir.path().join("key")).unwrap();
        symlink(outside.path(), dir.path().join("absolute")).unwrap();
        symlink("../../../..", dir.path().join("up")).unwrap();
        symlink("absolute/new", dir.path().join("through")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert_eq!(real(&open(dir.path(), "key").unwrap()), dir.path().join("..data/key"));
        for path in ["absolute", "absolute/secret", "absolute/made", "up", "up/etc", "through", "dangling", "dangling/x"] {
            assert!(open(dir.path(), path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
    }

    #[test]
    fn only_files_of_the_volume_are_read() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "s").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/f"), "text").unwrap();
        symlink("sub/f", dir.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("out")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(read(dir.path(), "sub/f", 4).unwrap(), "text");
        assert_eq!(read(dir.path(), "link", 4).unwrap(), "text");
        assert_eq!(read(dir.path(), "none", 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(dir.path(), "sub/f", 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for path in ["out", "pipe", "sub", ""] {
            let error = read(dir.path(), path, 4).unwrap_err();
            assert!(path.is_empty() || error.kind() != io::ErrorKind::NotFound, "{path}: {error}");
        }
    }

    #[test]
    fn a_held_part_follows_an_update_when_held_again() {
        if !rustix::process::geteuid().is_root() {
            return; // only root may mount
        }
        let (volume, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = place.path().join("v/c/0");
        fs::write(volume.path().join("f"), "old").unwrap();
        hold(&open(volume.path(), "f").unwrap(), &target).unwrap();
        hold(&open(volume.path(), "f").unwrap(), &target).unwrap();
        fs::write(volume.path().join("g"), "new").unwrap();
        fs::rename(volume.path().join("g"), volume.path().join("f")).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        hold(&open(volume.path(), "f").unwrap(), &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        fs::remove_file(volume.path().join("f")).unwrap();
        hold(&open(volume.path(), "f").unwrap(), &target).unwrap();
        assert!(target.is_dir());
        mounting::remove_tree(&place.path().join("v")).unwrap();
    }
}
