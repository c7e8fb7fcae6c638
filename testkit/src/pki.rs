//! Certificates and kubeconfigs for a test's cluster.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// An authority in a folder.
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// Makes an authority, that of front proxies, the certificates of the apiserver and of its front proxy, and the key for tokens in `dir`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let proxies = Self { dir: dir.to_owned(), issuer: authority(dir, "front-proxy-ca")? };
        proxies.certificate("front-proxy-client", "front-proxy-client", None, &[])?;
        let pki = Self { dir: dir.to_owned(), issuer: authority(dir, "ca")? };
        pki.certificate("apiserver", "kube-apiserver", None, &["localhost", "127.0.0.1", "kubernetes.default.svc"])?;
        let tokens = KeyPair::generate()?;
        std::fs::write(dir.join("sa.key"), tokens.serialize_pem())?;
        std::fs::write(dir.join("sa.pub"), tokens.public_key_pem())?;
        Ok(pki)
    }

    /// The authority that [`Pki::create`] made in `dir`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("ca.key"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(dir.join("ca.crt"))?, key)?;
        Ok(Self { dir: dir.to_owned(), issuer })
    }

    /// A file of the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Issues `<file>.crt` and `<file>.key`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn certificate(&self, file: &str, user: &str, group: Option<&str>, names: &[&str]) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer)?;
        std::fs::write(self.file(&format!("{file}.crt")), cert.pem())?;
        std::fs::write(self.file(&format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Issues a client certificate and writes `<file>.conf`, a kubeconfig that uses it against `server`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn kubeconfig(&self, file: &str, user: &str, group: Option<&str>, server: &str) -> anyhow::Result<PathBuf> {
        self.certificate(file, user, group, &[])?;
        let path = self.file(&format!("{file}.conf"));
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: test\n  cluster:\n    server: {server}\n    certificate-authority: {}\n\
             users:\n- name: {file}\n  user:\n    client-certificate: {}\n    client-key: {}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: {file}}}\ncurrent-context: test\n",
            self.file("ca.crt").display(),
            self.file(&format!("{file}.crt")).display(),
            self.file(&format!("{file}.key")).display(),
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// Makes an authority whose files have this name.
fn authority(dir: &Path, file: &str) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, if file == "ca" { "kubernetes" } else { file });
    let ca = params.self_signed(&key)?;
    std::fs::write(dir.join(format!("{file}.crt")), ca.pem())?;
    std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}
