//! `/logs/`: the files of the node's log directory, for people with `nodes/log`. No link leads out of it.

use std::io;
use std::path::{Component, Path as FsPath, PathBuf};

use axum::body::Body;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio_util::io::ReaderStream;

const LOGS: &str = "/var/log";
/// Names shown of one directory.
const MAX_NAMES: usize = 10_000;

/// A file's content, or a directory's names.
pub async fn serve(path: Option<Path<String>>) -> Response {
    let path = path.map(|Path(p)| p).unwrap_or_default();
    match tokio::task::spawn_blocking(move || open(FsPath::new(LOGS), &path)).await {
        Ok(Ok(Found::File(file))) => {
            let content = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (content, Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)))).into_response()
        }
        Ok(Ok(Found::Directory(names))) => {
            let lines: String = names.iter().map(|n| format!("<a href=\"{0}\">{0}</a>\n", html(n))).collect();
            Html(format!("<pre>\n{lines}</pre>\n")).into_response()
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        Ok(Err(error)) => (StatusCode::FORBIDDEN, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;")
}

#[derive(Debug)]
enum Found {
    File(std::fs::File),
    Directory(Vec<String>),
}

fn open(root: &FsPath, path: &str) -> io::Result<Found> {
    let wanted: PathBuf = FsPath::new(path).components().filter(|c| !matches!(c, Component::RootDir | Component::CurDir)).collect();
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let wanted = if wanted.as_os_str().is_empty() { PathBuf::from(".") } else { wanted };
    // Without NONBLOCK a pipe among the logs would hold this thread.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(&root, &wanted, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::XDEV) => return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the path leads out of the log directory")),
        found => found?,
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(Found::File(file.into())),
        FileType::Directory => {
            let mut names = vec![];
            for entry in rustix::fs::Dir::read_from(&file)?.take(MAX_NAMES) {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(if entry.file_type() == FileType::Directory { format!("{name}/") } else { name });
                }
            }
            names.sort();
            Ok(Found::Directory(names))
        }
        _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a file")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn only_what_is_below_is_shown() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a.log"), "text").unwrap();
        std::os::unix::fs::symlink("sub/a.log", dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        let text = |path: &str| match open(dir.path(), path) {
            Ok(Found::Directory(names)) => names.join(" "),
            Ok(Found::File(mut file)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
            Err(error) => format!("{:?}", error.kind()),
        };
        assert_eq!(text(""), "in out sub/");
        assert_eq!(text("sub/"), "a.log");
        assert_eq!(text("/sub/a.log"), "text");
        assert_eq!(text("in"), "text");
        assert_eq!(text("no"), "NotFound");
        for path in ["out/secret", "../etc/passwd", "sub/../../x", "out"] {
            assert_eq!(text(path), "PermissionDenied", "{path}");
        }
    }
}
