//! coredns-lite: DNS for the Services and pods of a cluster, on each node; other names are asked upstream.
//!
//! Start reading at [`answer::answer`], which answers a question from a [`zone::Zone`], an immutable snapshot. [`watch`]
//! makes new snapshots, [`handler`] puts answers on the wire, [`forward`] asks upstream, [`endpoint`] makes this node an
//! endpoint of the `kube-dns` Service. There is no configuration language: see [`flags`].

pub mod answer;
pub mod cache;
pub mod endpoint;
pub mod flags;
pub mod forward;
pub mod handler;
pub mod metrics;
pub mod observe;
pub mod sockets;
pub mod watch;
pub mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use daemon::Context;
use daemon::endpoints::Health;
use tokio_util::task::TaskTracker;

pub use flags::Flags;

use crate::forward::Forwarder;
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::zone::{Kind, Zone};

/// How often resolv.conf is looked at.
const LOOK_AT_UPSTREAM: Duration = Duration::from_secs(10);

/// Answers questions until told to stop.
///
/// # Errors
/// It could not start: no kubeconfig, an address taken, no right to the port.
pub async fn run(flags: Flags, context: Context) -> anyhow::Result<()> {
    let client = daemon::client::connect(&flags.kubeconfig, "coredns-lite").await?;
    let tasks = TaskTracker::new();
    let metrics = Metrics::register(&context.metrics);
    let zone = Arc::new(ArcSwap::from_pointee(Zone::new(flags.cluster_domain.clone())));
    let forwarder = Forwarder::new(flags.cache_entries, metrics.clone());
    let handler = Handler { zone: zone.clone(), forwarder: forwarder.clone(), metrics };
    let mut server = sockets::serve(&flags.bind_address, flags.port, handler).context("opening the sockets for questions")?;
    watch::start(&client, zone.clone(), &tasks, &context.shutdown);
    serve(&flags, &context, &zone, &tasks).await?;
    tasks.spawn(follow_upstream(flags.clone(), forwarder, zone.clone(), context.shutdown.clone()));
    // Addresses that only this node has are no endpoints for others.
    let reachable: Vec<IpAddr> = flags.bind_address.iter().filter(|a| a.is_ipv4() && !a.is_loopback()).copied().collect();
    if let Some(node) = flags.node_name.clone().filter(|_| !reachable.is_empty()) {
        tasks.spawn(endpoint::keep(client, node, reachable, flags.port, zone, context.shutdown.clone()));
    }
    context.shutdown.cancelled().await;
    tasks.close();
    // Questions are answered for as long as we are still an endpoint.
    tasks.wait().await;
    server.shutdown_gracefully().await.context("closing the sockets for questions")
}

async fn serve(flags: &Flags, context: &Context, zone: &Arc<ArcSwap<Zone>>, tasks: &TaskTracker) -> anyhow::Result<()> {
    use axum::http::StatusCode;
    use axum::routing::get;
    let is_ready = {
        let zone = zone.clone();
        move || zone.load().complete
    };
    let health = Health::new();
    let check = is_ready.clone();
    health.add("zone", move || if check() { Ok(()) } else { Err("not everything is listed yet".into()) });
    let ready = move || async move { if is_ready() { (StatusCode::OK, "OK") } else { (StatusCode::SERVICE_UNAVAILABLE, "kubernetes") } };
    let app = daemon::endpoints::health_router(health).route("/health", get(|| async { "OK" })).route("/ready", get(ready));
    let metrics = daemon::endpoints::metrics_router(context.metrics.clone());
    for (addr, app) in [(flags.health, app), (flags.metrics, metrics)] {
        let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
        tasks.spawn(daemon::http::serve(listener, None, app, context.shutdown.clone()));
    }
    Ok(())
}

/// Tells the forwarder whom to ask, now and whenever that changes.
async fn follow_upstream(flags: Flags, forwarder: Forwarder, zone: Arc<ArcSwap<Zone>>, stop: daemon::CancellationToken) {
    let mut seen: Option<(Option<SystemTime>, Vec<IpAddr>)> = None;
    loop {
        let mut ours = flags.bind_address.clone();
        if let Some(Kind::ClusterIp(ips)) = zone.load().service("kube-system", "kube-dns").map(|s| s.kind.clone()) {
            ours.extend(ips);
        }
        let modified = std::fs::metadata(&flags.resolv_conf).and_then(|m| m.modified()).ok();
        let now = Some((modified, ours));
        if now != seen {
            let ours = now.as_ref().map(|(_, ours)| ours.as_slice()).unwrap_or_default();
            let servers = upstream(&flags, ours);
            if servers.is_empty() {
                tracing::warn!("there is nobody to ask for names that are not the cluster's: they fail");
            } else {
                tracing::info!(?servers, "asking these for names that are not the cluster's");
            }
            forwarder.set_servers(&servers);
            seen = now;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AT_UPSTREAM) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn upstream(flags: &Flags, ours: &[IpAddr]) -> Vec<SocketAddr> {
    if !flags.forward.is_empty() {
        // Another port of our own address is somebody else.
        let own_port = |s: &SocketAddr| s.port() == flags.port && ours.contains(&s.ip());
        return flags.forward.iter().filter(|s| !own_port(s)).copied().collect();
    }
    forward::read_servers(&flags.resolv_conf, ours).unwrap_or_else(|error| {
        tracing::warn!(file = %flags.resolv_conf.display(), %error, "reading the upstream servers");
        vec![]
    })
}
