//! Upstream's `test/e2e/common/node`.

pub mod configmap;
pub mod container_probe;
pub mod containers;
pub mod downwardapi;
mod environment;
pub mod ephemeral_containers;
pub mod expansion;
pub mod init_container;
pub mod kubelet;
pub mod kubelet_etc_hosts;
pub mod lease;
pub mod lifecycle_hook;
pub mod pods;
pub mod podtemplates;
pub mod runtime;
pub mod runtimeclass;
pub mod secrets;
pub mod security_context;
pub mod sysctl;
