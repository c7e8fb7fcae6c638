//! HTTP probes, and the small client that hooks use too.
//!
//! One request a connection, no certificate is verified, redirects are followed on the same host only. What a failure
//! says is what Go's client says: people search for these words.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Answer;

/// The most of a body that is read, in bytes (upstream's bound).
const MAX_BODY: usize = 10 << 10;
/// Redirects followed before giving up (upstream's bound).
const MAX_REDIRECTS: usize = 10;

/// Where a request goes and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: String,
    /// The host to connect to.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, the user agent included.
    pub headers: HeaderMap,
}

impl Target {
    /// What an action asks for: the pod's own address unless it names a host.
    ///
    /// # Errors
    /// A port, path or header that makes no request.
    pub fn new(action: &HTTPGetAction, port: u16, pod_ip: &str, agent: &str) -> Result<Self, String> {
        let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let path = action.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        Ok(Self { scheme, host, port, path, headers: headers(action.http_headers.as_deref(), agent)? })
    }

    /// The URL, as messages show it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, authority(&self.host, self.port), self.path)
    }

    /// What a `Location` leads to.
    fn redirected(&self, location: &str) -> Option<Self> {
        let mut next = self.clone();
        let absolute = if location.starts_with("//") { format!("{}:{location}", self.scheme) } else { location.to_owned() };
        if absolute.contains("://") {
            let to: Uri = absolute.parse().ok()?;
            next.scheme = to.scheme_str()?.to_owned();
            next.host = to.host()?.trim_matches(['[', ']']).to_owned();
            next.port = to.port_u16().unwrap_or(if next.scheme == "https" { 443 } else { 80 });
            next.path = to.path_and_query().map_or_else(|| "/".to_owned(), |p| p.as_str().to_owned());
        } else if location.starts_with('/') {
            next.path = location.to_owned();
        } else {
            // Relative to the last slash (RFC 3986, section 5.2).
            let base = self.path.split('?').next().and_then(|p| p.rsplit_once('/')).map_or("", |(base, _)| base);
            next.path = format!("{base}/{location}");
        }
        Some(next)
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The action's headers; `User-Agent` and `Accept` unless it sets them, or sets them to nothing.
fn headers(given: Option<&[HTTPHeader]>, agent: &str) -> Result<HeaderMap, String> {
    let mut out = HeaderMap::new();
    for header in given.unwrap_or_default() {
        let bad = || format!("invalid header {:?}", header.name);
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| bad())?;
        out.append(name, HeaderValue::from_str(&header.value).map_err(|_| bad())?);
    }
    for (name, value) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
        match out.get(&name) {
            None => drop(out.insert(name, HeaderValue::from_str(value).map_err(|_| format!("invalid header value {value:?}"))?)),
            Some(given) if given.is_empty() => drop(out.remove(name)),
            Some(_) => {}
        }
    }
    Ok(out)
}

/// The number of a port that may be a name of one of the container's.
///
/// # Errors
/// A name the container does not have, a number that is no port.
pub fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok()).ok_or_else(|| format!("couldn't find port: {name:?} in container {:?}", container.name))?
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// Asks, and says what the answer means for a probe.
pub async fn probe(target: Target, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, follow(&target)).await {
        Err(_) => {
            Answer::Failed(format!("Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)", target.url()))
        }
        Ok(Err(error)) => Answer::Failed(error),
        Ok(Ok(Reply { status, body })) if status.is_redirection() => {
            Answer::Warned(format!("Probe terminated redirects, Response body: {}", String::from_utf8_lossy(&body)))
        }
        Ok(Ok(Reply { status, .. })) if status.is_success() => Answer::Passed,
        Ok(Ok(Reply { status, .. })) => Answer::Failed(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
    }
}

async fn follow(first: &Target) -> Result<Reply, String> {
    let mut target = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (reply, headers) = get(&target).await?;
        let location = headers.get(LOCATION).and_then(|l| l.to_str().ok());
        let next = location.filter(|_| reply.status.is_redirection()).and_then(|l| target.redirected(l));
        match next {
            // Another host is not what the probe is about: going there is neither success nor failure.
            Some(next) if next.host == first.host => target = next,
            _ => return Ok(reply),
        }
    }
    Err(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", target.url()))
}

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// The first [`MAX_BODY`] bytes of its body.
    pub body: Bytes,
}

/// One GET. The caller bounds the time.
///
/// # Errors
/// No connection, or no HTTP on it, in the words of Go's client.
pub async fn get(target: &Target) -> Result<(Reply, HeaderMap), String> {
    let said = |error: String| format!("Get {:?}: {error}", target.url());
    let address = authority(&target.host, target.port);
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|e| said(format!("dial tcp {address}: {}", super::tcp::refusal(&e))))?;
    if target.scheme == "https" {
        let name = ServerName::try_from(target.host.clone()).map_err(|e| said(e.to_string()))?;
        let stream = tokio_rustls::TlsConnector::from(unverified()).connect(name, stream).await.map_err(|e| said(tls_refusal(&e)))?;
        exchange(stream, target).await.map_err(said)
    } else {
        exchange(stream, target).await.map_err(said)
    }
}

/// What Go says when a server speaks plain HTTP where TLS is expected; hooks look for it.
pub const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";

fn tls_refusal(error: &std::io::Error) -> String {
    let plain = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match plain {
        Some(rustls::Error::InvalidMessage(_)) => PLAIN_ANSWER.to_owned(),
        _ => error.to_string(),
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, target: &Target) -> Result<(Reply, HeaderMap), String> {
    let mut request = Request::get(target.path.as_str()).body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let host = HeaderValue::from_str(&authority(&target.host, target.port)).map_err(|e| e.to_string())?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    for name in target.headers.keys() {
        request.headers_mut().remove(name); // a `Host` of the action's wins
    }
    request.headers_mut().extend(target.headers.clone());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (parts, mut body) = answer.into_parts();
        let mut read = BytesMut::new();
        while read.len() < MAX_BODY {
            // A body that breaks off does not change what the status said.
            let Some(Ok(frame)) = body.frame().await else { break };
            if let Ok(data) = frame.into_data() {
                let room = (MAX_BODY - read.len()).min(data.len());
                read.extend_from_slice(&data[..room]);
            }
        }
        Ok((Reply { status: parts.status, body: read.freeze() }, parts.headers))
    };
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection ends by itself when all is said; its error is the request's too.
        ended = &mut connection => match ended {
            Err(error) => Err(error.to_string()),
            Ok(()) => answered.await,
        },
    }
}

/// TLS that takes any certificate: a probe asks whether something answers, not who.
fn unverified() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    let make = || {
        let verifier = Arc::new(Anybody(ring::default_provider()));
        Arc::new(rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Request as AxumRequest;
    use axum::response::Redirect;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// A server with one page for each thing a probe may meet.
    async fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let echo = |request: AxumRequest| async move {
            let agent = request.headers()[USER_AGENT].to_str().unwrap();
            let ok = agent == "kube-probe/1.35" && request.headers()["x"] == "y" && request.headers()[HOST] == "example.org";
            if ok { StatusCode::OK } else { StatusCode::IM_A_TEAPOT }
        };
        let app = Router::new()
            .route("/ok", get(|| async { "ok" }))
            .route("/echo", get(echo))
            .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .route("/here", get(|| async { Redirect::temporary("/ok") }))
            .route("/broken", get(|| async { Redirect::temporary("fail") }))
            .route("/away", get(|| async { Redirect::temporary("http://0.0.0.0/") }))
            .route("/loop", get(|| async { Redirect::temporary("/loop") }))
            .route("/slow", get(std::future::pending::<()>));
        tokio::spawn(async move { axum::serve(listener, app).await });
        port
    }

    async fn check(path: &str, port: u16, expected: Answer) {
        let action = HTTPGetAction { path: Some(path.into()), ..HTTPGetAction::default() };
        let target = Target::new(&action, port, "127.0.0.1", super::super::AGENT).unwrap();
        let port = format!(":{port}");
        let answer = match probe(target, Duration::from_millis(300)).await {
            Answer::Failed(text) => Answer::Failed(text.replace(&port, "")),
            other => other,
        };
        assert_eq!(answer, expected, "{path}");
    }

    #[tokio::test]
    async fn answers_mean_what_they_mean_upstream() {
        let port = server().await;
        let failed = |text: &str| Answer::Failed(text.to_owned());
        check("/ok", port, Answer::Passed).await;
        check("here", port, Answer::Passed).await;
        check("/fail", port, failed("HTTP probe failed with statuscode: 500")).await;
        check("/broken", port, failed("HTTP probe failed with statuscode: 500")).await;
        check("/away", port, Answer::Warned("Probe terminated redirects, Response body: ".into())).await;
        check("/loop", port, failed("Get \"http://127.0.0.1/loop\": stopped after 10 redirects")).await;
        check(
            "/slow",
            port,
            failed("Get \"http://127.0.0.1/slow\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        )
        .await;
        check("/ok", 1, failed("Get \"http://127.0.0.1/ok\": dial tcp 127.0.0.1: connect: connection refused")).await;
    }

    #[tokio::test]
    async fn headers_of_the_action_win() {
        let port = server().await;
        let header = |name: &str, value: &str| HTTPHeader { name: name.into(), value: value.into() };
        let action = HTTPGetAction {
            path: Some("/echo".into()),
            http_headers: Some(vec![header("X", "y"), header("Host", "example.org")]),
            ..HTTPGetAction::default()
        };
        let target = Target::new(&action, port, "127.0.0.1", super::super::AGENT).unwrap();
        assert_eq!(probe(target, Duration::from_secs(5)).await, Answer::Passed);
        let bad = HTTPGetAction { http_headers: Some(vec![header("a b", "")]), ..HTTPGetAction::default() };
        assert!(Target::new(&bad, port, "::1", "x").is_err());
        let target =
            Target::new(&HTTPGetAction { scheme: Some("HTTPS".into()), ..HTTPGetAction::default() }, 8443, "fd00::1", "x").unwrap();
        assert_eq!(target.url(), "https://[fd00::1]:8443/");
    }

    #[tokio::test]
    async fn plain_http_behind_https_is_told_as_such() {
        let port = server().await;
        let action = HTTPGetAction { scheme: Some("HTTPS".into()), ..HTTPGetAction::default() };
        let target = Target::new(&action, port, "127.0.0.1", "x").unwrap();
        assert_eq!(super::get(&target).await.unwrap_err(), format!("Get \"https://127.0.0.1:{port}/\": {PLAIN_ANSWER}"));
    }

    #[test]
    fn ports_may_be_names() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        let number = |port: IntOrString| port_number(&port, &container);
        assert_eq!(number(IntOrString::String("web".into())), Ok(8080));
        assert_eq!(number(IntOrString::String("81".into())), Ok(81));
        assert_eq!(number(IntOrString::String("no".into())), Err("couldn't find port: \"no\" in container \"c\"".into()));
        assert_eq!(number(IntOrString::Int(70_000)), Err("invalid port number: 70000".into()));
    }
}
