//! Bootstrap tokens: `<id>.<secret>`, with which a machine that knows nothing else may ask to join the cluster.
//!
//! Each is a Secret of its own type in `kube-system`. Whose it is depends on nothing but that Secret: the id gives the name, and
//! the groups are `system:bootstrappers` and further ones of that prefix.

use std::collections::BTreeMap;

use api::object::Meta as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::User;
use crate::storage::Hub;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Id and secret of what looks like a bootstrap token; nothing else does: a JWT has two dots.
#[must_use]
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let of = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    token.split_once('.').filter(|(id, secret)| of(id, 6) && of(secret, 16))
}

/// Whose token it is.
///
/// # Errors
/// Why it is not valid.
pub fn verify(id: &str, secret: &str, now: Timestamp, hub: &Hub) -> Result<User, String> {
    let key = format!("kube-system/bootstrap-token-{id}");
    let entry = hub.cache("/registry/secrets/").get(&key).ok_or_else(|| format!("there is no bootstrap token {id:?}"))?;
    user(&entry.tree().map_err(|e| e.to_string())?, id, secret, now)
}

fn user(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<User, String> {
    let wrong = |why: &str| Err(format!("the bootstrap token {id:?} {why}"));
    let data = |key: &str| -> String {
        let text = object.get("data").and_then(|d| d.get(key)).and_then(Value::as_str).unwrap_or_default();
        STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    if object.get("type").and_then(Value::as_str) != Some(TYPE) || data("token-id") != id {
        return wrong("is none");
    }
    if object.is_deleting() {
        return wrong("is being deleted");
    }
    if !same(data("token-secret").as_bytes(), secret.as_bytes()) {
        return wrong("has another secret");
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && !expiration.parse::<Timestamp>().is_ok_and(|at| at > now) {
        return wrong("has expired");
    }
    if data("usage-bootstrap-authentication") != "true" {
        return wrong("is not for authentication");
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups").split(',').filter(|g| !g.is_empty()) {
        if !group.strip_prefix("system:bootstrappers:").is_some_and(is_group) {
            return wrong("has a group that is none of bootstrappers");
        }
        groups.push(group.to_owned());
    }
    groups.push("system:authenticated".to_owned());
    Ok(User { name: format!("system:bootstrap:{id}"), uid: String::new(), groups, extra: BTreeMap::new() })
}

/// `[a-z0-9:-]{0,255}[a-z0-9]`, as upstream's pattern for the rest of a group's name.
fn is_group(rest: &str) -> bool {
    let all = rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b':' || b == b'-');
    all && rest.len() <= 256 && rest.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Takes equally long wherever the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(change: &[(&str, &str)]) -> Value {
        let mut data = BTreeMap::from([
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2030-01-01T00:00:00Z"),
            ("auth-extra-groups", "system:bootstrappers:nodes:a"),
        ]);
        data.extend(change.iter().copied());
        let data: BTreeMap<&str, String> = data.into_iter().map(|(k, v)| (k, STANDARD.encode(v))).collect();
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": TYPE, "data": data})
    }

    fn check(change: &[(&str, &str)]) -> String {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        match user(&token(change), "abcdef", "0123456789abcdef", now) {
            Ok(user) => format!("{} {}", user.name, user.groups.join(",")),
            Err(why) => why,
        }
    }

    #[test]
    fn forms() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in ["", "a.b", "abcdef.0123456789ABCDEF", "abcdef0123456789abcdef", "abcdef.0123456789abcdef.x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn who_and_why_not() {
        assert_eq!(check(&[]), "system:bootstrap:abcdef system:bootstrappers,system:bootstrappers:nodes:a,system:authenticated");
        assert!(check(&[("expiration", "")]).starts_with("system:bootstrap:"));
        for (change, why) in [
            (("token-secret", "0123456789abcdeX"), "has another secret"),
            (("token-secret", ""), "has another secret"),
            (("token-id", "other1"), "is none"),
            (("usage-bootstrap-authentication", "false"), "is not for authentication"),
            (("expiration", "2020-01-01T00:00:00Z"), "has expired"),
            (("expiration", "soon"), "has expired"),
            (("auth-extra-groups", "system:masters"), "has a group that is none of bootstrappers"),
            (("auth-extra-groups", "system:bootstrappers:"), "has a group that is none of bootstrappers"),
        ] {
            assert_eq!(check(&[change]), format!("the bootstrap token \"abcdef\" {why}"));
        }
    }
}
