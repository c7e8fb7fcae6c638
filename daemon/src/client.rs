//! The client with which a daemon speaks to the apiserver.
//!
//! Built from a kubeconfig. All requests and watches share a few HTTP/2 connections, pinged so that a dead peer is noticed.
//! Certificates are read again when their files change.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::ServiceBuilder;

use crate::tls::{Identity, Roots, client_config};

/// A ping on idle connections this often; without an answer for as long the connection is dropped.
const PING: Duration = Duration::from_secs(10);
/// How long to wait for a TCP connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for the cluster and user of `kubeconfig`, named `user_agent` in its requests.
///
/// # Errors
/// A kubeconfig that cannot be read, names missing files, or has no usable certificate authority.
pub async fn connect(kubeconfig: &Path, user_agent: &str) -> anyhow::Result<kube::Client> {
    let attempted = || format!("reading the kubeconfig {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(attempted)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(attempted)?;
    from_config(config, user_agent)
}

/// As [`connect`], from a configuration in memory.
///
/// # Errors
/// No usable certificate authority or client certificate in it.
pub fn from_config(config: kube::Config, user_agent: &str) -> anyhow::Result<kube::Client> {
    let tls = match tls(&config)? {
        Some(tls) => tls,
        None => config.rustls_client_config().context("TLS from the kubeconfig")?,
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(PING));
    let https =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().enable_http2().wrap_connector(tcp);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(https);
    let agent = HeaderValue::from_str(user_agent).context("user agent")?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_request(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(http::header::USER_AGENT, agent.clone());
            request
        })
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// TLS whose files are followed, when the kubeconfig names files; `None` when everything is inline.
fn tls(config: &kube::Config) -> anyhow::Result<Option<rustls::ClientConfig>> {
    let identity = match (&config.auth_info.client_certificate, &config.auth_info.client_key) {
        (Some(cert), Some(key)) => Some(Identity::load(Path::new(cert), Path::new(key))?),
        _ if config.auth_info.client_certificate_data.is_some() => return Ok(None),
        _ => None,
    };
    let roots = match (&config.root_cert_file, &config.root_cert) {
        (Some(file), _) => Roots::load(file)?,
        _ => return Ok(None),
    };
    Ok(Some(client_config(roots, identity)))
}
