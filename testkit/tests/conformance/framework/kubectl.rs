//! The real kubectl, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A command that waits for something (`rollout status`, `run --attach`) takes no longer.
const WITHIN: Duration = Duration::from_secs(180);

/// kubectl on one namespace of one cluster.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    stdin: Option<String>,
}

/// What a command printed.
pub struct Output {
    /// Whether it says that it succeeded.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

#[allow(dead_code, reason = "for whoever needs it")]
impl Kubectl {
    /// kubectl as the user of `kubeconfig`.
    pub fn new(kubeconfig: &Path, namespace: &str) -> Self {
        Self { program: "kubectl".into(), kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned(), stdin: None }
    }

    /// Another kubectl than the one on PATH.
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// With this on standard input (`apply -f -`).
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// The command, for whoever keeps it running (`proxy`, `get -w`). It is killed when dropped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("KUBECONFIG").arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]);
        command.args(arguments).kill_on_drop(true);
        command
    }

    /// Runs a command, whatever comes of it.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command(arguments);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        let exchange = async {
            let mut child = command.spawn().context("starting kubectl (Debian package kubernetes-client)")?;
            let pipe = child.stdin.take();
            let write = async {
                if let (Some(text), Some(mut pipe)) = (&self.stdin, pipe) {
                    // A command may end before its input does; how it ended says whether that is right.
                    let _ = pipe.write_all(text.as_bytes()).await;
                }
            };
            let ((), done) = tokio::join!(write, child.wait_with_output());
            let done = done.context("waiting for kubectl")?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ok(Output { success: done.status.success(), out: text(done.stdout), err: text(done.stderr) })
        };
        tokio::time::timeout(WITHIN, exchange).await.with_context(|| format!("kubectl {}: not done", arguments.join(" ")))?
    }

    /// What a command prints that must succeed.
    pub async fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let done = self.run(arguments).await?;
        anyhow::ensure!(done.success, "kubectl {}: {}{}", arguments.join(" "), done.err, done.out);
        Ok(done.out)
    }

    /// What a command complains that must fail.
    pub async fn fails(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let done = self.run(arguments).await?;
        anyhow::ensure!(!done.success, "kubectl {} did not fail: {}", arguments.join(" "), done.out);
        Ok(done.err)
    }
}
