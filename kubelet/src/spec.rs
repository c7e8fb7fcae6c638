//! What the runtime is told about a pod: the sandbox's and the containers' configuration.
//!
//! Labels and annotations are upstream's, so that `crictl`, log collectors and another kubelet understand what they find; a kubelet
//! that starts learns everything it needs from them.

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::cri;
use crate::dns::{self, ClusterDns, Resolver};
use crate::pod::{grace_seconds, host_network, identity, spec_hash};
use crate::security::{self, Profiles};

/// The pod's name, on sandboxes and containers.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The hash of the spec a container was made from.
pub const HASH: &str = "io.kubernetes.container.hash";
/// How often the container had been restarted when it was made.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Where in the container its termination message is.
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Whether the log stands in for a missing termination message.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The pod's grace period, for ending it when its spec is gone.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The node's settings that pods' configurations depend on.
#[derive(Debug, Clone, Default)]
pub struct NodeSettings {
    /// The cluster's DNS.
    pub dns: ClusterDns,
    /// The node's own resolver.
    pub resolver: Resolver,
    /// Security profiles.
    pub profiles: Profiles,
}

/// `<namespace>_<name>_<uid>`: the pod's directory of logs.
#[must_use]
pub fn log_directory(root: &Path, pod: &Pod) -> std::path::PathBuf {
    let (namespace, name, uid) = identity(pod);
    root.join(format!("{namespace}_{name}_{uid}"))
}

fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let (namespace, name, uid) = identity(pod);
    [(POD_NAME, name), (POD_NAMESPACE, namespace), (POD_UID, uid)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// The configuration of a pod's sandbox.
///
/// # Errors
/// A host name that cannot be made.
pub fn sandbox(pod: &Pod, attempt: u32, node: &NodeSettings, logs: &Path, cgroup_parent: &str) -> Result<cri::PodSandboxConfig, String> {
    let (namespace, name, uid) = identity(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.host_users == Some(false) {
        // Of no mapping is ever told to a runtime, so that a pod would run as the node's own users without knowing.
        return Err("can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned());
    }
    let hostname = if host_network(&spec) { String::new() } else { crate::hosts::names(pod, &node.dns.domain)?.hostname };
    let mut labels = pod_labels(pod);
    for (key, value) in pod.metadata.labels.iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let ports = spec.containers.iter().chain(spec.init_containers.iter().flatten()).flat_map(|c| c.ports.iter().flatten());
    let port_mappings = ports
        .filter(|p| p.host_port.unwrap_or(0) > 0 && !host_network(&spec))
        .map(|p| cri::PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            }
            .into(),
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect();
    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: name.into(), uid: uid.into(), namespace: namespace.into(), attempt }),
        hostname,
        log_directory: log_directory(logs, pod).display().to_string(),
        dns_config: Some(dns::config(pod, &node.dns, &node.resolver)),
        port_mappings,
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security::sandbox(pod, &node.profiles)),
            sysctls: sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        windows: None,
    })
}

/// What goes into a container's configuration beside its spec.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Its restart count.
    pub attempt: u32,
    /// The image to run, as the runtime knows it.
    pub image_ref: String,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Command and arguments, expanded.
    pub command: (Vec<String>, Vec<String>),
    /// Volumes, `/etc/hosts`, termination message.
    pub mounts: Vec<cri::Mount>,
    /// Limits.
    pub resources: cri::LinuxContainerResources,
    /// User, capabilities, namespaces.
    pub security: cri::LinuxContainerSecurityContext,
}

/// The configuration of a container.
#[must_use]
pub fn container(pod: &Pod, container: &Container, parts: Parts) -> cri::ContainerConfig {
    let mut labels = pod_labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let annotations = [
        (HASH, spec_hash(container)),
        (RESTART_COUNT, parts.attempt.to_string()),
        (MESSAGE_PATH, message_path(container).to_owned()),
        (MESSAGE_POLICY, container.termination_message_policy.clone().unwrap_or_else(|| "File".into())),
        (GRACE, grace_seconds(pod).to_string()),
    ];
    let image = container.image.clone().unwrap_or_default();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: parts.attempt }),
        image: Some(cri::ImageSpec { image: parts.image_ref, user_specified_image: image, ..cri::ImageSpec::default() }),
        command: parts.command.0,
        args: parts.command.1,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: parts.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts: parts.mounts,
        labels,
        annotations: annotations.map(|(k, v)| (k.to_owned(), v)).into(),
        log_path: format!("{}/{}.log", container.name, parts.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig { resources: Some(parts.resources), security_context: Some(parts.security) }),
        ..cri::ContainerConfig::default()
    }
}

/// Where in the container its termination message is written.
#[must_use]
pub fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}
