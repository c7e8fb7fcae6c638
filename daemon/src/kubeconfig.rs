//! A kubeconfig, read for a daemon: where the apiserver is, whom to trust, who one is.
//!
//! Files that it names are followed: a certificate or token that was renewed is used soon after. What would run programs (`exec`,
//! `auth-provider`), send passwords, or skip TLS' checks is refused, and said to be, rather than ignored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use http::{HeaderValue, Uri};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::tls::{Identity, Reloading, Roots};

/// The largest token file, in bytes, as a header has to carry it.
const MAX_TOKEN: usize = 64 << 10;

/// What the current context of a kubeconfig says.
#[derive(Debug)]
pub struct Cluster {
    /// The apiserver.
    pub server: Uri,
    /// The name that its certificate must have, where that is not the server's.
    pub server_name: Option<String>,
    /// The authorities that may sign it; those of the machine when there are none.
    pub roots: Option<Arc<Roots>>,
    /// The client certificate.
    pub identity: Option<Arc<Identity>>,
    /// The bearer token.
    pub token: Option<Token>,
    /// The namespace of requests that name none.
    pub namespace: String,
}

/// A bearer token.
#[derive(Debug, Clone)]
pub struct Token(Arc<Reloading<HeaderValue>>);

impl Token {
    /// As the header `Authorization` has it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.0.get())
    }
}

fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    ensure!(token.len() <= MAX_TOKEN, "the token has more than {MAX_TOKEN} bytes");
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).context("the token cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterFields,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: UserFields,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterFields {
    server: Option<String>,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserFields {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<IgnoredAny>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ContextFields {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

/// An error when one of these options is given.
fn refuse(options: &[(&str, bool)]) -> anyhow::Result<()> {
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => bail!("{option} is not supported"),
        None => Ok(()),
    }
}

fn data(field: &str, text: Option<String>) -> anyhow::Result<Option<Vec<u8>>> {
    let decoded = text.map(|text| base64::engine::general_purpose::STANDARD.decode(text));
    decoded.transpose().with_context(|| format!("{field} is no base64"))
}

impl Cluster {
    /// A server and whom to trust, without an identity.
    #[must_use]
    pub fn anonymous(server: Uri, roots: Arc<Roots>) -> Self {
        Self { server, server_name: None, roots: Some(roots), identity: None, token: None, namespace: "default".to_owned() }
    }

    /// Reads a kubeconfig's current context.
    ///
    /// # Errors
    /// A file that cannot be read, or that says what is not supported.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let File { clusters, users, contexts, current_context } = serde_saphyr::from_str(text)?;
        let none = |what: &str, name: &str| format!("it has no {what} named {name:?}");
        let context = contexts.into_iter().find(|c| c.name == current_context).map(|c| c.context);
        let context = context.with_context(|| none("context", &current_context))?;
        let cluster = clusters.into_iter().find(|c| c.name == context.cluster).map(|c| c.cluster);
        let cluster = cluster.with_context(|| none("cluster", &context.cluster))?;
        let user = users.into_iter().find(|u| u.name == context.user).map(|u| u.user);
        let user = user.with_context(|| none("user", &context.user))?;
        refuse(&[
            ("insecure-skip-tls-verify", cluster.insecure_skip_tls_verify == Some(true)),
            ("proxy-url", cluster.proxy_url.is_some()),
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("username", user.username.is_some()),
            ("as", user.impersonate.is_some()),
        ])?;
        let server = cluster.server.context("its cluster has no server")?;
        let beside = |file: PathBuf| folder.join(file);
        // As client-go, data count before files.
        let pem = data("certificate-authority-data", cluster.certificate_authority_data)?;
        let roots = match (pem, cluster.certificate_authority.map(beside)) {
            (Some(pem), _) => Some(Roots::from_pem(&pem)?),
            (None, Some(file)) => Some(Roots::load(&file)?),
            (None, None) => None,
        };
        let (cert, key) = (data("client-certificate-data", user.client_certificate_data)?, data("client-key-data", user.client_key_data)?);
        let identity = match (cert, key, user.client_certificate.map(beside), user.client_key.map(beside)) {
            (Some(cert), Some(key), ..) => Some(Identity::from_pem(&cert, &key)?),
            (None, None, Some(cert), Some(key)) => Some(Identity::load(&cert, &key)?),
            (None, None, None, None) => None,
            _ => bail!("a client certificate and its key go together, both as files or both as data"),
        };
        let token = match (user.token, user.token_file.map(beside)) {
            (Some(token), _) => Some(Token(Arc::new(Reloading::fixed(bearer(&token)?)))),
            (None, Some(file)) => {
                let parse = |files: &[PathBuf]| {
                    let read = std::fs::read_to_string(&files[0]);
                    bearer(&read.with_context(|| format!("reading the token {}", files[0].display()))?)
                };
                Some(Token(Arc::new(Reloading::load(vec![file], parse)?)))
            }
            (None, None) => None,
        };
        Ok(Self {
            server: server.parse().with_context(|| format!("the server {server:?} is no URL"))?,
            server_name: cluster.tls_server_name,
            roots,
            identity,
            token,
            namespace: context.namespace.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a kubeconfig whose cluster and user have these fields, in YAML's flow form.
    fn parse(cluster: &str, user: &str, folder: &Path) -> Result<Cluster, String> {
        crate::tls::install_crypto();
        let text = format!(
            "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: c\n\
             clusters:\n- {{name: other, cluster: {{server: 'https://x'}}}}\n- {{name: k, cluster: {{{cluster}}}}}\n\
             users:\n- {{name: u, user: {{{user}}}}}\n\
             contexts:\n- {{name: c, context: {{cluster: k, user: u, namespace: n}}}}\n"
        );
        Cluster::parse(&text, folder).map_err(|e| format!("{e:#}"))
    }

    fn refused(cluster: &str, user: &str) -> String {
        parse(cluster, user, Path::new("/nowhere")).map(|c| format!("{c:?}")).expect_err("it is refused")
    }

    #[test]
    fn what_the_context_says_counts() {
        let cluster = parse("server: 'https://10.0.0.1:6443/base', tls-server-name: api", "token: secret", Path::new("")).unwrap();
        assert_eq!(cluster.server, "https://10.0.0.1:6443/base");
        assert_eq!((cluster.server_name.as_deref(), cluster.namespace.as_str()), (Some("api"), "n"));
        assert_eq!(cluster.token.unwrap().header(), "Bearer secret");
        assert!(cluster.roots.is_none() && cluster.identity.is_none());
    }

    #[test]
    fn files_lie_beside_the_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["me".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("me.crt"), &cert).unwrap();
        std::fs::write(dir.path().join("me.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("token"), "from-a-file\n").unwrap();
        let server = "server: 'https://a', certificate-authority: me.crt";
        let cluster = parse(server, "client-certificate: me.crt, client-key: me.key, tokenFile: token", dir.path()).unwrap();
        assert!(cluster.roots.is_some() && cluster.identity.is_some());
        assert_eq!(cluster.token.unwrap().header(), "Bearer from-a-file");
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (server, user) = (
            format!("server: 'https://a', certificate-authority-data: {}", encode(&cert)),
            format!("client-certificate-data: {}, client-key-data: {}", encode(&cert), encode(&key.serialize_pem())),
        );
        let cluster = parse(&server, &user, Path::new("/nowhere")).unwrap();
        assert!(cluster.roots.is_some() && cluster.identity.is_some());
        assert!(refused("server: 'https://a', certificate-authority: me.crt", "").contains("/nowhere/me.crt"));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        assert_eq!(refused("server: 'https://a', insecure-skip-tls-verify: true", ""), "insecure-skip-tls-verify is not supported");
        assert_eq!(refused("server: 'https://a'", "exec: {command: x}"), "exec is not supported");
        assert_eq!(refused("server: 'https://a'", "username: x, password: y"), "username is not supported");
        assert_eq!(refused("tls-server-name: x", ""), "its cluster has no server");
        let one = "a client certificate and its key go together, both as files or both as data";
        assert_eq!(refused("server: 'https://a'", "client-certificate: x"), one);
        assert!(parse("server: 'https://a', insecure-skip-tls-verify: false", "", Path::new("")).is_ok());
    }
}
