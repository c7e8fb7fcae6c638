//! TLS identities and trust that follow their files.
//!
//! A certificate that was renewed on disk is used by the next handshake at most [`CHECK_EVERY`] later: each handshake looks
//! whether the files changed. A file that cannot be read or parsed leaves the last good one in use and is logged.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

/// How old the look at the files may be when a handshake begins.
pub const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Makes ring the process's cryptography. Idempotent.
pub fn install_crypto() {
    // Fails only when one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A value parsed from files, parsed again when they change.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    parse: fn(&[PathBuf]) -> anyhow::Result<T>,
    current: ArcSwap<T>,
    looked: Mutex<(Instant, Vec<Option<SystemTime>>)>,
}

impl<T> Reloading<T> {
    pub(crate) fn load(files: Vec<PathBuf>, parse: fn(&[PathBuf]) -> anyhow::Result<T>) -> anyhow::Result<Self> {
        let looked = Mutex::new((Instant::now(), modified(&files)));
        let current = ArcSwap::from_pointee(parse(&files)?);
        Ok(Self { files, parse, current, looked })
    }

    /// A value that is in no file and never changes.
    pub(crate) fn fixed(value: T) -> Self {
        let looked = Mutex::new((Instant::now(), vec![]));
        Self { files: vec![], parse: |_| bail!("not from files"), current: ArcSwap::from_pointee(value), looked }
    }

    pub(crate) fn get(&self) -> Arc<T> {
        if let Some(mut looked) = self.looked.try_lock()
            && looked.0.elapsed() >= CHECK_EVERY
        {
            looked.0 = Instant::now();
            let now = modified(&self.files);
            if now != looked.1 {
                match (self.parse)(&self.files) {
                    Ok(value) => {
                        tracing::info!(files = ?self.files, "reloaded certificates");
                        self.current.store(Arc::new(value));
                        looked.1 = now;
                    }
                    Err(error) => tracing::warn!(files = ?self.files, error = format!("{error:#}"), "keeping the certificates in use"),
                }
            }
        }
        self.current.load_full()
    }
}

impl<T> Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

fn modified(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok()).collect()
}

/// A certificate chain and its key, as a TLS server or client shows them.
#[derive(Debug)]
pub struct Identity(Reloading<CertifiedKey>);

impl Identity {
    /// Loads a PEM certificate chain and its private key.
    ///
    /// # Errors
    /// A file that cannot be read, holds no certificate or key, or a key of an unsupported kind.
    pub fn load(cert: &Path, key: &Path) -> anyhow::Result<Arc<Self>> {
        let files = vec![cert.to_owned(), key.to_owned()];
        Ok(Arc::new(Self(Reloading::load(files, |files| {
            let certs = certificates(&files[0])?;
            let key = PrivateKeyDer::from_pem_file(&files[1]).with_context(|| format!("reading the key {}", files[1].display()))?;
            certified(certs, &key)
        })?)))
    }

    /// A chain and key held in memory, such as those inline in a kubeconfig; they never change.
    ///
    /// # Errors
    /// No certificate or key in the PEM, or a key of an unsupported kind.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> anyhow::Result<Arc<Self>> {
        let certs = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>().context("reading the certificate's PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("reading the key's PEM")?;
        Ok(Arc::new(Self(Reloading::fixed(certified(certs, &key)?))))
    }
}

fn certified(certs: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> anyhow::Result<CertifiedKey> {
    let key = rustls::crypto::ring::sign::any_supported_type(key).context("unsupported private key")?;
    let certified = CertifiedKey::new(certs, key);
    certified.keys_match().context("certificate and key do not belong together")?;
    Ok(certified)
}

impl rustls::server::ResolvesServerCert for Identity {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

impl rustls::client::ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate authority bundle, as both sides of TLS check against it.
#[derive(Debug)]
pub struct Roots(Reloading<Verifiers>);

#[derive(Debug)]
struct Verifiers {
    server: Arc<WebPkiServerVerifier>,
    client: Arc<dyn ClientCertVerifier>,
}

impl Roots {
    /// Loads a PEM bundle.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate.
    pub fn load(bundle: &Path) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self(Reloading::load(vec![bundle.to_owned()], |files| verifiers(&certificates(&files[0])?))?)))
    }

    /// Trust in the authorities of several bundles together.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate.
    pub fn load_all(bundles: Vec<PathBuf>) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self(Reloading::load(bundles, |files| {
            let certs = files.iter().map(|f| certificates(f)).collect::<anyhow::Result<Vec<_>>>()?;
            verifiers(&certs.concat())
        })?)))
    }

    /// Whether a client's chain, leaf first, is good by these authorities now.
    #[must_use]
    pub fn vouch_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.0.get().client.verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok()
    }

    /// Trust in certificates held in memory, such as a kubeconfig's inline authority; these never change.
    ///
    /// # Errors
    /// No usable certificate among them.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Arc<Self>> {
        let certs = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().context("reading the authority's PEM")?;
        Ok(Arc::new(Self(Reloading::fixed(verifiers(&certs)?))))
    }

    /// Trust in the authorities of the machine's own bundle; those that cannot be used are left out.
    ///
    /// # Errors
    /// No bundle where systems keep theirs, or nothing usable in it.
    pub fn system() -> anyhow::Result<Arc<Self>> {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let bundle = named.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from)).find(|p| p.is_file());
        let bundle = bundle.context("no bundle of certificate authorities on this machine")?;
        Ok(Arc::new(Self(Reloading::load(vec![bundle], |files| {
            let mut roots = RootCertStore::empty();
            let (added, left_out) = roots.add_parsable_certificates(certificates(&files[0])?);
            tracing::debug!(bundle = %files[0].display(), added, left_out, "the system's certificate authorities");
            of_store(roots)
        })?)))
    }
}

/// Where distributions keep the bundle of certificate authorities.
const SYSTEM_BUNDLES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading certificates from {}", path.display()))?;
    if certs.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(certs)
}

fn verifiers(certs: &[CertificateDer<'static>]) -> anyhow::Result<Verifiers> {
    let mut roots = RootCertStore::empty();
    for cert in certs {
        roots.add(cert.clone()).context("unusable certificate authority")?;
    }
    of_store(roots)
}

fn of_store(roots: RootCertStore) -> anyhow::Result<Verifiers> {
    let roots = Arc::new(roots);
    Ok(Verifiers {
        server: WebPkiServerVerifier::builder(roots.clone()).build()?,
        client: WebPkiClientVerifier::builder(roots).allow_unauthenticated().build()?,
    })
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.get().server.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().server.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().server.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().server.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Roots {
    /// No hints: which authority is trusted may change between two handshakes.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    /// A client may come without a certificate and authenticate by token; who it is decides what it may do.
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.get().client.verify_client_cert(end_entity, intermediates, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().client.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().client.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().client.supported_verify_schemes()
    }
}

/// A server's TLS: its identity, the authority for client certificates, HTTP/2 and HTTP/1.1.
#[must_use]
pub fn server_config(identity: Arc<Identity>, clients: Option<Arc<Roots>>) -> Arc<rustls::ServerConfig> {
    let builder = rustls::ServerConfig::builder();
    let builder = match clients {
        Some(roots) => builder.with_client_cert_verifier(roots),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A client's TLS: whom it trusts, and what it shows when asked who it is. ALPN is left to the connector.
#[must_use]
#[allow(clippy::missing_panics_doc)]
pub fn client_config(roots: Arc<Roots>, identity: Option<Arc<Identity>>) -> rustls::ClientConfig {
    // `dangerous` is rustls' word for any verifier of one's own; ours is webpki's, reloaded.
    let builder = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(roots);
    match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    }
}
