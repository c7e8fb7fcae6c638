//! A real etcd of a test's own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

/// An etcd process that ends with its handle.
#[derive(Debug)]
pub struct EtcdProcess {
    child: Mutex<Option<Child>>,
    dir: TempDir,
    client: u16,
    peer: u16,
}

/// A port that was free a moment ago.
///
/// # Errors
/// None is.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl EtcdProcess {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// There is no etcd to start.
    pub async fn start() -> anyhow::Result<Self> {
        let etcd = Self { child: Mutex::default(), dir: tempfile::tempdir()?, client: free_port()?, peer: free_port()? };
        etcd.resume().await?;
        Ok(etcd)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The same etcd for another apiserver. It goes on when this handle goes.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn shared(&self) -> anyhow::Result<Self> {
        Ok(Self { child: Mutex::default(), dir: tempfile::tempdir()?, client: self.client, peer: self.peer })
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it as `kill -9` does. Its data stays.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // It may be gone already; it has to be reaped in any case.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it in mid-air: connections stay, nothing is answered, until [`EtcdProcess::go_on`].
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on after [`EtcdProcess::freeze`].
    ///
    /// # Errors
    /// It is not running.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGCONT)
    }

    fn signal(&self, signal: nix::sys::signal::Signal) -> anyhow::Result<()> {
        let pid = self.child().as_ref().context("etcd is not running")?.id();
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into()?), signal)?)
    }

    /// Runs `etcdctl` on it, for looking behind the apiserver's back.
    ///
    /// # Errors
    /// There is no etcdctl, or it fails.
    pub fn ctl(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let mut command = Command::new("etcdctl");
        let done = command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.url()).args(arguments).output();
        let done = done.context("starting etcdctl (Debian package etcd-client)")?;
        anyhow::ensure!(done.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(done.stdout)
    }

    /// The cluster's revision, read from etcd itself.
    ///
    /// # Errors
    /// As [`EtcdProcess::ctl`].
    pub fn revision(&self) -> anyhow::Result<u64> {
        let status: serde_json::Value = serde_json::from_slice(&self.ctl(&["endpoint", "status", "--write-out=json"])?)?;
        status.pointer("/0/Status/header/revision").and_then(serde_json::Value::as_u64).context("no revision in etcd's status")
    }

    /// Forgets what was before `revision`.
    ///
    /// # Errors
    /// As [`EtcdProcess::ctl`].
    pub fn compact(&self, revision: u64) -> anyhow::Result<()> {
        self.ctl(&["compact", &revision.to_string()]).map(|_| ())
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer));
        let log = std::fs::File::create(self.dir.path().join("etcd.log"))?;
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting etcd (Debian package etcd-server)")?;
        *self.child() = Some(child);
        let port = self.client;
        crate::eventually("etcd to listen", Duration::from_secs(20), || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Ok(())
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
