//! Files that are written only where they differ, and never half.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Readable by root alone: keys, and whatever contains one.
pub const SECRET: u32 = 0o600;
/// Readable by everybody.
pub const PUBLIC: u32 = 0o644;
/// A program.
pub const PROGRAM: u32 = 0o755;

/// Makes `path` hold `content` with `mode`; says whether anything had to change. Missing directories are made.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn ensure(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<bool> {
    let attempted = || format!("writing {}", path.display());
    if let Ok(present) = std::fs::read(path)
        && present == content
    {
        return ensure_mode(path, mode);
    }
    if let Some(parent) = path.parent() {
        ensure_dir(parent)?;
    }
    let temporary = path.with_added_extension("new");
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_data()?;
        std::fs::rename(&temporary, path)
    })();
    written.with_context(attempted)?;
    Ok(true)
}

/// Gives the file this mode, if it has another.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn ensure_mode(path: &Path, mode: u32) -> anyhow::Result<bool> {
    let attempted = || format!("permissions of {}", path.display());
    let now = std::fs::metadata(path).with_context(attempted)?.permissions().mode() & 0o7777;
    if now != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(attempted)?;
    }
    Ok(now != mode)
}

/// Makes the directory and what is above it; says whether it was missing.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn ensure_dir(path: &Path) -> anyhow::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(|| format!("making directory {}", path.display()))?;
    Ok(true)
}

/// Removes a file, or a directory with all that is in it; what is not there is not an error. Says whether there was something.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn remove(path: &Path) -> anyhow::Result<bool> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        assert!(ensure(&path, b"x", SECRET).expect("written"));
        assert!(!ensure(&path, b"x", SECRET).expect("kept"));
        assert!(ensure(&path, b"x", PUBLIC).expect("mode changed"));
        assert!(ensure(&path, b"y", PUBLIC).expect("content changed"));
        assert_eq!(std::fs::read(&path).expect("readable"), b"y");
        assert!(remove(&dir.path().join("a")).expect("removed"));
        assert!(!remove(&dir.path().join("a")).expect("nothing there"));
    }
}
