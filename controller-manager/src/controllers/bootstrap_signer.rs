//! Signs `cluster-info` in `kube-public` with every bootstrap token that is for signing, so that a machine that knows a token can
//! tell the real one: `jws-kubeconfig-<id>` is a detached signature (RFC 7515, appendix F) of `kubeconfig`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::bootstrap::{BootstrapToken, ClusterInfo};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::runner::{Controller, View};

const PREFIX: &str = "jws-kubeconfig-";

/// Puts in the signatures that are missing or out of date, and takes out those of tokens that are gone.
#[must_use]
pub fn plan(info: &ClusterInfo, tokens: &[Arc<BootstrapToken>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut signed = info.clone();
    signed.data.retain(|key, _| !key.starts_with(PREFIX));
    if let Some(kubeconfig) = info.data.get("kubeconfig") {
        for token in tokens.iter().filter(|t| t.is_for("signing") && !t.deleting()) {
            let Some((id, secret)) = token.id_and_secret() else { continue };
            match token.expires_at() {
                Some(at) if at <= now => continue,
                Some(at) => plan.recheck(at),
                None => {}
            }
            match detached(kubeconfig, id, secret) {
                Ok(signature) => drop(signed.data.insert(format!("{PREFIX}{id}"), signature)),
                Err(error) => tracing::error!(%error, id, "cluster-info cannot be signed with this token"),
            }
        }
    }
    plan.update(info, &signed);
    plan
}

/// `header..signature`; the content between the dots is what was signed, and left out.
fn detached(content: &str, id: &str, secret: &str) -> jsonwebtoken::errors::Result<String> {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)?;
    Ok(format!("{header}..{signature}"))
}

/// The controller. Its only key is the ConfigMap.
pub struct BootstrapSigner;

impl Controller for BootstrapSigner {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let key = || Key::new("kube-public", "cluster-info");
        let own = queue.clone();
        caches.cluster_infos.subscribe(move |_: Change<'_, ClusterInfo>| own.add(key()));
        let own = queue.clone();
        caches.bootstrap_tokens.subscribe(move |_: Change<'_, BootstrapToken>| own.add(key()));
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let Some(info) = view.caches.cluster_infos.get(key) else { return Plan::default() };
        plan(&info, &view.caches.bootstrap_tokens.list(), view.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use k8s_openapi::ByteString;
    use serde_json::json;

    fn token(world: &mut World, id: &str, expiration: &str) {
        let text = |t: &str| ByteString(t.as_bytes().to_vec());
        world.add::<BootstrapToken>(json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "data": {"token-id": text(id), "token-secret": text("0123456789abcdef"), "usage-bootstrap-signing": text("true"),
                     "expiration": text(expiration)}
        }));
    }

    fn keys(world: &World) -> String {
        world.list::<ClusterInfo>()[0].data.keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn signatures_come_and_go_with_their_tokens() {
        let mut world = World::new();
        world.add::<ClusterInfo>(json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"},
            "data": {"kubeconfig": "k", "jws-kubeconfig-gone00": "x", "other": "y"}}));
        token(&mut world, "aaaaaa", "2026-01-01T01:00:00Z");
        token(&mut world, "bbbbbb", "");
        world.settle::<ClusterInfo>(&BootstrapSigner);
        assert_eq!(keys(&world), "jws-kubeconfig-aaaaaa jws-kubeconfig-bbbbbb kubeconfig other");
        world.told();
        world.settle::<ClusterInfo>(&BootstrapSigner);
        assert_eq!(world.told(), "");
        world.pass(3600);
        world.settle::<ClusterInfo>(&BootstrapSigner);
        assert_eq!(keys(&world), "jws-kubeconfig-bbbbbb kubeconfig other");
    }

    #[test]
    fn a_signature_is_a_detached_jws() {
        let jws = detached("payload", "abcdef", "0123456789abcdef").expect("a signature");
        let (header, signature) = jws.split_once("..").expect("two dots");
        assert_eq!(URL_SAFE_NO_PAD.decode(header).expect("base64"), br#"{"alg":"HS256","kid":"abcdef"}"#);
        let whole = format!("{header}.{}", URL_SAFE_NO_PAD.encode("payload"));
        let key = jsonwebtoken::DecodingKey::from_secret(b"0123456789abcdef");
        assert_eq!(jsonwebtoken::crypto::verify(signature, whole.as_bytes(), &key, Algorithm::HS256).ok(), Some(true));
    }
}
