//! Bootstrap tokens and the ConfigMap `cluster-info`: what a machine that knows nothing but a token joins a cluster with.
//!
//! Both are ordinary Secrets and ConfigMaps; here they are kinds of their own, so that only these few are cached.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Names of the Secrets of tokens start with this.
const NAME_PREFIX: &str = "bootstrap-token-";

/// A Secret of type `bootstrap.kubernetes.io/token` in `kube-system`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BootstrapToken {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The keys that upstream's `bootstrap/token/api` names.
    #[serde(default)]
    pub data: BTreeMap<String, ByteString>,
}

impl BootstrapToken {
    /// The text of a key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(&self.data.get(key)?.0).ok()
    }

    /// Id and secret, when the object is named after the id and holds both.
    #[must_use]
    pub fn id_and_secret(&self) -> Option<(&str, &str)> {
        let id = self.metadata.name.as_deref()?.strip_prefix(NAME_PREFIX)?;
        let secret = self.text("token-secret").filter(|s| !s.is_empty())?;
        (self.text("token-id") == Some(id)).then_some((id, secret))
    }

    /// When it expires, if ever. A time that cannot be read is long past.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let text = self.text("expiration").filter(|t| !t.is_empty())?;
        Some(text.parse().unwrap_or(Timestamp::MIN))
    }

    /// Whether it may be used so: `signing` or `authentication`.
    #[must_use]
    pub fn is_for(&self, usage: &str) -> bool {
        self.text(&format!("usage-bootstrap-{usage}")) == Some("true")
    }
}

/// The ConfigMap `cluster-info` in `kube-public`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// `kubeconfig`, and a signature of it for each token.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}
