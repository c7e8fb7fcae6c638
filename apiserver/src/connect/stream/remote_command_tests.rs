//! What passes between a WebSocket's channels and the streams of a container.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: true };

fn frame(stream: u32, data: &[u8], last: bool) -> Vec<u8> {
    [&spdy::data(stream, data.len(), last), data].concat()
}

#[test]
fn channels_are_streams() {
    let check = |streams: Streams, expected: &[(u8, u32)]| {
        let found: Vec<(u8, u32)> = [STDIN, STDOUT, STDERR, ERROR, RESIZE].iter().filter_map(|c| Some((*c, streams.stream(*c)?))).collect();
        assert_eq!(found, expected);
        assert!(expected.iter().all(|(channel, stream)| streams.channel(*stream) == Some(*channel)));
        assert_eq!(streams.opening().iter().filter(|b| **b == 0x80).count(), expected.len());
    };
    check(ALL, &[(STDIN, 3), (STDOUT, 5), (STDERR, 7), (ERROR, 1)]);
    check(TERMINAL, &[(STDIN, 3), (STDOUT, 5), (ERROR, 1), (RESIZE, 7)]);
    check(Streams { stdout: true, ..Streams::default() }, &[(STDOUT, 3), (ERROR, 1)]);
    let of = |query: &str| Streams::of(&crate::http::query::Query::parse(query));
    assert_eq!(of("stdin=true&stdout=1&stderr=true&tty=true"), TERMINAL);
    assert_eq!(of("stdin=false&stdout=true&stderr=true&command=x"), Streams { stdin: false, ..ALL });
}

#[test]
fn messages_become_frames() {
    let mut decide = ToKubelet { streams: TERMINAL, stdin_ended: false };
    assert_eq!(decide.frame(b"\0abc"), Some((3, &b"abc"[..], false)));
    assert_eq!(decide.frame(b"\x04{}"), Some((7, &b"{}"[..], false)));
    for nothing in [&b""[..], b"\0", b"\x01out", b"\x03err", b"\x09what", b"\xff", b"\xff\x01", b"\xff\x04"] {
        assert_eq!(decide.frame(nothing), None, "{nothing:?}");
    }
    assert_eq!(decide.frame(b"\xff\0"), Some((3, &b""[..], true)));
    assert_eq!((decide.frame(b"\xff\0"), decide.frame(b"\0late")), (None, None), "stdin ends once");
    let mut no_input = ToKubelet { streams: Streams { stdin: false, ..ALL }, stdin_ended: false };
    assert_eq!((no_input.frame(b"\0abc"), no_input.frame(b"\xff\0")), (None, None));
}

#[test]
fn frames_become_messages() {
    let mut decide = ToClient::new(ALL);
    let heard = decide.hear(&[frame(5, b"out", false), frame(7, b"err", true), spdy::ping(2), spdy::ping(1)].concat()).unwrap();
    assert_eq!(heard, Heard { messages: vec![b"\x01out".to_vec(), b"\x02err".to_vec()], replies: vec![spdy::ping(2)] });
    assert!(!decide.done());
    decide.hear(&frame(1, br#"{"status":"Success"}"#, true)).unwrap();
    assert!(!decide.done(), "the output has not ended");
    decide.hear(&frame(5, b"", true)).unwrap();
    assert!(decide.done());
    assert_eq!(decide.outcome(), br#"{"status":"Success"}"#);
}

#[test]
fn every_end_has_an_outcome() {
    let outcome = |frames: &[Vec<u8>]| {
        let mut decide = ToClient::new(ALL);
        decide.hear(&frames.concat()).unwrap();
        serde_json::from_slice::<Value>(&decide.outcome()).unwrap()
    };
    assert_eq!(outcome(&[frame(1, b"", true)])["status"], "Success");
    assert_eq!(outcome(&[])["message"], "Internal error occurred: the connection to the kubelet was lost");
    assert_eq!(outcome(&[frame(1, b"what", true)])["message"], "Internal error occurred: what");
    assert_eq!(outcome(&[frame(1, &[b'x'; 60_000], false), frame(1, &[b'y'; 60_000], true)])["status"], "Failure");
    assert!(ToClient::new(ALL).hear(&[0; 8]).is_err());
}

struct World {
    client: WebSocketStream<DuplexStream>,
    kubelet: DuplexStream,
    carried: tokio::task::JoinHandle<Option<Vec<u8>>>,
}

async fn world(streams: Streams) -> World {
    let ((outer, client), (kubelet, inner)) = (duplex(4 << 10), duplex(4 << 10));
    let carried = tokio::spawn(async move {
        let (mut to_client, mut from_client) = websocket::over(outer).await.split();
        carry(&mut to_client, &mut from_client, inner, streams).await
    });
    World { client: WebSocketStream::from_raw_socket(client, Role::Client, None).await, kubelet, carried }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_carried_from_end_to_end() {
    let mut world = world(ALL).await;
    let mut opening = vec![0; ALL.opening().len()];
    world.kubelet.read_exact(&mut opening).await.unwrap();
    assert_eq!(opening, ALL.opening());
    world.client.send(Message::binary(&b"\0abc"[..])).await.unwrap();
    world.client.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
    let mut input = vec![0; 8 + 3 + 8];
    world.kubelet.read_exact(&mut input).await.unwrap();
    assert_eq!(input, [frame(3, b"abc", false), frame(3, b"", true)].concat());
    world.kubelet.write_all(&[frame(5, b"ABC", true), frame(7, b"", true), frame(1, b"{}", true)].concat()).await.unwrap();
    assert_eq!(world.client.next().await.unwrap().unwrap(), Message::binary(&b"\x01ABC"[..]));
    assert_eq!(world.carried.await.unwrap(), Some(b"{}".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn who_writes_and_reads_at_once_is_not_stuck() {
    // What the client sends and what the kubelet sends are each more than all pipes hold.
    let World { client, mut kubelet, carried } = world(ALL).await;
    let (mut to_kubelet, mut from_kubelet) = client.split();
    const PIECES: usize = 100;
    let talking = tokio::spawn(async move {
        for _ in 0..PIECES {
            to_kubelet.send(Message::binary([&[STDIN][..], &[7; 5_000]].concat())).await.unwrap();
        }
        to_kubelet
    });
    let listening = tokio::spawn(async move {
        let mut got = 0;
        while got < PIECES * 5_000 {
            got += from_kubelet.next().await.unwrap().unwrap().into_data().len() - 1;
        }
        (got, from_kubelet)
    });
    for _ in 0..PIECES {
        kubelet.write_all(&frame(5, &[9; 5_000], false)).await.unwrap();
    }
    let (got, _from_kubelet) = listening.await.unwrap();
    assert_eq!(got, PIECES * 5_000);
    let mut input = vec![0; ALL.opening().len() + PIECES * (8 + 5_000)];
    kubelet.read_exact(&mut input).await.unwrap();
    let _to_kubelet = talking.await.unwrap();
    drop(kubelet);
    assert!(carried.await.unwrap().is_some_and(|o| o.ends_with(b"}")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_the_kubelets_side() {
    let World { client, mut kubelet, carried } = world(TERMINAL).await;
    drop(client);
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), carried).await.unwrap().unwrap(), None);
    let mut rest = vec![];
    kubelet.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= TERMINAL.opening().len());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_up_the_kubelet() {
    let World { client, mut kubelet, carried } = world(ALL).await;
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), kubelet.write_all(&frame(5, &[0; 1_000], false))).await.is_ok() {
        sent += 1_000;
        assert!(sent < 1 << 20, "no more is kept than some blocks");
    }
    drop((client, kubelet));
    carried.await.unwrap();
}
