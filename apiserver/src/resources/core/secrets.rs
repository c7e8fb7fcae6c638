//! v1 Secret

use api::field::{Errors, Path};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::configmaps::{IMMUTABLE, MAX_SIZE, validate_key};
use crate::resource::{Column, Resource, Rules};
use crate::resources::cells::count;

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "Secret", "secrets")
        .columns(vec![
            Column::name(),
            Column::text("Type", "/type"),
            Column::compute("Data", |o, _| count(o, "/data").to_string().into()),
            Column::age(),
        ])
        .selectable(&[("type", "")])
        .rules::<Secret>(SecretRules)
}

struct SecretRules;

impl Rules<Secret> for SecretRules {
    fn default(&self, secret: &mut Secret) {
        secret.type_.get_or_insert_with(|| "Opaque".to_owned());
        // `stringData` is for writing alone.
        for (key, value) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
        }
    }
    fn validate(&self, secret: &Secret, errors: &mut Errors) {
        let path = Path::new("data");
        let mut size = 0;
        for (key, value) in secret.data.iter().flatten() {
            validate_key(key, &path, errors);
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.too_long(&path, MAX_SIZE);
        }
        let value = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
        let mut required = |key: &str| {
            if value(key).is_none() {
                errors.required(&path.key(key), "");
            }
        };
        match secret.type_.as_deref().unwrap_or("") {
            "kubernetes.io/service-account-token" => {
                let annotations = secret.metadata.annotations.as_ref();
                if annotations.and_then(|a| a.get(SERVICE_ACCOUNT_NAME)).is_none_or(String::is_empty) {
                    errors.required(&Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME), "");
                }
            }
            "kubernetes.io/dockercfg" => validate_json(value(".dockercfg"), &path.key(".dockercfg"), errors),
            "kubernetes.io/dockerconfigjson" => validate_json(value(".dockerconfigjson"), &path.key(".dockerconfigjson"), errors),
            "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
                required("username");
                required("password");
            }
            "kubernetes.io/ssh-auth" => required("ssh-privatekey"),
            "kubernetes.io/tls" => {
                required("tls.crt");
                required("tls.key");
            }
            _ => {}
        }
    }
    fn validate_update(&self, new: &Secret, old: &Secret, errors: &mut Errors) {
        errors.immutable(&Path::new("type"), &new.type_, &old.type_);
        if old.immutable != Some(true) {
            return;
        }
        if new.immutable != Some(true) {
            errors.forbidden(&Path::new("immutable"), IMMUTABLE);
        }
        if new.data != old.data {
            errors.forbidden(&Path::new("data"), IMMUTABLE);
        }
    }
}

fn validate_json(value: Option<&ByteString>, path: &Path, errors: &mut Errors) {
    let Some(value) = value else { return errors.required(path, "") };
    if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&value.0) {
        errors.invalid(path, "<secret contents redacted>", &e.to_string());
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::rows_in_tests::{created, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn string_data_becomes_data() {
        expect![[r#"
            apiVersion: v1
            data:
              a: eA==
            kind: Secret
            metadata:
              name: a
            type: Opaque
        "#]]
        .assert_eq(&created(super::row(), "{metadata: {name: a}, stringData: {a: x}}"));
    }

    #[test]
    fn types_ask_for_their_keys() {
        expect![[r#"
            data[tls.crt]: Required value
            data[tls.key]: Required value"#]]
        .assert_eq(&errors(super::row(), "{metadata: {name: a}, type: kubernetes.io/tls}"));
        expect!["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
            .assert_eq(&errors(super::row(), "{metadata: {name: a}, type: kubernetes.io/service-account-token}"));
        expect![[r#"type: Invalid value: "b": field is immutable"#]].assert_eq(&update_errors(
            super::row(),
            "{metadata: {name: a}, type: a}",
            "{metadata: {name: a}, type: b}",
        ));
    }
}
