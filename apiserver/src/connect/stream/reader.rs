//! An answer's body over a WebSocket, for clients that ask for a log that way: each piece of it is a message.

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::header;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::websocket;
use crate::auth::Attributes;
use crate::connect::headers::tokens;
use crate::connect::tunnel::Permit;
use crate::verbs::Call;

/// Pieces as they are.
const BINARY: &str = "binary.k8s.io";
/// Pieces in base64, as text.
const BASE64: &str = "base64.binary.k8s.io";

/// Answers a WebSocket handshake with what `body` gives.
///
/// # Errors
/// A request that is no handshake; too many connections.
pub fn serve(call: &Call, mut request: Request, body: Body) -> Result<Response, Status> {
    let asked: Vec<&str> = tokens(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let protocol = asked.iter().copied().find(|p| matches!(*p, BINARY | BASE64)).unwrap_or("").to_owned();
    let answer = websocket::accept(request.method(), request.headers(), &protocol)?;
    let permit = Permit::take(&call.server, &call.user, Attributes::from(&call.info))?;
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let socket = match websocket::upgraded(client).await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        tokio::select! {
            () = tell(socket, body.into_data_stream(), protocol == BASE64) => {}
            () = permit.lost() => {}
        }
    });
    Ok(answer)
}

async fn tell<C, E>(socket: WebSocketStream<C>, pieces: impl Stream<Item = Result<Bytes, E>>, base64: bool)
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: std::fmt::Display,
{
    let (mut to_client, mut from_client) = socket.split();
    let telling = async {
        tokio::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let message = match piece {
                Ok(piece) if base64 => Message::text(STANDARD.encode(piece)),
                Ok(piece) => Message::binary(piece),
                Err(error) => return tracing::debug!(%error, "a body broke off"),
            };
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        if let Err(error) = to_client.close().await {
            tracing::debug!(%error, "telling a client that this is the end");
        }
    };
    // Nothing that a client says here means anything, but that it goes.
    let gone = async { while from_client.next().await.is_some_and(|m| m.is_ok()) {} };
    tokio::pin!(telling, gone);
    tokio::select! {
        () = &mut telling => if tokio::time::timeout(daemon::join::CLIENT_READS, gone).await.is_err() {
            tracing::debug!("a client did not read to the end");
        },
        () = &mut gone => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn told(base64: bool) -> Vec<Message> {
        let (outer, client) = duplex(1 << 10);
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"one\n")), Ok(Bytes::from_static(b"two\n"))]);
        let task = tokio::spawn(async move { tell(websocket::over(outer).await, pieces, base64).await });
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let messages: Vec<Message> = client.map(|m| m.unwrap()).collect().await;
        task.await.unwrap();
        messages
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_are_messages() {
        assert_eq!(told(false).await, [Message::binary(&b"one\n"[..]), Message::binary(&b"two\n"[..]), Message::Close(None)]);
        assert_eq!(told(true).await, [Message::text("b25lCg=="), Message::text("dHdvCg=="), Message::Close(None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_ends_the_body() {
        let (outer, client) = duplex(1 << 10);
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let task = tokio::spawn(async move { tell(websocket::over(outer).await, never, false).await });
        drop(client);
        task.await.unwrap();
    }
}
