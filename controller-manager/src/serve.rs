//! Health, open to all, and metrics, for those the apiserver allows.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use daemon::Context;
use daemon::delegated::{Action, Delegated};
use daemon::endpoints::{Health, health_router, metrics_router};
use daemon::http::Peer;
use daemon::tls::{Identity, Roots, server_config};
use futures::future::BoxFuture;
use kube::Client;
use tokio::net::TcpListener;

use crate::Flags;

/// Binds the port; the future serves until the shutdown.
///
/// # Errors
/// A certificate that cannot be used, or a port that is taken.
pub async fn serve(flags: &Flags, context: &Context, client: Client) -> anyhow::Result<BoxFuture<'static, anyhow::Result<()>>> {
    let (Some(cert), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) else {
        tracing::warn!("health and metrics are not served: --tls-cert-file is not set");
        return Ok(Box::pin(futures::future::pending()));
    };
    if flags.secure_port == 0 {
        return Ok(Box::pin(futures::future::pending()));
    }
    let clients = flags.client_ca_file.as_deref().map(Roots::load).transpose()?;
    let tls = server_config(Identity::load(cert, key)?, clients);
    let addr = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
    let guarded = metrics_router(context.metrics.clone()).layer(from_fn_with_state(Delegated::new(client), allowed));
    let app = Router::new().merge(health_router(Health::new())).merge(guarded);
    Ok(Box::pin(daemon::http::serve(listener, Some(Arc::clone(&tls)), app, context.shutdown.clone())))
}

async fn allowed(State(delegated): State<Delegated>, request: Request, next: Next) -> Response {
    let action = Action::Path { verb: request.method().as_str().to_lowercase(), path: request.uri().path().to_owned() };
    let peer = request.extensions().get::<Peer>().cloned();
    match delegated.check(request.headers(), peer.as_ref(), action).await {
        Ok(_) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}
