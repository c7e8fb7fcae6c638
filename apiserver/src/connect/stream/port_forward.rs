//! SPDY inside WebSocket, as kubectl opens port-forward first: the messages' bytes are the SPDY connection to the kubelet.

use api::status::Status;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::websocket;
use super::{TUNNELLED, ask, spoken};
use crate::connect::backend::Target;
use crate::connect::headers;
use crate::connect::tunnel::{Asking, Permit};
use crate::verbs::Call;

/// What is carried at a time in each direction.
const BLOCK: usize = 32 << 10;

/// Joins a client's WebSocket to a kubelet's SPDY. A kubelet that refuses is heard as it is, before the client has its WebSocket.
///
/// # Errors
/// A request that is no handshake, a kubelet that cannot be reached; too many connections.
pub async fn serve(call: &Call, mut request: Request, target: Target, protocols: &[String]) -> Result<Response, Status> {
    websocket::accept(request.method(), request.headers(), "")?;
    let permit = Permit::to_create(call)?;
    let wanted: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let mut response = ask(&target, &wanted).await.map_err(|e| Asking::Dialing.failed(&target, &e))?;
    let Some(protocol) = spoken(&response) else {
        if response.status() == 101 {
            return Err(Status::internal("unable to upgrade: missing upgrade headers in response"));
        }
        headers::back(&mut response);
        return Ok(response.map(Body::new));
    };
    let protocol = if protocol.is_empty() { String::new() } else { format!("{TUNNELLED}{protocol}") };
    let answer = websocket::accept(request.method(), request.headers(), &protocol)?;
    let (client, kubelet) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
    tokio::spawn(async move {
        let (socket, kubelet) = match tokio::try_join!(websocket::upgraded(client), kubelet) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        tokio::select! {
            () = carry(socket, TokioIo::new(kubelet)) => {}
            () = permit.lost() => {}
        }
    });
    Ok(answer)
}

/// Carries both ways until either side goes.
async fn carry<C, K>(socket: WebSocketStream<C>, kubelet: K)
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_kubelet, mut to_kubelet) = tokio::io::split(kubelet);
    let up = async {
        let mut open = true;
        // Whatever comes after a kubelet that has gone is thrown away, lest the kernel cut off what it said before.
        while let Some(Ok(message)) = from_client.next().await {
            if let (Message::Binary(data), true) = (message, open) {
                open = async {
                    to_kubelet.write_all(&data).await?;
                    to_kubelet.flush().await
                }
                .await
                .is_ok();
            }
        }
    };
    let down = async {
        let mut block = vec![0; BLOCK];
        while let Ok(length @ 1..) = from_kubelet.read(&mut block).await {
            if to_client.send(Message::binary(block[..length].to_vec())).await.is_err() {
                return;
            }
        }
        if let Err(error) = to_client.close().await {
            tracing::debug!(%error, "telling a client that the kubelet has gone");
        }
    };
    tokio::pin!(up, down);
    tokio::select! {
        // A WebSocket is not half closed: who has ended it is gone.
        () = &mut up => {}
        () = &mut down => if tokio::time::timeout(daemon::join::CLIENT_READS, up).await.is_err() {
            tracing::debug!("a client did not read to the end");
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::duplex;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_are_the_bytes_of_the_connection() {
        let ((outer, client), (kubelet, inner)) = (duplex(1 << 10), duplex(1 << 10));
        let carried = tokio::spawn(async move { carry(websocket::over(outer).await, inner).await });
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (mut from_client, mut to_client) = tokio::io::split(kubelet);
        client.send(Message::binary(&b"one"[..])).await.unwrap();
        client.send(Message::binary(&b"two"[..])).await.unwrap();
        let mut got = [0; 6];
        from_client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"onetwo");
        to_client.write_all(b"three").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"three"[..]));
        client.send(Message::Ping("?".into())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("?".into()));
        to_client.shutdown().await.unwrap();
        assert!(client.next().await.unwrap().unwrap().is_close());
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), carried).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_ends_the_kubelets_side() {
        let ((outer, client), (mut kubelet, inner)) = (duplex(1 << 10), duplex(1 << 10));
        let carried = tokio::spawn(async move { carry(websocket::over(outer).await, inner).await });
        drop(client);
        assert_eq!(kubelet.read(&mut [0]).await.unwrap(), 0);
        carried.await.unwrap();
    }
}
