//! The proxy against a real apiserver and etcd, with the rights of its own user, in a network namespace of its own.
//! Needs root.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser as _;
use daemon::{CancellationToken, Context};
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_proxy::elements;
use kube_proxy::model::Node as Here;
use kube_proxy::netlink::Netfilter;
use kube_proxy::ruleset::{Atom, Key, Value};
use kube_proxy::skeleton::{ENDPOINTS, SERVICES, skeleton};
use serde_json::{Value as Json, json};
use testkit::{ApiServer, eventually};
use tokio::io::AsyncReadExt as _;

const SOON: Duration = Duration::from_secs(20);
/// The promise: a change of readiness is in the rules within this time.
const PROMISED: Duration = Duration::from_millis(500);
/// The node's address, on a link without anybody else.
const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 1));

/// Runs a test on threads that are in a network namespace of their own.
fn apart<Fut: Future<Output = ()>>(test: impl FnOnce() -> Fut + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "addr add 192.168.7.1/24 dev br0",
            "link set br0 up",
            "route add default dev br0",
        ] {
            assert!(Command::new("ip").args(line.split(' ')).status().expect("ip").success(), "{line}");
        }
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

struct Cluster {
    client: Client,
    server: ApiServer,
    stop: CancellationToken,
    proxy: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn object<K: serde::de::DeserializeOwned>(json: Json) -> K {
    serde_json::from_value(json).expect("an object")
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an apiserver");
        let client = server.client().await.expect("a client");
        let post = PostParams::default();
        let node = json!({"metadata": {"name": "here"}, "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}});
        Api::<Node>::all(client.clone()).create(&post, &object(node)).await.expect("a node");
        let account = json!({"metadata": {"name": "default"}});
        Api::<ServiceAccount>::namespaced(client.clone(), "default").create(&post, &object(account)).await.expect("an account");
        let (stop, proxy) = run(&server);
        Self { client, server, stop, proxy }
    }

    async fn service(&self, name: &str, ip: &str, more: Json) {
        let mut spec = json!({"clusterIP": ip, "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]});
        if let (Some(spec), Json::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        let service = object::<Service>(json!({"metadata": {"name": name}, "spec": spec}));
        Api::namespaced(self.client.clone(), "default").create(&PostParams::default(), &service).await.expect("a service");
    }

    /// Endpoints of the Service, each with whether it is ready. They are programs on this node.
    async fn endpoints(&self, service: &str, port: u16, addresses: &[(&str, bool)]) {
        let endpoint = |(addr, ready): &(&str, bool)| json!({"addresses": [addr], "conditions": {"ready": ready}, "nodeName": "here"});
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "p", "port": port, "protocol": "TCP"}],
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>()});
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        let name = format!("{service}-1");
        if slices.get_opt(&name).await.expect("a slice").is_some() {
            slices.patch(&name, &PatchParams::default(), &Patch::Merge(slice)).await.expect("a change");
        } else {
            slices.create(&PostParams::default(), &object(slice)).await.expect("a slice");
        }
    }

    async fn stop(self) -> ApiServer {
        self.stop.cancel();
        self.proxy.await.expect("no panic").expect("a clean stop");
        self.server
    }
}

fn run(server: &ApiServer) -> (CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let kubeconfig = server.pki.kubeconfig("proxy", "system:kube-proxy", None, &server.url).expect("a kubeconfig");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let line = ["kube-proxy", &kubeconfig, "--hostname-override=here", "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0"];
    let flags = kube_proxy::Flags::try_parse_from(line).expect("flags");
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(kube_proxy::run(flags, Context::embedded("kube-proxy", stop))))
}

/// The elements of a set in the kernel; none when there is no such set.
fn held(set: &str) -> BTreeMap<Key, Value> {
    let table = skeleton(&Here::default());
    let mut netfilter = Netfilter::open().expect("netfilter");
    let held = elements::dump(&mut netfilter, set, &table.sets[set]).unwrap_or_default();
    held.into_iter().map(|h| (h.key, h.value)).collect()
}

fn endpoints() -> Vec<String> {
    let endpoint = |value: &Value| match value {
        Value::Endpoint(addr, port) => format!("{addr}:{port}"),
        other => panic!("{other:?} is no endpoint"),
    };
    let mut all: Vec<String> = held(ENDPOINTS).values().map(endpoint).filter(|e| !e.starts_with(APISERVER)).collect();
    all.sort();
    all
}

/// Where the apiserver says it is: the endpoint of the Service `kubernetes`.
const APISERVER: &str = "192.0.2.10:";

/// Waits until the kernel has exactly these endpoints; says how long that took.
async fn become_(expected: &[&str]) -> Duration {
    let started = Instant::now();
    eventually(&format!("the endpoints {expected:?}"), SOON, || async { (endpoints() == expected).then_some(()) }).await;
    started.elapsed()
}

async fn get(url: &str) -> (u16, String) {
    let (host, path) = url.split_once('/').expect("host/path");
    let Ok(mut stream) = tokio::net::TcpStream::connect(host).await else { return (0, String::new()) };
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("a response");
    let code = text.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
    (code, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn services_are_routed_at_once_and_rules_outlive_the_proxy() {
    apart(|| async {
        let cluster = Cluster::start().await;
        cluster.service("web", "10.96.0.80", json!({})).await;
        let listener = tokio::net::TcpListener::bind((NODE, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serve = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.expect("a client");
            }
        });
        eventually("the service to be refused", SOON, || async {
            held(SERVICES).keys().any(|k| k[0] == Atom::Addr([10, 96, 0, 80].into())).then_some(())
        })
        .await;
        let to = SocketAddr::from(([10, 96, 0, 80], 80));
        let refused = tokio::net::TcpStream::connect(to).await.expect_err("there is no endpoint");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        let first = format!("192.168.7.1:{port}");
        let second = format!("192.168.7.2:{port}");
        cluster.endpoints("web", port, &[("192.168.7.1", true)]).await;
        let took = become_(&[&first]).await;
        assert!(took < PROMISED, "{took:?}");
        let mut text = String::new();
        tokio::net::TcpStream::connect(to).await.expect("a connection").read_to_string(&mut text).await.expect("an answer");
        assert_eq!(text, "hello");
        for ready in [true, false, true, false] {
            cluster.endpoints("web", port, &[("192.168.7.1", true), ("192.168.7.2", ready)]).await;
            let expected: &[&str] = if ready { &[&first, &second] } else { &[&first] };
            let took = become_(expected).await;
            println!("readiness became {ready} in the kernel after {took:?}");
            assert!(took < PROMISED, "{took:?}");
        }

        let (code, body) = get("127.0.0.1:10256/healthz").await;
        assert!(code == 200 && body.contains("\"nodeEligible\":true"), "{code} {body}");
        assert_eq!(get("127.0.0.1:10256/livez").await.0, 200);
        let (_, metrics) = get("127.0.0.1:10249/metrics").await;
        assert!(metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_count"), "{metrics}");
        assert!(metrics.contains("kubeproxy_network_programming_duration_seconds_count"), "{metrics}");

        assert!(Command::new("nft").args(["flush", "ruleset"]).status().expect("nft").success());
        let took = become_(&[&first]).await;
        println!("restored {took:?} after everything was flushed");

        let server = cluster.stop().await;
        assert_eq!(endpoints(), [first.as_str()], "the rules stay");
        let (stop, proxy) = run(&server);
        eventually("the proxy to be well again", SOON, || async { (get("127.0.0.1:10256/healthz").await.0 == 200).then_some(()) }).await;
        assert_eq!(endpoints(), [first.as_str()]);
        stop.cancel();
        proxy.await.expect("no panic").expect("a clean stop");
        serve.abort();
        kube_proxy::cleanup().await.expect("a clean end");
        assert!(endpoints().is_empty());
    });
}

#[test]
fn load_balancers_are_told_where_endpoints_are() {
    apart(|| async {
        let cluster = Cluster::start().await;
        let more = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31999});
        cluster.service("web", "10.96.0.81", more).await;
        let asked = |code: u16| async move {
            let (got, body) = get("127.0.0.1:31999/").await;
            (got == code).then_some(body)
        };
        let body = eventually("no endpoint to be told of", SOON, || asked(503)).await;
        assert!(body.contains("\"localEndpoints\":0") && body.contains("\"name\":\"web\""), "{body}");
        cluster.endpoints("web", 8080, &[("192.168.7.1", true), ("192.168.7.2", true)]).await;
        let body = eventually("endpoints to be told of", SOON, || asked(200)).await;
        assert!(body.contains("\"localEndpoints\":2"), "{body}");
        cluster.stop().await;
    });
}

#[test]
fn host_ports_follow_their_pods() {
    apart(|| async {
        let cluster = Cluster::start().await;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
        for (name, ip, port) in [("a", "10.244.0.7", 8088), ("b", "10.244.0.8", 8089)] {
            let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"nodeName": "here", "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": port}]}]}});
            pods.create(&PostParams::default(), &object(pod)).await.expect("a pod");
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
            pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.expect("a status");
        }
        // Each by the node's address, and by 127.0.0.1.
        become_(&["10.244.0.7:80", "10.244.0.7:80", "10.244.0.8:80", "10.244.0.8:80"]).await;

        pods.delete("a", &DeleteParams::default().grace_period(0)).await.expect("a deletion");
        become_(&["10.244.0.8:80", "10.244.0.8:80"]).await;
        cluster.stop().await;
    });
}
