//! ServiceAccount tokens: signed JWTs bound to an account, and possibly to a pod, secret or node, for an audience and a time
//! (KEP-1205). A token whose account or bound object is gone, or was made again with another uid, is not valid.

use std::path::Path;

use anyhow::{Context as _, bail};
use api::object::Meta as _;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{User, legacy_tokens};
use crate::storage::Hub;

/// An object that a token is bound to.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The private claims.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Bound {
    /// The account's namespace.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Reference,
    /// The pod that the token goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret that the token goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The node of the pod, or the node that the token goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// When a client should have a new one (seconds since the epoch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// A token's claims.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claims {
    /// Audiences.
    pub aud: Vec<String>,
    /// Seconds since the epoch.
    pub exp: i64,
    /// Seconds since the epoch.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// A name of its own.
    pub jti: String,
    /// Seconds since the epoch.
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
}

/// Issues and checks tokens.
pub struct Tokens {
    issuer: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: Vec<(String, DecodingKey)>,
    jwks: Value,
    key_id: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).field("key", &self.key_id).finish_non_exhaustive()
    }
}

/// An answer about a token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Whose it is.
    pub user: User,
    /// The audiences it is for.
    pub audiences: Vec<String>,
}

impl Tokens {
    /// Loads the signing key (PEM, EC P-256 or RSA) and the public keys that tokens may be signed with.
    ///
    /// # Errors
    /// Files that cannot be read or hold no usable key.
    pub fn load(issuer: &str, signing: &Path, public: &[std::path::PathBuf]) -> anyhow::Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading the service account key {}", path.display()));
        let (algorithm, signing_key) = signing_key(&read(signing)?).with_context(|| format!("in {}", signing.display()))?;
        let own = Jwk::from_encoding_key(&signing_key, algorithm).context("deriving the public key")?;
        let mut keys = vec![own];
        for path in public {
            keys.push(public_key(&read(path)?).with_context(|| format!("in {}", path.display()))?);
        }
        let mut set: Vec<Value> = Vec::new();
        let mut verifying = Vec::new();
        let mut key_id = String::new();
        for mut jwk in keys {
            let id = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)?;
            if key_id.is_empty() {
                key_id.clone_from(&id);
            }
            if verifying.iter().any(|(known, _)| *known == id) {
                continue;
            }
            jwk.common.key_id = Some(id.clone());
            jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
            verifying.push((id, DecodingKey::from_jwk(&jwk)?));
            set.push(serde_json::to_value(&jwk)?);
        }
        Ok(Self { issuer: issuer.to_owned(), algorithm, signing: signing_key, verifying, jwks: serde_json::json!({ "keys": set }), key_id })
    }

    /// The issuer, which is also the default audience.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public keys, for `/openid/v1/jwks`.
    #[must_use]
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn issue(&self, bound: Bound, audiences: Vec<String>, seconds: i64, now: Timestamp, id: String) -> anyhow::Result<String> {
        let claims = Claims {
            aud: if audiences.is_empty() { vec![self.issuer.clone()] } else { audiences },
            exp: now.as_second() + seconds,
            iat: now.as_second(),
            iss: self.issuer.clone(),
            jti: id,
            nbf: now.as_second(),
            sub: format!("system:serviceaccount:{}:{}", bound.namespace, bound.serviceaccount.name),
            kubernetes: bound,
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(self.algorithm) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.signing)?)
    }

    /// Whose token it is, when it is valid for one of `audiences` (empty: this server's).
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn verify(&self, token: &str, audiences: &[String], hub: &Hub) -> Result<Verified, String> {
        if legacy_tokens::is_one(token) {
            let claims = self.decode(token, legacy_tokens::validation)?;
            let audiences = self.own_audiences(audiences)?;
            return Ok(Verified { user: legacy_tokens::user(&claims, token, hub)?, audiences });
        }
        let claims: Claims = self.decode(token, |algorithm| {
            let mut validation = Validation::new(algorithm);
            validation.leeway = 0;
            validation.validate_nbf = true;
            validation.validate_aud = false;
            validation.set_issuer(&[&self.issuer]);
            validation
        })?;
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own } else { audiences };
        let common: Vec<String> = claims.aud.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", claims.aud));
        }
        let user = self.user(&claims, hub)?;
        Ok(Verified { user, audiences: common })
    }

    /// What a token without audiences is for: those of `wanted` that are this server's; all of these when nothing is wanted.
    ///
    /// # Errors
    /// None of them is.
    pub fn own_audiences(&self, wanted: &[String]) -> Result<Vec<String>, String> {
        if wanted.is_empty() || wanted.contains(&self.issuer) {
            return Ok(vec![self.issuer.clone()]);
        }
        Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", [&self.issuer]))
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, token: &str, validation: impl Fn(Algorithm) -> Validation) -> Result<T, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
        let validation = validation(header.alg);
        let keys = self.verifying.iter().filter(|(id, _)| header.kid.as_ref().is_none_or(|k| k == id));
        let mut why = "no key fits the token".to_owned();
        for (_, key) in keys {
            match jsonwebtoken::decode::<T>(token, key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    fn user(&self, claims: &Claims, hub: &Hub) -> Result<User, String> {
        let bound = &claims.kubernetes;
        let (namespace, account) = (&bound.namespace, &bound.serviceaccount);
        let exists = |prefix: &str, key: String, uid: &str| -> Result<(), String> {
            let cache = hub.cache(prefix);
            let entry = cache.get(&key).ok_or_else(|| format!("{key} is gone"))?;
            let tree = cache.tree(&entry).map_err(|e| e.to_string())?;
            if tree.uid() == uid { Ok(()) } else { Err(format!("{key} was made again")) }
        };
        exists("/registry/serviceaccounts/", format!("{namespace}/{}", account.name), &account.uid)?;
        let mut extra = std::collections::BTreeMap::new();
        let mut note = |key: &str, value: &str| extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        note("credential-id", &format!("JTI={}", claims.jti));
        if let Some(pod) = &bound.pod {
            exists("/registry/pods/", format!("{namespace}/{}", pod.name), &pod.uid)?;
            note("pod-name", &pod.name);
            note("pod-uid", &pod.uid);
        }
        if let Some(secret) = &bound.secret {
            exists("/registry/secrets/", format!("{namespace}/{}", secret.name), &secret.uid)?;
        }
        if let Some(node) = &bound.node {
            note("node-name", &node.name);
            note("node-uid", &node.uid);
        }
        Ok(User {
            name: claims.sub.clone(),
            uid: account.uid.clone(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()],
            extra,
        })
    }
}

fn signing_key(pem: &[u8]) -> anyhow::Result<(Algorithm, EncodingKey)> {
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        return Ok((Algorithm::ES256, key));
    }
    match EncodingKey::from_rsa_pem(pem) {
        Ok(key) => Ok((Algorithm::RS256, key)),
        Err(_) => bail!("neither an EC (PKCS#8) nor an RSA private key"),
    }
}

fn public_key(pem: &[u8]) -> anyhow::Result<Jwk> {
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return Ok(Jwk::from_decoding_key(&key, Some(Algorithm::ES256))?);
    }
    match DecodingKey::from_rsa_pem(pem) {
        Ok(key) => Ok(Jwk::from_decoding_key(&key, Some(Algorithm::RS256))?),
        Err(_) => bail!("neither an EC nor an RSA public key"),
    }
}
