//! Structured logs on standard error: one line an event, naming the object it is about.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::{fmt, prelude::*};

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
    // What the watcher says of itself is told by whoever watches, in fewer words.
    let library = if verbosity >= 6 { library.to_owned() } else { format!("{library},kube_runtime=error") };
    let default = ours.iter().fold(library, |f, krate| format!("{f},{krate}={level}"));
    // Levels by module and no more: filters by spans and values would bring an engine for regular expressions into every daemon.
    let parse = |directives: String| directives.parse::<Targets>();
    let filter = match std::env::var("RUST_LOG").map(parse) {
        Ok(Ok(refined)) => refined,
        Ok(Err(error)) => {
            eprintln!("RUST_LOG is not used, as it does not set levels by module: {error}");
            parse(default).expect("our own directives")
        }
        Err(_) => parse(default).expect("our own directives"),
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first subscriber; that is not an error.
    let started = if json { registry.with(lines.json()).try_init() } else { registry.with(lines.with_ansi(false)).try_init() };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was already started");
    }
}
