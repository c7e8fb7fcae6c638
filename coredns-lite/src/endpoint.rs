//! This daemon as an endpoint of the `kube-dns` Service.
//!
//! The Service has no selector. Each node's daemon keeps one EndpointSlice, `kube-dns-<node>`, that names the node's
//! addresses; it belongs to the Node and goes with it. It is there from when the daemon can answer until it is told to
//! stop. A daemon that dies is started again before anybody else would notice; asked meanwhile, it answers nothing, and
//! the client asks again. Hints keep questions on the node they are asked on (`trafficDistribution: PreferSameNode`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::observe::SERVICE_NAME;
use crate::zone::Zone;

/// The Service and its namespace.
const SERVICE: &str = "kube-dns";
const NAMESPACE: &str = "kube-system";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "coredns-lite";
/// How often the EndpointSlice is compared with what it should be: somebody may have deleted it.
const EVERY: Duration = Duration::from_secs(30);
/// How long after a failure to try again.
const RETRY: Duration = Duration::from_secs(2);
/// How long the last request may take when the daemon stops.
const LAST: Duration = Duration::from_secs(3);

/// The EndpointSlice that says that `node` answers on `addresses`.
#[must_use]
pub fn wanted(node: &str, uid: Option<&str>, addresses: &[IpAddr], port: u16) -> EndpointSlice {
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    });
    let endpoint = |addr: &IpAddr| Endpoint {
        addresses: vec![addr.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        hints: Some(EndpointHints { for_nodes: Some(vec![ForNode { name: node.into() }]), for_zones: None }),
        node_name: Some(node.into()),
        ..Endpoint::default()
    };
    let named = |name: &str, protocol: &str| EndpointPort {
        name: Some(name.into()),
        port: Some(port.into()),
        protocol: Some(protocol.into()),
        app_protocol: None,
    };
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        metadata: ObjectMeta {
            name: Some(format!("{SERVICE}-{node}")),
            namespace: Some(NAMESPACE.into()),
            labels: Some([(SERVICE_NAME, SERVICE), (MANAGED_BY, MANAGER)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        ports: Some(vec![named("dns", "UDP"), named("dns-tcp", "TCP")]),
    }
}

/// Keeps the EndpointSlice from when the zone is known until told to stop, and then removes it.
pub async fn keep(client: Client, node: String, addresses: Vec<IpAddr>, port: u16, zone: Arc<ArcSwap<Zone>>, stop: CancellationToken) {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client);
    loop {
        let pause = if !zone.load().complete {
            Duration::from_millis(100)
        } else {
            match ensure(&slices, &nodes, &node, &addresses, port).await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(
                        namespace = NAMESPACE,
                        name = format!("{SERVICE}-{node}"),
                        error = daemon::describe(&error),
                        "keeping our EndpointSlice"
                    );
                    RETRY
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
    }
    let name = format!("{SERVICE}-{node}");
    let params = DeleteParams::default();
    match tokio::time::timeout(LAST, slices.delete(&name, &params)).await {
        Ok(Ok(_)) => tracing::info!(namespace = NAMESPACE, name, "removed our EndpointSlice"),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
        Ok(Err(error)) => tracing::warn!(namespace = NAMESPACE, name, error = daemon::describe(&error), "removing our EndpointSlice"),
        Err(_) => tracing::warn!(namespace = NAMESPACE, name, "removing our EndpointSlice took too long"),
    }
}

async fn ensure(slices: &Api<EndpointSlice>, nodes: &Api<Node>, node: &str, addresses: &[IpAddr], port: u16) -> kube::Result<()> {
    // Without a Node there is nobody to clean up after us; it comes when the kubelet registers.
    let uid = nodes.get_opt(node).await?.and_then(|n| n.metadata.uid);
    let wanted = wanted(node, uid.as_deref(), addresses, port);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let Some(there) = slices.get_opt(&name).await? else {
        return slices.create(&PostParams::default(), &wanted).await.map(drop);
    };
    if is_as_wanted(&there, &wanted) {
        return Ok(());
    }
    slices.patch(&name, &PatchParams::default(), &Patch::Merge(&wanted)).await.map(drop)
}

fn is_as_wanted(there: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let labels = |slice: &EndpointSlice| slice.metadata.labels.clone().unwrap_or_default();
    let owner = |slice: &EndpointSlice| slice.metadata.owner_references.iter().flatten().map(|o| o.uid.clone()).next();
    there.endpoints == wanted.endpoints
        && there.ports == wanted.ports
        && owner(there) == owner(wanted)
        && labels(wanted).iter().all(|(k, v)| labels(there).get(k) == Some(v))
}
