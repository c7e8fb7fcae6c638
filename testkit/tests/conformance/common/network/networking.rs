//! Pods on every node reach each other, and the node's own network reaches them.
//!
//! Upstream asks a server that says its name, over HTTP and UDP. busybox has no UDP server, so the node's perl is one.

use serde_json::{Value, json};

use super::super::{pod, put};
use crate::framework::{Behaviour, Framework, POD};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance]",
        |f| Box::pin(reached(f, HTTP, false)),
    ),
    Behaviour::new(
        "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [NodeConformance]",
        |f| Box::pin(reached(f, UDP, false)),
    ),
    Behaviour::new(
        "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [NodeConformance]",
        |f| Box::pin(reached(f, HTTP, true)),
    ),
    Behaviour::new(
        "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [NodeConformance]",
        |f| Box::pin(reached(f, UDP, true)),
    ),
];

/// A server that says its pod's name, and a client that asks the one at `$IP`; both know their own name as `$NAME`.
struct Protocol {
    server: &'static str,
    client: &'static str,
}

const HTTP: Protocol = Protocol {
    server: "mkdir /www; cd /www; echo $NAME > hostname; exec httpd -f -p 8080",
    client: "wget -q -O - http://$IP:8080/hostname",
};
const UDP: Protocol = Protocol {
    server: r#"exec chroot /host perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 8080) or die $!;
        while (1) { $s->recv(my $question, 100); $s->send("$ENV{NAME}\n") }'"#,
    client: r#"chroot /host perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "$ENV{IP}:8080") or die $!;
        alarm 2; $s->send("hostname"); $s->recv(my $answer, 100) // die $!; print $answer'"#,
};

/// A pod with its name in `$NAME` and the node's files at `/host`.
fn placed(name: &str, node: &Value, script: &str, spec: Value) -> Value {
    let container = json!({
        "env": [{"name": "NAME", "value": name}],
        "volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": true}],
    });
    let mut pod = pod(name, script, json!({"nodeName": node, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]}), container);
    put(&mut pod["spec"], spec);
    pod
}

/// A server on each node; each says its name when it is asked from the node's network, or from another pod.
async fn reached(f: Framework, protocol: Protocol, from_node: bool) -> anyhow::Result<()> {
    let nodes: Vec<Value> = f.list("/api/v1/nodes").await.iter().map(|n| n["metadata"]["name"].clone()).collect();
    let servers: Vec<String> = (0..nodes.len()).map(|i| format!("server-{i}")).collect();
    for (name, node) in servers.iter().zip(&nodes) {
        f.create_pod(&placed(name, node, protocol.server, json!({}))).await;
    }
    f.create_pod(&placed("client", &nodes[0], "sleep 600", json!({"hostNetwork": from_node}))).await;
    f.until_ready("client").await;
    for name in &servers {
        let ip = f.until_ready(name).await["status"]["podIP"].as_str().expect("an address").to_owned();
        let script = format!("export IP={ip}; {}", protocol.client);
        // Running is not yet listening.
        f.until(&format!("{name} at {ip} to answer"), POD, || async {
            let asked = f.kubectl().run(&["exec", "client", "--", "sh", "-c", &script]).await.expect("kubectl runs");
            (asked.success && asked.out == format!("{name}\n")).then_some(())
        })
        .await;
    }
    Ok(())
}
