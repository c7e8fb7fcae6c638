//! The kubelet's HTTPS server: logs, exec, attach, port-forward, pods, stats and metrics.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use daemon::delegated::Delegated;
use daemon::metrics::Metrics;

use crate::pods::Pods;
use crate::runtime::Runtime;

/// What the server serves from.
#[derive(Clone)]
pub struct Server {
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The pods of this node.
    pub pods: Arc<Pods>,
    /// Who may ask for what.
    pub delegated: Delegated,
    /// The process's metrics.
    pub metrics: Metrics,
    /// This node.
    pub node_name: String,
    /// `--root-dir`, for the file system's numbers.
    pub root_dir: PathBuf,
    /// `--pod-logs-dir`: `<ns>_<name>_<uid>/<container>/<restart>.log` below it.
    pub pod_logs_dir: PathBuf,
}

/// The routes. Every one but `/healthz` asks `delegated`.
pub fn router(_server: Server) -> Router {
    Router::new()
}
