//! The accept loop: TLS or plain, HTTP/1.1 and HTTP/2, upgrades, limits, a clean stop.
//!
//! Each request carries a [`Peer`] extension with the client's address and verified certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::delegated::User;
use crate::lanes::Lanes;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The client's certificate chain, leaf first, already verified; empty when it showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Whom the certificate names, read once for all requests of the connection.
    pub user: Option<Arc<User>>,
}

impl Peer {
    fn new(addr: SocketAddr, certificates: Arc<[CertificateDer<'static>]>) -> Self {
        let user = certificates.first().and_then(|c| User::from_certificate(c)).map(Arc::new);
        Self { addr, certificates, user }
    }
}

/// At most this many connections at once; more wait in the kernel's accept queue.
const MAX_CONNECTIONS: usize = 16_384;
/// A handshake or a request head that takes longer is given up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// An HTTP/2 connection that does not answer a ping within this time is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an HTTP/2 connection is pinged.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Most request heads together, in bytes.
const MAX_HEAD: u32 = 64 << 10;
/// Concurrent requests on one HTTP/2 connection; a client with many watches needs some hundreds.
const MAX_STREAMS: u32 = 1_000;
/// A peer that has vanished without a word, such as a machine that lost its power, is noticed after the first of these and then as many
/// times the second as the third says: two minutes. Upstream's servers take the same two.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(15), 7);
/// How long open requests may take to finish after the stop.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves `app` on `listener` until `shutdown`, then lets open requests finish for a moment.
///
/// # Errors
/// None at present: a failed accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    accept(listener, tls, app, shutdown, None).await
}

/// As [`serve`], with the connections on `lanes`.
///
/// # Errors
/// None at present, as there.
pub async fn serve_on(
    lanes: &Lanes,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    accept(listener, tls, app, shutdown, Some(lanes)).await
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    shutdown: CancellationToken,
    lanes: Option<&Lanes>,
) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let slot = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot?,
        };
        let (stream, addr) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the client went away: neither is a reason to stop.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (tls, app, shutdown) = (tls.clone(), app.clone(), shutdown.clone());
        let Some(lanes) = lanes else {
            connections.spawn(async move {
                connection(stream, addr, tls, app, shutdown).await;
                drop(slot);
            });
            continue;
        };
        // A socket belongs to the runtime that it was made in.
        let stream = stream.into_std();
        let task = async move {
            match stream.and_then(TcpStream::from_std) {
                Ok(stream) => connection(stream, addr, tls, app, shutdown).await,
                Err(error) => tracing::warn!(%addr, %error, "handing a connection over"),
            }
            drop(slot);
        };
        connections.spawn_on(task, lanes.next());
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!("connections were still open at the stop");
    }
    Ok(())
}

/// Sends what is written at once, and notices a peer that has vanished.
///
/// # Errors
/// The kernel's, for a socket that is broken already.
pub fn lively(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (time, interval, retries) = KEEP_ALIVE;
    let keep_alive = socket2::TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

async fn connection(stream: TcpStream, addr: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>, app: Router, shutdown: CancellationToken) {
    if let Err(error) = lively(&stream) {
        tracing::debug!(%addr, %error, "setting up a connection");
    }
    let Some(tls) = tls else {
        let peer = Peer::new(addr, Arc::new([]));
        return exchange(stream, peer, app, shutdown).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let peer = Peer::new(addr, certificates.iter().map(|c| c.clone().into_owned()).collect());
            exchange(stream, peer, app, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%addr, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%addr, "TLS handshake took too long"),
    }
}

async fn exchange<S>(stream: S, peer: Peer, app: Router, shutdown: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A client that has ended is gone, as upstream sees it: what it asked for is dropped, be it a log that nobody writes to. On an
    // upgraded connection either side may end first; that is not HTTP's any more.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).preserve_header_case(true).half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let addr = peer.addr;
    let service = app.map_request(move |mut request: Request<_>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, %error, "connection ended");
    }
}
