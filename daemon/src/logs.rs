//! Structured logs on standard error: one line an event, naming the object it is about.

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Sends this process's events to standard error. `verbosity` is Kubernetes' scale (0 to 6).
pub fn start(verbosity: u8, json: bool) {
    let level = match verbosity {
        0 | 1 => "warn",
        2 | 3 => "info",
        4 | 5 => "debug",
        _ => "trace",
    };
    // Libraries speak one level lower than we do, or their chatter drowns ours.
    let library = if verbosity >= 6 { "debug" } else { "warn" };
    let ours = ["api", "apiserver", "controller_manager", "coredns_lite", "daemon", "deploy", "kube_proxy", "kubelet", "scheduler"];
    let default = ours.iter().fold(library.to_owned(), |f, krate| format!("{f},{krate}={level}"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first subscriber; that is not an error.
    let started = if json { registry.with(lines.json()).try_init() } else { registry.with(lines.with_ansi(false)).try_init() };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was already started");
    }
}
