//! `/healthz` and the like for everybody, `/metrics` for those who may: TLS on the secure port.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use daemon::delegated::{Action, Delegated};
use daemon::endpoints::{Health, health_router, metrics_router};
use daemon::http::Peer;
use daemon::tls::{Identity, Roots, server_config};
use daemon::{CancellationToken, Context};
use kube::Client;
use tokio::net::TcpListener;

/// Where and how to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct ServingFlags {
    /// Address on which to serve health and metrics.
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind_address: IpAddr,
    /// Port on which to serve health and metrics with TLS; 0 serves nothing.
    #[arg(long, default_value_t = 10_259, value_name = "PORT")]
    pub secure_port: u16,
    /// Certificate of this server, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of this server's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authorities whose client certificates say who asks, PEM.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
}

/// Serves until `stop`.
///
/// # Errors
/// A missing or unusable certificate, or a port that is taken.
pub async fn serve(flags: &ServingFlags, client: Client, health: Health, context: &Context, stop: CancellationToken) -> anyhow::Result<()> {
    if flags.secure_port == 0 {
        stop.cancelled().await;
        return Ok(());
    }
    let (Some(cert), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) else {
        anyhow::bail!("--tls-cert-file and --tls-private-key-file are needed to serve on --secure-port {}", flags.secure_port);
    };
    let clients = flags.client_ca_file.as_deref().map(Roots::load).transpose()?;
    let tls = server_config(Identity::load(cert, key)?, clients);
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let guarded = metrics_router(context.metrics.clone()).layer(from_fn_with_state(Delegated::new(client), guard));
    let app: Router = health_router(health).merge(guarded);
    daemon::http::serve(listener, Some(tls), app, stop).await
}

async fn guard(State(delegated): State<Delegated>, request: Request, next: Next) -> Response {
    let action = Action::Path { verb: request.method().as_str().to_ascii_lowercase(), path: request.uri().path().to_owned() };
    let peer = request.extensions().get::<Peer>().cloned();
    match delegated.check(request.headers(), peer.as_ref(), action).await {
        Ok(_) => next.run(request).await,
        Err((code, text)) => (code, text).into_response(),
    }
}
