//! The watch cache of one resource: every object at the latest revision seen, and a window of what happened lately.
//!
//! A watcher is a cursor into the window: it holds no queue, so a slow one costs nothing, and one that falls out of the window is told
//! so and lists again. No event is ever skipped in silence. A list takes references under a read lock and writes them out afterwards.

use std::borrow::Borrow;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::{Entry, Kind};
use super::parsed::Parsed;
use crate::resource::Selectable;

/// The window keeps at least this many events, whatever their size.
const WINDOW_LEAST: usize = 128;
/// The window keeps at most this many events.
const WINDOW_MOST: usize = 16_384;
/// Above [`WINDOW_LEAST`], the window keeps events up to this many bytes of object data.
const WINDOW_BYTES: usize = 8 << 20;
/// Snapshots kept for lists that are read in pages.
const SNAPSHOTS: usize = 8;
/// For how long: as long as etcd keeps a revision at least. A token must expire when its revision is compacted, on every server alike.
const SNAPSHOT_LIFE: Duration = Duration::from_secs(300);

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Event {
    /// The object's version after it; for a removal, its last state.
    pub entry: Arc<Entry>,
    /// The version before it.
    pub before: Option<Arc<Entry>>,
}

/// A change to apply, as etcd reports it.
#[derive(Debug)]
pub struct Change {
    /// The key after the resource's prefix.
    pub key: String,
    /// The stored form; `None` when the key was removed.
    pub stored: Option<Vec<u8>>,
    /// The revision of the change.
    pub revision: u64,
}

/// What is being read of a resource, to become all of its cache.
#[derive(Default)]
pub struct Listing {
    entries: Vec<Entry>,
    /// What the entries were looked at for.
    selectable: Arc<Vec<Selectable>>,
}

/// What a cursor's place is no longer in the window for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged;

#[derive(Debug, Clone)]
struct ByKey(Arc<Entry>);

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}
impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}
impl Eq for ByKey {}
impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[derive(Default)]
struct Inner {
    entries: BTreeSet<ByKey>,
    window: VecDeque<Event>,
    /// Sequence number of the window's first event.
    first: u64,
    /// Every event after this revision is in the window.
    complete_after: u64,
    /// The revision of the last event applied.
    last: u64,
    bytes: usize,
    snapshots: VecDeque<Snapshot>,
}

/// A list as it was at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// Which keys it covers.
    prefix: Box<str>,
    /// The entries, in the order of their keys.
    pub entries: Arc<[Arc<Entry>]>,
    /// When it was taken.
    at: Instant,
}

impl Snapshot {
    fn is_of(&self, prefix: &str, revision: u64) -> bool {
        self.revision == revision && *self.prefix == *prefix
    }
}

/// The cache of one resource.
pub struct Cache {
    inner: RwLock<Inner>,
    /// The next sequence number; watchers wait for it to move.
    next: watch::Sender<u64>,
    selectable: ArcSwap<Vec<Selectable>>,
    parsed: Parsed,
}

impl Cache {
    /// An empty cache; events after `revision` will be in it.
    #[must_use]
    pub fn new(selectable: Vec<Selectable>, revision: u64) -> Self {
        let inner = Inner { complete_after: revision, last: revision, ..Inner::default() };
        let (next, parsed) = (watch::Sender::new(0), Parsed::default());
        Self { inner: RwLock::new(inner), next, selectable: ArcSwap::from_pointee(selectable), parsed }
    }

    /// The fields that entries can be selected by.
    #[must_use]
    pub fn selectable(&self) -> Arc<Vec<Selectable>> {
        self.selectable.load_full()
    }

    /// Changes which fields entries can be selected by, and looks at every entry again.
    pub fn set_selectable(&self, selectable: Vec<Selectable>) {
        let mut inner = self.inner.write();
        inner.entries = inner.entries.iter().map(|e| ByKey(Arc::new(e.0.looked_at(&selectable)))).collect();
        inner.snapshots.clear();
        self.selectable.store(Arc::new(selectable));
    }

    /// A part of a listing.
    pub fn prepare(&self, listing: &mut Listing, objects: impl IntoIterator<Item = Change>) {
        let selectable = self.selectable.load_full();
        if !Arc::ptr_eq(&selectable, &listing.selectable) {
            listing.entries = listing.entries.iter().map(|e| e.looked_at(&selectable)).collect();
            listing.selectable = selectable;
        }
        for object in objects {
            if let Some(stored) = object.stored {
                listing.entries.push(Entry::new(&object.key, &stored, object.revision, Kind::Added, &listing.selectable));
            }
        }
    }

    /// Starts over with a whole listing at `revision`. Watchers have to list again.
    pub fn replace(&self, mut listing: Listing, revision: u64) {
        let mut inner = self.inner.write();
        // While this is locked, what entries are selected by does not change.
        self.prepare(&mut listing, []);
        let entries = listing.entries.into_iter().map(|e| ByKey(Arc::new(e))).collect();
        let next = inner.first + inner.window.len() as u64 + 1;
        *inner = Inner { entries, first: next, complete_after: revision, last: revision, ..Inner::default() };
        self.next.send_replace(next);
    }

    /// Applies changes, in the order of their revisions.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut inner = self.inner.write();
        let selectable = self.selectable.load();
        for change in changes {
            let before = inner.entries.get(change.key.as_str()).map(|e| e.0.clone());
            let entry = match (&change.stored, &before) {
                (Some(stored), _) => {
                    let kind = if before.is_some() { Kind::Modified } else { Kind::Added };
                    let entry = Entry::new(&change.key, stored, change.revision, kind, &selectable);
                    let entry = Arc::new(if let Some(before) = &before { entry.after(before) } else { entry });
                    inner.entries.replace(ByKey(entry.clone()));
                    entry
                }
                (None, Some(before)) => {
                    inner.entries.remove(change.key.as_str());
                    Arc::new(before.deleted(change.revision))
                }
                (None, None) => continue,
            };
            inner.last = change.revision;
            inner.bytes += entry.size();
            inner.window.push_back(Event { entry, before });
        }
        while inner.window.len() > WINDOW_MOST || (inner.window.len() > WINDOW_LEAST && inner.bytes > WINDOW_BYTES) {
            if let Some(gone) = inner.window.pop_front() {
                inner.first += 1;
                inner.bytes -= gone.entry.size();
                inner.complete_after = gone.entry.revision;
            }
        }
        let next = inner.first + inner.window.len() as u64;
        drop(inner);
        self.next.send_replace(next);
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.inner.read().entries.get(key).map(|e| e.0.clone())
    }

    /// The tree of an entry that is looked at often; see [`Parsed`].
    ///
    /// # Errors
    /// Bytes in etcd that are no JSON.
    pub fn tree(&self, entry: &Entry) -> Result<Arc<serde_json::Value>, serde_json::Error> {
        self.parsed.tree(entry)
    }

    /// A number that moves with every change; equal numbers mean equal content.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        *self.next.borrow()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects whose keys start with `prefix`, and a cursor at what happens next. `seen` is the revision that the feeder is known to
    /// have reached before the call; the answer's revision is at least that.
    #[must_use]
    pub fn snapshot(self: &Arc<Self>, prefix: &str, seen: u64) -> (Vec<Arc<Entry>>, u64, Cursor) {
        let inner = self.inner.read();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let entries = inner.entries.range::<str, _>(from).take_while(|e| e.0.key.starts_with(prefix)).map(|e| e.0.clone()).collect();
        let next = inner.first + inner.window.len() as u64;
        (entries, seen.max(inner.last), Cursor { cache: self.clone(), next, at_end: true, moved: self.next.subscribe() })
    }

    /// A cursor at the first event after `revision`.
    ///
    /// # Errors
    /// [`Lagged`] when the window does not reach back that far.
    pub fn cursor_after(self: &Arc<Self>, revision: u64) -> Result<Cursor, Lagged> {
        let inner = self.inner.read();
        if revision < inner.complete_after {
            return Err(Lagged);
        }
        let skipped = inner.window.partition_point(|e| e.entry.revision <= revision);
        Ok(Cursor { cache: self.clone(), next: inner.first + skipped as u64, at_end: false, moved: self.next.subscribe() })
    }

    /// Keeps a listing for its next pages.
    pub fn keep(&self, prefix: &str, revision: u64, entries: &[Arc<Entry>]) {
        let now = Instant::now();
        let mut inner = self.inner.write();
        inner.snapshots.retain(|s| now.duration_since(s.at) < SNAPSHOT_LIFE);
        if inner.snapshots.iter().any(|s| s.is_of(prefix, revision)) {
            return;
        }
        if inner.snapshots.len() == SNAPSHOTS {
            inner.snapshots.pop_front();
        }
        inner.snapshots.push_back(Snapshot { revision, prefix: prefix.into(), entries: entries.into(), at: now });
    }

    /// A listing that was kept, unless that is long ago.
    #[must_use]
    pub fn kept(&self, prefix: &str, revision: u64) -> Option<Snapshot> {
        let found = self.inner.read().snapshots.iter().find(|s| s.is_of(prefix, revision)).cloned();
        found.filter(|s| s.at.elapsed() < SNAPSHOT_LIFE)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("objects", &self.len()).finish_non_exhaustive()
    }
}

/// A watcher's place in a cache's window.
#[derive(Debug)]
pub struct Cursor {
    cache: Arc<Cache>,
    next: u64,
    at_end: bool,
    moved: watch::Receiver<u64>,
}

impl Cursor {
    /// The events from here on, at most `most` of them and not many more than `bytes` of data, and moves behind them.
    ///
    /// # Errors
    /// [`Lagged`] when the next event has left the window.
    pub fn take(&mut self, most: usize, bytes: usize) -> Result<Vec<Event>, Lagged> {
        let inner = self.cache.inner.read();
        if self.next < inner.first {
            return Err(Lagged);
        }
        let skip = usize::try_from(self.next - inner.first).map_err(|_| Lagged)?;
        let (mut events, mut size) = (Vec::new(), 0);
        for event in inner.window.range(skip.min(inner.window.len())..) {
            if events.len() == most || size > bytes {
                break;
            }
            size += event.entry.size();
            events.push(event.clone());
        }
        self.next += events.len() as u64;
        self.at_end = self.next == inner.first + inner.window.len() as u64;
        Ok(events)
    }

    /// Whether [`Cursor::take`] has left nothing behind.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Waits until there may be more.
    pub async fn moved(&mut self) {
        while *self.moved.borrow_and_update() == self.next {
            if self.moved.changed().await.is_err() {
                // The cache is gone with the process; the watch ends by its own time.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: u64) -> Change {
        Change { key: key.into(), stored: Some(format!(r#"{{"metadata":{{"name":"{key}"}}}}"#).into_bytes()), revision }
    }
    fn remove(key: &str, revision: u64) -> Change {
        Change { key: key.into(), stored: None, revision }
    }
    fn cache() -> Arc<Cache> {
        Arc::new(Cache::new(vec![], 0))
    }
    const ALL: usize = usize::MAX;
    fn text(events: &[Event]) -> String {
        events.iter().map(|e| format!("{:?}", e.entry)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_cursor_sees_what_came_after_its_revision() {
        let c = cache();
        c.apply(vec![put("a", 1), put("b", 2), put("a", 3), remove("b", 4), remove("nothing", 5)]);
        assert_eq!(text(&c.cursor_after(0).unwrap().take(10, ALL).unwrap()), "ADDED a@1 ADDED b@2 MODIFIED a@3 DELETED b@4");
        let mut cursor = c.cursor_after(2).unwrap();
        assert_eq!(text(&cursor.take(1, ALL).unwrap()), "MODIFIED a@3");
        assert_eq!(text(&cursor.take(10, ALL).unwrap()), "DELETED b@4");
        assert_eq!(text(&cursor.take(10, ALL).unwrap()), "");
    }

    #[tokio::test(start_paused = true)]
    async fn listings_are_kept_for_a_while() {
        let c = cache();
        c.keep("ns/", 7, &[]);
        tokio::time::advance(SNAPSHOT_LIFE / 2).await;
        // The next page does not prolong it.
        c.keep("ns/", 7, &[]);
        assert!(c.kept("ns/", 7).is_some() && c.kept("ns/", 8).is_none() && c.kept("", 7).is_none());
        tokio::time::advance(SNAPSHOT_LIFE / 2).await;
        assert!(c.kept("ns/", 7).is_none());
        c.keep("ns/", 8, &[]);
        assert_eq!(c.inner.read().snapshots.len(), 1, "what is too old holds no memory once others come");
    }

    #[test]
    fn a_cursor_takes_so_many_bytes_and_says_whether_that_was_all() {
        let c = cache();
        c.apply(vec![put("a", 1), put("b", 2), put("c", 3)]);
        let mut cursor = c.cursor_after(0).unwrap();
        assert_eq!((text(&cursor.take(10, 0).unwrap()), cursor.is_at_end()), ("ADDED a@1".into(), false), "one at least");
        assert_eq!((text(&cursor.take(10, ALL).unwrap()), cursor.is_at_end()), ("ADDED b@2 ADDED c@3".into(), true));
    }

    #[test]
    fn a_cursor_that_left_the_window_is_told() {
        let c = cache();
        let mut slow = c.cursor_after(0).unwrap();
        c.apply((1..=WINDOW_MOST as u64 + 10).map(|r| put("a", r)).collect());
        assert_eq!(slow.take(1, ALL).unwrap_err(), Lagged);
        assert_eq!(c.cursor_after(9).unwrap_err(), Lagged);
        assert_eq!(text(&c.cursor_after(10).unwrap().take(1, ALL).unwrap()), "MODIFIED a@11");
    }

    #[test]
    fn starting_over_sends_watchers_to_list() {
        let c = cache();
        c.apply(vec![put("a", 1)]);
        let (_, _, mut cursor) = c.snapshot("", 1);
        let mut listing = Listing::default();
        c.prepare(&mut listing, [put("b", 7)]);
        c.replace(listing, 9);
        assert_eq!(cursor.take(1, ALL).unwrap_err(), Lagged);
        let (entries, revision, mut cursor) = c.snapshot("", 0);
        assert_eq!((entries.len(), revision), (1, 9));
        c.apply(vec![put("b", 10)]);
        assert_eq!(text(&cursor.take(9, ALL).unwrap()), "MODIFIED b@10");
        assert_eq!(c.cursor_after(8).unwrap_err(), Lagged);
    }

    #[test]
    fn a_snapshot_is_of_its_prefix_in_order() {
        let c = cache();
        c.apply(vec![put("b/2", 1), put("a-b/1", 2), put("a/1", 3), put("b/1", 4)]);
        let keys = |p: &str| c.snapshot(p, 0).0.iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys("b/"), ["b/1", "b/2"]);
        assert_eq!(keys(""), ["a-b/1", "a/1", "b/1", "b/2"]);
    }

    #[tokio::test]
    async fn waiting_ends_when_something_happens() {
        let c = cache();
        let mut cursor = c.cursor_after(0).unwrap();
        let waiting = tokio::spawn(async move {
            cursor.moved().await;
            cursor.take(5, ALL).unwrap().len()
        });
        c.apply(vec![put("a", 1)]);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
