//! List, then watch from there: what keeps a cache current.
//!
//! A broken watch resumes where it was; a version the server no longer has (410) lists again. An error from the server is
//! never an empty list: the cache keeps what it has. A kind the server does not serve is asked for again now and then.

use std::time::Duration;

use daemon::CancellationToken;
use daemon::backoff::Backoff;
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use http::Request;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::apply::message;
use crate::kind::Key;

/// Objects in one page of a list: bounds the memory that a list takes on both sides.
const PAGE: u32 = 500;
/// The longest event: several times the largest object etcd stores by default (1.5 MiB).
const MAX_EVENT: usize = 8 << 20;
/// The server ends a watch after this long, so that load moves between servers; upstream's reflector asks for 5 to 10 minutes.
const WATCH_SECONDS: u32 = 300;
/// A kind that is not served is asked for again this often.
const UNSERVED: Duration = Duration::from_secs(30);
/// Delays between failures: upstream's reflector waits 0.8 s to 30 s.
const FIRST_DELAY: Duration = Duration::from_millis(400);
const MOST_DELAY: Duration = Duration::from_secs(30);

/// What a watch feeds.
pub trait Sink: Send + Sync {
    /// The complete list at `version`.
    fn replace(&self, items: &[String], version: u64);
    /// One object was added or changed.
    ///
    /// # Errors
    /// JSON that is not an object.
    fn put(&self, json: &str) -> serde_json::Result<()>;
    /// One object is gone.
    ///
    /// # Errors
    /// JSON that is not an object.
    fn remove(&self, json: &str) -> serde_json::Result<()>;
}

/// What to watch.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path of the collection.
    pub path: String,
    /// A field selector, or empty.
    pub fields: String,
    /// Asks for metadata only. A server that knows no such thing sends whole objects, which is only dearer.
    pub metadata_only: bool,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue", default)]
    continue_: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What an event needs of an object's metadata, whatever its kind.
#[derive(Deserialize)]
pub struct AnyObject {
    /// The metadata.
    pub metadata: AnyMeta,
}

/// See [`AnyObject`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnyMeta {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    /// The uid.
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    resource_version: String,
    /// Set when the object is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    /// Seconds left to it.
    #[serde(default)]
    pub deletion_grace_period_seconds: Option<i64>,
    /// What still has to happen before it goes.
    #[serde(default)]
    pub finalizers: Vec<String>,
}

impl AnyMeta {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }
}

/// Why a watch ended.
enum Ended {
    /// Go on from the last version seen.
    Resume,
    /// The server no longer has that version.
    Expired,
}

/// Keeps `sink` as the server has it, until `stop`.
pub async fn run(client: kube::Client, source: Source, sink: &dyn Sink, stop: CancellationToken) {
    let work = async {
        let mut backoff = Backoff::new(FIRST_DELAY, MOST_DELAY);
        let mut version: Option<String> = None;
        // A server that is away is told of once for each watch, not at every try.
        let mut failing = false;
        loop {
            let attempt = async {
                let from = match version.take() {
                    Some(version) => version,
                    None => list(&client, &source, sink).await?,
                };
                let mut at = from;
                let ended = follow(&client, &source, sink, &mut at, &mut backoff).await;
                version = Some(at);
                ended
            };
            match attempt.await {
                Ok(Ended::Resume) => failing = false,
                Ok(Ended::Expired) => {
                    failing = false;
                    tracing::debug!(path = source.path, "the watch's version is too old, listing again");
                    version = None;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    tracing::debug!(path = source.path, "not served");
                    version = None;
                    tokio::time::sleep(UNSERVED).await;
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    if failing {
                        tracing::debug!(path = source.path, error = message(&error), retry_in = ?delay, "listing or watching still fails");
                    } else {
                        tracing::warn!(path = source.path, error = message(&error), retry_in = ?delay, "listing or watching failed");
                    }
                    failing = true;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Lists everything, page by page, and gives back the list's version.
async fn list(client: &kube::Client, source: &Source, sink: &dyn Sink) -> kube::Result<String> {
    let mut items: Vec<String> = Vec::new();
    let mut token = String::new();
    loop {
        let mut query = format!("limit={PAGE}");
        if !token.is_empty() {
            query.push_str(&format!("&continue={}", escape(&token)));
        }
        let text = client.request_text(request(source, &query)?).await?;
        let page: List<'_> = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        items.extend(page.items.unwrap_or_default().iter().map(|raw| raw.get().to_owned()));
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(next) => token = next,
            None => {
                sink.replace(&items, page.metadata.resource_version.parse().unwrap_or(0));
                return Ok(page.metadata.resource_version);
            }
        }
    }
}

/// Applies events from `at` on, moving it along.
async fn follow(client: &kube::Client, source: &Source, sink: &dyn Sink, at: &mut String, backoff: &mut Backoff) -> kube::Result<Ended> {
    let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}", escape(at));
    let stream = match client.request_stream(request(source, &query)?).await {
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(Ended::Expired),
        other => other?,
    };
    let mut stream = std::pin::pin!(stream);
    let mut line = Vec::new();
    let started = tokio::time::Instant::now();
    loop {
        line.clear();
        read_line(&mut stream, &mut line).await.map_err(kube::Error::ReadEvents)?;
        if line.is_empty() {
            // A server that ends watches at once must not be asked again at once.
            if started.elapsed() < Duration::from_secs(1) {
                tokio::time::sleep(backoff.next_delay()).await;
            } else {
                // It was served, though nothing happened: failures long ago do not slow it down for ever.
                backoff.reset();
            }
            return Ok(Ended::Resume);
        }
        let event: Event<'_> = serde_json::from_slice(&line).map_err(kube::Error::SerdeError)?;
        let json = event.object.get();
        if event.type_ == "ERROR" {
            let status: kube::core::Status = serde_json::from_str(json).map_err(kube::Error::SerdeError)?;
            return if status.code == 410 { Ok(Ended::Expired) } else { Err(kube::Error::Api(status.boxed())) };
        }
        let applied = match event.type_ {
            "ADDED" | "MODIFIED" => sink.put(json),
            "DELETED" => sink.remove(json),
            _ => Ok(()),
        };
        if let Err(error) = applied {
            tracing::error!(path = source.path, %error, "an object in a watch event cannot be read");
        }
        if let Ok(object) = serde_json::from_str::<AnyObject>(json)
            && !object.metadata.resource_version.is_empty()
        {
            *at = object.metadata.resource_version;
        }
        backoff.reset();
    }
}

/// Reads up to and including a newline; leaves `line` empty at the end of the stream.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let chunk = stream.fill_buf().await?;
        if chunk.is_empty() {
            line.clear(); // a line that was cut off is no event
            return Ok(());
        }
        let (taken, whole) = match chunk.iter().position(|b| *b == b'\n') {
            Some(end) => (end + 1, true),
            None => (chunk.len(), false),
        };
        line.extend_from_slice(&chunk[..taken]);
        stream.consume_unpin(taken);
        if line.len() > MAX_EVENT {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("a watch event is longer than {MAX_EVENT} bytes")));
        }
        if whole {
            return Ok(());
        }
    }
}

fn request(source: &Source, query: &str) -> kube::Result<Request<Vec<u8>>> {
    let fields = match source.fields.as_str() {
        "" => String::new(),
        fields => format!("&fieldSelector={}", escape(fields)),
    };
    let accept = match (source.metadata_only, query.starts_with("watch")) {
        (false, _) => "application/json",
        (true, true) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json",
        (true, false) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json",
    };
    Request::get(format!("{}?{query}{fields}", source.path))
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)
}

/// Percent-encodes what may not stand in a query.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A [`Sink`] that fills a cache.
pub struct Fill<'a>(pub &'a dyn crate::cache::AnyCache);

impl Sink for Fill<'_> {
    fn replace(&self, items: &[String], version: u64) {
        self.0.replace_json(items, version);
    }

    fn put(&self, json: &str) -> serde_json::Result<()> {
        self.0.put_json(json)
    }

    fn remove(&self, json: &str) -> serde_json::Result<()> {
        let object: AnyObject = serde_json::from_str(json)?;
        let version = object.metadata.resource_version.parse().unwrap_or(0);
        self.0.remove_key(&object.metadata.key(), &object.metadata.uid, Some(version));
        Ok(())
    }
}
