//! Whom to call: what a `clientConfig` says, parsed once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::resources::cells::text;

/// Whom to call, and how to know that it is them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    /// Where they are.
    pub place: Place,
    /// Whose certificates are good.
    pub trust: Trust,
    /// Whether we show the front proxy's certificate.
    pub as_front_proxy: bool,
}

/// Where somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// At a URL.
    Url {
        /// Name or address, without brackets.
        host: String,
        /// Host and port as the URL has them.
        authority: String,
        /// The port.
        port: u16,
        /// The path; empty for none.
        path: String,
    },
    /// Behind a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The Service's port.
        port: u16,
        /// The path; empty for none.
        path: String,
    },
}

/// Whose certificates are good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those of the system's authorities.
    System,
    /// Those of these authorities, as PEM.
    Bundle(Vec<u8>),
    /// Anybody's: an APIService says `insecureSkipTLSVerify`.
    Anybody,
}

impl ClientConfig {
    /// Reads the `clientConfig` of a webhook.
    ///
    /// # Errors
    /// What names nobody. Validation keeps that out, so it was stored by somebody else.
    pub fn parse(client: &Value) -> Result<Self, String> {
        let place = match client.get("service").filter(|s| s.is_object()) {
            Some(service) => Place::service(service)?,
            None => Place::url(text(client, "/url"))?,
        };
        Ok(Self { place, trust: Trust::bundle(text(client, "/caBundle"))?, as_front_proxy: false })
    }

    /// The path of requests; `/` when nothing is said.
    #[must_use]
    pub fn path(&self) -> &str {
        let (Place::Url { path, .. } | Place::Service { path, .. }) = &self.place;
        if path.is_empty() { "/" } else { path }
    }

    /// Host and port, as they stand in URLs: of a Service, the name that its certificate has to be for.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Url { authority, .. } => authority.clone(),
            Place::Service { namespace, name, port, .. } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The name that the certificate has to be for.
    #[must_use]
    pub fn server_name(&self) -> String {
        match &self.place {
            Place::Url { host, .. } => host.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    /// The URL of a request to the path that was said, with this query.
    #[must_use]
    pub fn url(&self, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        format!("https://{}{}{mark}{query}", self.authority(), self.path())
    }
}

impl Place {
    /// Reads a reference to a Service.
    ///
    /// # Errors
    /// A port that is none.
    pub fn service(service: &Value) -> Result<Self, String> {
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
        let own = |field: &str| text(service, field).to_owned();
        Ok(Self::Service { namespace: own("/namespace"), name: own("/name"), port, path: own("/path") })
    }

    fn url(url: &str) -> Result<Self, String> {
        let parsed: http::Uri = url.parse().map_err(|e| format!("{url:?}: {e}"))?;
        let authority = parsed.authority().filter(|_| parsed.scheme_str() == Some("https"));
        let authority = authority.ok_or_else(|| format!("{url:?} is no https URL"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = if parsed.path() == "/" && !url.ends_with('/') { String::new() } else { parsed.path().to_owned() };
        Ok(Self::Url { host, authority: authority.to_string(), port: authority.port_u16().unwrap_or(443), path })
    }
}

impl Trust {
    /// The trust that a `caBundle` asks for.
    ///
    /// # Errors
    /// What is no base64.
    pub fn bundle(encoded: &str) -> Result<Self, String> {
        if encoded.is_empty() {
            return Ok(Self::System);
        }
        STANDARD.decode(encoded).map(Self::Bundle).map_err(|e| format!("caBundle: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(client: Value, url: &str, name: &str) {
        let config = ClientConfig::parse(&client).unwrap();
        assert_eq!((config.url("timeout=1s").as_str(), config.server_name().as_str()), (url, name));
    }

    #[test]
    fn urls_are_as_upstream_writes_them() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/p", "port": 8443}});
        check(service, "https://s.n.svc:8443/p?timeout=1s", "s.n.svc");
        check(json!({"service": {"namespace": "n", "name": "s"}}), "https://s.n.svc:443/?timeout=1s", "s.n.svc");
        check(json!({"url": "https://a.b:9443/x/y"}), "https://a.b:9443/x/y?timeout=1s", "a.b");
        check(json!({"url": "https://[::1]:9443"}), "https://[::1]:9443/?timeout=1s", "::1");
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for client in [json!({}), json!({"url": "http://a"}), json!({"url": "https://a", "caBundle": "%"})] {
            ClientConfig::parse(&client).unwrap_err();
        }
    }

    #[test]
    fn without_a_bundle_the_systems_authorities_are_trusted() {
        let trust = |client: Value| ClientConfig::parse(&client).unwrap().trust;
        assert_eq!(trust(json!({"url": "https://a"})), Trust::System);
        assert_eq!(trust(json!({"url": "https://a", "caBundle": "YWJj"})), Trust::Bundle(b"abc".to_vec()));
    }
}
