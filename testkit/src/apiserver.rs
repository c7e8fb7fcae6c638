//! A real apiserver in the test's process, on a real etcd.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser as _;
use daemon::{CancellationToken, Context};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{EtcdProcess, Pki};

/// An apiserver that ends with its handle.
#[derive(Debug)]
pub struct ApiServer {
    /// Its storage.
    pub etcd: EtcdProcess,
    /// Its authority, for further certificates.
    pub pki: Pki,
    /// The kubeconfig of a member of `system:masters`.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:port`
    pub url: String,
    dir: TempDir,
    port: u16,
    /// The last number of the address that it says it has.
    number: u8,
    extra: Vec<String>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl ApiServer {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// No etcd, or a server that does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`ApiServer::start`], with further flags.
    ///
    /// # Errors
    /// No etcd, or a server that does not come up.
    pub async fn start_with(extra: &[&str]) -> anyhow::Result<Self> {
        daemon::tls::install_crypto();
        let dir = tempfile::tempdir()?;
        let pki = Pki::create(&dir.path().join("pki"))?;
        pki.certificate("kubelet-client", "kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"), &[])?;
        Self::on(EtcdProcess::start().await?, pki, dir, 10, extra).await
    }

    /// A further apiserver on the same etcd, with the same authority. It must not outlive this one.
    ///
    /// # Errors
    /// A server that does not come up.
    pub async fn beside(&self, extra: &[&str]) -> anyhow::Result<Self> {
        let pki = Pki::open(&self.dir.path().join("pki"))?;
        Self::on(self.etcd.shared()?, pki, tempfile::tempdir()?, self.number + 1, extra).await
    }

    async fn on(etcd: EtcdProcess, pki: Pki, dir: TempDir, number: u8, extra: &[&str]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let url = format!("https://127.0.0.1:{port}");
        let kubeconfig = pki.kubeconfig(&format!("admin-{number}"), "kubernetes-admin", Some("system:masters"), &url)?;
        let extra = extra.iter().map(|f| (*f).to_owned()).collect();
        let mut server = Self { etcd, pki, kubeconfig, url, dir, port, number, extra, shutdown: CancellationToken::new(), task: None };
        server.serve(listener)?;
        server.ready().await?;
        Ok(server)
    }

    fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let file = |name: &str| self.pki.file(name).display().to_string();
        let arguments = [
            "apiserver".to_owned(),
            format!("--etcd-servers={}", self.etcd.url()),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-uid-headers=X-Remote-Uid".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!("--advertise-address=192.0.2.{}", self.number),
        ];
        let flags = apiserver::Flags::try_parse_from(arguments.iter().chain(&self.extra))?;
        self.shutdown = CancellationToken::new();
        let context = Context::embedded("apiserver", self.shutdown.clone());
        self.task = Some(tokio::spawn(apiserver::run::serve(flags, context, listener)));
        Ok(())
    }

    /// Stops the server and starts it again on the same port and storage.
    ///
    /// # Errors
    /// A server that does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await??;
        }
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        self.serve(listener)?;
        self.ready().await
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let client = self.client().await?;
        let ready = crate::eventually("the apiserver to be ready", Duration::from_secs(20), || {
            let client = client.clone();
            async move {
                let request = http::Request::get("/readyz").body(vec![]).ok()?;
                client.request_text(request).await.ok().filter(|t| t == "ok").map(|_| ())
            }
        });
        let Some(task) = &mut self.task else { anyhow::bail!("the apiserver was not started") };
        let ended = tokio::select! {
            () = ready => return Ok(()),
            ended = task => ended,
        };
        self.task = None;
        ended??;
        anyhow::bail!("the apiserver ended")
    }

    /// A client of a member of `system:masters`.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        daemon::client::connect(&self.kubeconfig, "testkit").await
    }

    /// A client of another user.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub async fn client_of(&self, user: &str, group: Option<&str>) -> anyhow::Result<kube::Client> {
        let file = user.replace([':', '/'], "-");
        daemon::client::connect(&self.pki.kubeconfig(&file, user, group, &self.url)?, "testkit").await
    }

    /// What a member of `system:masters` gets over the wire.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read.
    pub async fn wire(&self) -> anyhow::Result<crate::Wire> {
        Ok(crate::Wire::new(self.client().await?))
    }

    /// What a member of `system:masters` gets who uses another program.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read.
    pub async fn wire_with_agent(&self, user_agent: &str) -> anyhow::Result<crate::Wire> {
        Ok(crate::Wire::new(daemon::client::connect(&self.kubeconfig, user_agent).await?))
    }

    /// What another user gets over the wire.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub async fn wire_of(&self, user: &str, group: Option<&str>) -> anyhow::Result<crate::Wire> {
        Ok(crate::Wire::new(self.client_of(user, group).await?))
    }

    /// What the holder of a token gets over the wire; without one, what a stranger gets.
    ///
    /// # Errors
    /// An authority that cannot be read.
    pub async fn wire_with_token(&self, token: Option<&str>) -> anyhow::Result<crate::Wire> {
        let path = self.dir.path().join(format!("token-{}.conf", token.map_or(0, str::len)));
        let user = token.map_or("{}".to_owned(), |t| format!("{{token: {t}}}"));
        let authority = self.pki.file("ca.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: test\n  cluster: {{server: '{}', certificate-authority: '{}'}}\n\
             users:\n- name: user\n  user: {user}\ncontexts:\n- name: test\n  context: {{cluster: test, user: user}}\ncurrent-context: test\n",
            self.url,
            authority.display(),
        );
        std::fs::write(&path, text)?;
        Ok(crate::Wire::new(daemon::client::connect(&path, "testkit").await?))
    }

    /// A folder for the test's files.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
