//! Ports of a node that are handed to pods.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};

use super::serving::{server, shell};
use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly]",
    test!(no_conflict),
)];

/// Upstream's.
const PORT: u16 = 54323;

fn pod(name: &str, node: &Value, host_ip: &str, protocol: &str) -> Value {
    let mut container = server("main", 8080);
    container["ports"] = json!([{"hostPort": PORT, "containerPort": 8080, "protocol": protocol, "hostIP": host_ip}]);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "nodeSelector": {"kubernetes.io/hostname": node}, "containers": [container]},
    })
}

/// Asks from an address of this machine.
async fn ask(from: &str, at: &str) -> anyhow::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse()?)?;
    let exchange = async {
        let mut stream = socket.connect(format!("{at}:{PORT}").parse()?).await?;
        stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer.lines().last().unwrap_or_default().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer")?
}

/// Datagrams that a pod has received for a port on which nobody listens: there is no server of datagrams in the images.
async fn datagrams(f: &Framework, pod: &str) -> anyhow::Result<u64> {
    let said = shell(f, pod, "sed -n 's/^Udp: [0-9]* \\([0-9]*\\) .*/\\1/p' /proc/net/snmp").await?;
    said.trim().parse().with_context(|| said.clone())
}

async fn no_conflict(f: Framework) -> anyhow::Result<()> {
    // Where the node's own address can be asked from, as upstream's pod in the node's network does.
    let host = f.host().await?;
    let nodes = f.list("/api/v1/nodes").await;
    let is_here = |n: &&Value| n["status"]["addresses"].as_array().is_some_and(|all| all.iter().any(|a| a["address"] == *host));
    let node = &nodes.iter().find(is_here).context("a node here")?["metadata"]["labels"]["kubernetes.io/hostname"];
    for (name, ip, protocol) in [("pod1", "127.0.0.1", "TCP"), ("pod2", &host, "TCP"), ("pod3", &host, "UDP")] {
        f.create_pod(&pod(name, node, ip, protocol)).await;
        f.until_ready(name).await;
    }
    for (from, at, answer) in [("127.0.0.1", "127.0.0.1", "pod1"), (&*host, "127.0.0.1", "pod1"), (&*host, &*host, "pod2")] {
        f.until(&format!("{answer} to answer {from} at {at}"), SOON, || async { (ask(from, at).await.ok()? == answer).then_some(()) })
            .await;
    }
    let before = datagrams(&f, "pod3").await?;
    let socket = UdpSocket::bind(format!("{host}:0")).await?;
    f.until("pod3 to get a datagram", SOON, || async {
        // It may be told that nobody listens there.
        let _ = socket.send_to(b"hello", format!("{host}:{PORT}")).await;
        (datagrams(&f, "pod3").await.ok()? > before).then_some(())
    })
    .await;
    Ok(())
}
