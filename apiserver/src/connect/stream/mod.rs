//! How exec, attach and port-forward are carried. SPDY, and WebSocket up to v4, go through to the kubelet as they are ([`super::tunnel`]).
//! What container runtimes do not speak is answered here, as upstream answers it, and is SPDY from here on: WebSocket v5
//! ([`remote_command`], KEP-4006), and SPDY inside WebSocket for port-forward ([`port_forward`]). Logs, too, may be asked for over a
//! WebSocket ([`reader`]).

pub mod port_forward;
pub mod reader;
pub mod remote_command;
pub mod spdy;
pub mod websocket;

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, Method, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::backend::{self, Target, Unreachable};
use super::headers::{is_upgrade, tokens};

/// WebSocket's channels with an end for stdin.
pub const V5: &str = "v5.channel.k8s.io";
/// What is said to the kubelet: every container runtime knows it.
const V4: &str = "v4.channel.k8s.io";
/// What SPDY inside WebSocket is called: this, and then the protocol in SPDY.
const TUNNELLED: &str = "SPDY/3.1+";
/// The header with the protocol in SPDY.
const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
/// The most bytes of a kubelet's refusal that are passed on.
const REFUSAL: usize = 50 << 10;

/// How a connection is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Not at all: it asks for no upgrade.
    None,
    /// As it is.
    Through,
    /// WebSocket v5 here, SPDY to the kubelet.
    Translated,
    /// WebSocket here, the SPDY inside to the kubelet; with the protocols in SPDY that the client knows.
    Unwrapped(Vec<String>),
}

/// How a request for a pod's stream is carried.
#[must_use]
pub fn way(subresource: &str, headers: &HeaderMap) -> Way {
    if !is_upgrade(headers) {
        return Way::None;
    }
    if !is_websocket(headers) {
        return Way::Through;
    }
    let protocols = || tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    if subresource == "portforward" {
        let inside = protocols().filter_map(|p| p.strip_prefix(TUNNELLED)).filter(|p| p.ends_with("k8s.io"));
        let inside: Vec<String> = inside.map(str::to_owned).collect();
        return if inside.is_empty() { Way::Through } else { Way::Unwrapped(inside) };
    }
    if protocols().any(|p| p == V5) { Way::Translated } else { Way::Through }
}

/// Whether a request wants its connection to be a WebSocket.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    is_upgrade(headers) && tokens(headers, &header::UPGRADE).any(|t| t.eq_ignore_ascii_case("websocket"))
}

/// Asks a kubelet for SPDY with one of these protocols in it.
///
/// # Errors
/// No connection.
async fn ask(target: &Target, protocols: &[&str]) -> Result<Response<Incoming>, Unreachable> {
    let mut request = Request::builder().method(Method::POST).header(header::HOST, target.authority());
    request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "SPDY/3.1").header(header::CONTENT_LENGTH, 0);
    for protocol in protocols {
        request = request.header(PROTOCOL_VERSION, *protocol);
    }
    backend::send(target, request.body(Body::empty()).map_err(Unreachable::Path)?).await
}

/// The protocol in SPDY that an upgraded answer speaks; `None` for one that is not upgraded to SPDY.
fn spoken(response: &Response<Incoming>) -> Option<&str> {
    let headers = response.headers();
    let spdy = response.status() == 101 && tokens(headers, &header::UPGRADE).any(|t| t.eq_ignore_ascii_case("SPDY/3.1"));
    spdy.then(|| headers.get(PROTOCOL_VERSION).and_then(|v| v.to_str().ok()).unwrap_or("").trim())
}

/// What a kubelet that did not upgrade said instead.
async fn refusal(response: Response<Incoming>) -> Result<String, Status> {
    let body = Limited::new(response.into_body(), REFUSAL).collect().await;
    let body = body.map_err(|_| Status::internal("unable to upgrade connection: unable to read error from server response"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subresource: &str, given: &str, expected: Way) {
        let mut headers = HeaderMap::new();
        for (name, value) in given.lines().map(|l| l.trim().split_once(": ").unwrap()) {
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        assert_eq!(way(subresource, &headers), expected, "{given}");
    }

    #[test]
    fn runtimes_get_what_they_speak() {
        let websocket = |protocol: &str| format!("connection: Upgrade\nupgrade: websocket\nsec-websocket-protocol: {protocol}");
        check("exec", "accept: x", Way::None);
        check("exec", "upgrade: websocket", Way::None);
        check("exec", "connection: Upgrade\nupgrade: SPDY/3.1", Way::Through);
        check("exec", &websocket("v4.channel.k8s.io"), Way::Through);
        check("attach", &websocket("v5.channel.k8s.io, v4.channel.k8s.io"), Way::Translated);
        check("portforward", &websocket("v5.channel.k8s.io, v4.channel.k8s.io"), Way::Through);
        check("portforward", &websocket("SPDY/3.1+portforward.k8s.io"), Way::Unwrapped(vec!["portforward.k8s.io".into()]));
        check("exec", &websocket("SPDY/3.1+portforward.k8s.io"), Way::Through);
    }
}
