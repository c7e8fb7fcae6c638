//! One log file a daemon, of bounded size.
//!
//! The daemon writes to the file itself, so it loses nothing when the supervisor dies. A file that has grown too large is copied
//! aside and cut to nothing; what is written in between those two is lost.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{files, paths};

/// A log is cut when it is larger than this.
const MOST_BYTES: u64 = 10 << 20;
/// This many older pieces are kept.
const KEPT: u32 = 2;

/// The log of a daemon.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(paths::LOGS).join(format!("{name}.log"))
}

/// Opens the log of a daemon for appending.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn open(name: &str) -> anyhow::Result<File> {
    files::ensure_dir(Path::new(paths::LOGS))?;
    let path = path(name);
    OpenOptions::new().append(true).create(true).open(&path).with_context(|| format!("opening {}", path.display()))
}

/// Cuts the log if it is too large.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn rotate(path: &Path) -> anyhow::Result<()> {
    rotate_above(path, MOST_BYTES)
}

fn rotate_above(path: &Path, most: u64) -> anyhow::Result<()> {
    let attempted = || format!("rotating {}", path.display());
    let size = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(attempted),
    };
    if size <= most {
        return Ok(());
    }
    let piece = |number: u32| path.with_added_extension(number.to_string());
    for number in (1..KEPT).rev() {
        if piece(number).exists() {
            std::fs::rename(piece(number), piece(number + 1)).with_context(attempted)?;
        }
    }
    std::fs::copy(path, piece(1)).with_context(attempted)?;
    OpenOptions::new().write(true).truncate(true).open(path).with_context(attempted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_large_log_is_cut_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.log");
        let mut log = OpenOptions::new().append(true).create(true).open(&path).expect("a log");
        for round in ["first", "second", "third", "fourth"] {
            log.write_all(round.as_bytes()).expect("written");
            rotate_above(&path, 100).expect("small enough");
            rotate_above(&path, 1).expect("cut");
        }
        log.write_all(b"now").expect("written");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("readable");
        assert_eq!((read("x.log"), read("x.log.1"), read("x.log.2")), ("now".into(), "fourth".into(), "third".into()));
        assert!(!dir.path().join("x.log.3").exists());
    }
}
