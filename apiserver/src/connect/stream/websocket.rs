//! The server's side of a WebSocket: the handshake (RFC 6455, 4.2), and messages over the upgraded connection.

use api::status::Status;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connect::headers::tokens;

/// The longest message that is taken, in bytes: what the streaming servers of container runtimes take. Clients that send a file as one
/// message reach it, those that copy send some tens of KiB at a time.
pub const MESSAGE: usize = 32 << 20;
/// What is read, and written, at a time.
const BUFFER: usize = 32 << 10;

/// A WebSocket on an upgraded connection.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The answer that makes a request's connection a WebSocket which speaks `protocol`.
///
/// # Errors
/// 400 for a request that is no handshake.
pub fn accept(method: &Method, headers: &HeaderMap, protocol: &str) -> Result<Response, Status> {
    let bad = |why: &str| Err(Status::bad_request(format!("websocket: {why}")));
    if method != Method::GET {
        return bad("the client is not using the websocket protocol: request method is not GET");
    }
    if !tokens(headers, &header::SEC_WEBSOCKET_VERSION).any(|v| v == "13") {
        return bad("unsupported version: 13 not found in 'Sec-Websocket-Version' header");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|k| !k.is_empty()) else {
        return bad("the client is not using the websocket protocol: 'Sec-WebSocket-Key' header is missing");
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let values = [(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())), (header::SEC_WEBSOCKET_PROTOCOL, protocol.to_owned())];
    for (name, value) in values {
        if !value.is_empty() {
            answer.insert(name, HeaderValue::from_str(&value).map_err(Status::internal)?);
        }
    }
    Ok(response)
}

/// The WebSocket, once the answer has gone out.
///
/// # Errors
/// A client that has gone.
pub async fn upgraded(client: OnUpgrade) -> Result<Socket, hyper::Error> {
    Ok(over(TokioIo::new(client.await?)).await)
}

/// The server's end of a WebSocket over any connection.
pub async fn over<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(connection: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_rfc_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert_eq!(accept(&Method::GET, &headers, "x").unwrap_err().code, 400, "no key");
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept(&Method::POST, &headers, "x").unwrap_err().code, 400, "a POST");
        let answer = accept(&Method::GET, &headers, "v5.channel.k8s.io").unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(accept(&Method::GET, &headers, "x").unwrap_err().code, 400, "an old version");
    }
}
