//! etcd: reads, transactions, the watch. Over TLS whose certificates are followed.
//!
//! Each runtime has a connection of its own for reads and transactions, so that a request and its call to etcd stay on one thread.

use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::status::Status;
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, KvClient, LeaseClient, MaintenanceClient, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchClient, WatchOptions, WatchStream,
};
use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::net::TcpStream;
use tokio::runtime;
use tonic::transport::Endpoint;

use super::keys;
use crate::allocate::Extra;

/// Most bytes of one answer of etcd: a page of objects, or the events of one moment.
const MAX_MESSAGE: usize = 1 << 30;
/// How long a read or a transaction may take.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// Objects sharing a lease of Events end up to this much later than asked, in seconds.
const LEASE_SLACK: i64 = 60;

/// Where etcd is, and how to be let in.
#[derive(Debug, Clone, Default)]
pub struct EtcdConfig {
    /// `https://host:port` each.
    pub servers: Vec<String>,
    /// The authority of etcd's certificates.
    pub ca: Option<PathBuf>,
    /// Our client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// An operation of the storage that did not work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// etcd answered with an error, or not at all.
    #[error("{attempted}: {}", words(source))]
    Etcd {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        source: Box<etcd_client::Error>,
    },
    /// No answer in time.
    #[error("{0}: etcdserver: request timed out")]
    Timeout(&'static str),
    /// The revision asked for is no longer there.
    #[error("the requested revision has been compacted")]
    Compacted,
}

/// What etcd says, or what stands in the way to it. A status of gRPC would print its cause with everything in it.
fn words(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let said = if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
    let mut root = status.source();
    while let Some(cause) = root.and_then(|cause| cause.source()) {
        root = Some(cause);
    }
    match root.map(ToString::to_string) {
        Some(root) if !said.contains(&root) => format!("{said}: {root}"),
        _ => said,
    }
}

impl From<StorageError> for Status {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Compacted => Self::expired("The provided continue parameter is too old to display a consistent list result."),
            StorageError::Timeout(_) => Self::timeout(error.to_string()),
            StorageError::Etcd { .. } => {
                tracing::warn!(%error, "the storage does not answer");
                let mut status = Self::unavailable(format!("the storage is not available: {error}"));
                status.details.get_or_insert_default().retry_after_seconds = 1;
                status
            }
        }
    }
}

/// A key with its value as etcd holds it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The whole key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the last change.
    pub revision: u64,
}

/// What has to be true of a key for a commit to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It is not there.
    Absent,
    /// It was last changed at this revision.
    Revision(u64),
}

/// One write: an object's key, and pool keys that go with it.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The state it is in.
    pub expect: Expect,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// Pool keys to take and release in the same transaction.
    pub extras: &'a [Extra],
    /// The lease after which the object goes by itself; 0 for none.
    pub lease: i64,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Outcome {
    /// Done, at this revision.
    Done(u64),
    /// The object's key was in another state: this one.
    Stale(Option<Stored>),
    /// A pool value was taken already.
    Taken(String),
}

/// A page of keys.
#[derive(Debug)]
pub struct Page {
    /// The keys with their values.
    pub items: Vec<Stored>,
    /// Whether there are more behind them.
    pub more: bool,
    /// The revision of the read.
    pub revision: u64,
}

/// A connection to etcd. Clones share it.
#[derive(Clone)]
pub struct Etcd {
    dialer: Dialer,
    kv: Arc<RwLock<HashMap<runtime::Id, KvClient>>>,
    watch: WatchClient,
    lease: LeaseClient,
    maintenance: MaintenanceClient,
    shared_lease: Arc<tokio::sync::Mutex<Option<(i64, i64, tokio::time::Instant)>>>,
    durations: Family<Operation, Histogram, fn() -> Histogram>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").finish_non_exhaustive()
    }
}

fn failed(attempted: &'static str) -> impl Fn(etcd_client::Error) -> StorageError {
    move |source| match &source {
        etcd_client::Error::GRpcStatus(status) if status.message().contains("compacted") => StorageError::Compacted,
        _ => StorageError::Etcd { attempted, source: Box::new(source) },
    }
}

fn revision(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn stored(kv: KeyValue) -> Stored {
    let revision = revision(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    // Our keys are ASCII; a foreign key that is no UTF-8 keeps its place and means nothing to us.
    Stored { key: String::from_utf8_lossy(&key).into_owned(), value, revision }
}

/// What a request to etcd was for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The word for it in metrics: upstream's where upstream has one.
fn operation(attempted: &str) -> &'static str {
    match attempted {
        "reading a key" => "get",
        "reading a range" => "list",
        "reading the revision" => "getCurrentRevision",
        "writing" => "txn",
        "granting a lease" => "leaseGrant",
        "compacting" => "compact",
        "starting the watch" => "watch",
        _ => "status",
    }
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0])
}

impl Etcd {
    /// Counts in `metrics` from now on.
    pub fn register(&self, metrics: &daemon::metrics::Metrics) {
        metrics.register("etcd_request_duration_seconds", "Etcd request latency by operation", self.durations.clone());
    }

    async fn within<T>(
        &self,
        attempted: &'static str,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, StorageError> {
        let began = tokio::time::Instant::now();
        let answer = tokio::time::timeout(CALL_WITHIN, call).await;
        self.durations.get_or_create(&Operation { operation: operation(attempted) }).observe(began.elapsed().as_secs_f64());
        answer.map_err(|_| StorageError::Timeout(attempted))?.map_err(failed(attempted))
    }

    /// Prepares the connection; it is made, and made again, when it is needed.
    ///
    /// # Errors
    /// Servers that are no URLs, or certificates that cannot be read.
    pub async fn connect(config: &EtcdConfig) -> anyhow::Result<Self> {
        let servers = config.servers.iter().map(|s| s.parse::<Uri>().with_context(|| format!("etcd server {s:?}")));
        let servers: Vec<Uri> = servers.collect::<Result<_, _>>()?;
        if servers.is_empty() {
            bail!("--etcd-servers names no server");
        }
        let tls = match &config.ca {
            Some(ca) => {
                let identity = match (&config.cert, &config.key) {
                    (Some(cert), Some(key)) => Some(daemon::tls::Identity::load(cert, key)?),
                    _ => None,
                };
                let mut tls = daemon::tls::client_config(daemon::tls::Roots::load(ca)?, identity);
                tls.alpn_protocols = vec![b"h2".to_vec()];
                Some(tokio_rustls::TlsConnector::from(Arc::new(tls)))
            }
            None => None,
        };
        if tls.is_none() && servers.iter().any(|s| s.scheme_str() == Some("https")) {
            bail!("--etcd-servers has an https URL: --etcd-cafile is needed");
        }
        let dialer = Dialer { servers: servers.into(), tls, turn: Arc::default() };
        let client = dialer.client().await?;
        Ok(Self {
            dialer,
            kv: Arc::default(),
            watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            shared_lease: Arc::default(),
            durations: Family::new_with_constructor(histogram as fn() -> Histogram),
        })
    }

    /// The client of the runtime that this is called in.
    async fn kv(&self) -> Result<KvClient, etcd_client::Error> {
        let here = runtime::Handle::current().id();
        if let Some(kv) = self.kv.read().get(&here) {
            return Ok(kv.clone());
        }
        let new = self.dialer.client().await?.kv_client().max_decoding_message_size(MAX_MESSAGE);
        Ok(self.kv.write().entry(here).or_insert(new).clone())
    }

    /// The revision of the cluster, as a quorum knows it.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn revision(&self) -> Result<u64, StorageError> {
        let options = GetOptions::new().with_count_only();
        let answer = self.within("reading the revision", async { self.kv().await?.get(keys::ROOT, Some(options)).await }).await?;
        Ok(answer.header().map_or(0, |h| revision(h.revision())))
    }

    /// One key, as a quorum knows it.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, StorageError> {
        let mut answer = self.within("reading a key", async { self.kv().await?.get(key, None).await }).await?;
        Ok(answer.take_kvs().into_iter().next().map(stored))
    }

    /// Up to `limit` keys from `from` until before `to`, at `at` (0: the latest revision).
    ///
    /// # Errors
    /// etcd does not answer, or the revision is compacted.
    pub async fn range(&self, from: Vec<u8>, to: Vec<u8>, limit: i64, at: u64) -> Result<Page, StorageError> {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_range(to).with_limit(limit).with_revision(at);
        let mut answer = self.within("reading a range", async { self.kv().await?.get(from, Some(options)).await }).await?;
        let revision = answer.header().map_or(0, |h| revision(h.revision()));
        Ok(Page { more: answer.more(), revision, items: answer.take_kvs().into_iter().map(stored).collect() })
    }

    /// Writes, if things are as expected.
    ///
    /// # Errors
    /// etcd does not answer; the write may or may not have happened.
    pub async fn commit(&self, commit: Commit<'_>) -> Result<Outcome, StorageError> {
        let expected = match commit.expect {
            Expect::Absent => 0,
            Expect::Revision(r) => i64::try_from(r).unwrap_or(i64::MAX),
        };
        let mut when = vec![Compare::mod_revision(commit.key, CompareOp::Equal, expected)];
        let options = (commit.lease != 0).then(|| PutOptions::new().with_lease(commit.lease));
        let mut then = vec![match commit.value {
            Some(value) => TxnOp::put(commit.key, value, options),
            None => TxnOp::delete(commit.key, None),
        }];
        let mut otherwise = vec![TxnOp::get(commit.key, None)];
        for extra in commit.extras {
            match extra {
                Extra::Take { key, value } => {
                    when.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, 0));
                    then.push(TxnOp::put(key.as_str(), value.clone(), None));
                    otherwise.push(TxnOp::get(key.as_str(), None));
                }
                Extra::Release { key } => then.push(TxnOp::delete(key.as_str(), None)),
            }
        }
        let txn = Txn::new().when(when).and_then(then).or_else(otherwise);
        let answer = self.within("writing", async { self.kv().await?.txn(txn).await }).await?;
        if answer.succeeded() {
            return Ok(Outcome::Done(answer.header().map_or(0, |h| revision(h.revision()))));
        }
        let mut found = answer.op_responses().into_iter().map(|op| match op {
            TxnOpResponse::Get(mut got) => got.take_kvs().into_iter().next().map(stored),
            _ => None,
        });
        let current = found.next().flatten();
        let as_expected = current.as_ref().map_or(0, |c| c.revision) == revision(expected);
        match found.flatten().next() {
            Some(taken) if as_expected => Ok(Outcome::Taken(taken.key)),
            _ => Ok(Outcome::Stale(current)),
        }
    }

    /// A lease that lasts at least `ttl` seconds. Objects written within a minute share one.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn lease(&self, ttl: i64) -> Result<i64, StorageError> {
        let mut shared = self.shared_lease.lock().await;
        let now = tokio::time::Instant::now();
        if let Some((id, for_ttl, until)) = *shared
            && for_ttl == ttl
            && until > now
        {
            return Ok(id);
        }
        let granted = self.within("granting a lease", self.lease.clone().grant(ttl + LEASE_SLACK, None)).await?;
        let slack = Duration::from_secs(u64::try_from(LEASE_SLACK).unwrap_or(0));
        *shared = Some((granted.id(), ttl, now + slack));
        Ok(granted.id())
    }

    /// A lease of exactly `ttl` seconds, for what has to be renewed.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn short_lease(&self, ttl: i64) -> Result<i64, StorageError> {
        Ok(self.within("granting a lease", self.lease.clone().grant(ttl, None)).await?.id())
    }

    /// Watches every key from `from` on. All keys, not ours alone: so each revision of etcd is seen, and having seen one means having
    /// seen everything before it.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn watch(&self, from: u64) -> Result<WatchStream, StorageError> {
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_all_keys().with_start_revision(from);
        self.within("starting the watch", self.watch.clone().watch("", Some(options))).await
    }

    /// Forgets revisions before `before`.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn compact(&self, before: u64) -> Result<(), StorageError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        match self.within("compacting", async { self.kv().await?.compact(before, None).await }).await {
            Ok(_) | Err(StorageError::Compacted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether etcd answers, with its version.
    ///
    /// # Errors
    /// It does not.
    pub async fn version(&self) -> Result<String, StorageError> {
        Ok(self.within("asking for etcd's status", self.maintenance.clone().status()).await?.version().to_owned())
    }
}

/// Makes connections to etcd.
#[derive(Clone)]
struct Dialer {
    servers: Arc<[Uri]>,
    tls: Option<tokio_rustls::TlsConnector>,
    turn: Arc<AtomicUsize>,
}

impl Dialer {
    /// A client with a connection of its own, which the runtime that this is called in drives.
    async fn client(&self) -> Result<Client, etcd_client::Error> {
        // `dial` does TLS itself; tonic refuses an https URL for which it was given none.
        let endpoint = Endpoint::from_static("http://etcd")
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        let dialer = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            // Each new connection goes to the next server, so that a dead one is left behind.
            let server = dialer.servers[dialer.turn.fetch_add(1, Ordering::Relaxed) % dialer.servers.len()].clone();
            let tls = dialer.tls.clone();
            async move { dial(&server, tls).await.map(TokioIo::new) }
        });
        let channel = etcd_client::Channel::Tonic(endpoint.connect_with_connector_lazy(connector));
        Client::from_channel(channel, None).await
    }
}

/// What tonic needs of a connection.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

async fn dial(server: &Uri, tls: Option<tokio_rustls::TlsConnector>) -> std::io::Result<Box<dyn Io>> {
    let host = server.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
    let connect = TcpStream::connect((host, server.port_u16().unwrap_or(2379)));
    let stream = tokio::time::timeout(Duration::from_secs(2), connect).await??;
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) if server.scheme_str() == Some("https") => {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
            Ok(Box::new(tls.connect(name, stream).await?))
        }
        _ => Ok(Box::new(stream)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_happened_and_once() {
        let refused = || Box::new(std::io::Error::from_raw_os_error(111));
        let said = |status: tonic::Status| words(&etcd_client::Error::GRpcStatus(status));
        assert_eq!(said(tonic::Status::from_error(refused())), "Connection refused (os error 111)");
        let mut status = tonic::Status::unavailable("http2 error");
        status.set_source(Arc::new(std::io::Error::other("keep-alive timed out")));
        assert_eq!(said(status), "http2 error: keep-alive timed out");
        assert_eq!(said(tonic::Status::unknown("")), tonic::Code::Unknown.to_string());
        let error = StorageError::Etcd { attempted: "writing", source: Box::new(etcd_client::Error::IoError(*refused())) };
        assert_eq!(error.to_string(), "writing: io error: Connection refused (os error 111)");
    }
}
