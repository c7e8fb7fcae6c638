//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of the account that they name, and deleted when the
//! account is gone. Such tokens never expire; an account gets one only when somebody makes the Secret.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;

use crate::apply::{Outcome, message};
use crate::cache::Change;
use crate::caches::Caches;
use crate::flags::Flags;
use crate::kind::{Key, Object};
use crate::plan::{Action, Failure, Plan, Propagation};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Signs tokens.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    key_id: String,
    /// The authority that goes along with a token, as PEM.
    root_ca: Vec<u8>,
}

impl Signer {
    /// From a private key in PEM, EC P-256 or RSA.
    ///
    /// # Errors
    /// What is no such key.
    pub fn new(pem: &[u8], root_ca: Vec<u8>) -> anyhow::Result<Self> {
        let (key, algorithm) = match EncodingKey::from_ec_pem(pem) {
            Ok(key) => (key, Algorithm::ES256),
            Err(_) => (EncodingKey::from_rsa_pem(pem).context("neither an EC (PKCS#8) nor an RSA private key")?, Algorithm::RS256),
        };
        let key_id = Jwk::from_encoding_key(&key, algorithm)?.thumbprint(ThumbprintHash::SHA256)?;
        Ok(Self { key, algorithm, key_id, root_ca })
    }

    fn token(&self, secret: &Secret, account: &ServiceAccount) -> Result<String, String> {
        let (namespace, name) = (account.namespace(), account.name());
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret.name(),
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
        });
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|e| format!("error signing a token: {e}"))
    }
}

/// The account that a Secret is for: its key, and its uid if the Secret says one.
fn account_of(secret: &Secret) -> (Key, Option<&str>) {
    let name = secret.annotation(ACCOUNT_NAME).unwrap_or_default();
    (Key::new(secret.namespace(), name), secret.annotation(ACCOUNT_UID).filter(|uid| !uid.is_empty()))
}

/// Whether the Secret is for just this account.
fn is_for(secret: &Secret, account: &ServiceAccount) -> bool {
    let (key, uid) = account_of(secret);
    key == account.key() && uid.is_none_or(|uid| uid == account.uid())
}

/// Fills a Secret, or deletes it when there is no such account. `account` is by a fresh read when it is none.
///
/// # Errors
/// No token can be signed.
pub fn plan(secret: &Secret, account: Option<&ServiceAccount>, signer: &Signer) -> Result<Plan, String> {
    let mut plan = Plan::default();
    if secret.type_.as_deref() != Some(TYPE) || secret.deleting() {
        return Ok(plan);
    }
    let Some(account) = account.filter(|a| is_for(secret, a)) else {
        plan.push(Action::delete(secret, Propagation::Default));
        return Ok(plan);
    };
    let mut filled = secret.clone();
    let data = filled.data.get_or_insert_default();
    if !signer.root_ca.is_empty() {
        data.insert("ca.crt".to_owned(), ByteString(signer.root_ca.clone()));
    }
    data.insert("namespace".to_owned(), ByteString(account.namespace().as_bytes().to_vec()));
    if data.get("token").is_none_or(|t| t.0.is_empty()) {
        data.insert("token".to_owned(), ByteString(signer.token(secret, account)?.into_bytes()));
    }
    let annotations = filled.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_NAME.to_owned(), account.name().to_owned());
    annotations.insert(ACCOUNT_UID.to_owned(), account.uid().to_owned());
    plan.update(secret, &filled);
    Ok(plan)
}

/// Takes a Secret that is gone out of the accounts that list it.
#[must_use]
pub fn forget(secret: &str, accounts: &[Arc<ServiceAccount>]) -> Plan {
    let mut plan = Plan::default();
    for account in accounts {
        let mut without = account.as_ref().clone();
        without.secrets.iter_mut().for_each(|s| s.retain(|r| r.name.as_deref() != Some(secret)));
        without.secrets = without.secrets.take().filter(|s| !s.is_empty());
        plan.update(account.as_ref(), &without);
    }
    plan
}

/// The controller. Its keys are Secrets.
pub struct ServiceAccountTokens {
    signer: Signer,
}

impl ServiceAccountTokens {
    /// By the flags; none when they name no key.
    ///
    /// # Errors
    /// Files that cannot be read or are no keys.
    pub fn load(flags: &Flags) -> anyhow::Result<Option<Self>> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let Some(key) = &flags.service_account_private_key_file else { return Ok(None) };
        let root_ca = flags.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default();
        let signer = Signer::new(&read(key)?, root_ca).with_context(|| format!("in {}", key.display()))?;
        Ok(Some(Self { signer }))
    }

    async fn decide(&self, run: &Run, key: &Key) -> Result<Plan, String> {
        let Some(secret) = run.caches.secrets.get(key) else {
            return Ok(forget(&key.name, &run.caches.service_accounts.in_namespace(&key.namespace)));
        };
        let (account_key, _) = account_of(&secret);
        let cached = run.caches.service_accounts.get(&account_key);
        let account = match cached.filter(|a| is_for(&secret, a)) {
            Some(account) => Some(account),
            // Before a Secret is deleted: the account may have been made just before it.
            None => run.executor.get::<ServiceAccount>(&account_key).await.map_err(|e| message(&e))?.map(Arc::new),
        };
        plan(&secret, account.as_deref(), &self.signer)
    }
}

impl Controller for ServiceAccountTokens {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.secrets.subscribe(move |change: Change<'_, Secret>| own.add(change.latest().key()));
        let (all, own) = (caches.clone(), queue.clone());
        caches.service_accounts.subscribe(move |change: Change<'_, ServiceAccount>| {
            let account = change.latest();
            let secrets = all.secrets.in_namespace(account.namespace());
            secrets.iter().filter(|s| s.annotation(ACCOUNT_NAME) == Some(account.name())).for_each(|s| own.add(s.key()));
        });
    }

    /// Nothing without a fresh look at the account: see [`Controller::act`].
    fn plan(&self, _: &View<'_>, _: &Key) -> Plan {
        Plan::default()
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, _: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            match self.decide(run, key).await {
                Ok(plan) => (run.executor.apply(plan).await, None),
                Err(message) => (Outcome { failure: Some(Failure { reason: "", message }), ..Outcome::default() }, None),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use serde_json::Value;

    fn signer() -> Signer {
        let key = rcgen::KeyPair::generate().expect("a key");
        Signer::new(key.serialize_pem().as_bytes(), b"PEM".to_vec()).expect("a signer")
    }

    fn settle(world: &mut World, signer: &Signer) {
        world.settle_with(|world| {
            let mut busy = false;
            for secret in world.list::<Secret>() {
                let account = world.get::<ServiceAccount>(&account_of(&secret).0);
                busy |= world.apply(plan(&secret, account.as_ref(), signer).expect("a plan"));
            }
            busy
        });
    }

    fn secret(world: &mut World, name: &str, annotations: Value) {
        world.add::<Secret>(json!({"metadata": {"name": name, "namespace": "default", "annotations": annotations}, "type": TYPE}));
    }

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let (mut world, signer) = (World::new(), signer());
        let uid = world.add::<ServiceAccount>(json!({"metadata": {"name": "a", "namespace": "default"}})).uid().to_owned();
        secret(&mut world, "s", json!({ACCOUNT_NAME: "a"}));
        settle(&mut world, &signer);
        let filled = world.get::<Secret>(&Key::new("default", "s")).expect("it");
        let data = filled.data.clone().expect("data");
        assert_eq!((data["ca.crt"].0.as_slice(), data["namespace"].0.as_slice()), (&b"PEM"[..], &b"default"[..]));
        assert_eq!(filled.annotation(ACCOUNT_UID), Some(uid.as_str()));
        let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&data["token"].0).expect("claims");
        assert_eq!(claims["sub"], "system:serviceaccount:default:a");
        assert_eq!(claims["kubernetes.io/serviceaccount/service-account.uid"], uid.as_str());
        assert_eq!(claims["kubernetes.io/serviceaccount/secret.name"], "s");
        world.told();
        settle(&mut world, &signer);
        assert_eq!(world.told(), "", "a token is signed once");
        world.remove::<ServiceAccount>(&Key::new("default", "a"));
        settle(&mut world, &signer);
        assert_eq!(world.told(), "delete Secret s\n");
    }

    #[test]
    fn an_account_made_again_is_another_one() {
        let (mut world, signer) = (World::new(), signer());
        world.add::<ServiceAccount>(json!({"metadata": {"name": "a", "namespace": "default"}}));
        secret(&mut world, "s", json!({ACCOUNT_NAME: "a", ACCOUNT_UID: "before"}));
        settle(&mut world, &signer);
        assert_eq!(world.told(), "delete Secret s\n");
    }

    #[test]
    fn an_account_forgets_a_secret_that_is_gone() {
        let mut world = World::new();
        world.add::<ServiceAccount>(json!({"metadata": {"name": "a", "namespace": "default"}, "secrets": [{"name": "s"}, {"name": "t"}]}));
        let accounts = world.caches.service_accounts.list();
        world.apply(forget("s", &accounts));
        assert_eq!(world.told(), "patch ServiceAccount a {\"secrets\":[{\"name\":\"t\"}]}\n");
    }
}
