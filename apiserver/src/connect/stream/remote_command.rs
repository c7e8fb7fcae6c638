//! exec and attach over WebSocket v5, answered here: each channel is a stream of SPDY towards the kubelet (KEP-4006). What v5 has over v4,
//! the end of stdin, is the end of a stream in SPDY, which every container runtime understands.
//!
//! [`ToKubelet`] and [`ToClient`] decide; what carries their bytes is below them. Nothing is kept but a block each way: a client that does
//! not read holds up the kubelet, and the other way round.

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::spdy::{self, Decoder, Encoder, Event, Malformed};
use super::websocket::{self, Socket};
use super::{V4, V5, ask, refusal, spoken};
use crate::connect::backend::Target;
use crate::connect::tunnel::Permit;
use crate::verbs::Call;

/// How long the kubelet and its runtime may take to begin.
const BEGIN: std::time::Duration = std::time::Duration::from_secs(60);
/// The longest outcome that is taken from a kubelet, in bytes.
const OUTCOME: usize = 64 << 10;
/// What is read from a kubelet at a time.
const BLOCK: usize = 32 << 10;
/// Pings and refusals that wait for the way to the kubelet to be free; more are left out.
const REPLIES: usize = 4;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// The channel on which v5 says that another one has ended.
const CLOSE: u8 = 255;

/// The streams that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Errors, which a terminal does not have apart.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

impl Streams {
    /// The streams of a request, in the API's words.
    #[must_use]
    pub fn of(query: &crate::http::query::Query) -> Self {
        let tty = query.flag("tty");
        Self { stdin: query.flag("stdin"), stdout: query.flag("stdout"), stderr: query.flag("stderr") && !tty, tty }
    }

    /// The channels that become streams, in the order in which upstream's clients open them, and what they are called there.
    fn channels(self) -> impl Iterator<Item = (u8, &'static str)> {
        let all = [(true, ERROR, "error"), (self.stdin, STDIN, "stdin"), (self.stdout, STDOUT, "stdout"), (self.stderr, STDERR, "stderr")];
        all.into_iter().chain([(self.tty, RESIZE, "resize")]).filter(|(wanted, ..)| *wanted).map(|(_, channel, name)| (channel, name))
    }

    /// The stream of a channel. Those that a client opens are odd.
    fn stream(self, channel: u8) -> Option<u32> {
        self.channels().zip((1..).step_by(2)).find(|((c, _), _)| *c == channel).map(|(_, stream)| stream)
    }

    fn channel(self, stream: u32) -> Option<u8> {
        self.channels().zip((1..).step_by(2)).find(|(_, s)| *s == stream).map(|((channel, _), _)| channel)
    }

    /// The frames that open the streams.
    fn opening(self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        self.channels().zip((1..).step_by(2)).flat_map(|((_, name), stream)| encoder.open(stream, &[("streamtype", name)])).collect()
    }

    /// The empty message that tells a client that the connection stands.
    fn greeting(self) -> Vec<u8> {
        vec![if self.stdout {
            STDOUT
        } else if self.stderr {
            STDERR
        } else {
            ERROR
        }]
    }
}

/// What a client's messages become.
#[derive(Debug)]
struct ToKubelet {
    streams: Streams,
    stdin_ended: bool,
}

impl ToKubelet {
    /// The stream that a message is for, its data, and whether it is the last. `None` for one that means nothing here.
    fn frame<'a>(&mut self, message: &'a [u8]) -> Option<(u32, &'a [u8], bool)> {
        match message {
            [CLOSE, STDIN] if !self.stdin_ended => {
                let stream = self.streams.stream(STDIN)?;
                self.stdin_ended = true;
                Some((stream, &[], true))
            }
            [STDIN, ..] if self.stdin_ended => None,
            [channel @ (STDIN | RESIZE), data @ ..] if !data.is_empty() => Some((self.streams.stream(*channel)?, data, false)),
            _ => None,
        }
    }
}

/// What a kubelet's frames become.
#[derive(Debug)]
struct ToClient {
    streams: Streams,
    decoder: Decoder,
    outcome: Vec<u8>,
    ended: Vec<u32>,
}

/// What there is to do for some bytes from a kubelet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Messages for the client.
    messages: Vec<Vec<u8>>,
    /// Frames for the kubelet.
    replies: Vec<Vec<u8>>,
}

impl ToClient {
    fn new(streams: Streams) -> Self {
        Self { streams, decoder: Decoder::default(), outcome: vec![], ended: vec![] }
    }

    fn hear(&mut self, mut bytes: &[u8]) -> Result<Heard, Malformed> {
        let mut heard = Heard::default();
        while let Some(event) = self.decoder.next(&mut bytes)? {
            match event {
                Event::Data(stream, data) => match self.streams.channel(stream) {
                    Some(channel @ (STDOUT | STDERR)) => heard.messages.push([&[channel], data].concat()),
                    Some(ERROR) if self.outcome.len() + data.len() <= OUTCOME => self.outcome.extend(data),
                    _ => {}
                },
                Event::Ended(stream) if self.streams.channel(stream).is_some() && !self.ended.contains(&stream) => self.ended.push(stream),
                Event::Opened(stream) => heard.replies.push(spdy::refuse(stream)),
                // Ours are odd, and we send none.
                Event::Ping(id) if id % 2 == 0 => heard.replies.push(spdy::ping(id)),
                Event::Ended(_) | Event::Ping(_) | Event::GoAway => {}
            }
        }
        Ok(heard)
    }

    /// Whether everything has been said.
    fn done(&self) -> bool {
        [ERROR, STDOUT, STDERR].into_iter().filter_map(|c| self.streams.stream(c)).all(|stream| self.ended.contains(&stream))
    }

    /// What became of the command, as the client is told it.
    fn outcome(self) -> Vec<u8> {
        if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&self.outcome).is_ok() {
            return self.outcome;
        }
        let said = String::from_utf8_lossy(&self.outcome);
        match (said.is_empty(), self.streams.stream(ERROR).is_some_and(|error| self.ended.contains(&error))) {
            (true, true) => json!({"metadata": {}, "status": "Success"}).to_string().into_bytes(),
            (true, false) => failure(&Status::internal("the connection to the kubelet was lost")),
            _ => failure(&Status::internal(said)),
        }
    }
}

fn failure(status: &Status) -> Vec<u8> {
    status.to_json().to_string().into_bytes()
}

/// Answers a client's WebSocket with what a kubelet says in SPDY.
///
/// # Errors
/// A request that is no handshake; too many connections.
pub fn serve(call: &Call, mut request: Request, target: Target) -> Result<Response, Status> {
    let answer = websocket::accept(request.method(), request.headers(), V5)?;
    let permit = Permit::to_create(call)?;
    let client = hyper::upgrade::on(&mut request);
    let streams = Streams::of(&call.query);
    tokio::spawn(async move {
        let socket = match websocket::upgraded(client).await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        tokio::select! {
            () = converse(socket, &target, streams) => {}
            () = permit.lost() => {}
        }
    });
    Ok(answer)
}

/// From the greeting to the end.
async fn converse(socket: Socket, target: &Target, streams: Streams) {
    let (mut to_client, mut from_client) = socket.split();
    let began = tokio::time::timeout(BEGIN, begin(target)).await;
    let outcome = match began.unwrap_or_else(|_| Err(Status::internal("the kubelet did not answer"))) {
        Err(status) => failure(&status),
        Ok(kubelet) => {
            // Not before: clients complain of a message for which they are not ready yet.
            if to_client.send(Message::binary(streams.greeting())).await.is_err() {
                return;
            }
            match carry(&mut to_client, &mut from_client, TokioIo::new(kubelet), streams).await {
                Some(outcome) => outcome,
                None => return,
            }
        }
    };
    let goodbye = async {
        to_client.send(Message::binary([&[ERROR], outcome.as_slice()].concat())).await?;
        to_client.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
    };
    // The client reads what is under way to it and goes; what it still sends is thrown away, lest the kernel cut it off.
    let drained = async { while from_client.next().await.is_some_and(|m| m.is_ok()) {} };
    let ended = tokio::time::timeout(daemon::join::CLIENT_READS, futures::future::join(goodbye, drained)).await;
    if ended.is_err() {
        tracing::debug!("a client did not read to the end");
    }
}

/// The kubelet's connection, in SPDY with v4 of the protocol in it.
async fn begin(target: &Target) -> Result<Upgraded, Status> {
    let asked = ask(target, &[V4]).await;
    let mut response = asked.map_err(|e| Status::internal(format!("error sending request: Post {:?}: {e}", target.url())))?;
    match spoken(&response) {
        Some(V4) => hyper::upgrade::on(&mut response).await.map_err(|e| Status::internal(format!("unable to upgrade connection: {e}"))),
        Some(other) => Err(Status::internal(format!("unable to upgrade connection: the kubelet speaks {other:?}, not {V4:?}"))),
        None => Err(Status::internal(format!("unable to upgrade connection: {}", refusal(response).await?))),
    }
}

/// Carries both ways. Gives what became of the command, or `None` when the client has gone.
async fn carry<C, K>(
    to_client: &mut SplitSink<WebSocketStream<C>, Message>,
    from_client: &mut SplitStream<WebSocketStream<C>>,
    kubelet: K,
    streams: Streams,
) -> Option<Vec<u8>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let (mut from_kubelet, mut to_kubelet) = tokio::io::split(kubelet);
    let (replies, mut waiting) = mpsc::channel::<Vec<u8>>(REPLIES);
    let up = async {
        let mut decide = ToKubelet { streams, stdin_ended: false };
        let mut open = to_kubelet.write_all(&streams.opening()).await.is_ok();
        loop {
            tokio::select! {
                Some(frame) = waiting.recv() => open = open && write(&mut to_kubelet, &frame).await.is_ok(),
                message = from_client.next() => {
                    let Some(Ok(message)) = message else { return };
                    let data = if message.is_binary() || message.is_text() { message.into_data() } else { continue };
                    if open && let Some((stream, data, last)) = decide.frame(&data) {
                        open = frames(&mut to_kubelet, stream, data, last).await.is_ok();
                    }
                }
            }
        }
    };
    let down = async {
        let mut decide = ToClient::new(streams);
        let mut block = vec![0; BLOCK];
        loop {
            let length = from_kubelet.read(&mut block).await.unwrap_or(0);
            let heard = decide.hear(&block[..length]);
            let Ok(Heard { messages, replies: frames }) = heard else { return Some(decide.outcome()) };
            for message in messages {
                to_client.send(Message::binary(message)).await.ok()?;
            }
            for frame in frames {
                // A kubelet that reads nothing needs no answer.
                let _ = replies.try_send(frame);
            }
            if length == 0 || decide.done() {
                return Some(decide.outcome());
            }
        }
    };
    tokio::select! {
        () = up => None,
        outcome = down => outcome,
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

async fn frames(to: &mut (impl AsyncWrite + Unpin), stream: u32, data: &[u8], last: bool) -> std::io::Result<()> {
    if last {
        to.write_all(&spdy::data(stream, 0, true)).await?;
    }
    for piece in data.chunks(spdy::MOST_DATA) {
        to.write_all(&spdy::data(stream, piece.len(), false)).await?;
        to.write_all(piece).await?;
    }
    to.flush().await
}

#[cfg(test)]
#[path = "remote_command_tests.rs"]
mod tests;
