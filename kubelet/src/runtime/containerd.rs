//! The CRI over gRPC on a unix socket.
//!
//! The connection is made when first needed and again when it broke, so the runtime may restart under a running kubelet.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{Error, Result, Runtime};
use crate::cri;

/// The largest answer accepted, as upstream: a list of every container of a full node is far below.
const MAX_MESSAGE: usize = 16 << 20;
/// How long a call may take (upstream's `--runtime-request-timeout`).
const TIMEOUT: Duration = Duration::from_secs(120);
/// Making a sandbox waits for CNI plugins; upstream gives it twice the time.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);

/// A runtime behind a unix socket.
#[derive(Debug, Clone)]
pub struct Containerd {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Containerd {
    /// A client for the socket that `endpoint` names, such as `unix:///run/containerd/containerd.sock`. Does not connect yet.
    ///
    /// # Errors
    /// An endpoint that is not a unix socket.
    pub fn new(endpoint: &str) -> anyhow::Result<Self> {
        let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
        anyhow::ensure!(path.is_absolute(), "container runtime endpoint {endpoint:?} is not a unix socket: want unix:///path");
        let connector = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::try_from("http://localhost").context("endpoint")?.connect_with_connector_lazy(connector);
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        })
    }
}

fn request<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Makes the call `$service.$method($message)` and names it in its error.
macro_rules! call {
    ($self:ident . $service:ident . $method:ident, $message:expr) => {
        call!($self.$service.$method, $message, TIMEOUT)
    };
    ($self:ident . $service:ident . $method:ident, $message:expr, $timeout:expr) => {
        match tokio::time::timeout($timeout, $self.$service.clone().$method(request($message, $timeout))).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error { operation: stringify!($method), code: status.code(), message: status.message().to_owned() }),
            Err(_) => Err(Error {
                operation: stringify!($method),
                code: tonic::Code::DeadlineExceeded,
                message: "context deadline exceeded".to_owned(),
            }),
        }
    };
}

fn absent(operation: &'static str, what: &str) -> Error {
    Error { operation, code: tonic::Code::Internal, message: format!("the runtime's answer has no {what}") }
}

#[async_trait]
impl Runtime for Containerd {
    async fn version(&self) -> Result<cri::VersionResponse> {
        call!(self.runtime.version, cri::VersionRequest { version: "0.1.0".into() })
    }

    async fn status(&self) -> Result<cri::StatusResponse> {
        call!(self.runtime.status, cri::StatusRequest { verbose: false })
    }

    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        let network_config = Some(cri::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let message = cri::UpdateRuntimeConfigRequest { runtime_config: Some(cri::RuntimeConfig { network_config }) };
        call!(self.runtime.update_runtime_config, message).map(|_| ())
    }

    async fn run_pod_sandbox(&self, config: cri::PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        let message = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: runtime_handler.to_owned() };
        call!(self.runtime.run_pod_sandbox, message, SANDBOX_TIMEOUT).map(|a| a.pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        call!(self.runtime.stop_pod_sandbox, cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(|_| ())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        call!(self.runtime.remove_pod_sandbox, cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(|_| ())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let message = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        call!(self.runtime.pod_sandbox_status, message)?.status.ok_or_else(|| absent("pod_sandbox_status", "status"))
    }

    async fn list_pod_sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>> {
        call!(self.runtime.list_pod_sandbox, cri::ListPodSandboxRequest { filter }).map(|a| a.items)
    }

    async fn create_container(&self, sandbox: &str, config: cri::ContainerConfig, sandbox_config: cri::PodSandboxConfig) -> Result<String> {
        let message =
            cri::CreateContainerRequest { pod_sandbox_id: sandbox.to_owned(), config: Some(config), sandbox_config: Some(sandbox_config) };
        call!(self.runtime.create_container, message).map(|a| a.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        call!(self.runtime.start_container, cri::StartContainerRequest { container_id: id.to_owned() }).map(|_| ())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let message = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        call!(self.runtime.stop_container, message, grace.saturating_add(TIMEOUT)).map(|_| ())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        call!(self.runtime.remove_container, cri::RemoveContainerRequest { container_id: id.to_owned() }).map(|_| ())
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let message = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        call!(self.runtime.container_status, message)?.status.ok_or_else(|| absent("container_status", "status"))
    }

    async fn list_containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>> {
        call!(self.runtime.list_containers, cri::ListContainersRequest { filter }).map(|a| a.containers)
    }

    async fn update_container_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let message = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..cri::UpdateContainerResourcesRequest::default()
        };
        call!(self.runtime.update_container_resources, message).map(|_| ())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        call!(self.runtime.reopen_container_log, cri::ReopenContainerLogRequest { container_id: id.to_owned() }).map(|_| ())
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<cri::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let message = cri::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        // The runtime ends the command itself; ours is for a runtime that does not answer.
        let ours = if timeout.is_zero() { Duration::from_secs(3600) } else { timeout.saturating_add(TIMEOUT) };
        call!(self.runtime.exec_sync, message, ours)
    }

    async fn exec(&self, request: cri::ExecRequest) -> Result<String> {
        call!(self.runtime.exec, request).map(|a| a.url)
    }

    async fn attach(&self, request: cri::AttachRequest) -> Result<String> {
        call!(self.runtime.attach, request).map(|a| a.url)
    }

    async fn port_forward(&self, request: cri::PortForwardRequest) -> Result<String> {
        call!(self.runtime.port_forward, request).map(|a| a.url)
    }

    async fn list_container_stats(&self, filter: Option<cri::ContainerStatsFilter>) -> Result<Vec<cri::ContainerStats>> {
        call!(self.runtime.list_container_stats, cri::ListContainerStatsRequest { filter }).map(|a| a.stats)
    }

    async fn list_pod_sandbox_stats(&self, filter: Option<cri::PodSandboxStatsFilter>) -> Result<Vec<cri::PodSandboxStats>> {
        call!(self.runtime.list_pod_sandbox_stats, cri::ListPodSandboxStatsRequest { filter }).map(|a| a.stats)
    }

    async fn list_images(&self) -> Result<Vec<cri::Image>> {
        call!(self.images.list_images, cri::ListImagesRequest { filter: None }).map(|a| a.images)
    }

    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        let image = Some(cri::ImageSpec { image: image.to_owned(), ..cri::ImageSpec::default() });
        call!(self.images.image_status, cri::ImageStatusRequest { image, verbose: false }).map(|a| a.image)
    }

    async fn pull_image(
        &self,
        image: cri::ImageSpec,
        auth: Option<cri::AuthConfig>,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<String> {
        // The runtime gives a pull up when it makes no progress; a large image may take its time.
        let most = Duration::from_secs(3600);
        call!(self.images.pull_image, cri::PullImageRequest { image: Some(image), auth, sandbox_config: sandbox }, most)
            .map(|a| a.image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let image = Some(cri::ImageSpec { image: image.to_owned(), ..cri::ImageSpec::default() });
        call!(self.images.remove_image, cri::RemoveImageRequest { image }).map(|_| ())
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        call!(self.images.image_fs_info, cri::ImageFsInfoRequest {})
    }
}
