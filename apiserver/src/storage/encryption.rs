//! Encryption at rest, configured as upstream does it: an `EncryptionConfiguration`.
//!
//! For each resource the first provider writes and every provider reads, so keys are rotated by putting a new one first. A value is
//! bound to its etcd key: copied to another key it cannot be read. Resources that the file does not name are stored as they are.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;

use super::codec::Cipher;
use super::keys;

/// What every encrypted value starts with, whatever the provider.
const ENCRYPTED: &[u8] = b"k8s:enc:";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<ProviderFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    kms: Option<serde_json::Value>,
    identity: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<KeyFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    name: String,
    secret: String,
}

/// One key, or none.
enum Provider {
    /// Values are stored as they are.
    Identity,
    /// AES-GCM with this key; the prefix names it.
    AesGcm { prefix: Vec<u8>, key: Box<LessSafeKey> },
}

/// The providers of the resources that match.
struct Rule {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

/// Encrypts what a configuration says.
pub struct Encryption {
    rules: Vec<Rule>,
    random: SystemRandom,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|r| &r.resources)).finish()
    }
}

impl Encryption {
    /// Reads an `EncryptionConfiguration`.
    ///
    /// # Errors
    /// What is none, or asks for a provider that is not there. Storing secrets in clear is never the answer.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Configuration = serde_saphyr::from_str(text).context("reading the EncryptionConfiguration")?;
        if file.kind != "EncryptionConfiguration" || file.api_version != "apiserver.config.k8s.io/v1" {
            bail!("expected apiserver.config.k8s.io/v1 EncryptionConfiguration, got {} {}", file.api_version, file.kind);
        }
        let mut rules = Vec::with_capacity(file.resources.len());
        for (i, entry) in file.resources.into_iter().enumerate() {
            let mut providers = vec![];
            for provider in entry.providers {
                providers.extend(read(provider).with_context(|| format!("resources[{i}].providers"))?);
            }
            if providers.is_empty() || entry.resources.is_empty() {
                bail!("resources[{i}] needs at least one resource and one provider");
            }
            rules.push(Rule { resources: entry.resources, providers });
        }
        Ok(Self { rules, random: SystemRandom::new() })
    }

    fn providers(&self, key: &str) -> &[Provider] {
        let resource = resource(key).unwrap_or_default();
        self.rules.iter().find(|r| r.resources.iter().any(|p| covers(p, &resource))).map_or(&[], |r| &r.providers)
    }
}

/// The providers in one entry: one for each of its keys.
fn read(file: ProviderFile) -> anyhow::Result<Vec<Provider>> {
    match file {
        ProviderFile { aesgcm: Some(Keys { keys }), aescbc: None, secretbox: None, kms: None, identity: None } => {
            keys.into_iter().map(|k| aes_gcm(&k).with_context(|| format!("aesgcm key {:?}", k.name))).collect()
        }
        ProviderFile { aesgcm: None, aescbc: None, secretbox: None, kms: None, identity: Some(_) } => Ok(vec![Provider::Identity]),
        ProviderFile { aesgcm: None, aescbc: None, secretbox: None, kms: None, identity: None } => bail!("an entry names no provider"),
        _ => bail!("an entry is one of aesgcm and identity; aescbc, secretbox and kms are not supported"),
    }
}

fn aes_gcm(file: &KeyFile) -> anyhow::Result<Provider> {
    if file.name.is_empty() || file.name.contains(':') {
        bail!("a key's name is not empty and has no colon");
    }
    let secret = STANDARD.decode(file.secret.trim()).context("the secret is no base64")?;
    let algorithm = match secret.len() {
        16 => &AES_128_GCM,
        32 => &AES_256_GCM,
        n => bail!("the secret has {n} bytes; 16 or 32 are needed"),
    };
    let key = UnboundKey::new(algorithm, &secret).map_err(|_| anyhow::anyhow!("the secret is no key"))?;
    Ok(Provider::AesGcm { prefix: format!("k8s:enc:aesgcm:v1:{}:", file.name).into_bytes(), key: Box::new(LessSafeKey::new(key)) })
}

/// `plural` or `plural.group` of the object behind an etcd key.
fn resource(key: &str) -> Option<String> {
    let path = keys::split(key)?.0.strip_prefix(keys::ROOT)?.trim_end_matches('/');
    Some(match path.split_once('/') {
        Some((group, plural)) => format!("{plural}.{group}"),
        None => path.to_owned(),
    })
}

/// Whether a resource is one that `pattern` means: itself, `*.` (the core group), `*.<group>` or `*.*`.
fn covers(pattern: &str, resource: &str) -> bool {
    let group = resource.split_once('.').map_or("", |(_, g)| g);
    match pattern.strip_prefix("*.") {
        Some("*") => true,
        Some(wanted) => wanted == group,
        None => pattern == resource,
    }
}

impl Cipher for Encryption {
    fn seal(&self, key: &str, plain: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(Provider::AesGcm { prefix, key: secret }) = self.providers(key).first() else { return Ok(plain) };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| "the system gives no random numbers".to_owned())?;
        let mut sealed = plain;
        secret
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.as_bytes()), &mut sealed)
            .map_err(|_| format!("encrypting the value of {key} failed"))?;
        Ok([prefix, nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, key: &str, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if !stored.starts_with(ENCRYPTED) {
            // Written before encryption was configured; the next write encrypts it.
            return Ok(stored);
        }
        for provider in self.providers(key) {
            let Provider::AesGcm { prefix, key: secret } = provider else { continue };
            let Some((nonce, sealed)) = stored.strip_prefix(prefix.as_slice()).and_then(|rest| rest.split_first_chunk::<NONCE_LEN>())
            else {
                continue;
            };
            let mut sealed = sealed.to_vec();
            let opened = secret.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(key.as_bytes()), &mut sealed);
            let length = opened.map_err(|_| format!("the value of {key} was not encrypted with this key for this place"))?.len();
            sealed.truncate(length);
            return Ok(sealed);
        }
        Err(format!("the value of {key} is encrypted with a key that is not configured"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(providers: &str) -> Encryption {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps']\n  providers:\n";
        Encryption::parse(&format!("{head}{providers}")).unwrap()
    }

    fn key(name: &str, byte: u8) -> String {
        format!("  - aesgcm: {{keys: [{{name: {name}, secret: {}}}]}}\n", STANDARD.encode([byte; 32]))
    }

    #[test]
    fn what_is_sealed_can_be_opened_in_its_place_alone() {
        let cipher = configured(&key("one", 1));
        let sealed = cipher.seal("/registry/secrets/a/b", b"hush".to_vec()).unwrap();
        assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:one:") && !sealed.windows(4).any(|w| w == b"hush"));
        assert_ne!(sealed, cipher.seal("/registry/secrets/a/b", b"hush".to_vec()).unwrap(), "a nonce is used once");
        assert_eq!(cipher.open("/registry/secrets/a/b", sealed.clone()).unwrap(), b"hush");
        assert!(cipher.open("/registry/secrets/a/c", sealed.clone()).is_err());
        let mut broken = sealed;
        *broken.last_mut().unwrap() ^= 1;
        assert!(cipher.open("/registry/secrets/a/b", broken).is_err());
        assert!(cipher.open("/registry/secrets/a/b", b"k8s:enc:aesgcm:v1:one:".to_vec()).is_err());
    }

    #[test]
    fn resources_that_are_not_named_stay_plain() {
        let cipher = configured(&key("one", 1));
        assert_eq!(cipher.seal("/registry/configmaps/a/b", b"x".to_vec()).unwrap(), b"x");
        assert_ne!(cipher.seal("/registry/apps/deployments/a/b", b"x".to_vec()).unwrap(), b"x");
        assert!(covers("*.*", "pods") && covers("*.", "pods") && !covers("*.", "deployments.apps"));
    }

    #[test]
    fn keys_are_rotated_by_order() {
        let (old, new) = (configured(&key("one", 1)), configured(&(key("two", 2) + &key("one", 1) + "  - identity: {}\n")));
        let sealed = old.seal("/registry/secrets/a/b", b"x".to_vec()).unwrap();
        assert_eq!(new.open("/registry/secrets/a/b", sealed).unwrap(), b"x");
        let sealed = new.seal("/registry/secrets/a/b", b"x".to_vec()).unwrap();
        assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:two:"));
        assert!(old.open("/registry/secrets/a/b", sealed).is_err());
        assert_eq!(new.open("/registry/secrets/a/b", b"{}".to_vec()).unwrap(), b"{}");
        let back = configured(&("  - identity: {}\n".to_owned() + &key("two", 2)));
        assert_eq!(back.seal("/registry/secrets/a/b", b"x".to_vec()).unwrap(), b"x");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let parse = |providers: &str| {
            Encryption::parse(&format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
            ))
        };
        for bad in ["  - secretbox: {keys: []}\n", "  - aesgcm: {keys: [{name: a, secret: c2hvcnQ=}]}\n", "  - {}\n", "  []\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
