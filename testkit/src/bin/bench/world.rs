//! etcd and the apiserver as processes of their own, with the certificates and flags that `deploy/up` gives them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use daemon::tls::{Identity, Roots, client_config};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Pki;
use testkit::etcd::free_port;

use crate::client::Connection;
use crate::report::Report;
use crate::usage::{Memory, Process};

/// A server that does not come up within this time does not come up.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The namespace of everything that is measured.
pub const NAMESPACE: &str = "bench";

/// A process that ends with its handle.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; it has to be reaped in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The two servers, and what clients need.
#[derive(Debug)]
pub struct World {
    apiserver: Running,
    etcd: Running,
    program: PathBuf,
    arguments: Vec<String>,
    dir: TempDir,
    pki: Pki,
    port: u16,
    http1: bool,
    /// From the start of the apiserver's process until `/readyz` said yes.
    pub ready_after: Duration,
    /// The processor time that took.
    pub ready_time: Duration,
}

impl World {
    /// Starts both and waits until the apiserver is ready.
    pub async fn start(program: &Path, http1: bool) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::create(&dir.path().join("pki"))?;
        pki.certificate("etcd", "etcd", None, &["localhost", "127.0.0.1"])?;
        pki.certificate("apiserver-etcd-client", "kube-apiserver-etcd-client", None, &[])?;
        pki.certificate("admin", "kubernetes-admin", Some("system:masters"), &[])?;
        pki.certificate("bench", "bench", Some("benchmarks"), &[])?;
        let (etcd_port, peer, port) = (free_port()?, free_port()?, free_port()?);
        let etcd = etcd(dir.path(), &pki, etcd_port, peer)?;
        let until = Instant::now() + UP_WITHIN;
        while tokio::net::TcpStream::connect(("127.0.0.1", etcd_port)).await.is_err() {
            ensure!(Instant::now() < until, "etcd does not listen: {}", last_lines(&dir.path().join("etcd.log")));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let file = |name: &str| pki.file(name).display().to_string();
        let arguments = vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=192.0.2.10".to_owned(),
            format!("--secure-port={port}"),
            format!("--etcd-servers=https://127.0.0.1:{etcd_port}"),
            format!("--etcd-cafile={}", file("ca.crt")),
            format!("--etcd-certfile={}", file("apiserver-etcd-client.crt")),
            format!("--etcd-keyfile={}", file("apiserver-etcd-client.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--service-account-key-file={}", file("sa.pub")),
        ];
        let apiserver = spawn(program, &arguments, &dir.path().join("apiserver.log"))?;
        let program = program.to_owned();
        let (ready_after, ready_time) = Default::default();
        let mut world = Self { apiserver, etcd, program, arguments, dir, pki, port, http1, ready_after, ready_time };
        world.ready().await?;
        Ok(world)
    }

    /// Ends the apiserver and starts another one on what is stored.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.apiserver.0.kill()?;
        self.apiserver.0.wait()?;
        self.apiserver = spawn(&self.program, &self.arguments, &self.dir.path().join("apiserver.log"))?;
        self.ready().await
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let answer = async {
                let mut admin = self.connect("admin").await?;
                admin.send(Method::GET, "/readyz", "", vec![]).await
            };
            if let Ok((200, _)) = answer.await {
                break;
            }
            let log = self.dir.path().join("apiserver.log");
            ensure!(self.apiserver.0.try_wait()?.is_none() && began.elapsed() < UP_WITHIN, "no apiserver: {}", last_lines(&log));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.ready_after = began.elapsed();
        self.ready_time = self.apiserver().time()?;
        Ok(())
    }

    /// The apiserver's process.
    pub fn apiserver(&self) -> Process {
        Process(self.apiserver.0.id())
    }

    /// What both processes spent so far: the apiserver, etcd.
    pub fn times(&self) -> anyhow::Result<(Duration, Duration)> {
        Ok((self.apiserver().time()?, Process(self.etcd.0.id()).time()?))
    }

    /// What the apiserver occupies once it has come to rest.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        self.apiserver().memory()
    }

    /// A connection of its own for a user with a certificate in the authority's folder.
    pub async fn connect(&self, user: &str) -> anyhow::Result<Connection> {
        let file = |end: &str| self.pki.file(&format!("{user}.{end}"));
        let identity = Identity::load(&file("crt"), &file("key"))?;
        let tls = client_config(Roots::load(&self.pki.file("ca.crt"))?, Some(identity));
        Connection::open(self.port, Arc::new(tls), self.http1).await
    }

    /// Makes the namespace, its account, and a role for the user that the measured requests come from, who is no administrator.
    pub async fn furnish(&self) -> anyhow::Result<()> {
        let rule = json!({"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["*"]});
        let subject = json!({"kind": "Group", "name": "benchmarks", "apiGroup": "rbac.authorization.k8s.io"});
        let role = json!({"kind": "ClusterRole", "name": "bench", "apiGroup": "rbac.authorization.k8s.io"});
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let objects: [(String, Value); 4] = [
            ("/api/v1/namespaces".into(), json!({"metadata": {"name": NAMESPACE}})),
            (format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})),
            (format!("{rbac}/clusterroles"), json!({"metadata": {"name": "bench"}, "rules": [rule]})),
            (format!("{rbac}/clusterrolebindings"), json!({"metadata": {"name": "bench"}, "subjects": [subject], "roleRef": role})),
        ];
        let mut admin = self.connect("admin").await?;
        for (path, object) in objects {
            let (code, body) = admin.send(Method::POST, &path, "application/json", object.to_string().into_bytes()).await?;
            ensure!(code == 201, "POST {path} gave {code} {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// Watches the servers while nobody asks anything.
    pub async fn idle(&self, time: Duration, what: &str, report: &mut Report) -> anyhow::Result<()> {
        // What the start left to do is done by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = self.times()?;
        let began = Instant::now();
        tokio::time::sleep(time).await;
        let after = self.times()?;
        report.idle(what, self.memory()?, began.elapsed(), (after.0 - before.0, after.1 - before.1));
        Ok(())
    }
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(log)?);
    Ok(Running(command.spawn().with_context(|| format!("starting {}", program.display()))?))
}

/// As `deploy/up` starts it, but that it does not wait for the disk, which is time and no processor's.
fn etcd(dir: &Path, pki: &Pki, client: u16, peer: u16) -> anyhow::Result<Running> {
    let (client, peer) = (format!("https://127.0.0.1:{client}"), format!("https://127.0.0.1:{peer}"));
    let file = |name: &str| pki.file(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("etcd.crt"), file("etcd.key"));
    let arguments = [
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--client-cert-auth=true".to_owned(),
        format!("--trusted-ca-file={ca}"),
        format!("--cert-file={cert}"),
        format!("--key-file={key}"),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-trusted-ca-file={ca}"),
        format!("--peer-cert-file={cert}"),
        format!("--peer-key-file={key}"),
        "--heartbeat-interval=50".to_owned(),
        "--election-timeout=250".to_owned(),
        "--snapshot-count=10000".to_owned(),
        "--logger=zap".to_owned(),
        "--log-level=warn".to_owned(),
        "--unsafe-no-fsync".to_owned(),
    ];
    spawn(Path::new("etcd"), &arguments, &dir.join("etcd.log"))
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| e.to_string());
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
