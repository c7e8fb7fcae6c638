//! Puts the server together and runs it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use daemon::endpoints::Health;
use daemon::lanes::Lanes;
use daemon::tls::{Identity, Roots, server_config};
use daemon::{CancellationToken, Context};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::admission::Stays;
use crate::auth::certificates::Certificates;
use crate::auth::tokens::Tokens;
use crate::auth::{Authenticator, Authorizer};
use crate::catalog::Catalog;
use crate::flags::{Config, Flags, KubeletTls, port_range};
use crate::flowcontrol::Gate;
use crate::flowcontrol::metrics::FlowMetrics;
use crate::openapi::{OpenApi, ResourceDoc, SchemaDoc, SubresourceDoc};
use crate::resource::Resource;
use crate::server::Server;
use crate::start::{Stage, Start};
use crate::storage::codec::{Cipher, Plain};
use crate::storage::encryption::Encryption;
use crate::storage::{Etcd, EtcdConfig, Hub, compaction};
use crate::{allocate, bootstrap, connect, crd, http, resources};

/// Threads that answer requests at most; as many as there are processors otherwise.
const MOST_LANES: usize = 8;

/// Runs an apiserver until its context says stop.
///
/// # Errors
/// Flags, files or an address that cannot be used.
pub async fn run(flags: Flags, context: Context) -> anyhow::Result<()> {
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    serve(flags, context, listener).await
}

/// As [`run`], on a listener that is there already.
///
/// # Errors
/// Flags or files that cannot be used.
pub async fn serve(flags: Flags, context: Context, listener: TcpListener) -> anyhow::Result<()> {
    let etcd = EtcdConfig {
        servers: flags.etcd_servers.clone(),
        ca: flags.etcd_cafile.clone(),
        cert: flags.etcd_certfile.clone(),
        key: flags.etcd_keyfile.clone(),
    };
    let lanes = Lanes::start("requests", std::thread::available_parallelism().map_or(2, usize::from).min(MOST_LANES))?;
    let etcd = Etcd::connect(&etcd).await?;
    etcd.register(&context.metrics);
    let request_header = flags.request_header();
    let authorities = [Some(flags.client_ca_file.clone()), request_header.as_ref().map(|r| r.ca.clone())];
    let clients = Roots::load_all(authorities.into_iter().flatten().collect())?;
    let tls = server_config(Identity::load(&flags.tls_cert_file, &flags.tls_private_key_file)?, Some(clients));
    let certificates = Certificates::load(&flags.client_ca_file, request_header.as_ref())?;
    let tokens = Tokens::load(&flags.service_account_issuer, &flags.service_account_signing_key_file, &flags.service_account_key_file)?;
    let config = config(&flags, listener.local_addr()?.port())?;
    let hub = Hub::new(etcd.clone(), cipher(&flags)?);
    let mut rows = resources::builtin();
    with_pools(&mut rows, &config);
    with_schemas(&mut rows);
    let openapi = OpenApi::new(rows.iter().filter_map(document).collect());
    let server = Arc::new(Server {
        catalog: ArcSwap::from_pointee(Catalog::new(rows.clone(), &hub)),
        openapi: ArcSwap::from_pointee(openapi),
        authenticator: Authenticator::new(tokens, certificates, hub.clone(), context.clock, flags.enable_bootstrap_token_auth),
        authorizer: Authorizer::new(&hub),
        outbound: crate::outbound::Outbound::new(hub.clone(), front_proxy(&flags)?),
        aggregation: crate::aggregation::Aggregation::default(),
        catalogs: tokio::sync::watch::Sender::new(0),
        webhooks: crate::admission::webhooks::Webhooks::new(&context.metrics),
        health: health(&hub),
        policies: crate::admission::policies::Policies::default(),
        requests: http::metrics::RequestMetrics::new(&context.metrics),
        gate: Gate::new(&hub, flags.max_requests_inflight + flags.max_mutating_requests_inflight, FlowMetrics::new(&context.metrics)),
        tunnels: connect::tunnel::Tunnels::default(),
        metrics: context.metrics.clone(),
        clock: context.clock,
        shutdown: context.shutdown.clone(),
        start: Start::default(),
        hub: hub.clone(),
        config,
    });
    http::metrics::register_objects(&server);
    let tasks = TaskTracker::new();
    let shutdown = context.shutdown.clone();
    // What is still being answered while the server stops needs the caches to follow.
    let answered = CancellationToken::new();
    tasks.spawn({
        let answered = answered.clone();
        async move { hub.run(answered).await }
    });
    tasks.spawn(compaction::run(etcd, shutdown.clone()));
    // Each goes on until the server stops, whatever it waits for then.
    let background: [BoxFuture<'static, ()>; 5] = [
        Box::pin(bootstrap::run(server.clone())),
        Box::pin(allocate::repair::run(server.clone())),
        Box::pin(crate::admission::policies::controller::run(server.clone())),
        Box::pin(crate::aggregation::controller::run(server.clone())),
        Box::pin(crd::controller::run(server.clone(), rows)),
    ];
    for work in background {
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(work));
    }
    for (check, part, otherwise) in [
        ("poststarthook/crd-informer-synced", Stage::CustomResources, "the definitions of custom resources were not looked at yet"),
        ("poststarthook/bootstrap", Stage::SystemObjects, "the system's own objects are not there yet"),
    ] {
        let weak = Arc::downgrade(&server);
        server.health.add(check, move || {
            let done = weak.upgrade().is_some_and(|s| s.start.is_done(part));
            if done { Ok(()) } else { Err(otherwise.to_owned()) }
        });
    }
    tracing::info!(address = %listener.local_addr()?, "serving");
    let served = daemon::http::serve_on(&lanes, listener, Some(tls), http::serve::router(server), shutdown.clone()).await;
    shutdown.cancel();
    answered.cancel();
    tasks.close();
    tasks.wait().await;
    served
}

/// Gives the rows that take values out of pools their pools, whose bounds the flags say.
fn with_pools(rows: &mut [Resource], config: &Config) {
    let pools = crate::allocate::for_services(config.service_ranges.clone(), config.node_ports.clone());
    for row in rows.iter_mut().filter(|r| r.group.is_empty() && r.plural == "services") {
        row.reserve = Some(pools.clone());
    }
}

/// Lets the rules of definitions look into their schemas.
fn with_schemas(rows: &mut [Resource]) {
    for row in rows.iter_mut().filter(|r| r.group == "apiextensions.k8s.io" && r.plural == "customresourcedefinitions") {
        row.hooks = Arc::new(crd::definition::DefinitionRules(row.hooks.clone()));
    }
}

/// The certificate that we show when we ask for others.
fn front_proxy(flags: &Flags) -> anyhow::Result<Option<Arc<Identity>>> {
    match (&flags.proxy_client_cert_file, &flags.proxy_client_key_file) {
        (Some(cert), Some(key)) => Identity::load(cert, key).map(Some),
        (None, None) => Ok(None),
        _ => anyhow::bail!("--proxy-client-cert-file and --proxy-client-key-file go together"),
    }
}

/// What encrypts at rest.
fn cipher(flags: &Flags) -> anyhow::Result<Arc<dyn Cipher>> {
    let Some(path) = &flags.encryption_provider_config else { return Ok(Arc::new(Plain)) };
    let attempted = || format!("--encryption-provider-config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(attempted)?;
    Ok(Arc::new(Encryption::parse(&text).with_context(attempted)?))
}

fn health(hub: &Arc<Hub>) -> Health {
    let health = Health::new();
    let hub = hub.clone();
    health.add("etcd", move || if hub.seen() > 0 { Ok(()) } else { Err("the storage was not listed yet".to_owned()) });
    health
}

fn config(flags: &Flags, port: u16) -> anyhow::Result<Config> {
    let kubelets = match (&flags.kubelet_client_certificate, &flags.kubelet_client_key, &flags.kubelet_certificate_authority) {
        (Some(cert), Some(key), Some(ca)) => Some(KubeletTls { cert: cert.clone(), key: key.clone(), ca: ca.clone() }),
        _ => None,
    };
    Ok(Config {
        advertise_address: flags.advertise_address.map_or_else(|| own_address(flags.bind_address), Ok)?,
        port,
        kubelets,
        service_range: flags.service_cluster_ip_range,
        service_ranges: Arc::new(ArcSwap::from_pointee(vec![flags.service_cluster_ip_range])),
        node_ports: port_range(&flags.service_node_port_range)?,
        client_ca: flags.client_ca_file.clone(),
        request_header: flags.request_header(),
        stays: Stays { not_ready: flags.default_not_ready_toleration_seconds, unreachable: flags.default_unreachable_toleration_seconds },
    })
}

/// The address that others see: the bound one, or the one that the default route leaves from.
fn own_address(bound: IpAddr) -> anyhow::Result<IpAddr> {
    if !bound.is_unspecified() {
        return Ok(bound);
    }
    // Connecting a datagram socket sends nothing; it only picks the source address.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("198.51.100.1:9").context("no default route: --advertise-address is needed")?;
    Ok(socket.local_addr()?.ip())
}

/// What OpenAPI says of a row; nothing for a kind that the schema does not know.
pub(crate) fn document(row: &Resource) -> Option<ResourceDoc> {
    let schema = match &row.schema {
        Some(custom) => SchemaDoc::Custom(custom.openapi.clone()),
        None => {
            let message = api::schema::Schema::builtin().kind_of(&row.group, &row.version, &row.kind)?;
            SchemaDoc::Builtin(message.name.to_string().into())
        }
    };
    let subresources = row.subresources.iter().map(|sub| {
        let (group, version, kind, verbs) = http::discovery::part(row, sub);
        SubresourceDoc {
            name: sub.name().to_owned().into(),
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: kind.to_owned().into(),
            verbs,
        }
    });
    Some(ResourceDoc {
        group: row.group.clone(),
        version: row.version.clone(),
        kind: row.kind.clone(),
        plural: row.plural.clone(),
        singular: row.singular.clone(),
        namespaced: row.is_namespaced(),
        returns_deleted: row.returns_deleted,
        verbs: row.verbs.iter().map(|v| v.name()).collect(),
        subresources: subresources.collect(),
        schema,
    })
}
