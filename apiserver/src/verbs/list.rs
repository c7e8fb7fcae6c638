//! LIST: from a snapshot of the cache at one revision, streamed item by item, in pages where asked.
//!
//! The pages of one list come from one snapshot, kept for a while. When it is gone, etcd's history serves the rest; when that is
//! compacted, 410.

use std::sync::Arc;

use api::status::Status;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Call;
use super::select::{Chosen, Selection};
use crate::http::negotiate::Format;
use crate::http::pieces::{PIECE, Pieces};
use crate::http::query::{ListOptions, Version};
use crate::http::render::{ListMeta, Renderer};
use crate::resource::Resource;
use crate::storage::entry::Kind;
use crate::storage::{Entry, keys};

/// Keys read from etcd at a time, when a list comes from its history.
const HISTORY_PAGE: i64 = 500;

/// Where the next page of a list begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct Continue {
    /// The revision of the list; 0 for "whatever is newest", after the list's own revision was lost.
    #[serde(rename = "rv")]
    revision: u64,
    /// The last key of the page before.
    #[serde(rename = "start")]
    after: String,
}

impl Continue {
    /// The token, opaque to clients.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// What a client gives back.
    ///
    /// # Errors
    /// 400 for what is no token of ours.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let wrong = || Status::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| wrong())?;
        serde_json::from_slice(&bytes).map_err(|_| wrong())
    }
}

/// What a list found.
struct Found {
    entries: Vec<Arc<Entry>>,
    meta: ListMeta,
}

/// A list, as a body that is written while it is sent.
///
/// # Errors
/// Options that make no sense, or a revision that cannot be had.
pub async fn list(call: &Call) -> Result<(Body, Option<usize>), Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::new(&call.row, &call.info.namespace, &call.info.name, &options)?;
    let found = find(call, &options, &selection).await?;
    let (renderer, entries) = (call.renderer()?.settled(), call.entries(found.entries).await?);
    if call.media.format != Format::Json {
        let items: Vec<Bytes> = entries.iter().map(|e| e.wire()).collect();
        return renderer.list(&found.meta, items.iter().map(|i| &**i)).map(|b| (Body::from(b), None));
    }
    let (head, tail) = renderer.list_ends(&found.meta);
    let size = entries.iter().map(|e| e.size()).sum();
    Ok((Body::from_stream(stream(renderer, head.into(), entries, tail)), Some(size)))
}

/// A selection of objects at one revision, for verbs that act on many.
///
/// # Errors
/// Options that make no sense, or a revision that cannot be had.
pub async fn select(call: &Call) -> Result<Vec<Arc<Entry>>, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::new(&call.row, &call.info.namespace, &call.info.name, &options)?;
    Ok(find(call, &options, &selection).await?.entries)
}

async fn find(call: &Call, options: &ListOptions, selection: &Selection) -> Result<Found, Status> {
    let hub = &call.server.hub;
    if !options.continue_token.is_empty() {
        if options.resource_version.is_some_and(|v| v != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Continue::decode(&options.continue_token)?;
        if token.revision != 0 {
            return exact(call, options, selection, token.revision, &token.after).await;
        }
        let seen = hub.fresh().await?;
        let (entries, revision, _) = call.row.cache.snapshot(&selection.prefix, seen);
        return page(call, options, selection, entries, revision, &token.after).await;
    }
    let seen = match options.version() {
        Version::Latest => hub.fresh().await?,
        Version::Any => hub.reach(0).await?,
        Version::NotOlderThan(v) => hub.reach(v).await?,
        Version::Exact(v) => return exact(call, options, selection, v, "").await,
    };
    let (entries, revision, _) = call.row.cache.snapshot(&selection.prefix, seen);
    page(call, options, selection, entries, revision, "").await
}

/// The page after the key `after`, out of everything under the prefix at `revision`.
async fn page(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
    all: Vec<Arc<Entry>>,
    revision: u64,
    after: &str,
) -> Result<Found, Status> {
    let mut meta = ListMeta { resource_version: revision, ..ListMeta::default() };
    let from = if after.is_empty() { 0 } else { all.partition_point(|e| &*e.key <= after) };
    let chosen = Chosen::among(call, selection, &all[from..]).await?;
    let mut selected = all[from..].iter().filter(|e| chosen.has(e));
    if options.limit == 0 {
        return Ok(Found { entries: selected.cloned().collect(), meta });
    }
    let entries: Vec<_> = selected.by_ref().take(options.limit).cloned().collect();
    if let (Some(last), true) = (entries.last(), selected.next().is_some()) {
        meta.continue_token = Continue { revision, after: last.key.to_string() }.encode();
        // With a selector upstream does not count what is left.
        meta.remaining = selection.is_everything().then(|| all.len() - from - entries.len());
        call.row.cache.keep(&selection.prefix, revision, &all);
    }
    Ok(Found { entries, meta })
}

/// A page at exactly one revision.
async fn exact(call: &Call, options: &ListOptions, selection: &Selection, revision: u64, after: &str) -> Result<Found, Status> {
    let row = &call.row;
    if let Some(kept) = row.cache.kept(&selection.prefix, revision) {
        return page(call, options, selection, kept.entries.to_vec(), revision, after).await;
    }
    let prefix = format!("{}{}", row.prefix, selection.prefix);
    let mut from = if after.is_empty() { prefix.clone().into_bytes() } else { format!("{}{after}\0", row.prefix).into_bytes() };
    let to = keys::prefix_end(&prefix);
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    let mut meta = ListMeta { resource_version: revision, ..ListMeta::default() };
    let selectable = row.cache.selectable();
    loop {
        let read = call.server.hub.etcd().range(from, to.clone(), HISTORY_PAGE, revision).await;
        let read = read.map_err(|e| expired(e, after))?;
        from = read.items.last().map(|i| [i.key.as_bytes(), b"\0"].concat()).unwrap_or_default();
        let mut found = Vec::with_capacity(read.items.len());
        for item in read.items {
            let plain = call.server.hub.cipher().open(&item.key, item.value).map_err(Status::internal)?;
            let key = item.key.strip_prefix(&row.prefix).unwrap_or(&item.key);
            found.push(Arc::new(Entry::new(key, &plain, item.revision, Kind::Added, &selectable)));
        }
        let chosen = Chosen::among(call, selection, &found).await?;
        for entry in found.iter().filter(|e| chosen.has(e)) {
            if options.limit > 0 && entries.len() == options.limit {
                let last: &Arc<Entry> = &entries[entries.len() - 1];
                meta.continue_token = Continue { revision, after: last.key.to_string() }.encode();
                return Ok(Found { entries, meta });
            }
            entries.push(entry.clone());
        }
        if !read.more {
            return Ok(Found { entries, meta });
        }
    }
}

/// 410 with a token that goes on inconsistently, as upstream offers it.
fn expired(error: crate::storage::StorageError, after: &str) -> Status {
    let compacted = matches!(error, crate::storage::StorageError::Compacted);
    let mut status = Status::from(error);
    if compacted {
        status = Status::expired(if after.is_empty() {
            "The resourceVersion for the provided list is too old."
        } else {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
        });
        if !after.is_empty() {
            status.continue_token = Some(Continue { revision: 0, after: after.to_owned() }.encode());
        }
    }
    status
}

/// Writes a list while it is sent: each item is rendered when its turn comes.
fn stream(
    renderer: Renderer,
    head: Bytes,
    entries: Vec<Arc<Entry>>,
    tail: &'static [u8],
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    let mut pieces = Pieces::default();
    pieces.push(&head);
    let state = (renderer, entries.into_iter(), Some(tail), pieces, true);
    futures::stream::unfold(Some(state), move |state| async move {
        let (renderer, mut entries, mut tail, mut pieces, mut first) = state?;
        while pieces.len() < PIECE {
            let Some(entry) = entries.next() else {
                pieces.push(tail.take().unwrap_or_default());
                break;
            };
            if !std::mem::take(&mut first) {
                pieces.push(b",");
            }
            // Taking a reference to the bytes of each item would cost as much as copying them.
            if renderer.is_verbatim() {
                pieces.push(entry.json());
                continue;
            }
            match renderer.item_json(entry.json()) {
                Ok(item) => pieces.push(&item),
                // The answer has begun: breaking it off is the only way to say that it is not whole.
                Err(status) => return Some((Err(std::io::Error::other(status.message)), None)),
            }
        }
        let piece = pieces.pop();
        let more = !pieces.is_empty() || tail.is_some();
        Some((Ok(piece), more.then_some((renderer, entries, tail, pieces, first))))
    })
}

/// The object that DELETE of a collection answers with.
#[must_use]
pub fn list_object(row: &Resource, items: Vec<Value>, revision: u64) -> Value {
    serde_json::json!({"kind": row.list_kind, "apiVersion": row.api_version(), "metadata": {"resourceVersion": revision.to_string()}, "items": items})
}
