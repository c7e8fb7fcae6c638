//! A container's log file, read as it grows: to its end once, or on and on through rotations until the container is gone.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use inotify::{Inotify, WatchMask};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;

use super::log_lines::{Renderer, Wanted, tail_offset};

/// What is sent at a time, at most about this many bytes.
const CHUNK: usize = 32 << 10;
/// The longest line that is taken whole; runtimes cut at 16 KiB.
const MAX_LINE: usize = 1 << 20;
/// How often a follower looks whether the container still runs, when nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a follower looks for writes where the kernel gives no more inotify instances.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Says whether the container still runs.
pub type Runs = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Sends what `wanted` asks for of the log at `path`, from its last `tail` lines on. While `runs` says that the container
/// runs, a follower goes on. Ends early when nobody listens.
///
/// # Errors
/// A file that cannot be opened or read.
pub async fn read(path: &Path, wanted: Wanted, tail: Option<u64>, follow: Option<Runs>, out: &mpsc::Sender<Bytes>) -> io::Result<()> {
    // Before the file is opened, so that no write between the two is missed.
    let mut events = follow.as_ref().and_then(|_| watch(path));
    let mut renderer = Renderer::new(wanted);
    let mut file = File::open(path).await?;
    if let Some(lines) = tail {
        let std = file.try_clone().await?.into_std().await;
        let offset = tokio::task::spawn_blocking(move || {
            tail_offset(std.metadata()?.len(), lines, |offset, length| {
                let mut block = vec![0; length];
                std.read_exact_at(&mut block, offset).map(|()| block)
            })
        });
        file.seek(io::SeekFrom::Start(offset.await.map_err(io::Error::other)??)).await?;
    }
    let mut reader = Lines { file: BufReader::with_capacity(CHUNK, file), partial: vec![] };
    let mut last_look = false;
    loop {
        if !reader.drain(&mut renderer, out).await? {
            return Ok(());
        }
        let Some(runs) = &follow else { return Ok(()) };
        if let Some(next) = rotated(path, reader.file.get_ref()).await? {
            // What was written to the old file after we saw its end.
            if !reader.drain(&mut renderer, out).await? {
                return Ok(());
            }
            reader = Lines { file: BufReader::with_capacity(CHUNK, next), partial: vec![] };
            continue;
        }
        if last_look {
            return Ok(());
        }
        let woken = match &mut events {
            Some(events) => tokio::time::timeout(LOOK_EVERY, events.next()).await.is_ok_and(|e| e.is_some()),
            None => {
                tokio::time::sleep(POLL_EVERY).await;
                false
            }
        };
        if out.is_closed() {
            return Ok(());
        }
        // It ended: once more, for what it wrote last.
        last_look = !woken && !runs().await;
    }
}

/// The file at `path`, when it is another one than `current`.
async fn rotated(path: &Path, current: &File) -> io::Result<Option<File>> {
    let now = current.metadata().await?;
    match File::open(path).await {
        Ok(file) => {
            let there = file.metadata().await?;
            Ok(((there.dev(), there.ino()) != (now.dev(), now.ino())).then_some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None), // between the rename and the new file
        Err(error) => Err(error),
    }
}

/// Wakes on writes to the file and on changes in its directory; `None` when the kernel gives no more instances.
fn watch(path: &Path) -> Option<inotify::EventStream<[u8; 1024]>> {
    let inotify = Inotify::init().ok()?;
    let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE;
    inotify.watches().add(path.parent()?, mask).ok()?;
    inotify.into_event_stream([0; 1024]).ok()
}

struct Lines {
    file: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl Lines {
    /// Sends whole lines up to the file's end; gives whether to go on.
    async fn drain(&mut self, renderer: &mut Renderer, out: &mpsc::Sender<Bytes>) -> io::Result<bool> {
        let mut chunk = Vec::new();
        loop {
            let room = (MAX_LINE - self.partial.len()) as u64;
            let read = (&mut self.file).take(room).read_until(b'\n', &mut self.partial).await?;
            let whole = self.partial.last() == Some(&b'\n') || self.partial.len() >= MAX_LINE;
            if whole {
                renderer.push(self.partial.strip_suffix(b"\n").unwrap_or(&self.partial), &mut chunk);
                self.partial.clear();
            }
            let at_end = read == 0 || !whole;
            let full = !chunk.is_empty() && (chunk.len() >= CHUNK || at_end || renderer.is_done());
            if full && out.send(std::mem::take(&mut chunk).into()).await.is_err() {
                return Ok(false);
            }
            if renderer.is_done() {
                return Ok(false);
            }
            if at_end {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn line(text: &str) -> String {
        format!("2026-01-01T00:00:00Z stdout F {text}\n")
    }

    async fn next(lines: &mut mpsc::Receiver<Bytes>) -> String {
        let chunk = tokio::time::timeout(Duration::from_secs(10), lines.recv()).await.expect("nothing came");
        chunk.map_or_else(|| "<end>".into(), |c| String::from_utf8(c.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_follower_sees_writes_rotation_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, line("old") + &line("one")).unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let (sender, mut lines) = mpsc::channel(8);
        let (task_path, task_running) = (path.clone(), running.clone());
        let task = tokio::spawn(async move {
            let runs: Runs = Box::new(move || Box::pin(std::future::ready(task_running.load(Ordering::SeqCst))));
            read(&task_path, Wanted::default(), Some(1), Some(runs), &sender).await
        });
        assert_eq!(next(&mut lines).await, "one\n");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2026-01-01T00:00:00Z stdout F two").unwrap();
        file.write_all(b"!\n").unwrap();
        assert_eq!(next(&mut lines).await, "two!\n");
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        file.write_all(line("late").as_bytes()).unwrap();
        fs::write(dir.path().join("new"), line("three")).unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(next(&mut lines).await, "late\n");
        assert_eq!(next(&mut lines).await, "three\n");
        running.store(false, Ordering::SeqCst);
        assert_eq!(next(&mut lines).await, "<end>");
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_follow_the_end_is_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let text: String = (0..5_000).map(|i| line(&format!("{i} {}", "x".repeat(50)))).collect();
        fs::write(&path, &text).unwrap();
        let (sender, mut lines) = mpsc::channel(1);
        let task = tokio::spawn(async move { read(&path, Wanted::default(), None, None, &sender).await });
        let mut all = String::new();
        while let Some(chunk) = lines.recv().await {
            assert!(chunk.len() < CHUNK + 100);
            all.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        task.await.unwrap().unwrap();
        assert_eq!(all.lines().count(), 5_000);
        assert!(all.ends_with(&format!("4999 {}\n", "x".repeat(50))));
    }
}
