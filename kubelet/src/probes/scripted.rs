//! A runtime for tests that does nothing but what the test says: commands, states, URLs and numbers.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::cri;
use crate::runtime::{Error, Result, Runtime};

/// What a command in a container gives: its exit code and output.
pub type Command = Box<dyn Fn(&[String]) -> Result<(i32, String)> + Send + Sync>;

#[derive(Default)]
pub struct Scripted {
    pub command: Option<Command>,
    /// Statuses by container id.
    pub statuses: Mutex<HashMap<String, cri::ContainerStatus>>,
    /// Where exec, attach and port-forward are served.
    pub url: String,
    /// What was asked of exec, attach and port-forward.
    pub asked: Mutex<Vec<String>>,
    pub stats: Vec<cri::ContainerStats>,
    pub sandbox_stats: Vec<cri::PodSandboxStats>,
    pub sandboxes: Vec<cri::PodSandbox>,
    pub containers: Vec<cri::Container>,
}

fn not_scripted<T>(operation: &'static str) -> Result<T> {
    Err(Error { operation, code: tonic::Code::Unimplemented, message: format!("{operation} is not part of this test") })
}

impl Scripted {
    fn stream(&self, what: String) -> Result<String> {
        self.asked.lock().push(what);
        Ok(self.url.clone())
    }
}

#[async_trait]
impl Runtime for Scripted {
    async fn version(&self) -> Result<cri::VersionResponse> {
        not_scripted("Version")
    }
    async fn status(&self) -> Result<cri::StatusResponse> {
        not_scripted("Status")
    }
    async fn update_runtime_config(&self, _: &str) -> Result<()> {
        not_scripted("UpdateRuntimeConfig")
    }
    async fn run_pod_sandbox(&self, _: cri::PodSandboxConfig, _: &str) -> Result<String> {
        not_scripted("RunPodSandbox")
    }
    async fn stop_pod_sandbox(&self, _: &str) -> Result<()> {
        not_scripted("StopPodSandbox")
    }
    async fn remove_pod_sandbox(&self, _: &str) -> Result<()> {
        not_scripted("RemovePodSandbox")
    }
    async fn pod_sandbox_status(&self, _: &str) -> Result<cri::PodSandboxStatus> {
        not_scripted("PodSandboxStatus")
    }
    async fn list_pod_sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>> {
        let labels = filter.map(|f| f.label_selector).unwrap_or_default();
        let fits = |s: &&cri::PodSandbox| labels.iter().all(|(k, v)| s.labels.get(k) == Some(v));
        Ok(self.sandboxes.iter().filter(fits).cloned().collect())
    }
    async fn create_container(&self, _: &str, _: cri::ContainerConfig, _: cri::PodSandboxConfig) -> Result<String> {
        not_scripted("CreateContainer")
    }
    async fn start_container(&self, _: &str) -> Result<()> {
        not_scripted("StartContainer")
    }
    async fn stop_container(&self, _: &str, _: Duration) -> Result<()> {
        not_scripted("StopContainer")
    }
    async fn remove_container(&self, _: &str) -> Result<()> {
        not_scripted("RemoveContainer")
    }
    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let found = self.statuses.lock().get(id).cloned();
        found.ok_or_else(|| Error { operation: "ContainerStatus", code: tonic::Code::NotFound, message: format!("{id}: not found") })
    }
    async fn list_containers(&self, _: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>> {
        Ok(self.containers.clone())
    }
    async fn update_container_resources(&self, _: &str, _: cri::LinuxContainerResources) -> Result<()> {
        not_scripted("UpdateContainerResources")
    }
    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        not_scripted("ReopenContainerLog")
    }
    async fn exec_sync(&self, _: &str, command: Vec<String>, _: Duration) -> Result<cri::ExecSyncResponse> {
        let Some(run) = &self.command else { return not_scripted("ExecSync") };
        run(&command).map(|(exit_code, output)| cri::ExecSyncResponse { exit_code, stdout: output.into_bytes(), stderr: vec![] })
    }
    async fn exec(&self, r: cri::ExecRequest) -> Result<String> {
        self.stream(format!("exec {} {:?} {} {} {} {}", r.container_id, r.cmd, r.stdin, r.stdout, r.stderr, r.tty))
    }
    async fn attach(&self, r: cri::AttachRequest) -> Result<String> {
        self.stream(format!("attach {} {} {} {} {}", r.container_id, r.stdin, r.stdout, r.stderr, r.tty))
    }
    async fn port_forward(&self, r: cri::PortForwardRequest) -> Result<String> {
        self.stream(format!("forward {} {:?}", r.pod_sandbox_id, r.port))
    }
    async fn list_container_stats(&self, _: Option<cri::ContainerStatsFilter>) -> Result<Vec<cri::ContainerStats>> {
        Ok(self.stats.clone())
    }
    async fn list_pod_sandbox_stats(&self, _: Option<cri::PodSandboxStatsFilter>) -> Result<Vec<cri::PodSandboxStats>> {
        Ok(self.sandbox_stats.clone())
    }
    async fn list_images(&self) -> Result<Vec<cri::Image>> {
        not_scripted("ListImages")
    }
    async fn image_status(&self, _: &str) -> Result<Option<cri::Image>> {
        not_scripted("ImageStatus")
    }
    async fn pull_image(&self, _: cri::ImageSpec, _: Option<cri::AuthConfig>, _: Option<cri::PodSandboxConfig>) -> Result<String> {
        not_scripted("PullImage")
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        not_scripted("RemoveImage")
    }
    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        Ok(cri::ImageFsInfoResponse::default())
    }
}
