//! A kubeconfig for each client. Those of daemons name their certificates' files, so that renewed ones are noticed; the admin's
//! holds everything, so that it can be carried elsewhere.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Outcome, certificates};
use crate::up::Up;
use crate::{files, paths};

/// Clients on this machine's node alone: the kubeconfig's stem, and their certificate's.
const CONTROL_PLANE: &[&str] = &["controller-manager", "scheduler"];
/// Clients on every node.
const EVERY_NODE: &[(&str, &str)] = &[("kubelet", "kubelet-client"), ("kube-proxy", "kube-proxy"), ("coredns-lite", "coredns-lite")];

/// # Errors
/// A file cannot be read or written.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let server = up.cluster.server();
    let mut written = 0;
    for node in &up.cluster.nodes {
        let control_plane = CONTROL_PLANE.iter().map(|name| (*name, *name)).filter(|_| node.is_host());
        for (name, certificate) in EVERY_NODE.iter().copied().chain(control_plane) {
            let path = node.file(&format!("{}/{name}.conf", paths::KUBERNETES));
            let text = render(&server, name, &by_path(certificate))?;
            written += usize::from(files::ensure(&path, text.as_bytes(), files::SECRET)?);
        }
    }
    let admin = render(&server, "kubernetes-admin", &inline(up)?)?;
    written += usize::from(files::ensure(paths::ADMIN_KUBECONFIG.as_ref(), admin.as_bytes(), files::SECRET)?);
    Ok(Outcome::of(written > 0, format!("for {server}")))
}

struct Credentials {
    cluster: Value,
    user: Value,
}

fn by_path(certificate: &str) -> Credentials {
    let pki = |file: &str| format!("{}/pki/{file}", paths::KUBERNETES);
    Credentials {
        cluster: json!({ "certificate-authority": pki("ca.crt") }),
        user: json!({ "client-certificate": pki(&format!("{certificate}.crt")), "client-key": pki(&format!("{certificate}.key")) }),
    }
}

fn inline(up: &Up) -> anyhow::Result<Credentials> {
    let data = |stem: &str, extension: &str| {
        let path = certificates::file(up.cluster.host(), stem, extension);
        std::fs::read(&path).map(|bytes| STANDARD.encode(bytes)).with_context(|| format!("reading {}", path.display()))
    };
    Ok(Credentials {
        cluster: json!({ "certificate-authority-data": data("ca", "crt")? }),
        user: json!({ "client-certificate-data": data("admin", "crt")?, "client-key-data": data("admin", "key")? }),
    })
}

fn render(server: &str, user: &str, credentials: &Credentials) -> anyhow::Result<String> {
    let mut cluster = credentials.cluster.clone();
    cluster["server"] = json!(server);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "ferrite", "cluster": cluster }],
        "users": [{ "name": user, "user": credentials.user }],
        "contexts": [{ "name": format!("{user}@ferrite"), "context": { "cluster": "ferrite", "user": user } }],
        "current-context": format!("{user}@ferrite"),
    });
    serde_saphyr::to_string(&config).context("a kubeconfig as YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemons_kubeconfig_names_files() {
        let text = render("https://192.0.2.2:6443", "kubelet", &by_path("kubelet-client")).expect("rendered");
        let parsed = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        let user = parsed.auth_infos[0].auth_info.as_ref().expect("a user");
        assert_eq!(user.client_key.as_deref(), Some("/etc/kubernetes/pki/kubelet-client.key"));
        assert_eq!(parsed.current_context.as_deref(), Some("kubelet@ferrite"));
    }
}
