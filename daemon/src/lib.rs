//! What every Ferrite process has: flags and a config file, logs, metrics and health endpoints, TLS that
//! reloads, a clean stop, a client for the apiserver, leader election, a clock.
//!
//! Start reading at [`run`]. This crate never decides anything about Kubernetes objects: the Lease of
//! [`leader`] and the reviews of [`delegated`] are the only ones it touches, as protocol.

pub mod args;
pub mod backoff;
pub mod client;
pub mod clock;
pub mod delegated;
pub mod endpoints;
pub mod errors;
pub mod follow;
pub mod http;
pub mod join;
pub mod kubeconfig;
pub mod lanes;
pub mod leader;
pub mod logs;
pub mod metrics;
pub mod process;
mod resident;
pub mod tls;

pub use args::CommonFlags;
pub use errors::{describe, describe_any};
pub use process::{Context, run};
pub use tokio_util::sync::CancellationToken;

/// The Kubernetes version whose API and behaviour Ferrite offers, as `/version` and node info report it.
pub const KUBERNETES_VERSION: &str = "v1.35.0";
