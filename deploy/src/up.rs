//! `ferrite up`: the steps, in order, each saying what it did.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, DaemonFlag, Node, Wishes};
use crate::manager::{self, Manager};
use crate::steps::{self, Outcome, Step};
use crate::{files, paths};

/// What `ferrite up` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Number of nodes: this machine and, for more than one, further ones in namespaces. As many as there are, when not given.
    #[arg(long, value_name = "N")]
    pub nodes: Option<u8>,
    /// Reach every image registry through this URL. It must be one that the nodes can reach.
    #[arg(long, value_name = "URL", value_parser = registry)]
    pub registry_mirror: Option<String>,
    /// Give a daemon this flag beside, or instead of, what it gets anyway; may be repeated. Remembered until given again without value.
    #[arg(long, value_name = "DAEMON:FLAG=VALUE")]
    pub daemon_flag: Vec<DaemonFlag>,
    /// Leave the cluster empty.
    #[arg(long)]
    pub no_example: bool,
    /// Wait this many times longer than usual before giving up, on a slow machine.
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub patience: u32,
    /// Where images made on this machine are kept; they survive `down`.
    #[arg(long, value_name = "DIR", default_value = "/var/cache/ferrite")]
    pub cache_dir: PathBuf,
    /// When the command began, in seconds since 1970, if that was earlier than this process.
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub began: Option<f64>,
}

fn registry(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !text.contains(['"', '\\', ' ', '\n']) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("a URL that begins with http:// or https://".to_owned()),
    }
}

/// What every step knows.
#[derive(Debug)]
pub struct Up {
    /// The cluster there shall be.
    pub cluster: Cluster,
    /// The cluster there was.
    pub before: Option<Cluster>,
    /// Who keeps the daemons running.
    pub manager: Manager,
    /// Where the built programs are.
    pub built: PathBuf,
    /// See [`Flags::cache_dir`].
    pub cache: PathBuf,
    /// Whether to run the example.
    pub example: bool,
    /// See [`Flags::patience`].
    pub patience: u32,
    /// When the command began.
    pub began: SystemTime,
}

/// What the last `up` that started the daemons found; `measure` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From the command to a Ready node, in seconds.
    pub ready_after: f64,
}

/// Where the timing is kept.
pub const TIMING: &str = "/var/lib/ferrite/timing.json";

/// Brings the cluster up.
///
/// # Errors
/// The step that failed and why; what was done before stays, and a further `up` goes on from there.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("looking for the built programs")?;
    let began = flags.began.and_then(|s| Duration::try_from_secs_f64(s).ok()).map_or_else(SystemTime::now, |s| SystemTime::UNIX_EPOCH + s);
    steps::prerequisites::needs_root()?;
    let before = Cluster::load()?;
    let machine = steps::machine::look()?;
    let wishes = Wishes { nodes: flags.nodes, registry_mirror: flags.registry_mirror, flags: flags.daemon_flag };
    let cluster = Cluster::wanted(machine, before.as_ref(), wishes)?;
    let up = Up {
        cluster,
        before,
        manager: Manager::of_this_machine(),
        built: own.parent().unwrap_or(Path::new("/")).to_owned(),
        cache: flags.cache_dir,
        example: !flags.no_example,
        patience: flags.patience,
        began,
    };
    let outcome = take_steps(&up).await;
    if let Ok(changed) = outcome {
        let nodes: Vec<&str> = up.cluster.nodes.iter().map(|n| n.name.as_str()).collect();
        let what = if changed { "The cluster is up" } else { "The cluster was up already, and nothing was changed" };
        eprintln!("\n{what}: {}", nodes.join(", "));
    }
    // Also when something failed: with it one sees what.
    if Path::new(paths::ADMIN_KUBECONFIG).exists() {
        println!("export KUBECONFIG={}", paths::ADMIN_KUBECONFIG);
    }
    outcome.map(drop)
}

/// Whether anything was changed.
async fn take_steps(up: &Up) -> anyhow::Result<bool> {
    let mut changed = false;
    for stage in steps::STAGES {
        let outcomes = try_join_all(stage.iter().map(|step| one(step, up))).await?;
        changed |= outcomes.iter().any(|o| matches!(o, Outcome::Done(_)));
    }
    Ok(changed)
}

async fn one(step: &Step, up: &Up) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let outcome = (step.run)(up).await;
    let seconds = began.elapsed().as_secs_f64();
    match &outcome {
        Ok(Outcome::Done(what)) => eprintln!("  {:<10} {:<14} {what} ({seconds:.1} s)", "done", step.name),
        Ok(Outcome::Unchanged(what)) => eprintln!("  {:<10} {:<14} {what}", "unchanged", step.name),
        Err(_) => eprintln!("  {:<10} {}", "failed", step.name),
    }
    outcome.with_context(|| format!("step `{}`", step.name))
}

impl Up {
    /// Tells the person that a step goes on.
    pub fn say(&self, step: &str, what: &str) {
        eprintln!("  {:<10} {step:<14} {what}", "...");
    }

    /// Keeps how long it took until the nodes were Ready, if this `up` started them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ready_now(&self) -> anyhow::Result<f64> {
        let ready_after = self.began.elapsed().unwrap_or_default().as_secs_f64();
        if self.before.is_none() {
            files::ensure(Path::new(TIMING), &serde_json::to_vec(&Timing { ready_after })?, files::PUBLIC)?;
        }
        Ok(ready_after)
    }

    /// Waits until `look` gives something, at most for `within`. A daemon that keeps dying ends the waiting.
    ///
    /// # Errors
    /// It took too long, with what `look` said last; or a daemon keeps dying, with its last words.
    pub async fn wait<T, F>(&self, what: &str, within: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<Option<T>>>,
    {
        let within = within * self.patience;
        let deadline = Instant::now() + within;
        let mut next_look_at_daemons = Instant::now() + LOOK_AT_DAEMONS;
        loop {
            let said = match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if Instant::now() >= next_look_at_daemons {
                next_look_at_daemons += LOOK_AT_DAEMONS;
                if let Some((node, name, restarts)) = self.keeps_dying() {
                    let (tail, log) = (self.manager.tail(&node, &name, 8), self.manager.where_is_log(&node, &name));
                    anyhow::bail!(
                        "waiting for {what}: {name} on {} was restarted {restarts} times; its last words:\n{tail}\n(all of them: {log})",
                        node.name
                    );
                }
            }
            if Instant::now() > deadline {
                let error = said.unwrap_or_else(|| anyhow::anyhow!("not yet"));
                return Err(error.context(format!(
                    "{what} took longer than {} s; look at `deploy/status` and {}",
                    within.as_secs(),
                    paths::LOGS
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn keeps_dying(&self) -> Option<(Node, String, u32)> {
        manager::everywhere(&self.cluster).into_iter().find_map(|(node, daemons)| {
            let daemon =
                daemons.ok()?.into_iter().find(|d| d.restarts >= TOO_MANY_RESTARTS && d.uptime.is_none_or(|u| u < LOOK_AT_DAEMONS))?;
            Some((node, daemon.name, daemon.restarts))
        })
    }
}

/// Something that is waited for is looked at this often.
const POLL: Duration = Duration::from_millis(50);
/// And the daemons this often.
const LOOK_AT_DAEMONS: Duration = Duration::from_secs(2);
/// A daemon that died this often will not come up by itself.
const TOO_MANY_RESTARTS: u32 = 5;
