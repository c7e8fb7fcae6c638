//! `hostPath`: a path of the node, checked or made as its `type` says.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt, OpenOptionsExt as _};
use std::path::Path;

use super::VolumeError;

/// Checks that `path` is of the type that is asked for; the types `...OrCreate` make it when nothing is there.
///
/// # Errors
/// Upstream's words about what is wrong with it.
pub fn set_up(path: &Path, kind: &str) -> Result<(), VolumeError> {
    let failed = |what: &str| VolumeError(format!("hostPath type check failed: {} is not {what}", path.display()));
    let said = |error: io::Error| VolumeError(format!("hostPath {}: {error}", path.display()));
    let found = match fs::metadata(path) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(said(error)),
    };
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(said),
        ("FileOrCreate", None) => fs::OpenOptions::new().append(true).create(true).mode(0o644).open(path).map(drop).map_err(said),
        ("Directory" | "DirectoryOrCreate", found) => found.filter(fs::FileType::is_dir).map(drop).ok_or_else(|| failed("a directory")),
        ("File" | "FileOrCreate", found) => found.filter(fs::FileType::is_file).map(drop).ok_or_else(|| failed("a file")),
        ("Socket", found) => found.filter(FileTypeExt::is_socket).map(drop).ok_or_else(|| failed("a socket file")),
        ("CharDevice", found) => found.filter(FileTypeExt::is_char_device).map(drop).ok_or_else(|| failed("a character device")),
        ("BlockDevice", found) => found.filter(FileTypeExt::is_block_device).map(drop).ok_or_else(|| failed("a block device")),
        (other, _) => Err(VolumeError(format!("{other} is an invalid volume type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let ok = |path: &Path, kind: &str| set_up(path, kind).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), ""));
        for (path, kind) in [(dir.path(), "Directory"), (&file, "File"), (&socket, "Socket"), (Path::new("/dev/null"), "CharDevice")] {
            assert_eq!(ok(path, kind), Ok(()), "{kind}");
        }
        assert_eq!(ok(&file, "Directory"), Err("hostPath type check failed: /file is not a directory".into()));
        assert_eq!(ok(&file, "DirectoryOrCreate"), Err("hostPath type check failed: /file is not a directory".into()));
        assert_eq!(ok(dir.path(), "FileOrCreate"), Err("hostPath type check failed:  is not a file".into()));
        assert_eq!(ok(&dir.path().join("no"), "File"), Err("hostPath type check failed: /no is not a file".into()));
        assert_eq!(ok(&file, "BlockDevice"), Err("hostPath type check failed: /file is not a block device".into()));
        assert_eq!(ok(&dir.path().join("no"), ""), Ok(()));
        assert_eq!(ok(&dir.path().join("made/deep"), "DirectoryOrCreate"), Ok(()));
        assert_eq!(ok(&dir.path().join("made/file"), "FileOrCreate"), Ok(()));
        assert!(dir.path().join("made/deep").is_dir() && dir.path().join("made/file").is_file());
    }
}
