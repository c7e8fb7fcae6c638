//! The client: one connection, plain requests, nothing that costs more than it must.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Flow control as Go's clients have it: 4 MiB a stream, a lot for all.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection of its own.
pub struct Connection {
    sender: Sender,
    port: u16,
}

impl Connection {
    /// Connects to a server on loopback.
    pub async fn open(port: u16, mut tls: Arc<rustls::ClientConfig>, http1: bool) -> anyhow::Result<Self> {
        let protocol: &[u8] = if http1 { b"http/1.1" } else { b"h2" };
        Arc::make_mut(&mut tls).alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let io = TokioIo::new(tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?);
        let sender = if http1 {
            let (sender, connection) = http1::handshake(io).await?;
            // It ends with its sender; what went wrong shows in the requests.
            tokio::spawn(connection);
            Sender::Http1(sender)
        } else {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
            let (sender, connection) = builder.handshake(io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        };
        Ok(Self { sender, port })
    }

    /// Sends a request; the answer's head has come, its body has not.
    pub async fn start(&mut self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> anyhow::Result<(u16, Incoming)> {
        let mut request =
            Request::builder().method(method).header(header::USER_AGENT, "bench/1").header(header::ACCEPT, "application/json");
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let body = Full::new(Bytes::from(body));
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request.uri(path).header(header::HOST, "localhost").body(body)?).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request.uri(format!("https://localhost:{}{path}", self.port)).body(body)?).await?
            }
        };
        Ok((response.status().as_u16(), response.into_body()))
    }

    /// Sends a request and takes the whole answer.
    pub async fn send(&mut self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> anyhow::Result<(u16, Bytes)> {
        let (code, body) = self.start(method, path, content_type, body).await?;
        Ok((code, body.collect().await.context("the answer broke off")?.to_bytes()))
    }

    /// GET, whose answer is counted and thrown away.
    pub async fn count(&mut self, path: &str) -> anyhow::Result<usize> {
        let (code, mut body) = self.start(Method::GET, path, "", vec![]).await?;
        ensure!(code == 200, "GET {path} gave {code}");
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }
}
