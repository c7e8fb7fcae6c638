//! Services: one port number of several protocols, ports that change, and traffic that stays near.

use serde_json::{Value, json};

use crate::common::put;
use crate::framework::{Behaviour, Framework, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-network] Services should serve endpoints on same port and different protocols", test!(protocols)),
    Behaviour::new("newer: [sig-network] Services should be able to up and down and change their ports", test!(changing_ports)),
    Behaviour::serial(
        "newer: [sig-network] Traffic Distribution should route traffic to an endpoint in the same zone when using PreferSameZone and PreferClose",
        |f| Box::pin(near(f, Near::Zone)),
    ),
    Behaviour::new(
        "newer: [sig-network] Traffic Distribution should route traffic to an endpoint on the same node when using PreferSameNode and fall back when the endpoint becomes unavailable",
        |f| Box::pin(near(f, Near::Node)),
    ),
    Behaviour::new(
        "newer: [sig-network] Services should respect internalTrafficPolicy=Local Pod to Pod, and drop what has no endpoint on the node",
        |f| Box::pin(near(f, Near::Only)),
    ),
];

/// Says its pod's name over HTTP and over UDP on port 8080, and over HTTP on port 8081; busybox has no UDP server, so the node's perl is one.
const SERVER: &str = r#"mkdir /www; cd /www; echo $NAME > hostname; httpd -p 8080; httpd -p 8081
    exec chroot /host perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 8080) or die $!;
        while (1) { $s->recv(my $question, 100); $s->send("$ENV{NAME}\n") }'"#;
const ASK_UDP: &str = r#"chroot /host perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "$ENV{AT}") or die $!;
    alarm 2; $s->send("hostname"); $s->recv(my $answer, 100) // die $!; print $answer'"#;

/// A pod with its name in `$NAME` and the node's files at `/host`.
fn placed(name: &str, node: &Value, script: &str) -> Value {
    let mut pod = Framework::script(name, script);
    put(&mut pod["metadata"], json!({"labels": {"name": name, "app": if name == "client" { "client" } else { "server" }}}));
    put(
        &mut pod["spec"],
        json!({"nodeName": node, "volumes": [{"name": "host", "hostPath": {"path": "/"}}], "terminationGracePeriodSeconds": 0}),
    );
    let mounts = json!([{"name": "host", "mountPath": "/host", "readOnly": true}]);
    put(&mut pod["spec"]["containers"][0], json!({"env": [{"name": "NAME", "value": name}], "volumeMounts": mounts}));
    pod
}

async fn nodes(f: &Framework) -> Vec<Value> {
    f.list("/api/v1/nodes").await.iter().map(|n| n["metadata"]["name"].clone()).collect()
}

/// What is answered at a place, asked from a pod.
async fn ask(f: &Framework, from: &str, protocol: &str, at: &str) -> Option<String> {
    let script = match protocol {
        "UDP" => format!("export AT={at}; {ASK_UDP}"),
        _ => format!("timeout 3 wget -q -O - http://{at}/hostname"),
    };
    let asked = f.kubectl().run(&["exec", from, "--", "sh", "-c", &script]).await.expect("kubectl runs");
    asked.success.then(|| asked.out.trim().to_owned())
}

async fn until_answered(f: &Framework, from: &str, protocol: &str, at: &str, by: &str) {
    f.until(&format!("{by} to answer {from} at {at}/{protocol}"), POD, || async {
        (ask(f, from, protocol, at).await? == by).then_some(())
    })
    .await;
}

async fn until_silent(f: &Framework, from: &str, protocol: &str, at: &str) {
    f.until(&format!("nothing to answer {from} at {at}/{protocol}"), SOON, || async {
        ask(f, from, protocol, at).await.is_none().then_some(())
    })
    .await;
}

async fn service(f: &Framework, name: &str, more: Value) -> String {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "server"}}});
    put(&mut service["spec"], more);
    let made = f.wire.post(&f.core("services"), &service).await.expect(201);
    made["spec"]["clusterIP"].as_str().expect("an address").to_owned()
}

fn port(name: &str, protocol: &str, port: u16, target: u16) -> Value {
    json!({"name": name, "protocol": protocol, "port": port, "targetPort": target})
}

async fn protocols(f: Framework) -> anyhow::Result<()> {
    let nodes = nodes(&f).await;
    let ip = service(&f, "multiprotocol", json!({"ports": [port("tcp-port", "TCP", 80, 8080)]})).await;
    f.create_pod(&placed("server", &nodes[1], SERVER)).await;
    f.create_pod(&placed("client", &nodes[0], "sleep 600")).await;
    f.until_ready("server").await;
    f.until_ready("client").await;
    let at = format!("{ip}:80");
    until_answered(&f, "client", "TCP", &at, "server").await;
    until_silent(&f, "client", "UDP", &at).await;
    let path = f.core("services/multiprotocol");
    let set = async |ports: Value| drop(f.update(&path, |s| s["spec"]["ports"] = ports.clone()).await);

    set(json!([port("tcp-port", "TCP", 80, 8080), port("udp-port", "UDP", 80, 8080)])).await;
    until_answered(&f, "client", "UDP", &at, "server").await;
    until_answered(&f, "client", "TCP", &at, "server").await;
    let slices = f.group("discovery.k8s.io/v1", "endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dmultiprotocol");
    let ports = f.list(&slices).await[0]["ports"].as_array().map_or(0, Vec::len);
    assert_eq!(ports, 2, "one slice with a port of each protocol");

    set(json!([port("udp-port", "UDP", 80, 8080)])).await;
    until_silent(&f, "client", "TCP", &at).await;
    until_answered(&f, "client", "UDP", &at, "server").await;
    let twice = f.wire.patch("merge", &path, &json!({"spec": {"ports": [port("a", "TCP", 80, 8080), port("b", "TCP", 80, 8081)]}})).await;
    assert_eq!(twice.code, 422, "{}", twice.text());
    Ok(())
}

async fn changing_ports(f: Framework) -> anyhow::Result<()> {
    let nodes = nodes(&f).await;
    let ip = service(&f, "ports", json!({"type": "NodePort", "ports": [port("a", "TCP", 80, 8080), port("b", "TCP", 81, 8081)]})).await;
    f.create_pod(&placed("server", &nodes[1], SERVER)).await;
    f.create_pod(&placed("client", &nodes[0], "sleep 600")).await;
    f.until_ready("server").await;
    f.until_ready("client").await;
    let (first, second, third) = (format!("{ip}:80"), format!("{ip}:81"), format!("{ip}:82"));
    until_answered(&f, "client", "TCP", &first, "server").await;
    until_answered(&f, "client", "TCP", &second, "server").await;
    let path = f.core("services/ports");
    let before = f.wire.get(&path).await.expect(200);
    // A port whose number alone changes keeps its node port, as kubectl edit leaves it in.
    let after = f.update(&path, |s| s["spec"]["ports"][1]["port"] = json!(82)).await;
    assert_eq!(after["spec"]["ports"][1]["nodePort"], before["spec"]["ports"][1]["nodePort"]);
    until_answered(&f, "client", "TCP", &third, "server").await;
    until_silent(&f, "client", "TCP", &second).await;
    until_answered(&f, "client", "TCP", &first, "server").await;
    // What it sends to may change, too: to a port where nobody listens, and back.
    f.update(&path, |s| s["spec"]["ports"][0]["targetPort"] = json!(8082)).await;
    until_silent(&f, "client", "TCP", &first).await;
    f.update(&path, |s| s["spec"]["ports"] = json!([port("a", "TCP", 80, 8081)])).await;
    until_answered(&f, "client", "TCP", &first, "server").await;
    until_silent(&f, "client", "TCP", &third).await;
    Ok(())
}

/// How near traffic is to stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Near {
    Zone,
    Node,
    Only,
}

const ZONE: &str = "topology.kubernetes.io/zone";

/// A server and a client on each node: each client is answered by the server beside it alone.
async fn near(f: Framework, how: Near) -> anyhow::Result<()> {
    let nodes = nodes(&f).await;
    let label = |node: &Value, zone: Value| {
        let path = format!("/api/v1/nodes/{}", node.as_str().expect("a name"));
        let f = f.clone();
        async move { f.wire.patch("merge", &path, &json!({"metadata": {"labels": {ZONE: zone}}})).await.expect(200) }
    };
    if how == Near::Zone {
        for (i, node) in nodes.iter().enumerate() {
            label(node, json!(format!("zone-{i}"))).await;
        }
    }
    let ports = json!([port("", "TCP", 80, 8080)]);
    let more = match how {
        Near::Zone => json!({"ports": ports, "trafficDistribution": "PreferSameZone"}),
        Near::Node => json!({"ports": ports, "trafficDistribution": "PreferSameNode"}),
        Near::Only => json!({"ports": ports, "internalTrafficPolicy": "Local"}),
    };
    let at = format!("{}:80", service(&f, "near", more).await);
    for (i, node) in nodes.iter().enumerate() {
        f.create_pod(&placed(&format!("server-{i}"), node, SERVER)).await;
        let mut client = placed("client", node, "sleep 600");
        client["metadata"]["name"] = json!(format!("client-{i}"));
        f.create_pod(&client).await;
    }
    for i in 0..nodes.len() {
        f.until_ready(&format!("server-{i}")).await;
        f.until_ready(&format!("client-{i}")).await;
    }
    let beside = async || {
        for i in 0..nodes.len() {
            let (from, by) = (format!("client-{i}"), format!("server-{i}"));
            // Eight answers in a row are no chance.
            f.until(&format!("{by} alone to answer {from}"), POD, || async {
                for _ in 0..8 {
                    (ask(&f, &from, "TCP", &at).await? == by).then_some(())?;
                }
                Some(())
            })
            .await;
        }
    };
    beside().await;
    let slices = f.group("discovery.k8s.io/v1", "endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dnear");
    if how != Near::Only {
        for endpoint in f.list(&slices).await[0]["endpoints"].as_array().expect("endpoints") {
            let hint =
                if how == Near::Zone { &endpoint["hints"]["forZones"][0]["name"] } else { &endpoint["hints"]["forNodes"][0]["name"] };
            assert_eq!(*hint, if how == Near::Zone { endpoint["zone"].clone() } else { endpoint["nodeName"].clone() }, "{endpoint}");
        }
    }
    if how == Near::Zone {
        // The older name means the same.
        f.update(&f.core("services/near"), |s| s["spec"]["trafficDistribution"] = json!("PreferClose")).await;
        beside().await;
    }
    // The server beside the second client goes.
    f.wire.delete(&f.core("pods/server-1")).await.expect(200);
    f.until_gone(&f.core("pods/server-1"), POD).await;
    match how {
        Near::Only => until_silent(&f, "client-1", "TCP", &at).await,
        _ => until_answered(&f, "client-1", "TCP", &at, "server-0").await,
    }
    until_answered(&f, "client-0", "TCP", &at, "server-0").await;
    if how == Near::Zone {
        for node in &nodes {
            label(node, Value::Null).await;
        }
    }
    Ok(())
}
