//! Installing and running clients in other languages: once for all trials, kept between runs as long as what is pinned stays the same.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use super::super::framework::Framework;

/// A package index on a slow line, and packages of 75 MB.
const INSTALL: Duration = Duration::from_secs(420);
/// A client's whole script.
const RUN: Duration = Duration::from_secs(300);

/// Where the clients' sources are.
pub fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language)
}

/// Where the clients' packages are installed.
fn installed(language: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(language)
}

/// A program and its arguments.
type Step = (PathBuf, Vec<String>);

/// Installs a language's packages when `pinned` differs from what is there; gives the folder.
fn install(language: &'static str, pinned: &str, steps: fn(&Path) -> Vec<Step>) -> anyhow::Result<PathBuf> {
    let (dir, mark) = (installed(language), installed(language).join("installed"));
    let wanted = std::fs::read_to_string(sources(language).join(pinned)).with_context(|| format!("reading {pinned}"))?;
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    for (program, arguments) in steps(&dir) {
        let mut command = std::process::Command::new("timeout");
        command.arg(INSTALL.as_secs().to_string()).arg(&program).args(&arguments).current_dir(&dir).stdin(Stdio::null());
        let done = command.output().with_context(|| format!("starting {}", program.display()))?;
        anyhow::ensure!(
            done.status.success(),
            "installing the clients in {language}: {} {}: {}{}\n(is it there, and a package index?)",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr),
            String::from_utf8_lossy(&done.stdout)
        );
    }
    std::fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))?;
    Ok(dir)
}

type Installed = OnceLock<Result<PathBuf, String>>;

async fn once(
    cell: &'static Installed,
    language: &'static str,
    pinned: &'static str,
    steps: fn(&Path) -> Vec<Step>,
) -> anyhow::Result<PathBuf> {
    let install = move || cell.get_or_init(|| install(language, pinned, steps).map_err(|e| format!("{e:#}"))).clone();
    tokio::task::spawn_blocking(install).await?.map_err(anyhow::Error::msg)
}

/// The Python with the pinned packages.
pub async fn python() -> anyhow::Result<PathBuf> {
    static PYTHON: Installed = OnceLock::new();
    let dir = once(&PYTHON, "python", "requirements.txt", |dir| {
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut pip = words("-m pip install --quiet --disable-pip-version-check --requirement");
        pip.push(sources("python").join("requirements.txt").display().to_string());
        vec![("python3".into(), words("-m venv .")), (dir.join("bin/python"), pip)]
    })
    .await?;
    Ok(dir.join("bin/python"))
}

/// The folder with the pinned JavaScript packages and the scripts.
pub async fn node() -> anyhow::Result<PathBuf> {
    static NODE: Installed = OnceLock::new();
    once(&NODE, "node", "package-lock.json", |dir| {
        let copy = |name: &str| vec![sources("node").join(name).display().to_string(), dir.join(name).display().to_string()];
        let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"].map(str::to_owned).to_vec();
        vec![("cp".into(), copy("package.json")), ("cp".into(), copy("package-lock.json")), ("npm".into(), ci)]
    })
    .await
}

/// A client's program in a test's namespace.
pub fn command(f: &Framework, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", &f.cluster.kubeconfig).env("NAMESPACE", &f.namespace).env("POD", "served");
    command.env("CHART", sources("chart")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a client's script, which must succeed.
pub async fn run(f: &Framework, program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let done = tokio::time::timeout(RUN, command(f, program, arguments).output()).await;
    let done = done.with_context(|| format!("{arguments:?}: not done after {RUN:?}"))?.context("starting a client")?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    anyhow::ensure!(done.status.success(), "{arguments:?}: {}{}", said(&done.stdout), said(&done.stderr));
    Ok(())
}
