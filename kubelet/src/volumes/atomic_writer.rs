//! A directory whose files change all at once: readers see the old set or the new one, never a mixture.
//!
//! The scheme is upstream's, and programs rely on it: files live in a directory named after the time, `..data` is a link
//! to it that is replaced by rename, and each visible name is a link through `..data`. Nothing is touched when nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path};

use jiff::Timestamp;

use super::ownership;

/// One file to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub data: Vec<u8>,
    /// Its permissions, before those that a group adds.
    pub mode: u32,
    /// Who owns it; root when nobody is named.
    pub owner: Option<u32>,
}

/// Files by their path relative to the volume.
pub type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";
/// The longest path a file may have (PATH_MAX).
const MAX_PATH: usize = 4_096;

/// Makes `dir` show exactly `payload`, owned by `group` if there is one. Gives whether anything changed.
///
/// # Errors
/// A path that leaves the directory, or what the file system says. The old files stay in place then.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let tops: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    let current = match fs::read_link(dir.join(DATA)) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(current) = &current
        && shows(&dir.join(current), payload, group)?
        && tops.iter().all(|top| fs::symlink_metadata(dir.join(top)).is_ok_and(|m| m.is_symlink()))
    {
        return Ok(false);
    }
    let stamp = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%f"));
    let fresh = dir.join(&stamp);
    fill(&fresh, payload, group)?;
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_ok_and(|m| m.is_symlink()) {
            continue;
        }
        // A directory that a `subPath` to a missing key has made.
        remove_if_there(&link)?;
        std::os::unix::fs::symlink(Path::new(DATA).join(top), link)?;
    }
    remove_if_there(&dir.join(DATA_TMP))?;
    std::os::unix::fs::symlink(&stamp, dir.join(DATA_TMP))?;
    fs::rename(dir.join(DATA_TMP), dir.join(DATA))?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(text) = name.to_str() else { continue };
        if text == DATA || text == stamp || tops.contains(text) {
            continue;
        }
        remove_if_there(&dir.join(text))?;
    }
    Ok(true)
}

/// Removes a link or file, or a directory with what is in it.
fn remove_if_there(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || path.len() > MAX_PATH || path.starts_with("..") || !inside {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path:?}")));
    }
    Ok(())
}

/// Writes the files into a new directory.
fn fill(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dir)?;
    ownership::give_directory(dir, 0o755, group)?;
    for (path, file) in payload {
        let target = dir.join(path);
        let mut parents: Vec<&Path> = target.ancestors().skip(1).take_while(|p| *p != dir).collect();
        parents.reverse();
        for parent in parents {
            if !parent.is_dir() {
                fs::create_dir(parent)?;
                ownership::give_directory(parent, 0o755, group)?;
            }
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
        out.write_all(&file.data)?;
        std::os::unix::fs::fchown(&out, file.owner, group)?;
        // After the owner: changing that may clear bits. Not by `mode` above: the umask would take part.
        out.set_permissions(fs::Permissions::from_mode(mode(file, group)))?;
    }
    Ok(())
}

fn mode(file: &File, group: Option<u32>) -> u32 {
    ownership::file_mode(file.mode & 0o777, group, true)
}

/// Whether the directory holds exactly these files.
fn shows(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let mut found = 0_usize;
    let mut pending = vec![String::new()];
    while let Some(below) = pending.pop() {
        let entries = match fs::read_dir(dir.join(&below)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Some(path) = entry.file_name().to_str().map(|n| if below.is_empty() { n.to_owned() } else { format!("{below}/{n}") })
            else {
                return Ok(false);
            };
            let meta = entry.metadata()?;
            if meta.is_dir() {
                pending.push(path);
                continue;
            }
            let Some(file) = payload.get(&path) else { return Ok(false) };
            let owned = meta.uid() == file.owner.unwrap_or(meta.uid()) && meta.gid() == group.unwrap_or(meta.gid());
            if !owned || meta.mode() & 0o777 != mode(file, group) || fs::read(entry.path())? != file.data {
                return Ok(false);
            }
            found += 1;
        }
    }
    Ok(found == payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(p, d)| ((*p).to_owned(), File { data: d.as_bytes().to_vec(), mode: 0o640, owner: None })).collect()
    }

    /// The visible names with what is read through them; links show that they are links.
    fn listing(dir: &Path) -> Vec<String> {
        let mut out = vec![];
        for entry in fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("..2") {
                out.push("..<time>".to_owned());
            } else if fs::metadata(dir.join(&name)).unwrap().is_dir() {
                out.push(format!("{name}/"));
            } else {
                out.push(format!("{name}={}", fs::read_to_string(dir.join(&name)).unwrap()));
            }
            assert!(fs::symlink_metadata(dir.join(&name)).unwrap().is_symlink() || name.starts_with("..2"), "{name} is no link");
        }
        out.sort();
        out
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn files_appear_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(write(dir, &payload(&[("a", "1"), ("sub/b", "2")]), None, at(0)).unwrap());
        assert_eq!(listing(dir), ["..<time>", "..data/", "a=1", "sub/"]);
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().mode() & 0o777, 0o640);
        assert!(!write(dir, &payload(&[("a", "1"), ("sub/b", "2")]), None, at(1)).unwrap(), "the same again is no change");
        assert!(write(dir, &payload(&[("a", "3"), ("c", "4")]), None, at(2)).unwrap());
        assert_eq!(listing(dir), ["..<time>", "..data/", "a=3", "c=4"]);
        assert!(write(dir, &Payload::new(), None, at(3)).unwrap());
        assert_eq!(listing(dir), ["..<time>", "..data/"]);
    }

    #[test]
    fn a_changed_mode_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = payload(&[("a", "1")]);
        write(dir.path(), &files, None, at(0)).unwrap();
        files.get_mut("a").unwrap().mode = 0o400;
        assert!(write(dir.path(), &files, None, at(1)).unwrap());
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o400);
    }

    #[test]
    fn an_interrupted_write_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let files = payload(&[("a", "1")]);
        write(dir.path(), &files, None, at(0)).unwrap();
        // What a crash before the rename leaves, and a visible link that was never made.
        fs::create_dir(dir.path().join("..2020_01_01_00_00_00.0")).unwrap();
        std::os::unix::fs::symlink("..2020_01_01_00_00_00.0", dir.path().join(DATA_TMP)).unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(write(dir.path(), &files, None, at(1)).unwrap());
        assert_eq!(listing(dir.path()), ["..<time>", "..data/", "a=1"]);
    }

    #[test]
    fn a_directory_in_the_place_of_a_key_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &payload(&[("a", "1")]), None, at(0)).unwrap();
        for name in ["b", "never"] {
            fs::create_dir(dir.path().join(name)).unwrap(); // as `subPath` does for a missing key
        }
        assert!(write(dir.path(), &payload(&[("a", "1"), ("b", "2")]), None, at(1)).unwrap());
        assert_eq!(listing(dir.path()), ["..<time>", "..data/", "a=1", "b=2"]);
    }

    #[test]
    fn paths_do_not_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/x", "", "..data", "a/../b"] {
            assert!(write(dir.path(), &payload(&[(path, "")]), None, at(0)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_group_gets_the_files() {
        if !rustix::process::geteuid().is_root() {
            return; // only root may give files away
        }
        let dir = tempfile::tempdir().unwrap();
        let files = [("t".to_owned(), File { data: vec![1], mode: 0o600, owner: Some(1234) })].into();
        write(dir.path(), &files, Some(4321), at(0)).unwrap();
        let meta = fs::metadata(dir.path().join("t")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1234, 4321, 0o640));
        assert!(!write(dir.path(), &files, Some(4321), at(1)).unwrap());
    }
}
