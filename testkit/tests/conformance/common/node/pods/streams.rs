//! A command's output and a log over WebSockets of the first kinds, which older clients open.

use anyhow::Context as _;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::super::pod;
use crate::framework::{Framework, SOON};

/// All that the server sends over a WebSocket of this protocol, message by message.
async fn received(f: &Framework, path: &str, protocol: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    // The crate's own connections: our daemons' are HTTP/2, which no WebSocket goes over.
    let file = Kubeconfig::read_from(&f.cluster.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let request = http::Request::get(path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol);
    let answer = kube::Client::try_from(config)?.send(request.body(kube::client::Body::empty())?).await?;
    anyhow::ensure!(answer.status() == 101, "{path}: {}", answer.status());
    anyhow::ensure!(answer.headers().get("sec-websocket-protocol").is_some_and(|p| p == protocol), "{:?}", answer.headers());
    let socket = TokioIo::new(hyper::upgrade::on(answer).await?);
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
    let mut messages = vec![];
    let reading = async {
        while let Some(message) = socket.next().await {
            match message? {
                Message::Binary(bytes) => messages.push(bytes.to_vec()),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(SOON, reading).await.context("the server to close the connection")??;
    Ok(messages)
}

pub async fn command(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&pod("p", "echo container is alive; sleep 600", json!({}), json!({}))).await;
    f.until_ready("p").await;
    let query = "stdout=1&stderr=1&container=main&command=echo&command=remote%20execution%20test";
    let messages = received(&f, &f.core(&format!("pods/p/exec?{query}")), "channel.k8s.io").await?;
    let mut output = vec![];
    for message in &messages {
        let (channel, rest) = message.split_first().context("a message has a channel")?;
        // Each channel may be opened with an empty message.
        assert!(rest.is_empty() || *channel == 1, "on channel {channel}: {rest:?}");
        output.extend_from_slice(rest);
    }
    assert_eq!(String::from_utf8(output)?, "remote execution test\n");
    Ok(())
}

pub async fn logs(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&pod("p", "echo container is alive; sleep 600", json!({}), json!({}))).await;
    f.until_ready("p").await;
    f.until("the log", SOON, || async { (!f.logs("p", "main").await.is_empty()).then_some(()) }).await;
    let messages = received(&f, &f.core("pods/p/log?container=main"), "binary.k8s.io").await?;
    assert_eq!(String::from_utf8(messages.concat())?, "container is alive\n");
    Ok(())
}
