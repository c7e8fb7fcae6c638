//! TLS to others: whom we believe, and who we say we are.

use std::sync::{Arc, OnceLock};

use daemon::tls::{Identity, Roots, client_config};

use super::config::Trust;

/// The client's side of TLS. HTTP/1.1 alone: upgrades need it, and webhooks answer one question at a time.
///
/// # Errors
/// A bundle without a certificate that can be used.
pub fn config(trust: &Trust, identity: Option<Arc<Identity>>) -> Result<rustls::ClientConfig, String> {
    let roots = match trust {
        Trust::Anybody => return Ok(unverified(identity)),
        Trust::Bundle(pem) => Roots::from_pem(pem).map_err(|e| format!("unable to load root certificates: {e:#}"))?,
        Trust::System => system()?,
    };
    Ok(client_config(roots, identity))
}

/// The system's authorities, read once.
fn system() -> Result<Arc<Roots>, String> {
    static SYSTEM: OnceLock<Option<Arc<Roots>>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        Roots::system().inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "the system's certificate authorities")).ok()
    });
    // A system that trusts nobody finds every authority unknown.
    roots.clone().ok_or_else(|| "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned())
}

/// For those of whom somebody said that their certificates are not to be verified, or who make them up themselves.
#[must_use]
pub fn unverified(identity: Option<Arc<Identity>>) -> rustls::ClientConfig {
    let verifier = Arc::new(Anybody(rustls::crypto::ring::default_provider()));
    let builder = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    }
}

#[derive(Debug)]
struct Anybody(rustls::crypto::CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
