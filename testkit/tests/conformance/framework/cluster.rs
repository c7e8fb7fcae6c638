//! The cluster that all behaviours share: brought up for the first that runs, taken down after the last.
//!
//! A cluster that somebody names is used as it is, and neither brought up nor taken down. One that runs on this machine unasked is
//! never touched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use anyhow::Context as _;
use tokio::sync::OnceCell;

/// The kubeconfig of a running cluster to use instead of an own one.
const GIVEN: &str = "FERRITE_CONFORMANCE_KUBECONFIG";
/// What `ferrite up` leaves on this machine while a cluster is there.
const RECORD: &str = "/etc/ferrite/cluster.json";
const KUBECONFIG: &str = "/etc/kubernetes/admin.conf";
/// Where the daemons of an own cluster log.
const LOGS: &str = "/var/log/ferrite";
/// How much of each log somebody is shown who reads why a test failed.
const LINES: usize = 12;

/// A cluster with at least two nodes that take pods.
pub struct Cluster {
    /// The kubeconfig of a cluster admin.
    pub kubeconfig: PathBuf,
    /// When it was first used.
    pub began: SystemTime,
    own: bool,
    client: OnceCell<kube::Client>,
}

static CLUSTER: OnceLock<Result<Arc<Cluster>, String>> = OnceLock::new();

/// The cluster, brought up for the first who asks; the others wait.
pub fn get() -> anyhow::Result<Arc<Cluster>> {
    CLUSTER.get_or_init(|| bring_up().map(Arc::new).map_err(|e| format!("{e:#}"))).clone().map_err(anyhow::Error::msg)
}

fn bring_up() -> anyhow::Result<Cluster> {
    let cluster = |kubeconfig, own| Cluster { kubeconfig, began: SystemTime::now(), own, client: OnceCell::new() };
    if let Some(given) = std::env::var_os(GIVEN) {
        return Ok(cluster(given.into(), false));
    }
    anyhow::ensure!(!Path::new(RECORD).exists(), "a cluster runs on this machine: run deploy/down first, or name it in {GIVEN}");
    // In the same place as those of the other tests of whole clusters: making images takes longer than all else.
    let images = concat!(env!("CARGO_TARGET_TMPDIR"), "/ferrite-images");
    // Half a cluster is taken down as a whole one is.
    ferrite(&["up", "--nodes", "2", "--no-example", "--cache-dir", images]).inspect_err(|_| {
        if let Err(error) = ferrite(&["down"]) {
            eprintln!("{error:#}");
        }
    })?;
    Ok(cluster(KUBECONFIG.into(), true))
}

/// Takes an own cluster down, if there is one.
pub fn take_down() -> anyhow::Result<()> {
    match CLUSTER.get() {
        Some(Ok(cluster)) if cluster.own => ferrite(&["down"]),
        _ => Ok(()),
    }
}

/// The `ferrite` that was built beside this test. It shows its progress on standard error.
fn ferrite(arguments: &[&str]) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("looking for this test's program")?;
    let built = own.ancestors().nth(2).context("the folder of built programs")?.join("ferrite");
    let done = Command::new(&built).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let done = done.with_context(|| format!("starting {} (cargo build --workspace --bins makes it)", built.display()))?;
    anyhow::ensure!(done.success(), "ferrite {} failed and said why above", arguments.join(" "));
    Ok(())
}

impl Cluster {
    /// What the daemons warned of last. They stop, and their logs go, before anybody can look.
    pub fn warnings(&self) -> String {
        if !self.own {
            return String::new();
        }
        let inside =
            |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        // Those of further nodes are in folders of their own.
        let files = inside(Path::new(LOGS)).into_iter().flat_map(|path| if path.is_dir() { inside(&path) } else { vec![path] });
        let mut said = String::new();
        for file in files.filter(|file| file.extension().is_some_and(|e| e == "log")) {
            let text = std::fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let warnings: Vec<&str> = text.lines().rev().filter(|l| l.contains(" WARN ") || l.contains(" ERROR ")).take(LINES).collect();
            if !warnings.is_empty() {
                said += &format!("{}:\n", file.display());
            }
            warnings.iter().rev().for_each(|line| said += &format!("  {line}\n"));
        }
        said
    }

    /// A client of its admin; all tests share its connections.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        self.client.get_or_try_init(|| daemon::client::connect(&self.kubeconfig, "e2e")).await.cloned()
    }
}
