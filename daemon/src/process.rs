//! The life of a process: parse flags, start logs, run until done or told to stop.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::args::{self, CommonFlags};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// What [`run`] gives a daemon.
#[derive(Clone, Debug)]
pub struct Context {
    /// The daemon's name, as in its log lines and user agent.
    pub name: &'static str,
    /// Cancelled on SIGTERM or SIGINT; everything the daemon started ends with it.
    pub shutdown: CancellationToken,
    /// The wall clock.
    pub clock: Clock,
    /// The process's metrics.
    pub metrics: Metrics,
}

impl Context {
    /// A context for running a daemon inside another process, as tests do.
    #[must_use]
    pub fn embedded(name: &'static str, shutdown: CancellationToken) -> Self {
        Self { name, shutdown, clock: Clock::system(), metrics: Metrics::new() }
    }
}

/// How long a daemon may take to end after it was told to, before the process exits anyway.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Runs a daemon's `main`: `daemon::run("scheduler", 2, scheduler::run)`.
///
/// Ends with success when the daemon returned `Ok`, with failure and one line on standard error otherwise.
/// `workers` is the number of threads that run its tasks.
pub fn run<F, Fut>(name: &'static str, workers: usize, daemon: impl FnOnce(F, Context) -> Fut) -> ExitCode
where
    F: clap::Parser + AsRef<CommonFlags>,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let outcome = (|| {
        let flags: F = args::parse()?;
        let common = flags.as_ref();
        crate::logs::start(common.verbosity, common.logging_format == "json");
        crate::tls::install_crypto();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        let result = runtime.block_on(supervise(name, flags, daemon));
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    })();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{name} failed");
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn supervise<F, Fut>(name: &'static str, flags: F, daemon: impl FnOnce(F, Context) -> Fut) -> anyhow::Result<()>
where
    Fut: Future<Output = anyhow::Result<()>>,
{
    use tokio::signal::unix::{SignalKind, signal};
    let context = Context::embedded(name, CancellationToken::new());
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = context.shutdown.clone();
    let running = daemon(flags, context);
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => return result,
        never = crate::resident::keep_small() => match never {},
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("{name} is stopping");
    shutdown.cancel();
    match tokio::time::timeout(STOP_WITHIN, running).await {
        Ok(result) => result,
        Err(_) => anyhow::bail!("did not stop within {} s", STOP_WITHIN.as_secs()),
    }
}
