//! A real etcd of a test's own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

/// An etcd process that ends with its handle.
#[derive(Debug)]
pub struct EtcdProcess {
    child: Option<Child>,
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
        let mut etcd = Self { child: None, dir: tempfile::tempdir()?, client: free_port()?, peer: free_port()? };
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

    /// Kills it as `kill -9` does. Its data stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already; it has to be reaped in any case.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
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
        self.child = Some(child);
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
