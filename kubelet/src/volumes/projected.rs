//! `projected`: secrets, config maps, fields of the pod and service account tokens in one directory.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, ServiceAccountTokenProjection};

use super::atomic_writer::{File, Payload};
use super::key_to_path::DEFAULT_MODE;
use super::{VolumeError, VolumeHost, config_map, downward_api, ownership, secret};

/// The files that show all sources.
///
/// # Errors
/// What a source cannot be had without.
pub async fn payload(host: &VolumeHost, pod: &Pod, source: &ProjectedVolumeSource) -> Result<Payload, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mode = source.default_mode;
    let mut out = Payload::new();
    for source in source.sources.iter().flatten() {
        if let Some(s) = &source.secret {
            let object = host.secret(namespace, &s.name).await?;
            out.extend(secret::payload(&s.name, object.as_ref(), s.items.as_deref(), mode, s.optional == Some(true))?);
        } else if let Some(s) = &source.config_map {
            let object = host.config_map(namespace, &s.name).await?;
            out.extend(config_map::payload(&s.name, object.as_ref(), s.items.as_deref(), mode, s.optional == Some(true))?);
        } else if let Some(s) = &source.downward_api {
            out.extend(downward_api::payload(pod, s.items.as_deref(), mode, &host.node)?);
        } else if let Some(s) = &source.service_account_token {
            let (account, request) = token_request(pod, s);
            let status = host.objects.token(namespace, &account, request).await.map_err(|e| {
                VolumeError(format!("failed to fetch token: {e}")) // upstream's words
            })?;
            out.insert(s.path.clone(), token_file(pod, status.token, mode));
        } else {
            return Err(VolumeError("a projected source of this kind is not supported".into()));
        }
    }
    Ok(out)
}

/// The account and the request for a token that is good as long as the pod is.
fn token_request(pod: &Pod, source: &ServiceAccountTokenProjection) -> (String, TokenRequest) {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).filter(|n| !n.is_empty());
    let spec = TokenRequestSpec {
        // No audience: the apiserver's own.
        audiences: source.audience.iter().filter(|a| !a.is_empty()).cloned().collect(),
        expiration_seconds: Some(source.expiration_seconds.unwrap_or(3_600)),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        }),
    };
    (account.unwrap_or_else(|| "default".into()), TokenRequest { spec, ..TokenRequest::default() })
}

/// A token is for the pod's one user or its group only, when it has one.
fn token_file(pod: &Pod, token: String, default_mode: Option<i32>) -> File {
    let owner = ownership::fs_user(pod);
    let private = owner.is_some() || ownership::fs_group(pod).is_some();
    let mode = if private { 0o600 } else { default_mode.unwrap_or(DEFAULT_MODE).cast_unsigned() };
    File { data: token.into_bytes(), mode, owner }
}
