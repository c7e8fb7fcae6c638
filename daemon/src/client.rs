//! The client with which a daemon speaks to the apiserver.
//!
//! Built from a kubeconfig. All requests and watches share a few HTTP/2 connections, pinged so that a dead peer is noticed.
//! Certificates are read again when their files change.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use hyper_rustls::FixedServerNameResolver;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use rustls::pki_types::ServerName;
use tower::ServiceBuilder;

use crate::kubeconfig::Cluster;
use crate::tls::{Roots, client_config};

/// A ping on idle connections this often; without an answer for as long the connection is dropped.
const PING: Duration = Duration::from_secs(10);
/// How long to wait for a TCP connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for the cluster and user of `kubeconfig`, named `user_agent` in its requests.
///
/// # Errors
/// A kubeconfig that cannot be read, names missing files, or has no usable certificate authority.
pub async fn connect(kubeconfig: &Path, user_agent: &str) -> anyhow::Result<kube::Client> {
    let cluster = Cluster::load(kubeconfig).with_context(|| format!("reading the kubeconfig {}", kubeconfig.display()))?;
    to(cluster, user_agent)
}

/// As [`connect`], to a cluster that is known already.
///
/// # Errors
/// No authority to trust, or a name that cannot be asked for.
pub fn to(cluster: Cluster, user_agent: &str) -> anyhow::Result<kube::Client> {
    let roots = cluster.roots.map_or_else(Roots::system, Ok)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(PING));
    let mut https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(client_config(roots, cluster.identity)).https_or_http();
    if let Some(name) = cluster.server_name {
        https = https.with_server_name_resolver(FixedServerNameResolver::new(ServerName::try_from(name).context("tls-server-name")?));
    }
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(https.enable_http1().enable_http2().wrap_connector(tcp));
    let agent = HeaderValue::from_str(user_agent).context("user agent")?;
    let token = cluster.token;
    let service = ServiceBuilder::new()
        .layer(BaseUriLayer::new(cluster.server))
        .map_request(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(http::header::USER_AGENT, agent.clone());
            if let Some(token) = &token {
                request.headers_mut().insert(http::header::AUTHORIZATION, token.header());
            }
            request
        })
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, cluster.namespace))
}
