//! Registry credentials from `imagePullSecrets`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use super::reference::split_host;
use crate::cri::AuthConfig;

/// Docker's configuration file, the part that counts.
#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default, Clone)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// The credentials of `secrets` for `image`, the longest match first. A secret that cannot be read is logged and left out.
#[must_use]
pub fn matching(image: &str, secrets: &[Secret]) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = vec![];
    for secret in secrets {
        for (server, entry) in entries(secret) {
            let place = normalise(&server);
            if fits(&place, image) {
                found.push((place.len(), credentials(&entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone());
    let parsed = if let Some(bytes) = data(".dockerconfigjson") {
        serde_json::from_slice::<Config>(&bytes).map(|c| c.auths)
    } else if let Some(bytes) = data(".dockercfg") {
        serde_json::from_slice(&bytes)
    } else {
        return BTreeMap::new();
    };
    parsed.unwrap_or_else(|error| {
        tracing::warn!(secret = name, %error, "an image pull secret is not a docker config");
        BTreeMap::new()
    })
}

/// Without the server's address, as upstream: that they fit was decided here, and containerd takes it for a URL, which `host:port` is not.
fn credentials(entry: &Entry) -> AuthConfig {
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|b| String::from_utf8(b).ok());
    let pair = decoded.as_deref().and_then(|d| d.split_once(':'));
    let (username, password) = match pair {
        Some((user, password)) if entry.username.is_empty() => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        _ => (entry.username.clone(), entry.password.clone()),
    };
    AuthConfig { username, password, identity_token: entry.identity_token.clone(), ..AuthConfig::default() }
}

/// `https://index.docker.io/v1/` and the like, as host and path.
fn normalise(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    if matches!(bare, "docker.io" | "registry-1.docker.io") { "index.docker.io".to_owned() } else { bare.to_owned() }
}

/// Whether credentials for `place` (a host, maybe with `*` in labels, maybe with a path) serve `image`.
fn fits(place: &str, image: &str) -> bool {
    let (host, path) = match split_host(image) {
        (Some("docker.io"), path) => ("index.docker.io", path),
        (Some(host), path) => (host, path),
        (None, path) => ("index.docker.io", path),
    };
    let (wanted_host, wanted_path) = place.split_once('/').unwrap_or((place, ""));
    let same_labels = wanted_host.split('.').count() == host.split('.').count();
    let hosts = same_labels && wanted_host.split('.').zip(host.split('.')).all(|(want, have)| glob(want, have));
    hosts
        && (wanted_path.is_empty() || path == wanted_path || path.strip_prefix(wanted_path).is_some_and(|r| r.starts_with(['/', ':', '@'])))
}

/// Whether `text` matches a pattern with at most one `*`.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[track_caller]
    fn check(image: &str, config: &str, expected: &[&str]) {
        let secret = Secret { data: Some([(".dockerconfigjson".to_owned(), ByteString(config.into()))].into()), ..Secret::default() };
        let found = matching(image, &[secret]);
        assert!(found.iter().all(|a| a.server_address.is_empty()), "containerd would take it for a URL");
        let users: Vec<String> = found.into_iter().map(|a| format!("{}:{}", a.username, a.password)).collect();
        assert_eq!(users, expected);
    }

    #[test]
    fn the_longest_match_comes_first() {
        let config =
            r#"{"auths":{"r.example.com":{"auth":"dTpw"},"r.example.com/team":{"username":"t","password":"q"},"other":{"auth":"eDp5"}}}"#;
        check("r.example.com/team/app:1", config, &["t:q", "u:p"]);
        check("r.example.com/teams/app:1", config, &["u:p"]);
        check("nginx", config, &[]);
    }

    #[test]
    fn hub_and_wildcards() {
        check("nginx", r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, &["u:p"]);
        check("a.example.com/x", r#"{"auths":{"*.example.com":{"auth":"dTpw"}}}"#, &["u:p"]);
        check("a.b.example.com/x", r#"{"auths":{"*.example.com":{"auth":"dTpw"}}}"#, &[]);
        check("nginx", "not json", &[]);
    }
}
