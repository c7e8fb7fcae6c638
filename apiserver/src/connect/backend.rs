//! Connections to what stands behind the API: kubelets, and pods.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, when the target speaks it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name that the target's certificate has to be for, when that is not its host.
    pub name: Option<String>,
    /// Path and query, with a leading `/`.
    pub path: String,
}

impl Target {
    /// `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// The whole URL, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls.is_some() { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Why there is no answer, in the words of upstream's HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// No connection.
    #[error("dial tcp {to}: {why}")]
    Dial {
        /// `host:port`
        to: String,
        /// What is wrong.
        why: String,
    },
    /// A connection that broke before there was an answer.
    #[error("{0}")]
    Broken(hyper::Error),
    /// A path that no request can have.
    #[error("{0}")]
    Path(http::Error),
}

/// What is read and written once there is a connection.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

async fn dial(target: &Target) -> std::io::Result<Box<dyn Io>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    daemon::http::lively(&stream)?;
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(target.name.as_ref().unwrap_or(&target.host).clone()).map_err(std::io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

/// Sends `request`, whose headers are ready for the target, over a connection of its own. Dropping the answer's body closes it.
///
/// # Errors
/// No connection, or none that lasted until the answer's head.
pub async fn send(target: &Target, mut request: Request<Body>) -> Result<Response<Incoming>, Unreachable> {
    *request.uri_mut() = http::Uri::builder().path_and_query(target.path.as_str()).build().map_err(Unreachable::Path)?;
    *request.version_mut() = http::Version::HTTP_11;
    let dialed = tokio::time::timeout(CONNECT, dial(target)).await;
    let failed = |why| Unreachable::Dial { to: target.authority(), why };
    let io = match dialed {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => return Err(failed(words(&error))),
        Err(_) => return Err(failed("i/o timeout".to_owned())),
    };
    let builder = hyper::client::conn::http1::Builder::new().preserve_header_case(true).handshake::<_, Body>(TokioIo::new(io)).await;
    let (mut sender, connection) = builder.map_err(Unreachable::Broken)?;
    // Ends with the answer's body, or with the upgrade.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a kubelet or a pod ended");
        }
    });
    sender.send_request(request).await.map_err(Unreachable::Broken)
}

/// The words for what the kernel says.
fn words(error: &std::io::Error) -> String {
    let known = match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::HostUnreachable => "no route to host",
        ErrorKind::NetworkUnreachable => "network is unreachable",
        ErrorKind::TimedOut => return "i/o timeout".to_owned(),
        _ => return error.to_string(),
    };
    format!("connect: {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_cannot_be_reached_is_said_in_upstreams_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = Target { host: "127.0.0.1".into(), port, tls: None, name: None, path: "/".into() };
        let refused = send(&target, Request::new(Body::empty())).await.unwrap_err().to_string();
        assert_eq!(refused, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
        assert!(send(&Target { path: "no path".into(), ..target }, Request::new(Body::empty())).await.is_err());
        let six = Target { host: "fd00::1".into(), port: 80, tls: None, name: None, path: "/x".into() };
        assert_eq!(six.url(), "http://[fd00::1]:80/x");
    }
}
