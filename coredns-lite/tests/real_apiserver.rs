//! The daemon against a real apiserver and etcd, with the rights of its own user, in a network namespace of its own.
//! Needs root.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use daemon::{CancellationToken, Context};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value as Json, json};
use testkit::{ApiServer, eventually};

const SOON: Duration = Duration::from_secs(20);
/// The node's address, on a link without anybody else.
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 1));

/// Runs a test on threads that are in a network namespace of their own.
fn apart<Fut: Future<Output = ()>>(test: impl FnOnce() -> Fut + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        for line in ["link set lo up", "link add br0 type bridge", "addr add 192.168.7.1/24 dev br0", "link set br0 up"] {
            assert!(Command::new("ip").args(line.split(' ')).status().expect("ip").success(), "{line}");
        }
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn object<K: serde::de::DeserializeOwned>(json: Json) -> K {
    serde_json::from_value(json).expect("an object")
}

/// What a question by UDP to port 53 of the node gives: the data of the answers, or the response code.
async fn ask(name: &str, kind: RecordType) -> String {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let socket = tokio::net::UdpSocket::bind((NODE, 0)).await.expect("a port");
    // Nobody may be listening yet.
    if socket.send_to(&message.to_vec().expect("a message"), SocketAddr::new(NODE, 53)).await.is_err() {
        return "silence".into();
    }
    let mut buffer = [0; 1500];
    let Ok(Ok(length)) = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await else { return "silence".into() };
    let answer = Message::from_vec(&buffer[..length]).expect("a message");
    if answer.answers.is_empty() {
        let code = answer.metadata.response_code;
        return if code == ResponseCode::NoError { "nothing".into() } else { format!("{code:?}") };
    }
    let mut data: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    data.join(" ")
}

async fn becomes(name: &str, kind: RecordType, expected: &str) {
    eventually(&format!("{name} to be {expected}"), SOON, || async { (ask(name, kind).await == expected).then_some(()) }).await;
}

async fn create_service(client: &Client, name: &str, spec: Json) {
    let service = object::<Service>(json!({"metadata": {"name": name}, "spec": spec}));
    Api::namespaced(client.clone(), "default").create(&PostParams::default(), &service).await.expect("a service");
}

#[test]
fn names_follow_the_cluster() {
    apart(|| async {
        let server = ApiServer::start().await.expect("an apiserver");
        let client = server.client().await.expect("a client");
        let post = PostParams::default();
        let node = Api::<Node>::all(client.clone()).create(&post, &object(json!({"metadata": {"name": "here"}}))).await.expect("a node");
        eventually("the namespace", SOON, || async { Api::<Namespace>::all(client.clone()).get_opt("kube-system").await.ok()? }).await;
        let kubeconfig = server.pki.kubeconfig("dns", "system:coredns", None, &server.url).expect("a kubeconfig");
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let line = ["coredns-lite", &kubeconfig, "--bind-address=192.168.7.1", "--node-name=here", "--forward=192.168.7.9"];
        let flags = coredns_lite::Flags::try_parse_from(line).expect("flags");
        let stop = CancellationToken::new();
        let daemon = tokio::spawn(coredns_lite::run(flags, Context::embedded("coredns-lite", stop.clone())));

        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
        let own = eventually("our own EndpointSlice", SOON, || async { slices.get_opt("kube-dns-here").await.ok()? }).await;
        assert_eq!(own.endpoints[0].addresses, ["192.168.7.1"]);
        let owners: Vec<_> = own.metadata.owner_references.iter().flatten().map(|o| (o.kind.as_str(), Some(&o.uid))).collect();
        assert_eq!(owners, [("Node", node.metadata.uid.as_ref())]);

        becomes("web.default.svc.cluster.local.", RecordType::A, "NXDomain").await;
        create_service(&client, "web", json!({"clusterIP": "10.96.0.80", "ports": [{"name": "http", "port": 80}]})).await;
        becomes("web.default.svc.cluster.local.", RecordType::A, "10.96.0.80").await;
        becomes("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV, "0 100 80 web.default.svc.cluster.local.").await;
        becomes("80.0.96.10.in-addr.arpa.", RecordType::PTR, "web.default.svc.cluster.local.").await;
        becomes("web.default.svc.cluster.local.", RecordType::AAAA, "nothing").await;

        // The type changes there and back, as the conformance suite does.
        let services: Api<Service> = Api::namespaced(client.clone(), "default");
        let external =
            json!({"spec": {"type": "ExternalName", "externalName": "db.default.svc.cluster.local", "clusterIP": "", "clusterIPs": null}});
        services.patch("web", &PatchParams::default(), &Patch::Merge(external)).await.expect("a change");
        becomes("web.default.svc.cluster.local.", RecordType::CNAME, "db.default.svc.cluster.local.").await;

        create_service(&client, "db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})).await;
        let slice = object(json!({
            "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false}}]}));
        let of_default: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
        of_default.create(&post, &slice).await.expect("a slice");
        becomes("db-0.db.default.svc.cluster.local.", RecordType::A, "10.244.0.5").await;
        becomes("db.default.svc.cluster.local.", RecordType::A, "10.244.0.5").await;
        becomes("web.default.svc.cluster.local.", RecordType::A, "10.244.0.5 db.default.svc.cluster.local.").await;
        services.delete("db", &DeleteParams::default()).await.expect("a deletion");
        becomes("db.default.svc.cluster.local.", RecordType::A, "NXDomain").await;

        // A stop takes us out of the Service.
        stop.cancel();
        daemon.await.expect("no panic").expect("a clean stop");
        assert!(slices.get_opt("kube-dns-here").await.expect("an answer").is_none());
        assert_eq!(ask("cluster.local.", RecordType::SOA).await, "silence");
    });
}
