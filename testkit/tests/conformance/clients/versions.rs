//! The kubectls that are tried: Debian's, which is old, and the newest of this machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::Context as _;

use super::super::framework::{Framework, Kubectl};

/// Where newer kubectls may stand beside each other, named `kubectl.1.NN`.
const BESIDE: &str = "/usr/lib/google-cloud-sdk/bin";

/// A kubectl of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The program.
    pub program: PathBuf,
    /// 20 of 1.20.
    pub minor: u32,
}

impl Version {
    fn of(program: PathBuf) -> anyhow::Result<Self> {
        let said = output(&program, &["version", "--client", "-o", "json"])?;
        let said: serde_json::Value = serde_json::from_str(&said).with_context(|| format!("the version of {}", program.display()))?;
        let minor = said["clientVersion"]["minor"].as_str().unwrap_or("").trim_end_matches('+').parse();
        Ok(Self { minor: minor.with_context(|| format!("the version of {}", program.display()))?, program })
    }

    /// This kubectl in a test's namespace.
    pub fn on(&self, f: &Framework) -> Kubectl {
        f.kubectl().program(&self.program)
    }
}

/// What a program prints that must succeed.
fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let done = std::process::Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("starting {}", program.display()))?;
    anyhow::ensure!(done.status.success(), "{} {arguments:?}: {}", program.display(), String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The kubectls, oldest first; at least two where Debian's packages can be had.
pub async fn all() -> anyhow::Result<Vec<Version>> {
    static ALL: OnceLock<Result<Vec<Version>, String>> = OnceLock::new();
    let find = || ALL.get_or_init(|| find().map_err(|e| format!("{e:#}"))).clone();
    tokio::task::spawn_blocking(find).await?.map_err(anyhow::Error::msg)
}

/// The newest.
pub async fn newest() -> anyhow::Result<Version> {
    all().await?.pop().context("no kubectl at all")
}

fn find() -> anyhow::Result<Vec<Version>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join("kubectl")).filter(|p| p.is_file()).take(1).collect();
    let beside = std::fs::read_dir(BESIDE).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    programs.extend(beside.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("kubectl.1."))));
    programs.push(debians()?);
    let mut versions = programs.into_iter().map(Version::of).collect::<anyhow::Result<Vec<_>>>()?;
    versions.sort_by_key(|v| v.minor);
    versions.dedup_by_key(|v| v.minor);
    // The oldest and the newest say what those between would.
    let last = versions.len() - 1;
    Ok(versions.into_iter().enumerate().filter(|(i, _)| *i == 0 || *i == last).map(|(_, v)| v).collect())
}

/// Debian's kubectl: the installed one, or unpacked from its package where another stands in its place.
fn debians() -> anyhow::Result<PathBuf> {
    let owner = std::process::Command::new("dpkg").args(["--search", "/usr/bin/kubectl"]).stdin(Stdio::null()).output();
    if owner.context("starting dpkg")?.stdout.starts_with(b"kubernetes-client:") {
        return Ok("/usr/bin/kubectl".into());
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients/debian-kubectl");
    let program = dir.join("usr/bin/kubectl");
    if !program.exists() {
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let script = "get() { apt-get -qq download kubernetes-client; }; { get || { apt-get -qq update && get; }; } \
            && dpkg-deb --extract kubernetes-client_*.deb . && rm kubernetes-client_*.deb";
        let done = std::process::Command::new("sh").args(["-c", script]).current_dir(&dir).stdin(Stdio::null()).output();
        let done = done.context("starting apt-get")?;
        anyhow::ensure!(done.status.success(), "getting Debian's kubectl: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(program)
}
