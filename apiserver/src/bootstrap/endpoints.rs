//! The `kubernetes` Service in `default`: the way to the apiservers from inside the cluster.
//!
//! Each apiserver keeps a lease key in etcd under its own address; the Service's endpoints are the addresses whose keys are alive.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use serde_json::{Value, json};

use super::{change, ensure};
use crate::server::Server;
use crate::storage::{Commit, Expect};

/// Where the addresses of live apiservers stand, as upstream.
const LEASES: &str = "/registry/masterleases/";
/// An apiserver that does not renew its key for this long, in seconds, is no endpoint any more.
const TTL: i64 = 15;

/// Keeps the Service and its endpoints right until the server stops.
pub async fn keep(server: Arc<Server>, every: Duration) {
    loop {
        let again = match reconcile(&server).await {
            Ok(()) => every,
            Err(status) => {
                tracing::warn!(%status, "the kubernetes Service");
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(again).await;
    }
}

async fn reconcile(server: &Arc<Server>) -> Result<(), Status> {
    let own = server.config.advertise_address;
    let etcd = server.hub.etcd();
    let key = format!("{LEASES}{own}");
    let lease = etcd.short_lease(TTL).await?;
    let expect = etcd.get(&key).await?.map_or(Expect::Absent, |found| Expect::Revision(found.revision));
    etcd.commit(Commit { key: &key, expect, value: Some(own.to_string().into_bytes()), extras: &[], lease }).await?;
    server.hub.fresh().await?;
    let mut alive: BTreeSet<String> = server.hub.keys_under(LEASES);
    alive.insert(own.to_string());
    ensure(server, service(server)).await?;
    for object in [endpoints(&alive, server.config.port), slice(&alive, server.config.port, own)] {
        let Some(found) = ensure(server, object.clone()).await? else { continue };
        let parts = ["subsets", "endpoints", "ports"];
        if parts.iter().any(|p| found.get(p) != object.get(p)) {
            change(server, &object, &|old| {
                let mut new = old.clone();
                for part in parts {
                    if let Some(value) = object.get(part) {
                        new[part] = value.clone();
                    }
                }
                new
            })
            .await?;
        }
    }
    Ok(())
}

/// The first address of the range.
fn cluster_ip(server: &Server) -> String {
    server.config.service_range.hosts().next().unwrap_or(server.config.service_range.addr()).to_string()
}

fn service(server: &Server) -> Value {
    let ip = cluster_ip(server);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": server.config.port}],
        },
    })
}

fn endpoints(alive: &BTreeSet<String>, port: u16) -> Value {
    let addresses: Vec<Value> = alive.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    })
}

fn slice(alive: &BTreeSet<String>, port: u16, own: IpAddr) -> Value {
    let endpoints: Vec<Value> = alive.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if own.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints, "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}
