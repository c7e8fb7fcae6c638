//! The administrator's client, for the steps that speak to the apiserver.

use std::path::Path;

use anyhow::Context as _;

use crate::paths;

/// A client with the rights of `/etc/kubernetes/admin.conf`.
///
/// # Errors
/// That file cannot be used.
pub async fn client() -> anyhow::Result<kube::Client> {
    daemon::client::connect(Path::new(paths::ADMIN_KUBECONFIG), "ferrite").await
}

/// The object as the apiserver has it, created from `wanted` when it has none. Says whether it was.
///
/// # Errors
/// The apiserver refuses.
pub async fn ensure<K>(api: &kube::Api<K>, wanted: &K) -> anyhow::Result<bool>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let name = wanted.meta().name.clone().context("an object without name")?;
    if api.get_opt(&name).await.with_context(|| format!("asking for {name}"))?.is_some() {
        return Ok(false);
    }
    match api.create(&kube::api::PostParams::default(), wanted).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error).with_context(|| format!("creating {name}")),
    }
}
