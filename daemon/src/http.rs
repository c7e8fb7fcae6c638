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

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The client's certificate chain, leaf first, already verified; empty when it showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
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
        connections.spawn(async move {
            connection(stream, addr, tls, app, shutdown).await;
            drop(slot);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!("connections were still open at the stop");
    }
    Ok(())
}

async fn connection(stream: TcpStream, addr: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>, app: Router, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%addr, %error, "setting TCP_NODELAY");
    }
    let Some(tls) = tls else {
        let peer = Peer { addr, certificates: Arc::new([]) };
        return exchange(stream, peer, app, shutdown).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let peer = Peer { addr, certificates: certificates.iter().map(|c| c.clone().into_owned()).collect() };
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
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).preserve_header_case(true).half_close(true);
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
