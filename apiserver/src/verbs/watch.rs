//! WATCH: a cursor in the cache's window, rendered as a stream of events.
//!
//! An object that enters the selection is ADDED, one that leaves it DELETED with its last selected state. A watcher that cannot keep
//! up, or whose resourceVersion is older than the window, gets 410 Gone and lists again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Call;
use super::select::{Chosen, Selection};
use crate::http::negotiate::{Format, View};
use crate::http::pieces::{PIECE, Pieces};
use crate::http::query::ListOptions;
use crate::http::render::Renderer;
use crate::storage::entry::{Kind, TAIL};
use crate::storage::{Cursor, Entry, Event};

/// Events taken from the window at a time at most, so that its lock is held shortly.
const BATCH: usize = 256;
/// How often a watcher that wants them gets a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// So long before its end a watcher gets a last bookmark, and need not go through what it has seen when it watches again.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A watch without a timeout of its own lasts between this and twice this, as upstream's do.
const LASTS: Duration = Duration::from_secs(1_800);
/// After it was told something, a watcher is told what else happened within this time all at once: many small messages cost more than few
/// larger ones, and who hears something for the first time hears it without delay.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that are put together before they are sent, while more is at hand.
const CHUNK: usize = 4 * PIECE;

/// The stream of a watch, and the format it is in.
///
/// # Errors
/// Options that make no sense, a resourceVersion that is gone or not there yet.
pub async fn watch(call: &Call) -> Result<(Format, impl Stream<Item = Result<Bytes, std::io::Error>> + use<>), Status> {
    let options = ListOptions::parse(&call.query, true)?;
    let selection = Selection::new(&call.row, &call.info.namespace, &call.info.name, &options)?;
    let renderer = call.renderer()?.settled();
    let hub = call.server.hub.clone();
    let initial = options.initial_events == Some(true) || matches!(options.resource_version, None | Some(0));
    let (queued, cursor, revision) = if initial && options.initial_events != Some(false) {
        let seen = match options.resource_version {
            None => hub.fresh().await?,
            Some(v) => hub.reach(v).await?,
        };
        let (entries, revision, cursor) = call.row.cache.snapshot(&selection.prefix, seen);
        let chosen = Chosen::among(call, &selection, &entries).await?;
        let selected = entries.into_iter().filter(|e| chosen.has(e)).collect();
        (call.entries(selected).await?.into(), cursor, revision)
    } else {
        let from = match options.resource_version {
            None | Some(0) => hub.reach(0).await?,
            Some(v) => v,
        };
        hub.reach(from).await?;
        let Ok(cursor) = call.row.cache.cursor_after(from) else {
            // As upstream: once a watch is accepted, what goes wrong is an event of it. Clients list again on that, and not on an error.
            let line = renderer.event(&json!({"type": "ERROR", "object": gone(from, hub.seen()).to_json()}));
            return Ok((renderer.media().format, futures::stream::iter([Ok(line)]).left_stream()));
        };
        (VecDeque::new(), cursor, from)
    };
    let lasts = options.timeout_seconds.map_or_else(|| LASTS.mul_f64(1.0 + rand::random::<f64>()), Duration::from_secs);
    let now = Instant::now();
    let format = renderer.media().format;
    let watcher = Watcher {
        hub,
        selection,
        renderer,
        cursor,
        queued,
        initial_end: (options.initial_events == Some(true)).then_some(revision),
        bookmarks: options.bookmarks,
        bookmark_at: bookmark_at(now, BOOKMARK_EVERY.mul_f64(0.9 + 0.2 * rand::random::<f64>()), now + lasts),
        until: now + lasts,
        first: true,
        converts: call.row.versions().is_some_and(|v| v.asks()).then(|| call.clone()),
        ended: false,
        told_at: None,
        out: Chunk::default(),
        timer: Box::pin(tokio::time::sleep_until(now + lasts)),
        shutdown: Box::pin(call.server.shutdown.clone().cancelled_owned()),
    };
    let stream = futures::stream::unfold(Some(Box::new(watcher)), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Next::Bytes(bytes) => Some((Ok(bytes), Some(watcher))),
            Next::Last(bytes) => Some((Ok(bytes), None)),
            Next::End => None,
        }
    });
    Ok((format, stream.right_stream()))
}

/// When the next bookmark is due: after `every`, or shortly before the end.
fn bookmark_at(now: Instant, every: Duration, until: Instant) -> Instant {
    match until.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if last > now => last.min(now + every),
        _ => now + every,
    }
}

fn gone(revision: u64, current: u64) -> Status {
    Status::expired(format!("too old resource version: {revision} ({current})"))
}

struct Watcher {
    hub: Arc<crate::storage::Hub>,
    selection: Selection,
    renderer: Renderer,
    cursor: Cursor,
    /// Objects that were there at the beginning and are still to be reported.
    queued: VecDeque<Arc<Entry>>,
    /// The revision at which the end of the initial events is to be reported.
    initial_end: Option<u64>,
    bookmarks: bool,
    bookmark_at: Instant,
    until: Instant,
    /// Whether nothing was sent so far.
    first: bool,
    /// What brings events into the row's version, where somebody has to be asked for that.
    converts: Option<Call>,
    /// Whether the watch ends when everything is sent.
    ended: bool,
    /// When something was last sent.
    told_at: Option<Instant>,
    /// What is put together and not sent yet.
    out: Chunk,
    /// Kept from one wait to the next, as most waits end by an event: set anew only when what is due next has changed.
    timer: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

enum Next {
    Bytes(Bytes),
    Last(Bytes),
    End,
}

impl Watcher {
    /// The next piece of the stream; waits until there is one.
    async fn next(&mut self) -> Next {
        loop {
            if !self.out.is_empty() {
                self.told_at = Some(Instant::now());
                return Next::Bytes(self.out.pop());
            }
            if self.ended {
                return Next::End;
            }
            while self.out.len() < CHUNK {
                let Some(entry) = self.queued.pop_front() else { break };
                self.send(Kind::Added, &entry);
            }
            if self.queued.is_empty()
                && let Some(revision) = self.initial_end.take()
            {
                self.bookmark(revision, true);
            }
            if !self.queued.is_empty() {
                continue;
            }
            // What is known to be seen before the window is read is delivered with it.
            let seen = self.hub.seen();
            let Ok(events) = self.cursor.take(BATCH, CHUNK) else {
                if !self.out.is_empty() {
                    continue;
                }
                return Next::Last(self.error(&gone(0, self.hub.seen())));
            };
            let drained = self.cursor.is_at_end();
            if let Some(call) = &self.converts {
                match converted(call, &self.selection, events).await {
                    Ok(told) => told.iter().for_each(|(kind, entry)| self.send(*kind, entry)),
                    Err(status) => {
                        let last = self.error(&status);
                        self.out.push(last);
                        self.ended = true;
                        continue;
                    }
                }
            } else {
                for event in events {
                    if let Some((kind, entry)) = transition(&self.selection, &event) {
                        self.send(kind, &entry);
                    }
                }
            }
            let now = Instant::now();
            if self.bookmarks && drained && now >= self.bookmark_at {
                self.bookmark_at = bookmark_at(now, BOOKMARK_EVERY, self.until);
                self.bookmark(seen, false);
            }
            if !drained || !self.out.is_empty() {
                continue;
            }
            let due = if self.bookmarks { self.until.min(self.bookmark_at) } else { self.until };
            if self.timer.deadline() != due || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            tokio::select! {
                () = self.cursor.moved() => {
                    if let Some(due) = self.told_at.map(|at| at + GATHER).filter(|due| *due > Instant::now()) {
                        tokio::time::sleep_until(due).await;
                    }
                }
                () = self.shutdown.as_mut() => return Next::End,
                () = self.timer.as_mut() => {
                    if Instant::now() >= self.until {
                        return Next::End;
                    }
                }
            }
        }
    }

    fn send(&mut self, kind: Kind, entry: &Arc<Entry>) {
        if self.renderer.is_verbatim() {
            self.out.push_entry(kind, entry);
            return;
        }
        let first = std::mem::take(&mut self.first);
        let event = match self.renderer.watched(&entry.wire(), first) {
            Ok(object) => json!({"type": kind.name(), "object": object}),
            Err(status) => json!({"type": "ERROR", "object": status.to_json()}),
        };
        let line = self.line(&event);
        self.out.push(line);
    }

    fn bookmark(&mut self, revision: u64, ends_initial: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = self.renderer.bookmark(metadata);
        let line = self.line(&json!({"type": "BOOKMARK", "object": object}));
        self.out.push(line);
    }

    fn error(&self, status: &Status) -> Bytes {
        self.line(&json!({"type": "ERROR", "object": status.to_json()}))
    }

    fn line(&self, event: &Value) -> Bytes {
        self.renderer.event(event)
    }
}

/// What events mean to a watcher of this selection whose version somebody else has to bring them into.
async fn converted(call: &Call, selection: &Selection, events: Vec<Event>) -> Result<Vec<(Kind, Arc<Entry>)>, Status> {
    if !selection.converts() {
        let (kinds, entries): (Vec<Kind>, Vec<_>) = events.iter().filter_map(|e| transition(selection, e)).unzip();
        return Ok(kinds.into_iter().zip(call.entries(entries).await?).collect());
    }
    // All at once, each with what it was before: whether it is selected shows in the version that was asked for alone.
    let mut both = Vec::with_capacity(events.len() * 2);
    for event in &events {
        both.push(event.entry.clone());
        both.extend(event.before.clone());
    }
    let mut entries = call.entries(both).await?.into_iter();
    let next = |event: &Event| Some(Event { entry: entries.next()?, before: if event.before.is_some() { entries.next() } else { None } });
    let seen: Vec<Event> = events.iter().map_while(next).collect();
    Ok(seen.iter().filter_map(|e| transition(selection, e)).collect())
}

/// What an event means to a watcher of this selection.
fn transition(selection: &Selection, event: &Event) -> Option<(Kind, Arc<Entry>)> {
    let before = event.before.as_ref().filter(|b| selection.matches(b));
    let now = event.entry.kind != Kind::Deleted && selection.matches(&event.entry);
    match (before, now) {
        (None, false) => None,
        (None, true) => Some((Kind::Added, event.entry.clone())),
        (Some(_), true) => Some((Kind::Modified, event.entry.clone())),
        (Some(_), false) if event.entry.kind == Kind::Deleted => Some((Kind::Deleted, event.entry.clone())),
        (Some(before), false) => Some((Kind::Deleted, Arc::new(before.deleted(event.entry.revision)))),
    }
}

/// Bytes to send: one shared line as it is, or several put together.
#[derive(Default)]
struct Chunk {
    one: Bytes,
    many: Pieces,
}

impl Chunk {
    fn push(&mut self, line: Bytes) {
        if self.is_empty() {
            self.one = line;
        } else {
            self.many.push(&std::mem::take(&mut self.one));
            self.many.push(&line);
        }
    }
    fn push_entry(&mut self, kind: Kind, entry: &Entry) {
        if self.is_empty() {
            self.one = entry.line(kind);
        } else {
            self.many.push(&std::mem::take(&mut self.one));
            for part in [kind.head(), entry.json(), TAIL] {
                self.many.push(part);
            }
        }
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn len(&self) -> usize {
        self.one.len() + self.many.len()
    }
    /// What goes out next; the rest stays.
    fn pop(&mut self) -> Bytes {
        if self.many.is_empty() { std::mem::take(&mut self.one) } else { self.many.pop() }
    }
}

/// Whether a stream of this form can be had.
#[must_use]
pub fn content_type(format: Format, view: View) -> &'static str {
    match (format, view) {
        (Format::Protobuf, _) => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::watch_cache::{Cache, Change};

    /// Each step sets the label `a` of one object or removes it; the watcher selects `a=1`.
    #[track_caller]
    fn check(steps: &[Option<&str>], expected: &[&str]) {
        let cache = Arc::new(Cache::new(vec![], 0));
        let options = ListOptions::parse(&crate::http::query::Query::parse("labelSelector=a%3D1"), true).unwrap();
        let row = crate::catalog::Served {
            resource: crate::resource::Resource::namespaced("", "v1", "Thing", "things"),
            prefix: "/registry/things/".into(),
            cache: cache.clone(),
        };
        let selection = Selection::new(&row, "", "", &options).unwrap();
        let changes = steps.iter().zip(1..).map(|(label, revision)| Change {
            key: "ns/x".into(),
            stored: label.map(|l| format!(r#"{{"metadata":{{"labels":{{"a":"{l}"}}}}}}"#).into_bytes()),
            revision,
        });
        cache.apply(changes.collect());
        let events = cache.cursor_after(0).unwrap().take(99, usize::MAX).unwrap();
        let seen: Vec<String> =
            events.iter().filter_map(|e| transition(&selection, e)).map(|(k, e)| format!("{}@{}", k.name(), e.revision)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn entering_and_leaving_a_selection() {
        check(&[Some("1"), Some("1"), None], &["ADDED@1", "MODIFIED@2", "DELETED@3"]);
        check(&[Some("2"), Some("1"), Some("2"), Some("1")], &["ADDED@2", "DELETED@3", "ADDED@4"]);
        check(&[Some("2"), None], &[]);
    }
}
