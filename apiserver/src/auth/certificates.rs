//! Who a client certificate stands for. One of the cluster's authority stands for its user; one of the proxies' authority for whoever the
//! headers name (upstream's request-header authenticator), and for nobody by itself.
//!
//! TLS let either authority's certificates in. Which it was is verified once for each certificate and remembered: a certificate of an
//! authority that is no longer trusted does not come through the handshake again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use daemon::http::Peer;
use daemon::tls::Roots;
use http::HeaderMap;
use parking_lot::Mutex;
use x509_parser::prelude::FromDer as _;

use super::User;
use crate::flags::RequestHeader;
use crate::http::query::percent_decode;

/// Certificates whose authority is remembered at most; beyond these all are forgotten and looked at again.
const REMEMBERED: usize = 1_024;

/// What a certificate is good for; for both, where both authorities are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Good {
    /// To be its user.
    client: bool,
    /// To speak for others.
    proxy: bool,
}

/// The authorities of client certificates.
#[derive(Debug)]
pub struct Certificates {
    /// How proxies speak for others; nothing when there is one authority alone, whose certificates TLS has verified.
    proxies: Option<Proxies>,
}

#[derive(Debug)]
struct Proxies {
    clients: Arc<Roots>,
    proxies: Arc<Roots>,
    how: RequestHeader,
    known: Mutex<HashMap<Vec<u8>, Good>>,
}

impl Certificates {
    /// The authority of clients, and that of proxies.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn load(clients: &Path, proxies: Option<&RequestHeader>) -> anyhow::Result<Self> {
        let of = |how: &RequestHeader| -> anyhow::Result<Proxies> {
            Ok(Proxies { clients: Roots::load(clients)?, proxies: Roots::load(&how.ca)?, how: how.clone(), known: Mutex::default() })
        };
        Ok(Self { proxies: proxies.map(of).transpose()? })
    }

    /// The user that a peer's certificate stands for by itself.
    #[must_use]
    pub fn user(&self, peer: &Peer) -> Option<User> {
        match &self.proxies {
            Some(proxies) if !proxies.good(peer).client => None,
            _ => peer.user.as_deref().cloned(),
        }
    }

    /// The user for whom a proxy asks.
    #[must_use]
    pub fn spoken_for(&self, headers: &HeaderMap, peer: &Peer) -> Option<User> {
        let proxies = self.proxies.as_ref()?;
        let user = named(headers, &proxies.how)?;
        proxies.good(peer).proxy.then_some(user)
    }
}

impl Proxies {
    fn good(&self, peer: &Peer) -> Good {
        let Some(leaf) = peer.certificates.first() else { return Good::default() };
        if let Some(good) = self.known.lock().get(&**leaf) {
            return *good;
        }
        let good = Good {
            client: self.clients.vouch_for(&peer.certificates),
            proxy: self.proxies.vouch_for(&peer.certificates) && is_allowed(leaf, &self.how.allowed_names),
        };
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(leaf.to_vec(), good);
        good
    }
}

fn is_allowed(leaf: &[u8], names: &[String]) -> bool {
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(leaf) else { return false };
    let name = certificate.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
    names.is_empty() || name.is_some_and(|n| names.iter().any(|allowed| allowed == n))
}

/// The user that headers name. Pure.
fn named(headers: &HeaderMap, how: &RequestHeader) -> Option<User> {
    let texts = |names: &[String]| -> Vec<String> {
        let values = names.iter().flat_map(|n| headers.get_all(n.as_str()));
        values.filter_map(|v| v.to_str().ok()).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    };
    let name = texts(&how.username).into_iter().next()?;
    let mut groups = texts(&how.group);
    // As upstream: who is named by somebody trusted is authenticated.
    if name != "system:anonymous" && !groups.iter().any(|g| g == "system:authenticated" || g == "system:unauthenticated") {
        groups.push("system:authenticated".to_owned());
    }
    let mut user = User { name, uid: texts(&how.uid).into_iter().next().unwrap_or_default(), groups, ..User::default() };
    for (header, value) in headers {
        let fact = how.extra_prefix.iter().find_map(|p| header.as_str().strip_prefix(&p.to_ascii_lowercase()));
        if let (Some(fact), Ok(value)) = (fact.filter(|f| !f.is_empty()), value.to_str()) {
            user.extra.entry(percent_decode(fact, false)).or_default().push(value.to_owned());
        }
    }
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how() -> RequestHeader {
        let own = |s: &str| vec![s.to_owned()];
        RequestHeader {
            ca: "".into(),
            allowed_names: vec![],
            username: own("X-Remote-User"),
            uid: own("X-Remote-Uid"),
            group: own("X-Remote-Group"),
            extra_prefix: own("X-Remote-Extra-"),
        }
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<Vec<_>>().into_iter().fold(
            HeaderMap::new(),
            |mut map, (name, value): (http::HeaderName, http::HeaderValue)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn headers_name_a_user() {
        let given = headers(&[
            ("x-remote-user", "me"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-scopes.x%2fy", "s"),
            ("x-remote-uid", "7"),
        ]);
        let user = named(&given, &how()).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("me", "7"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["scopes.x/y"], ["s"]);
    }

    #[test]
    fn without_a_name_nobody_is_spoken_for() {
        assert_eq!(named(&headers(&[("x-remote-group", "system:masters")]), &how()), None);
        assert_eq!(named(&headers(&[("x-remote-user", "")]), &how()), None);
    }
}
