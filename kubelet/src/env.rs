//! The environment, command and arguments of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Facts about this node that containers may see.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// The node's addresses, primary family first.
    pub host_ips: Vec<String>,
    /// Allocatable resources: the limit of a container that has none.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// What a container's environment is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps that the container names; absent when there is none.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets that the container names; absent when there is none.
    pub secrets: BTreeMap<String, Secret>,
    /// Services of the pod's namespace, and `default/kubernetes`.
    pub services: Vec<Service>,
    /// The node.
    pub node: NodeFacts,
    /// The pod's addresses; empty until the sandbox has them.
    pub pod_ips: Vec<String>,
}

/// Why a container's environment cannot be made; the container waits with `CreateContainerConfigError` and this message.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct EnvError(pub String);

/// The names of the ConfigMaps and Secrets a container's environment needs.
#[must_use]
pub fn wanted(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (vec![], vec![]);
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The environment of a container, in order.
///
/// # Errors
/// A reference to something that is not there and is not optional.
pub fn environment(_pod: &Pod, container: &Container, _sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    Ok(container.env.iter().flatten().map(|e| (e.name.clone(), e.value.clone().unwrap_or_default())).collect())
}

/// The command and arguments of a container, with `$(VAR)` expanded.
#[must_use]
pub fn command(container: &Container, _env: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    (container.command.clone().unwrap_or_default(), container.args.clone().unwrap_or_default())
}
