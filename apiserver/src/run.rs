//! Puts the server together and runs it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use daemon::Context;
use daemon::endpoints::Health;
use daemon::tls::{Identity, Roots, server_config};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::auth::tokens::Tokens;
use crate::auth::{Authenticator, Authorizer};
use crate::catalog::Catalog;
use crate::flags::{Config, Flags, KubeletTls, port_range};
use crate::openapi::{OpenApi, ResourceDoc, SchemaDoc, SubresourceDoc};
use crate::resource::Resource;
use crate::server::Server;
use crate::storage::codec::{Cipher, Plain};
use crate::storage::encryption::Encryption;
use crate::storage::{Etcd, EtcdConfig, Hub, compaction};
use crate::{bootstrap, crd, http, resources};

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
    let etcd = Etcd::connect(&etcd).await?;
    etcd.register(&context.metrics);
    let tls = server_config(Identity::load(&flags.tls_cert_file, &flags.tls_private_key_file)?, Some(Roots::load(&flags.client_ca_file)?));
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
        authenticator: Authenticator::new(tokens, hub.clone()),
        authorizer: Authorizer::new(&hub),
        health: health(&hub),
        requests: http::metrics::RequestMetrics::new(&context.metrics),
        limits: http::limits::Limits::new(flags.max_requests_inflight + flags.max_mutating_requests_inflight),
        metrics: context.metrics.clone(),
        clock: context.clock,
        shutdown: context.shutdown.clone(),
        bootstrapped: AtomicBool::new(false),
        hub: hub.clone(),
        config,
    });
    http::metrics::register_objects(&server);
    let tasks = TaskTracker::new();
    let shutdown = context.shutdown.clone();
    tasks.spawn({
        let shutdown = shutdown.clone();
        async move { hub.run(shutdown).await }
    });
    tasks.spawn(compaction::run(etcd, shutdown.clone()));
    tasks.spawn(bootstrap::run(server.clone()));
    let definitions = Arc::new(AtomicBool::new(false));
    tasks.spawn(crd::controller::run(server.clone(), rows, definitions.clone()));
    server.health.add("poststarthook/crd-informer-synced", move || {
        let done = definitions.load(Ordering::Acquire);
        if done { Ok(()) } else { Err("the definitions of custom resources were not looked at yet".to_owned()) }
    });
    let weak = Arc::downgrade(&server);
    server.health.add("poststarthook/bootstrap", move || {
        let done = weak.upgrade().is_some_and(|s| s.bootstrapped.load(Ordering::Acquire));
        if done { Ok(()) } else { Err("the system's own objects are not there yet".to_owned()) }
    });
    tracing::info!(address = %listener.local_addr()?, "serving");
    let served = daemon::http::serve(listener, Some(tls), http::serve::router(server), shutdown.clone()).await;
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    served
}

/// Gives the rows that take values out of pools their pools, whose bounds the flags say.
fn with_pools(rows: &mut [Resource], config: &Config) {
    let pools = crate::allocate::for_services(config.service_range, config.node_ports.clone());
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
        node_ports: port_range(&flags.service_node_port_range)?,
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
        verbs: row.verbs.iter().map(|v| v.name()).collect(),
        subresources: subresources.collect(),
        schema,
    })
}
