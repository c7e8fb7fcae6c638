//! Feeds every cache from one etcd watch, so that revisions arrive in one order and each cache knows how far it has seen.
//!
//! States: *listing* (everything is read at one revision) and *following* (the watch goes on from there). A broken watch resumes at the
//! last revision + 1; when that is compacted, listing begins again and watchers are sent to list too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use daemon::backoff::Backoff;
use etcd_client::{EventType, WatchResponse};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::codec::Cipher;
use super::etcd::{Etcd, StorageError};
use super::keys;
use super::watch_cache::{Cache, Change, Listing};
use crate::resource::Selectable;

/// Keys read from etcd at a time when everything is listed.
const LIST_PAGE: i64 = 1_000;
/// How long a read waits for the watch to reach the revision it needs.
const FRESH_WITHIN: Duration = Duration::from_secs(10);
/// The watch is renewed when etcd has a newer revision that the watch did not deliver for this long.
const STALL: Duration = Duration::from_secs(5);

/// All caches, and the watch that feeds them.
pub struct Hub {
    etcd: Etcd,
    cipher: Arc<dyn Cipher>,
    caches: RwLock<HashMap<Box<str>, Arc<Cache>>>,
    /// What entries of a resource can be selected by, by storage prefix.
    selectable: RwLock<HashMap<Box<str>, Vec<Selectable>>>,
    /// The revision up to which everything is in the caches; 0 before the first listing.
    seen: watch::Sender<u64>,
    /// Who waits for the next read of etcd's revision.
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    in_flight: bool,
    next: Vec<oneshot::Sender<Result<u64, Status>>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

impl Hub {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(etcd: Etcd, cipher: Arc<dyn Cipher>) -> Arc<Self> {
        let (caches, selectable) = (RwLock::default(), RwLock::default());
        Arc::new(Self { etcd, cipher, caches, selectable, seen: watch::Sender::new(0), asking: Mutex::default() })
    }

    /// etcd, for writes.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// What encrypts at rest.
    #[must_use]
    pub fn cipher(&self) -> &dyn Cipher {
        &*self.cipher
    }

    /// The cache of the resource stored under `prefix`.
    pub fn cache(&self, prefix: &str) -> Arc<Cache> {
        if let Some(cache) = self.caches.read().get(prefix) {
            return cache.clone();
        }
        let mut caches = self.caches.write();
        // Nothing was seen of it so far, so from any revision up to now on nothing happened to it.
        let selectable = self.selectable.read().get(prefix).cloned().unwrap_or_default();
        caches.entry(prefix.into()).or_insert_with(|| Arc::new(Cache::new(selectable, 0))).clone()
    }

    /// What follows `pool` in the keys that start with it; `pool` is a resource's prefix, or something longer.
    pub fn keys_under(&self, pool: &str) -> std::collections::BTreeSet<String> {
        let Some((prefix, rest)) = keys::split(pool) else { return Default::default() };
        let entries = self.cache(prefix).snapshot(rest, 0).0;
        entries.iter().filter_map(|e| e.key.strip_prefix(rest)).map(str::to_owned).collect()
    }

    /// Says what the entries under `prefix` can be selected by.
    pub fn set_selectable(&self, prefix: &str, selectable: Vec<Selectable>) {
        self.selectable.write().insert(prefix.into(), selectable.clone());
        let cache = self.caches.read().get(prefix).cloned();
        if let Some(cache) = cache {
            cache.set_selectable(selectable);
        }
    }

    /// The revision up to which everything is in the caches.
    #[must_use]
    pub fn seen(&self) -> u64 {
        *self.seen.borrow()
    }

    /// Waits until the caches are as new as `revision`.
    ///
    /// # Errors
    /// 504 when that takes too long.
    pub async fn reach(&self, revision: u64) -> Result<u64, Status> {
        let reached = self.seen();
        if reached >= revision && reached > 0 {
            return Ok(reached);
        }
        let mut seen = self.seen.subscribe();
        let reached = tokio::time::timeout(FRESH_WITHIN, seen.wait_for(|s| *s >= revision && *s > 0)).await;
        match reached {
            Ok(Ok(seen)) => Ok(*seen),
            _ => Err(match self.seen() {
                0 => Status::unavailable("the storage has not been read yet"),
                seen => Status::too_large_resource_version(revision, seen),
            }),
        }
    }

    /// Waits until the caches are as new as etcd was when this was called: what a read without resourceVersion needs. Callers that come
    /// while a read of etcd's revision is under way share the next one.
    ///
    /// # Errors
    /// etcd does not answer, or the watch does not follow.
    pub async fn fresh(self: &Arc<Self>) -> Result<u64, Status> {
        let (tell, told) = oneshot::channel();
        let start = {
            let mut asking = self.asking.lock();
            asking.next.push(tell);
            !std::mem::replace(&mut asking.in_flight, true)
        };
        if start {
            let hub = self.clone();
            tokio::spawn(async move { hub.ask().await });
        }
        let revision = told.await.map_err(|_| Status::unavailable("the server is stopping"))??;
        self.reach(revision).await
    }

    async fn ask(&self) {
        loop {
            let waiting = {
                let mut asking = self.asking.lock();
                if asking.next.is_empty() {
                    asking.in_flight = false;
                    return;
                }
                std::mem::take(&mut asking.next)
            };
            let answer = self.etcd.revision().await.map_err(Status::from);
            for tell in waiting {
                // A caller that went away needs no answer.
                let _ = tell.send(answer.clone());
            }
        }
    }

    /// Lists and follows until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.follow(&mut backoff) => outcome,
            };
            match outcome {
                Err(StorageError::Compacted) => {
                    tracing::warn!(seen = self.seen(), "the storage was compacted past what was seen; listing again");
                    self.seen.send_replace(0);
                }
                Err(error) => tracing::warn!(%error, seen = self.seen(), "following the storage"),
                Ok(()) => tracing::info!(seen = self.seen(), "the storage's watch ended; resuming"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> Result<(), StorageError> {
        if self.seen() == 0 {
            self.list().await?;
        }
        let mut stream = self.etcd.watch(self.seen() + 1).await?;
        loop {
            let message = match tokio::time::timeout(STALL, stream.message()).await {
                Ok(message) => message,
                // Quiet is fine when there is nothing to hear.
                Err(_) if self.etcd.revision().await? <= self.seen() => continue,
                Err(_) => match tokio::time::timeout(STALL, stream.message()).await {
                    Ok(message) => message,
                    Err(_) => return Ok(()),
                },
            };
            let attempted = "watching";
            let message = message.map_err(|source| StorageError::Etcd { attempted, source: Box::new(source) })?;
            let Some(message) = message else { return Ok(()) };
            if message.canceled() {
                return if message.compact_revision() > 0 { Err(StorageError::Compacted) } else { Ok(()) };
            }
            backoff.reset();
            self.dispatch(&message);
        }
    }

    /// Reads everything at one revision into the caches.
    async fn list(&self) -> Result<(), StorageError> {
        let (mut from, to) = (keys::ROOT.as_bytes().to_vec(), keys::prefix_end(keys::ROOT));
        let mut revision = 0;
        // Each page becomes entries before the next is read, so that nothing is held twice.
        let mut found: HashMap<Box<str>, Listing> = HashMap::new();
        let mut objects = 0;
        loop {
            let page = self.etcd.range(from, to.clone(), LIST_PAGE, revision).await?;
            if revision == 0 {
                revision = page.revision;
            }
            from = page.items.last().map(|i| [i.key.as_bytes(), b"\0"].concat()).unwrap_or_default();
            for item in page.items {
                if let Some((prefix, change)) = self.change(&item.key, Some(item.value), item.revision) {
                    objects += 1;
                    self.cache(prefix).prepare(found.entry(prefix.into()).or_default(), [change]);
                }
            }
            if !page.more {
                break;
            }
        }
        let known: Vec<Box<str>> = self.caches.read().keys().cloned().collect();
        for prefix in known {
            found.entry(prefix).or_default();
        }
        for (prefix, listing) in found {
            self.cache(&prefix).replace(listing, revision);
        }
        self.seen.send_replace(revision);
        tracing::info!(revision, objects, "listed the storage");
        Ok(())
    }

    fn dispatch(&self, message: &WatchResponse) {
        let mut run: Option<(String, Vec<Change>)> = None;
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let value = (event.event_type() == EventType::Put).then(|| kv.value().to_vec());
            let key = String::from_utf8_lossy(kv.key());
            let Some((prefix, change)) = self.change(&key, value, u64::try_from(kv.mod_revision()).unwrap_or(0)) else { continue };
            match &mut run {
                Some((current, changes)) if current == prefix => changes.push(change),
                _ => {
                    if let Some((prefix, changes)) = run.replace((prefix.to_owned(), vec![change])) {
                        self.cache(&prefix).apply(changes);
                    }
                }
            }
        }
        if let Some((prefix, changes)) = run {
            self.cache(&prefix).apply(changes);
        }
        let revision = message.events().last().and_then(|e| e.kv()).map(|kv| u64::try_from(kv.mod_revision()).unwrap_or(0));
        if let Some(revision) = revision {
            self.seen.send_replace(revision);
        }
    }

    /// A key's change in the terms of its cache. A value that cannot be decrypted is reported and left out.
    fn change<'k>(&self, key: &'k str, value: Option<Vec<u8>>, revision: u64) -> Option<(&'k str, Change)> {
        let (prefix, rest) = keys::split(key)?;
        let stored = match value.map(|v| self.cipher.open(key, v)).transpose() {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(key, error, "a value in the storage cannot be read");
                return None;
            }
        };
        Some((prefix, Change { key: rest.to_owned(), stored, revision }))
    }
}
