//! Two connections made one: bytes both ways, untouched, until either side goes.
//!
//! When the server has ended, the client may still read what is under way to it, and what it goes on sending is thrown away: closed at
//! once, the kernel would answer that with a reset, and the client would lose the end of the output. When the client has ended, the
//! server has a moment to answer. No more is kept than one block in each direction: a side that does not read holds up the other.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What is carried at a time in each direction, in bytes.
const BLOCK: usize = 32 << 10;
/// How long a client may take to read the end of the output. What is under way is what the sockets hold, some megabytes: a client on
/// a slow line needs minutes for it.
pub const CLIENT_READS: Duration = Duration::from_secs(600);
/// How long a server may go on once the client has ended. The protocols that are carried know no half-closed connection.
const SERVER_ANSWERS: Duration = Duration::from_secs(10);

/// Carries bytes between a client and a server until one of them goes.
pub async fn join<C, S>(client: C, server: S)
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = carry(&mut from_client, &mut to_server, Unwritable::ReadOn);
    let down = carry(&mut from_server, &mut to_client, Unwritable::End);
    tokio::pin!(up, down);
    let late = tokio::select! {
        () = &mut up => tokio::time::timeout(SERVER_ANSWERS, down).await.is_err(),
        () = &mut down => tokio::time::timeout(CLIENT_READS, up).await.is_err(),
    };
    if late {
        tracing::debug!("one side of a connection went, and the other did not follow");
    }
}

/// What becomes of the reading when there is nobody to write to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unwritable {
    /// It goes on, so that the other direction is not cut off by a reset.
    ReadOn,
    /// It ends.
    End,
}

async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), unwritable: Unwritable) {
    let mut block = vec![0; BLOCK];
    let mut open = true;
    loop {
        let length = match from.read(&mut block).await {
            Ok(length) if length > 0 => length,
            // However it ended, it ended.
            _ => break,
        };
        if open && write(to, &block[..length]).await.is_err() {
            open = false;
            if unwritable == Unwritable::End {
                return;
            }
        }
    }
    if open && let Err(error) = to.shutdown().await {
        tracing::debug!(%error, "telling a side that the other has ended");
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// A client and a server with a joint between, whose pipes hold `size` bytes.
    fn world(size: usize) -> (DuplexStream, DuplexStream, JoinHandle<()>) {
        let ((client, outer), (inner, server)) = (duplex(size), duplex(size));
        (client, server, tokio::spawn(join(outer, inner)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_answer_a_client_that_has_ended() {
        let (mut client, mut server, joint) = world(1 << 10);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = vec![];
        server.read_to_end(&mut asked).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answered = vec![];
        client.read_to_end(&mut answered).await.unwrap();
        assert_eq!((asked.as_slice(), answered.as_slice()), (&b"question"[..], &b"answer"[..]));
        joint.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_notice_is_left() {
        let (client, server, joint) = world(1 << 10);
        drop(client);
        let began = tokio::time::Instant::now();
        joint.await.unwrap();
        assert_eq!(began.elapsed(), SERVER_ANSWERS);
        drop(server);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_reads_to_the_end_what_the_server_said_before_it_went() {
        let (mut client, mut server, joint) = world(16);
        // The client goes on talking and does not read; the server says its last and goes.
        let talking = tokio::spawn(async move {
            client.write_all(&[1; 4_000]).await.unwrap();
            let mut said = vec![];
            client.read_to_end(&mut said).await.unwrap();
            said
        });
        server.write_all(b"the end").await.unwrap();
        drop(server);
        assert_eq!(talking.await.unwrap(), b"the end");
        joint.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_read_holds_up_the_other() {
        let (mut client, server, _joint) = world(16);
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(1), client.write_all(&[0; 1_024])).await.is_ok() {
            sent += 1_024;
            assert!(sent < 10 * BLOCK, "the joint keeps no more than a block");
        }
        drop(server);
    }
}
