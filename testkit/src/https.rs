//! An HTTPS server of the test's own, for what the apiserver calls out to: webhooks, aggregated apiservers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use base64::Engine as _;
use daemon::CancellationToken;
use daemon::tls::{Identity, Roots};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::Pki;

/// A server that ends with its handle.
#[derive(Debug)]
pub struct HttpsServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its authority, as a `caBundle`.
    pub ca_bundle: String,
    shutdown: CancellationToken,
    dir: TempDir,
}

impl HttpsServer {
    /// Serves `app` on loopback, with a certificate for `names` by an authority of its own.
    ///
    /// # Errors
    /// No port, or a folder that cannot be written.
    pub async fn start(names: &[&str], app: Router) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", names, None, app).await
    }

    /// As [`HttpsServer::start`], at an address; with `clients`, certificates of that authority are asked for and shown to the app.
    ///
    /// # Errors
    /// No such address, or a folder that cannot be written.
    pub async fn start_at(address: &str, names: &[&str], clients: Option<&Path>, app: Router) -> anyhow::Result<Self> {
        daemon::tls::install_crypto();
        let dir = tempfile::tempdir()?;
        let pki = Pki::create(&dir.path().join("pki"))?;
        let names: Vec<&str> = names.iter().copied().chain(["localhost", "127.0.0.1"]).collect();
        pki.certificate("server", "server", None, &names)?;
        let identity = Identity::load(&pki.file("server.crt"), &pki.file("server.key"))?;
        let tls = daemon::tls::server_config(identity, clients.map(Roots::load).transpose()?);
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        tokio::spawn(daemon::http::serve(listener, Some(Arc::clone(&tls)), app, shutdown.clone()));
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(std::fs::read(pki.file("ca.crt"))?);
        Ok(Self { address, ca_bundle, shutdown, dir })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A folder for the test's files, gone with the server.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
