//! The API objects that pods on this node refer to: ConfigMaps, Secrets, tokens, claims.
//!
//! Asked for when needed, never listed: a kubelet's rights cover only the objects its pods name.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};

/// Why an object could not be had.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// There is none: upstream's words, as the apiserver says them (`configmap "x" not found`).
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// The kind, in lower case.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// The apiserver could not be asked, or refused.
    #[error("{0}")]
    Failed(String),
}

/// Where the objects come from.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// A ConfigMap.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap, Error>;
    /// A Secret.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, Error>;
    /// A ServiceAccount.
    async fn service_account(&self, namespace: &str, name: &str) -> Result<ServiceAccount, Error>;
    /// A new token for a ServiceAccount.
    async fn token(&self, namespace: &str, account: &str, request: TokenRequest) -> Result<TokenRequestStatus, Error>;
    /// A PersistentVolumeClaim.
    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim, Error>;
    /// A PersistentVolume.
    async fn volume(&self, name: &str) -> Result<PersistentVolume, Error>;
}

/// The apiserver.
#[derive(Clone)]
pub struct Apiserver(pub Client);

impl std::fmt::Debug for Apiserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apiserver").finish_non_exhaustive()
    }
}

fn failed(kind: &'static str, name: &str, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.code == 404 => Error::NotFound { kind, name: name.to_owned() },
        kube::Error::Api(status) => Error::Failed(status.message.clone()),
        other => Error::Failed(format!("failed to get {kind} {name:?}: {}", daemon::describe(&other))),
    }
}

#[async_trait]
impl Objects for Apiserver {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap, Error> {
        Api::namespaced(self.0.clone(), namespace).get(name).await.map_err(|e| failed("configmap", name, e))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, Error> {
        Api::namespaced(self.0.clone(), namespace).get(name).await.map_err(|e| failed("secret", name, e))
    }

    async fn service_account(&self, namespace: &str, name: &str) -> Result<ServiceAccount, Error> {
        Api::namespaced(self.0.clone(), namespace).get(name).await.map_err(|e| failed("serviceaccount", name, e))
    }

    async fn token(&self, namespace: &str, account: &str, request: TokenRequest) -> Result<TokenRequestStatus, Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.0.clone(), namespace);
        let answer =
            api.create_token_request(account, &PostParams::default(), &request).await.map_err(|e| failed("serviceaccount", account, e))?;
        answer.status.ok_or_else(|| Error::Failed(format!("the token request for serviceaccount {account:?} has no status")))
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim, Error> {
        Api::namespaced(self.0.clone(), namespace).get(name).await.map_err(|e| failed("persistentvolumeclaim", name, e))
    }

    async fn volume(&self, name: &str) -> Result<PersistentVolume, Error> {
        Api::all(self.0.clone()).get(name).await.map_err(|e| failed("persistentvolume", name, e))
    }
}
