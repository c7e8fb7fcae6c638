//! Tokens in Secrets of type `kubernetes.io/service-account-token`: they never expire, and are valid as long as their Secret holds
//! them and their account is the same.

use api::object::Meta as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::User;
use crate::storage::Hub;

/// Who issues them, whatever the server's issuer is called.
const ISSUER: &str = "kubernetes/serviceaccount";

/// The claims.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    account_uid: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
}

/// Whether the token says that it is one. It proves nothing yet.
#[must_use]
pub fn is_one(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Issued {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode_claims::<Issued>(token).is_ok_and(|i| i.iss == ISSUER)
}

/// How such a token is checked.
#[must_use]
pub fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_issuer(&[ISSUER]);
    validation
}

/// Whose token it is, whose signature was checked.
///
/// # Errors
/// Its Secret or account is gone, or another one by now.
pub fn user(claims: &Claims, token: &str, hub: &Hub) -> Result<User, String> {
    let Claims { namespace, account, secret, .. } = claims;
    let find = |prefix: &str, name: &str| -> Option<Value> { hub.cache(prefix).get(&format!("{namespace}/{name}"))?.tree().ok() };
    user_of(claims, token, find("/registry/secrets/", secret).as_ref(), find("/registry/serviceaccounts/", account).as_ref())
}

fn user_of(claims: &Claims, token: &str, secret: Option<&Value>, account: Option<&Value>) -> Result<User, String> {
    let Claims { namespace, account: name, account_uid: uid, .. } = claims;
    if claims.sub != format!("system:serviceaccount:{namespace}:{name}") {
        return Err("the claims disagree".to_owned());
    }
    let secret = secret.filter(|s| !s.is_deleting()).ok_or("Token has been invalidated")?;
    let stored = secret.pointer("/data/token").and_then(Value::as_str).and_then(|t| STANDARD.decode(t).ok());
    if stored.as_deref() != Some(token.as_bytes()) {
        return Err("Token does not match server's copy".to_owned());
    }
    let account = account.filter(|a| !a.is_deleting()).ok_or("ServiceAccount has been deleted")?;
    if account.uid() != uid {
        return Err(format!("ServiceAccount UID ({}) does not match claim ({uid})", account.uid()));
    }
    Ok(User {
        name: claims.sub.clone(),
        uid: uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()],
        extra: std::collections::BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn valid_as_long_as_secret_and_account_are_the_same() {
        let claims = Claims {
            sub: "system:serviceaccount:n:a".into(),
            namespace: "n".into(),
            account: "a".into(),
            account_uid: "u".into(),
            secret: "s".into(),
        };
        let secret = |token: &str| json!({"data": {"token": STANDARD.encode(token)}});
        let account = |uid: &str| json!({"metadata": {"uid": uid}});
        let check = |secret: Option<Value>, account: Option<Value>| match user_of(&claims, "t", secret.as_ref(), account.as_ref()) {
            Ok(user) => user.name,
            Err(why) => why,
        };
        assert_eq!(check(Some(secret("t")), Some(account("u"))), "system:serviceaccount:n:a");
        assert_eq!(check(None, Some(account("u"))), "Token has been invalidated");
        assert_eq!(check(Some(secret("x")), Some(account("u"))), "Token does not match server's copy");
        assert_eq!(check(Some(secret("t")), None), "ServiceAccount has been deleted");
        assert_eq!(check(Some(secret("t")), Some(account("v"))), "ServiceAccount UID (v) does not match claim (u)");
        let forged = Claims { sub: "system:serviceaccount:n:other".into(), ..claims.clone() };
        assert!(user_of(&forged, "t", Some(&secret("t")), Some(&account("u"))).is_err());
    }
}
