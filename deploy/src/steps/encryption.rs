//! The key with which Secrets are encrypted in etcd: made once, and never changed by us.
//!
//! Who loses the file loses the Secrets, so it is beside the certificates, which people keep copies of. Who wants another key puts it
//! before the first one in the file and runs `up`; the apiserver reads with all of them and writes with the first.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Outcome;
use crate::up::Up;
use crate::{files, paths};

/// AES-256.
const KEY_BYTES: usize = 32;

/// # Errors
/// The file cannot be read or written.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let path = up.cluster.host().file(paths::ENCRYPTION);
    if path.exists() {
        files::ensure_mode(&path, files::SECRET)?;
        return Ok(Outcome::Unchanged("of Secrets, with the key there is".into()));
    }
    let mut key = [0; KEY_BYTES];
    ring::rand::SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("the kernel gives no random bytes"))?;
    files::ensure(&path, configuration(&key)?.as_bytes(), files::SECRET)?;
    Ok(Outcome::Done("of Secrets, with a new key".into()))
}

/// An `EncryptionConfiguration`. What is stored in clear, from before there was a key, can be read. The key is named after itself, so
/// that a value in etcd tells which of several keys it needs.
fn configuration(key: &[u8; KEY_BYTES]) -> anyhow::Result<String> {
    let digest = Sha256::digest(key);
    let name = format!("key-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [
                { "aesgcm": { "keys": [{ "name": name, "secret": STANDARD.encode(key) }] } },
                { "identity": {} },
            ],
        }],
    });
    serde_saphyr::to_string(&configuration).context("an EncryptionConfiguration as YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_after_itself() {
        let (one, other) = (configuration(&[1; 32]).expect("rendered"), configuration(&[2; 32]).expect("rendered"));
        let read = |text: &str| -> serde_json::Value { serde_saphyr::from_str(text).expect("YAML") };
        let key = |text: &str| read(text)["resources"][0]["providers"][0]["aesgcm"]["keys"][0].clone();
        assert_ne!(key(&one)["name"], key(&other)["name"]);
        assert_eq!(key(&one)["secret"], STANDARD.encode([1; 32]));
        assert_eq!(read(&one)["resources"][0]["providers"][1], json!({ "identity": {} }));
    }
}
