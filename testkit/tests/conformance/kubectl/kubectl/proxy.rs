//! `kubectl proxy`, on a port and on a socket.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;

use crate::framework::Framework;

const WITHIN: Duration = Duration::from_secs(30);

/// Starts a proxy and waits for the line that says that it serves. The proxy ends with the handle.
async fn start(f: &Framework, arguments: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = f.kubectl().command(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting kubectl")?;
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().context("kubectl's output")?);
    tokio::time::timeout(WITHIN, out.read_line(&mut line)).await.context("waiting for the proxy")??;
    Ok((child, line))
}

/// GET over a connection that the server closes.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> anyhow::Result<Value> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(WITHIN, stream.read_to_string(&mut answer)).await.context("waiting for an answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer}"))?;
    anyhow::ensure!(head.lines().next().is_some_and(|l| l.ends_with(" 200 OK")), "{answer}");
    serde_json::from_str(body).with_context(|| answer.clone())
}

fn has_versions(answer: &Value) {
    assert_eq!(answer["kind"], "APIVersions", "{answer}");
    assert!(answer["versions"].as_array().is_some_and(|all| !all.is_empty()), "{answer}");
}

pub async fn port_zero(f: Framework) -> anyhow::Result<()> {
    let (_proxy, line) = start(&f, &["proxy", "-p", "0", "--disable-filter"]).await?;
    let port = line.trim().strip_prefix("Starting to serve on 127.0.0.1:").with_context(|| line.clone())?;
    has_versions(&get(TcpStream::connect(("127.0.0.1", port.parse()?)).await?, "/api/").await?);
    Ok(())
}

pub async fn unix_socket(f: Framework) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("test");
    let (_proxy, _) = start(&f, &["proxy", &format!("--unix-socket={}", path.display())]).await?;
    has_versions(&get(UnixStream::connect(&path).await?, "/api").await?);
    Ok(())
}
