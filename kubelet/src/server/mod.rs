//! The kubelet's HTTPS server: logs, exec, attach, port-forward, pods, stats and metrics.
//!
//! Every path asks the apiserver who is asking and whether they may ([`access`]); then one file answers.

mod access;
mod container_logs;
mod exposition;
mod log_file;
mod log_lines;
mod node_logs;
mod pods;
mod query;
mod streaming;
mod summary;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use daemon::delegated::Delegated;
use daemon::endpoints::{Health, health_router, metrics_router};
use daemon::metrics::Metrics;

use crate::pods::Pods;
use crate::probes::Results;
use crate::runtime::Runtime;
use usage::{Rates, Usage};

/// What the server serves from.
#[derive(Clone)]
pub struct Server {
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The pods of this node.
    pub pods: Arc<Pods>,
    /// What probes say, for their metrics.
    pub probes: Arc<Results>,
    /// Who may ask for what.
    pub delegated: Delegated,
    /// The process's metrics.
    pub metrics: Metrics,
    /// What ails the kubelet.
    pub health: Health,
    /// This node.
    pub node_name: String,
    /// `--root-dir`, for the file system's numbers.
    pub root_dir: PathBuf,
    /// `--pod-logs-dir`: `<ns>_<name>_<uid>/<container>/<restart>.log` below it.
    pub pod_logs_dir: PathBuf,
    /// The settings in use, for `/configz`.
    pub settings: serde_json::Value,
}

/// The routes. Every one asks `delegated` first.
pub fn router(server: Server) -> Router {
    let node: Arc<str> = server.node_name.as_str().into();
    let measured = Router::new()
        .route("/stats/summary", get(stats_summary))
        .route("/metrics/resource", get(metrics_resource))
        .route("/metrics/cadvisor", get(metrics_cadvisor))
        .with_state((server.clone(), Arc::<Rates>::default()));
    Router::new()
        .route("/pods", get(pods::known))
        .route("/pods/", get(pods::known))
        .route("/runningpods", get(pods::running))
        .route("/runningpods/", get(pods::running))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs::serve))
        // Clients upgrade with POST (SPDY) or GET (WebSocket).
        .route("/exec/{namespace}/{pod}/{container}", any(streaming::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(streaming::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(streaming::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(streaming::attach))
        .route("/portForward/{namespace}/{pod}", any(streaming::port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(streaming::port_forward))
        .route("/logs", get(node_logs::serve))
        .route("/logs/", get(node_logs::serve))
        .route("/logs/{*path}", get(node_logs::serve))
        .route("/metrics/probes", get(metrics_probes))
        .route("/configz", get(configz))
        .with_state(server.clone())
        .merge(measured)
        .merge(metrics_router(server.metrics))
        .merge(health_router(server.health))
        .layer(axum::middleware::from_fn_with_state((server.delegated, node), access::guard))
}

type Measured = State<(Server, Arc<Rates>)>;

async fn observe((server, rates): &(Server, Arc<Rates>)) -> Result<Usage, Response> {
    usage::observe(server, rates).await.map_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "measuring");
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response()
    })
}

async fn stats_summary(State(measured): Measured) -> Result<Response, Response> {
    Ok(Json(summary::render(&observe(&measured).await?)).into_response())
}

async fn metrics_resource(State(measured): Measured) -> Result<Response, Response> {
    Ok(exposed(exposition::resource(&observe(&measured).await?)))
}

async fn metrics_cadvisor(State(measured): Measured) -> Result<Response, Response> {
    Ok(exposed(exposition::cadvisor(&observe(&measured).await?)))
}

async fn metrics_probes(State(server): State<Server>) -> Response {
    exposed(server.probes.metrics())
}

async fn configz(State(server): State<Server>) -> Response {
    Json(serde_json::json!({"kubeletconfig": server.settings})).into_response()
}

fn exposed(text: String) -> Response {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests;
