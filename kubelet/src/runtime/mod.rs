//! The container runtime, as the Container Runtime Interface (v1) offers it.
//!
//! Every call is one CRI call: no retries, no caching, nothing decided. [`containerd::Containerd`] speaks gRPC on a unix socket,
//! [`fake::Fake`] keeps sandboxes and containers in memory for tests.

pub mod containerd;
pub mod exits;
pub mod fake;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::cri;

/// What the runtime answered instead of doing as it was asked.
#[derive(Debug, Clone)]
pub struct Error {
    /// The CRI call.
    pub operation: &'static str,
    /// gRPC's code.
    pub code: tonic::Code,
    /// The runtime's words.
    pub message: String,
}

impl Error {
    /// Whether the runtime knows no such sandbox, container or image.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == tonic::Code::NotFound
    }
}

/// As gRPC's Go library prints a status: these words end up in events and container states that people search for.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {:?} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// The result of a CRI call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The CRI's runtime and image services.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the runtime.
    async fn version(&self) -> Result<cri::VersionResponse>;
    /// The conditions `RuntimeReady` and `NetworkReady`.
    async fn status(&self) -> Result<cri::StatusResponse>;
    /// Tells the runtime the node's pod range, from which it may render its CNI configuration.
    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()>;

    /// Creates and starts a sandbox with its network; gives its id.
    async fn run_pod_sandbox(&self, config: cri::PodSandboxConfig, runtime_handler: &str) -> Result<String>;
    /// Stops whatever runs in the sandbox and gives its network back. Idempotent.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Removes a sandbox and its containers. Idempotent.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    /// One sandbox.
    async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus>;
    /// The sandboxes that `filter` selects.
    async fn list_pod_sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>>;

    /// Creates a container in a sandbox; gives its id.
    async fn create_container(&self, sandbox: &str, config: cri::ContainerConfig, sandbox_config: cri::PodSandboxConfig) -> Result<String>;
    /// Starts a created container.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal, and SIGKILL after `grace`. Idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Removes a container, killing it when it runs. Idempotent.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// One container.
    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus>;
    /// The containers that `filter` selects.
    async fn list_containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>>;
    /// Changes the limits of a running container.
    async fn update_container_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()>;
    /// Makes the runtime open the container's log file again, after it was renamed.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    /// Runs a command in a container and waits for its end. `timeout` zero means none.
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<cri::ExecSyncResponse>;
    /// The URL at which the runtime serves this exec.
    async fn exec(&self, request: cri::ExecRequest) -> Result<String>;
    /// The URL at which the runtime serves this attach.
    async fn attach(&self, request: cri::AttachRequest) -> Result<String>;
    /// The URL at which the runtime serves this port-forward.
    async fn port_forward(&self, request: cri::PortForwardRequest) -> Result<String>;

    /// Use of CPU, memory and writable layer by the containers that `filter` selects.
    async fn list_container_stats(&self, filter: Option<cri::ContainerStatsFilter>) -> Result<Vec<cri::ContainerStats>>;
    /// Use by sandboxes, network included.
    async fn list_pod_sandbox_stats(&self, filter: Option<cri::PodSandboxStatsFilter>) -> Result<Vec<cri::PodSandboxStats>>;

    /// The images of the node.
    async fn list_images(&self) -> Result<Vec<cri::Image>>;
    /// One image, `None` when it is not there.
    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>>;
    /// Pulls an image; gives the reference to use for it.
    async fn pull_image(
        &self,
        image: cri::ImageSpec,
        auth: Option<cri::AuthConfig>,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<String>;
    /// Removes an image. Idempotent.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// The file systems that hold images.
    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse>;
}
