//! Connections to pods and nodes, by real clients on the one side and a kubelet that says what it is asked on the other.

use std::path::Path;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use testkit::{ApiServer, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::kubelet::{Heard, Kubelet};

/// An apiserver with a node and the running pod `ns/p` on it.
async fn world() -> (ApiServer, Wire, Kubelet) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    let kubelet = Kubelet::start(&server).await;
    crate::namespace(&wire, "ns").await;
    let containers = json!([{"name": "main", "image": "x"}]);
    for (name, container) in [("p", "main"), ("q", "refused")] {
        let containers = containers.to_string().replace("main", container);
        let containers: serde_json::Value = serde_json::from_str(&containers).expect("containers");
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "n", "containers": containers}});
        wire.post("/api/v1/namespaces/ns/pods", &pod).await.ok();
    }
    (server, wire, kubelet)
}

/// A connection to the apiserver as whoever has this kubeconfig.
async fn dial(server: &ApiServer, kubeconfig: &Path) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    use daemon::tls::{Identity, Roots, client_config};
    let identity = Identity::load(&kubeconfig.with_extension("crt"), &kubeconfig.with_extension("key")).expect("a certificate");
    let config = client_config(Roots::load(&server.pki.file("ca.crt")).expect("the authority"), Some(identity));
    let port: u16 = server.url.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let name = "localhost".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.expect("TLS")
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// A WebSocket of the administrator's; or the code and text of the refusal.
async fn websocket(server: &ApiServer, kubeconfig: &Path, path: &str, protocol: &str) -> Result<(Socket, String), (u16, String)> {
    let mut request = format!("wss://localhost{path}").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a value"));
    match tokio_tungstenite::client_async(request, dial(server, kubeconfig).await).await {
        Ok((socket, response)) => {
            let chosen = response.headers().get("sec-websocket-protocol").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
            Ok((socket, chosen))
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err((response.status().as_u16(), String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned()))
        }
        Err(other) => panic!("{path}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_websocket_is_spdy_to_the_kubelet() {
    let (server, _, mut kubelet) = world().await;
    // The crate's own connections: our daemons' are HTTP/2, which no WebSocket goes over.
    let file = Kubeconfig::read_from(&server.kubeconfig).expect("the kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("the kubeconfig");
    let pods: Api<Pod> = Api::namespaced(kube::Client::try_from(config).expect("a client"), "ns");
    let mut process = pods.exec("p", ["sh", "-c", "a b&c"], &AttachParams::default().stdin(true)).await.expect("exec");
    let asked = kubelet.asked().await;
    assert_eq!(asked.lines().next(), Some("POST /exec/ns/p/main?input=1&output=1&error=1&command=sh&command=-c&command=a%20b%26c"));
    assert!(asked.contains("\nupgrade: SPDY/3.1\n") && asked.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{asked}");
    let mut stdin = process.stdin().expect("stdin");
    let text = "abc".repeat(100_000);
    let mut stdout = process.stdout().expect("stdout");
    let reading = tokio::spawn(async move {
        let mut said = String::new();
        stdout.read_to_string(&mut said).await.expect("the output");
        said
    });
    stdin.write_all(text.as_bytes()).await.expect("the input");
    stdin.shutdown().await.expect("the end of the input");
    drop(stdin);
    assert!(reading.await.expect("the output") == text.to_uppercase(), "all of the output came");
    let status = process.take_status().expect("a status").await.expect("the outcome");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    assert_eq!(causes.first().and_then(|c| c.message.as_deref()), Some("3"), "the exit code");
    assert_eq!(kubelet.next().await, Heard::Gone, "the kubelet's side has ended");

    // What the kubelet refuses is the outcome, in its words.
    let mut process = pods.exec("q", ["x"], &AttachParams::default()).await.expect("exec");
    let status = process.take_status().expect("a status").await.expect("the outcome");
    let expected = "Internal error occurred: unable to upgrade connection: container not found (\"refused\")";
    assert_eq!(status.message.as_deref(), Some(expected));
    kubelet.asked().await;

    // A client that goes takes the kubelet's side with it.
    let process = pods.exec("p", ["x"], &AttachParams::interactive_tty()).await.expect("exec");
    assert!(kubelet.asked().await.contains("&tty=1"));
    process.abort();
    drop(process);
    assert_eq!(kubelet.next().await, Heard::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn spdy_goes_through_as_it_is() {
    let (server, _, mut kubelet) = world().await;
    let mut stream = dial(&server, &server.kubeconfig).await;
    let request = "POST /api/v1/namespaces/ns/pods/p/portforward?ports=80 HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
        Impersonate-User: kubernetes-admin\r\nImpersonate-Group: system:masters\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\
        X-Stream-Protocol-Version: other\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request");
    let asked = kubelet.asked().await;
    assert_eq!(asked.lines().next(), Some("POST /portForward/ns/p?port=80"));
    assert_eq!(asked.matches("x-stream-protocol-version: ").count(), 2, "{asked}");
    assert!(!asked.contains("impersonate"), "{asked}");
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head"));
    }
    assert!(String::from_utf8_lossy(&head).starts_with("HTTP/1.1 101 "));
    stream.write_all(b"\0\xffbytes").await.expect("the connection");
    let mut back = [0; 7];
    stream.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"\0\xffbytes");
    drop(stream);
    assert_eq!(kubelet.next().await, Heard::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward_may_come_as_spdy_inside_websocket() {
    let (server, wire, mut kubelet) = world().await;
    let path = "/api/v1/namespaces/ns/pods/p/portforward";
    let (mut socket, chosen) = websocket(&server, &server.kubeconfig, path, "SPDY/3.1+portforward.k8s.io").await.expect("a WebSocket");
    assert_eq!(chosen, "SPDY/3.1+portforward.k8s.io");
    let asked = kubelet.asked().await;
    assert!(asked.starts_with("POST /portForward/ns/p\n") && asked.contains("x-stream-protocol-version: portforward.k8s.io"), "{asked}");
    let payload = vec![7; 200_000];
    let (mut write, mut read) = socket.split();
    let sent = payload.clone();
    let writing = tokio::spawn(async move { write.send(Message::binary(sent)).await.map(|()| write) });
    let mut back = vec![];
    while back.len() < payload.len() {
        back.extend(read.next().await.expect("more").expect("a message").into_data());
    }
    assert!(back == payload);
    socket = writing.await.expect("the writer").expect("written").reunite(read).expect("the same socket");
    socket.close(None).await.expect("the end");
    drop(socket);
    assert_eq!(kubelet.next().await, Heard::Gone);

    // The kubelet's refusal comes instead of a WebSocket.
    wire.post(
        "/api/v1/namespaces/ns/pods",
        &json!({"metadata": {"name": "refused"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}}),
    )
    .await
    .ok();
    let refused =
        websocket(&server, &server.kubeconfig, &path.replace("/p/", "/refused/"), "SPDY/3.1+portforward.k8s.io").await.map(|_| ());
    assert_eq!(refused, Err((500, "container not found (\"refused\")\n".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_need_the_right_to_create_one_for_as_long_as_they_last() {
    let (server, wire, mut kubelet) = world().await;
    server.client_of("bob", None).await.expect("a user");
    let path = "/api/v1/namespaces/ns/pods/p/exec?stdin=true&stdout=true&command=x";
    let role = |verb: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
            "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": [verb]}]})
    };
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/roles";
    wire.post(roles, &role("get")).await.ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}]});
    wire.post("/apis/rbac.authorization.k8s.io/v1/namespaces/ns/rolebindings", &binding).await.ok();
    let (code, text) =
        websocket(&server, &server.pki.file("bob.conf"), path, "v5.channel.k8s.io").await.map(|_| ()).expect_err("a refusal");
    assert_eq!(code, 403);
    assert!(text.contains("cannot create resource \\\"pods/exec\\\""), "{text}");
    wire.patch(
        "merge",
        &format!("{roles}/r"),
        &json!({"rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]}]}),
    )
    .await
    .ok();
    let (mut socket, _) = websocket(&server, &server.pki.file("bob.conf"), path, "v5.channel.k8s.io").await.expect("a WebSocket");
    kubelet.asked().await;
    socket.send(Message::binary(&b"\0abc"[..])).await.expect("input");
    assert_eq!(socket.next().await.expect("the greeting").expect("a message"), Message::binary(&b"\x01"[..]));
    assert_eq!(socket.next().await.expect("output").expect("a message"), Message::binary(&b"\x01ABC"[..]));
    // The right goes, and with it the connection.
    wire.delete(&format!("{roles}/r")).await.ok();
    let end = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("the connection ends");
    assert!(!matches!(end, Some(Ok(ref m)) if m.is_binary()), "{end:?}");
    assert_eq!(kubelet.next().await, Heard::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_as_they_are_and_refusals_in_the_apis_words() {
    let (server, wire, mut kubelet) = world().await;
    let path = "/api/v1/namespaces/ns/pods/p/log";
    let answer = wire.get(&format!("{path}?tailLines=2&sinceTime=2026-01-01T00:00:00Z")).await;
    assert_eq!((answer.code, answer.text().as_str(), answer.header("content-type")), (200, "one\ntwo\n", "text/plain"));
    let asked = kubelet.asked().await;
    assert_eq!(asked.lines().next(), Some("GET /containerLogs/ns/p/main?sinceTime=2026-01-01T00%3A00%3A00Z&tailLines=2"));
    assert_eq!(
        wire.get(&format!("{path}?previous=true")).await.refusal(),
        "400 BadRequest: previous terminated container \"main\" in pod \"p\" not found"
    );
    kubelet.asked().await;
    let refused = wire.get("/api/v1/namespaces/ns/pods/q/log").await.refusal();
    assert_eq!(refused, "500 InternalError: Internal error occurred: container not found (\"refused\")\n");
    kubelet.asked().await;
    assert_eq!(
        wire.get("/api/v1/namespaces/ns/pods/p/log?container=x").await.refusal(),
        "400 BadRequest: container x is not valid for pod p"
    );

    // Over WebSocket, a piece a message.
    let (mut socket, chosen) = websocket(&server, &server.kubeconfig, path, "binary.k8s.io").await.expect("a WebSocket");
    assert_eq!(chosen, "binary.k8s.io");
    let mut said = vec![];
    while let Some(Ok(message)) = socket.next().await {
        said.extend(message.into_data());
    }
    assert_eq!(String::from_utf8_lossy(&said), "one\ntwo\n");
    kubelet.asked().await;

    // Who follows a log that nobody writes to, and goes, is missed by the kubelet too.
    let mut stream = dial(&server, &server.kubeconfig).await;
    stream.write_all(format!("GET {path}?follow=true HTTP/1.1\r\nHost: api\r\n\r\n").as_bytes()).await.expect("a request");
    let mut said = vec![];
    while !said.ends_with(b"line\n\r\n") {
        said.push(stream.read_u8().await.expect("the first line"));
    }
    kubelet.asked().await;
    drop(stream);
    assert_eq!(kubelet.next().await, Heard::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_proxied_with_clean_headers_and_redirects_that_stay() {
    let (server, wire, mut kubelet) = world().await;
    let base = "/api/v1/nodes/n/proxy";
    let moved = wire.get(&format!("{base}?a=b")).await;
    assert_eq!((moved.code, moved.header("location")), (301, "/api/v1/nodes/n/proxy/?a=b"));
    let moved = wire.get(&format!("{base}/redirect?x=a%2Fb")).await;
    assert_eq!((moved.code, moved.header("location")), (302, "/api/v1/nodes/n/proxy/elsewhere/"));
    assert_eq!(kubelet.asked().await.lines().next(), Some("GET /redirect?x=a%2Fb"));
    let body = vec![b'x'; 3 << 20];
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let odd = wire
            .with("impersonate-user", "kubernetes-admin")
            .with("impersonate-group", "system:masters")
            .with("x-forwarded-for", "192.0.2.1");
        let answer = odd
            .with("content-type", "text/plain")
            .with("connection", "x-own")
            .with("x-own", "1")
            .send(method.clone(), &format!("{base}/echo"), body.clone())
            .await;
        assert_eq!((answer.code, answer.body.len()), (200, body.len()), "{method}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{method}");
        let asked = kubelet.asked().await;
        assert!(asked.starts_with(&format!("{method} /echo\n")), "{asked}");
        assert!(
            asked.contains("\nx-forwarded-for: 192.0.2.1, 127.0.0.1\n") && asked.contains(&format!("\nx-forwarded-uri: {base}/echo")),
            "{asked}"
        );
        for hidden in ["authorization", "impersonate", "x-own"] {
            assert!(!asked.contains(hidden), "{asked}");
        }
    }
    let token = json!({"spec": {"audiences": []}});
    let token =
        wire.post("/api/v1/namespaces/ns/serviceaccounts/default/token", &token).await.ok()["status"]["token"].as_str().map(str::to_owned);
    let other = server.wire_with_token(token.as_deref()).await.expect("a client");
    let refused = other.get(&format!("{base}/echo")).await.refusal();
    assert!(
        refused.starts_with(
            "403 Forbidden: nodes \"n\" is forbidden: User \"system:serviceaccount:ns:default\" cannot get resource \"nodes/proxy\""
        ),
        "{refused}"
    );
    assert_eq!(wire.get("/api/v1/nodes/n:1/proxy/").await.refusal(), "400 BadRequest: address not allowed");
    assert_eq!(wire.get("/api/v1/nodes/a:b:c:d/proxy/").await.refusal(), "400 BadRequest: invalid node request \"a:b:c:d\"");
    assert_eq!(wire.get("/api/v1/namespaces/ns/pods/none:80/proxy/").await.refusal(), "404 NotFound: pods \"none\" not found");
    assert_eq!(wire.get("/api/v1/namespaces/ns/pods/p/proxy/").await.refusal(), "400 BadRequest: address not allowed");
}
