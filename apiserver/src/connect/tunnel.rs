//! Passing a request on to another server, upgrades included: bytes in, bytes out, untouched.
//!
//! After a checked 101 both connections are joined until either side goes. Header case, duplicate headers and half-closed streams are
//! kept, because the protocols above (SPDY, WebSocket) are none of our business.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// The size of each copying buffer, in bytes.
const BUFFER: usize = 32 << 10;
/// Headers that belong to one connection and not to the next.
const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION, header::TE, header::TRAILER, header::TRANSFER_ENCODING];

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, when the target speaks it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Path and query.
    pub path: String,
}

/// What joined tunnels need besides their ends.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

async fn dial(target: &Target) -> std::io::Result<Box<dyn Io>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let name = rustls::pki_types::ServerName::try_from(target.host.clone()).map_err(std::io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

/// Passes `request` to `target` and its answer back.
///
/// # Errors
/// 503 when the target cannot be reached, 400 for a path that is none.
pub async fn forward(mut request: Request, target: Target, shutdown: CancellationToken) -> Result<Response, Status> {
    let unreachable =
        |why: String| Status::unavailable(format!("error trying to reach service: dial tcp {}:{}: {why}", target.host, target.port));
    let io = match tokio::time::timeout(CONNECT, dial(&target)).await {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("i/o timeout".to_owned())),
    };
    let upgrading = request.headers().contains_key(header::UPGRADE);
    let client = upgrading.then(|| hyper::upgrade::on(&mut request));
    *request.uri_mut() = target.path.parse::<Uri>().map_err(|e| Status::bad_request(format!("{:?}: {e}", target.path)))?;
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    // The user's credentials are for us alone.
    headers.remove(header::AUTHORIZATION);
    if !upgrading {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    if let Ok(host) = format!("{}:{}", target.host, target.port).parse() {
        headers.insert(header::HOST, host);
    }
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .handshake::<_, Body>(TokioIo::new(io))
        .await
        .map_err(|e| unreachable(e.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let mut response = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else { return Err(Status::internal("the server upgraded a request that asked for no upgrade")) };
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(join(client, server, shutdown));
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    for name in &HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    Ok(response.map(Body::new))
}

async fn join(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade, shutdown: CancellationToken) {
    let (client, server) = match tokio::join!(client, server) {
        (Ok(client), Ok(server)) => (client, server),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "an upgrade was not completed");
            return;
        }
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    tokio::select! {
        joined = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER) => {
            if let Err(error) = joined {
                tracing::debug!(%error, "a tunnel ended");
            }
        }
        () = shutdown.cancelled() => {}
    }
}
