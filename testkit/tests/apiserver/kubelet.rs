//! A kubelet for tests of connections: it says what it was asked, and speaks as much SPDY as a container runtime's server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::{Router, body};
use daemon::CancellationToken;
use daemon::tls::{Identity, Roots, server_config};
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use serde_json::json;
use testkit::ApiServer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a kubelet was asked, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Method, path and headers, a line each.
    Request(String),
    /// The client has gone while it was answered.
    Gone,
}

/// A node whose kubelet this is.
pub struct Kubelet {
    /// What it hears.
    pub heard: mpsc::UnboundedReceiver<Heard>,
    _stop: tokio_util::sync::DropGuard,
}

impl Kubelet {
    /// Registers the node `n` and serves its kubelet.
    pub async fn start(server: &ApiServer) -> Self {
        server.pki.certificate("kubelet", "system:node:n", Some("system:nodes"), &["127.0.0.1"]).expect("a certificate");
        let identity = Identity::load(&server.pki.file("kubelet.crt"), &server.pki.file("kubelet.key")).expect("the certificate");
        let tls = server_config(identity, Some(Roots::load(&server.pki.file("ca.crt")).expect("the authority")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("the port").port();
        let (sender, heard) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let router = Router::new().fallback(answer).with_state(Arc::new(sender));
        tokio::spawn(daemon::http::serve(listener, Some(tls), router, stop.clone()));
        let wire = server.wire().await.expect("a client");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        wire.post("/api/v1/nodes", &node).await.ok();
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }});
        wire.patch("merge", "/api/v1/nodes/n/status", &status).await.ok();
        Self { heard, _stop: stop.drop_guard() }
    }

    /// The next thing that it hears.
    pub async fn next(&mut self) -> Heard {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.heard.recv()).await;
        next.expect("the kubelet to hear something").expect("a kubelet")
    }

    /// The next request.
    pub async fn asked(&mut self) -> String {
        match self.next().await {
            Heard::Request(text) => text,
            Heard::Gone => panic!("a client has gone, where a request was expected"),
        }
    }
}

/// Says that its client has gone, when it is dropped.
struct Gone(Arc<mpsc::UnboundedSender<Heard>>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(Heard::Gone); // the test may be over
    }
}

async fn answer(State(sender): State<Arc<mpsc::UnboundedSender<Heard>>>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{} {path}", request.method());
    for (name, value) in request.headers() {
        text += &format!("\n{name}: {}", value.to_str().unwrap_or("?"));
    }
    let _ = sender.send(Heard::Request(text)); // the test may be over
    let plain = |code: u16, text: &str| Response::builder().status(code).body(Body::from(text.to_owned())).expect("a response");
    let switched = |protocol: &str| {
        let response = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
        response.header("x-stream-protocol-version", protocol).body(Body::empty()).expect("a response")
    };
    if path.contains("/refused") {
        return plain(500, "container not found (\"refused\")\n");
    }
    if path.starts_with("/exec/") || path.starts_with("/attach/") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { command(TokioIo::new(upgrade.await.expect("an upgrade")), Gone(sender)).await });
        return switched("v4.channel.k8s.io");
    }
    if path.starts_with("/portForward/") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let _gone = Gone(sender);
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.expect("an upgrade")));
            tokio::io::copy(&mut read, &mut write).await.expect("an echo");
        });
        return switched("portforward.k8s.io");
    }
    match path.split('?').next().unwrap_or("") {
        "/containerLogs/ns/p/main" if path.contains("previous") => {
            plain(400, "previous terminated container \"main\" in pod \"p\" not found")
        }
        "/containerLogs/ns/p/main" if path.contains("follow") => {
            let gone = Gone(sender);
            let lines = futures::stream::iter([Ok::<_, std::io::Error>("line\n")]).chain(futures::stream::pending());
            Response::new(Body::from_stream(lines.map(move |line| {
                let _held = &gone;
                line
            })))
        }
        "/containerLogs/ns/p/main" => plain(200, "one\ntwo\n"),
        "/redirect" => Response::builder().status(302).header("location", "/elsewhere/").body(Body::empty()).expect("a response"),
        "/echo" => {
            let body = body::to_bytes(request.into_body(), 64 << 20).await.expect("a body");
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert("access-control-allow-origin", "*".parse().expect("a value"));
            response
        }
        _ => plain(404, "404 page not found"),
    }
}

/// Speaks SPDY: what comes on stdin goes to stdout in upper case; when stdin ends, the command ends with code 3.
async fn command(mut connection: impl AsyncRead + AsyncWrite + Unpin, _gone: Gone) {
    let mut streams: Vec<(u32, String)> = vec![];
    let frame = |stream: u32, data: &[u8], last: bool| {
        let mut out = [stream.to_be_bytes(), u32::try_from(data.len()).expect("a length").to_be_bytes()].concat();
        out[4] = u8::from(last);
        out.extend(data);
        out
    };
    loop {
        let mut head = [0; 8];
        if connection.read_exact(&mut head).await.is_err() {
            return;
        }
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut body = vec![0; (word(4) & 0x00ff_ffff) as usize];
        connection.read_exact(&mut body).await.expect("the frame's body");
        let of = |name: &str| streams.iter().find(|(_, n)| n == name).map(|(id, _)| *id);
        if head[0] & 0x80 != 0 {
            let named = ["error", "stdin", "stdout", "stderr", "resize"].iter().find(|n| body.windows(n.len()).any(|w| w == n.as_bytes()));
            streams.push((u32::from_be_bytes([body[0], body[1], body[2], body[3]]), named.expect("a stream's type").to_string()));
            continue;
        }
        assert_eq!(Some(word(0)), of("stdin"), "only stdin is written to");
        let stdout = of("stdout").expect("stdout");
        connection.write_all(&frame(stdout, &body.to_ascii_uppercase(), false)).await.expect("stdout");
        if head[4] & 1 != 0 {
            let status = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 3",
                "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
            let ends: Vec<u8> = [of("stdout"), of("stderr")].into_iter().flatten().flat_map(|s| frame(s, b"", true)).collect();
            connection.write_all(&ends).await.expect("the output's end");
            connection.write_all(&frame(of("error").expect("error"), status.to_string().as_bytes(), true)).await.expect("the outcome");
            connection.shutdown().await.expect("the end");
            return;
        }
    }
}
