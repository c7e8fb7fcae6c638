//! The environment, command and arguments of a container: what its spec, config maps, secrets, files of its volumes, the
//! pod's fields and the Services around it make of them.
//!
//! Everything here is plain: the objects come in as [`Sources`], variables come out. Later sources win over earlier
//! ones: Service variables, then `envFrom`, then `env`. [`wanted`] says which objects have to be looked up first.
//! Names are not checked again: since KEP-4369 every key the apiserver accepts can name a variable.

mod expansion;
mod field_ref;
mod file_key_ref;
mod resource_ref;
mod services;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use expansion::{expand, expand_strict};
pub use field_ref::{field_value, format_map};
pub use file_key_ref::{File, FileName, files};
pub use resource_ref::{container_named, resource_value};
pub use services::service_variables;

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
    /// Files that the container's variables are in, those of [`files`].
    pub files: BTreeMap<FileName, File>,
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

impl EnvError {
    fn not_found(kind: &str, name: &str) -> Self {
        Self(format!("{kind} {name:?} not found"))
    }

    fn no_key(kind: &str, key: &str, namespace: &str, name: &str) -> Self {
        Self(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
    }
}

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

/// The environment of a container as it is started now; each name once.
///
/// # Errors
/// A reference to something that is not there and is not optional.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let from_services: BTreeMap<String, String> = service_variables(&sources.services, namespace, links).into_iter().collect();
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => map.data.iter().flatten().for_each(|(k, v)| variables.set(format!("{prefix}{k}"), v.clone())),
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::not_found("configmap", &reference.name)),
            }
        } else if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => secret.data.iter().flatten().for_each(|(k, v)| variables.set(format!("{prefix}{k}"), text(&v.0))),
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::not_found("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let lookup = |name: &str| variables.get(name).or_else(|| from_services.get(name).map(String::as_str));
        if let Some(value) = value_of(pod, container, variable, sources, lookup)? {
            variables.set(variable.name.clone(), value);
        }
    }
    for (name, value) in from_services {
        if variables.get(&name).is_none() {
            variables.set(name, value);
        }
    }
    Ok(variables.list)
}

/// The command and arguments of a container, with `$(VAR)` expanded.
#[must_use]
pub fn command(container: &Container, env: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let all = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, lookup)).collect();
    (all(&container.command), all(&container.args))
}

/// Variables in the order of their first mention; a later value replaces an earlier one.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|&i| self.list[i].1.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(&i) => self.list[i].1 = value,
            None => {
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }
}

/// The bytes of a secret as a variable can hold them.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A variable's value; `None` when an optional source has none.
fn value_of<'a>(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<String>, EnvError> {
    if let Some(text) = variable.value.as_deref().filter(|t| !t.is_empty()) {
        return Ok(Some(expand(text, lookup)));
    }
    match &variable.value_from {
        Some(source) => value_from(pod, container, source, sources),
        None => Ok(Some(String::new())),
    }
}

fn value_from(pod: &Pod, container: &Container, source: &EnvVarSource, sources: &Sources) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, &sources.node, &sources.pod_ips).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => container_named(pod, name)?,
            None => container,
        };
        return resource_value(container, &selector.resource, selector.divisor.as_ref(), &sources.node.allocatable).map(Some);
    }
    if let Some(r) = &source.file_key_ref {
        let file = sources.files.get(&(r.volume_name.clone(), r.path.clone())).unwrap_or(&File::NoVolume);
        return file_key_ref::value(file, &r.volume_name, &r.key, r.optional == Some(true));
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (found, optional, missing) = if let Some(r) = &source.config_map_key_ref {
        let found = sources.config_maps.get(&r.name).map(|m| m.data.as_ref().and_then(|d| d.get(&r.key)).cloned());
        let missing = match found {
            None => EnvError::not_found("configmap", &r.name),
            Some(_) => EnvError::no_key("ConfigMap", &r.key, namespace, &r.name),
        };
        (found.flatten(), r.optional, missing)
    } else if let Some(r) = &source.secret_key_ref {
        let found = sources.secrets.get(&r.name).map(|s| s.data.as_ref().and_then(|d| d.get(&r.key)).map(|v| text(&v.0)));
        let missing = match found {
            None => EnvError::not_found("secret", &r.name),
            Some(_) => EnvError::no_key("Secret", &r.key, namespace, &r.name),
        };
        (found.flatten(), r.optional, missing)
    } else {
        return Ok(Some(String::new()));
    };
    match found {
        None if optional != Some(true) => Err(missing),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests;
