//! A runtime in memory: sandboxes and containers that are made, run and end as a test says.
//!
//! Ids are `s1`, `c2`, .. in the order of making. A container that is stopped ends at once with 143, unless its name starts with `stubborn`:
//! then it ends with 137 when its grace period is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Error, Result, Runtime};
use crate::cri;
use crate::spec::CONTAINER_NAME;

/// The runtime.
#[derive(Debug, Default)]
pub struct Fake(Mutex<World>);

#[derive(Debug, Default)]
struct World {
    made: u32,
    sandboxes: BTreeMap<String, cri::PodSandboxStatus>,
    containers: BTreeMap<String, (String, cri::ContainerStatus)>,
    images: BTreeSet<String>,
    calls: Vec<String>,
}

fn not_found(operation: &'static str, what: &str) -> Error {
    Error { operation, code: tonic::Code::NotFound, message: format!("{what} not found") }
}

/// Nanoseconds, each later than the one before: what the runtime says of times must be in order and nothing more.
fn time(world: &World) -> i64 {
    1_700_000_000_000_000_000 + i64::from(world.made) * 1_000_000_000
}

impl Fake {
    /// A runtime that has these images; nothing else can be pulled.
    #[must_use]
    pub fn with_images(images: &[&str]) -> Self {
        let fake = Self::default();
        fake.0.lock().images = images.iter().map(|i| (*i).to_owned()).collect();
        fake
    }

    /// What was done so far, a line a call that changes something.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().calls.clone()
    }

    /// The containers that run, as `name id`.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let running = i32::from(cri::ContainerState::ContainerRunning);
        let world = self.0.lock();
        world.containers.iter().filter(|(_, (_, c))| c.state == running).map(|(id, (_, c))| format!("{} {id}", name(c))).collect()
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let world = self.0.lock();
        world.sandboxes.is_empty() && world.containers.is_empty()
    }

    /// Lets every running container of this name end.
    pub fn exit(&self, container: &str, code: i32) {
        let mut world = self.0.lock();
        world.made += 1;
        let now = time(&world);
        for (_, status) in world.containers.values_mut().filter(|(_, c)| name(c) == container) {
            end(status, code, now);
        }
    }

    /// Lets every sandbox and what runs in it die, as at a reboot.
    pub fn reboot(&self) {
        let mut world = self.0.lock();
        world.made += 1;
        let now = time(&world);
        for sandbox in world.sandboxes.values_mut() {
            sandbox.state = cri::PodSandboxState::SandboxNotready.into();
        }
        for (_, status) in world.containers.values_mut() {
            end(status, 255, now);
        }
    }
}

fn name(status: &cri::ContainerStatus) -> String {
    status.labels.get(CONTAINER_NAME).cloned().unwrap_or_default()
}

fn end(status: &mut cri::ContainerStatus, code: i32, now: i64) {
    if status.state == i32::from(cri::ContainerState::ContainerRunning) {
        status.state = cri::ContainerState::ContainerExited.into();
        (status.exit_code, status.finished_at) = (code, now);
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<cri::VersionResponse> {
        Ok(cri::VersionResponse { runtime_name: "fake".into(), runtime_version: "1".into(), ..cri::VersionResponse::default() })
    }

    async fn status(&self) -> Result<cri::StatusResponse> {
        let yes = |t: &str| cri::RuntimeCondition { r#type: t.into(), status: true, ..cri::RuntimeCondition::default() };
        let status = Some(cri::RuntimeStatus { conditions: vec![yes("RuntimeReady"), yes("NetworkReady")] });
        Ok(cri::StatusResponse { status, ..cri::StatusResponse::default() })
    }

    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        self.0.lock().calls.push(format!("pod range {pod_cidr}"));
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: cri::PodSandboxConfig, _: &str) -> Result<String> {
        let mut world = self.0.lock();
        world.made += 1;
        let id = format!("s{}", world.made);
        let metadata = config.metadata.unwrap_or_default();
        world.calls.push(format!("sandbox {id} for {}", metadata.name));
        let context = config.linux.and_then(|l| l.security_context).and_then(|c| c.namespace_options);
        let status = cri::PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: cri::PodSandboxState::SandboxReady.into(),
            created_at: time(&world),
            network: Some(cri::PodSandboxNetworkStatus { ip: format!("10.0.0.{}", world.made), additional_ips: vec![] }),
            linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options: context }) }),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: String::new(),
        };
        world.sandboxes.insert(id.clone(), status);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut world = self.0.lock();
        let now = time(&world);
        if let Some(sandbox) = world.sandboxes.get_mut(id) {
            sandbox.state = cri::PodSandboxState::SandboxNotready.into();
            world.calls.push(format!("stop sandbox {id}"));
        }
        for (_, status) in world.containers.values_mut().filter(|(s, _)| s == id) {
            end(status, 137, now);
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut world = self.0.lock();
        world.sandboxes.remove(id);
        world.containers.retain(|_, (sandbox, _)| sandbox != id);
        world.calls.push(format!("remove sandbox {id}"));
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        self.0.lock().sandboxes.get(id).cloned().ok_or_else(|| not_found("pod_sandbox_status", id))
    }

    async fn list_pod_sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>> {
        let wanted = filter.unwrap_or_default().label_selector;
        let world = self.0.lock();
        let all = world.sandboxes.values().filter(|s| wanted.iter().all(|(k, v)| s.labels.get(k) == Some(v)));
        let listed = all.map(|s| cri::PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            annotations: s.annotations.clone(),
            runtime_handler: String::new(),
        });
        Ok(listed.collect())
    }

    async fn create_container(&self, sandbox: &str, config: cri::ContainerConfig, _: cri::PodSandboxConfig) -> Result<String> {
        let mut world = self.0.lock();
        if !world.sandboxes.contains_key(sandbox) {
            return Err(not_found("create_container", sandbox));
        }
        world.made += 1;
        let id = format!("c{}", world.made);
        let status = cri::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: cri::ContainerState::ContainerCreated.into(),
            created_at: time(&world),
            image_ref: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            image: config.image,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            ..cri::ContainerStatus::default()
        };
        world.containers.insert(id.clone(), (sandbox.to_owned(), status));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let mut world = self.0.lock();
        let now = time(&world);
        let (_, status) = world.containers.get_mut(id).ok_or_else(|| not_found("start_container", id))?;
        status.state = cri::ContainerState::ContainerRunning.into();
        status.started_at = now;
        let line = format!("start {} {id}", name(status));
        world.calls.push(line);
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let stubborn = {
            let mut world = self.0.lock();
            let (_, status) = world.containers.get(id).ok_or_else(|| not_found("stop_container", id))?;
            let name = name(status);
            world.calls.push(format!("stop {name} {id} within {}s", grace.as_secs()));
            name.starts_with("stubborn")
        };
        if stubborn {
            tokio::time::sleep(grace).await;
        }
        let mut world = self.0.lock();
        let now = time(&world);
        if let Some((_, status)) = world.containers.get_mut(id) {
            end(status, if stubborn { 137 } else { 143 }, now);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.0.lock().containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        self.0.lock().containers.get(id).map(|(_, c)| c.clone()).ok_or_else(|| not_found("container_status", id))
    }

    async fn list_containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>> {
        let wanted = filter.unwrap_or_default().label_selector;
        let world = self.0.lock();
        let all = world.containers.values().filter(|(_, c)| wanted.iter().all(|(k, v)| c.labels.get(k) == Some(v)));
        let listed = all.map(|(sandbox, c)| cri::Container {
            id: c.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: c.metadata.clone(),
            image: c.image.clone(),
            image_ref: c.image_ref.clone(),
            state: c.state,
            created_at: c.created_at,
            labels: c.labels.clone(),
            annotations: c.annotations.clone(),
            image_id: c.image_ref.clone(),
        });
        Ok(listed.collect())
    }

    async fn update_container_resources(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let mut world = self.0.lock();
        let (_, status) = world.containers.get_mut(id).ok_or_else(|| not_found("update_container_resources", id))?;
        let line = format!("resize {} {id} to {} shares", name(status), resources.cpu_shares);
        status.resources = Some(cri::ContainerResources { linux: Some(resources), windows: None });
        world.calls.push(line);
        Ok(())
    }

    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn exec_sync(&self, _: &str, _: Vec<String>, _: Duration) -> Result<cri::ExecSyncResponse> {
        Ok(cri::ExecSyncResponse::default())
    }

    async fn exec(&self, _: cri::ExecRequest) -> Result<String> {
        Err(not_found("exec", "a streaming server"))
    }

    async fn attach(&self, _: cri::AttachRequest) -> Result<String> {
        Err(not_found("attach", "a streaming server"))
    }

    async fn port_forward(&self, _: cri::PortForwardRequest) -> Result<String> {
        Err(not_found("port_forward", "a streaming server"))
    }

    async fn list_container_stats(&self, _: Option<cri::ContainerStatsFilter>) -> Result<Vec<cri::ContainerStats>> {
        Ok(vec![])
    }

    async fn list_pod_sandbox_stats(&self, _: Option<cri::PodSandboxStatsFilter>) -> Result<Vec<cri::PodSandboxStats>> {
        Ok(vec![])
    }

    async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let image = |tag: &String| cri::Image { id: tag.clone(), repo_tags: vec![tag.clone()], size: 1, ..cri::Image::default() };
        Ok(self.0.lock().images.iter().map(image).collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        Ok(self.list_images().await?.into_iter().find(|i| i.id == image))
    }

    async fn pull_image(&self, image: cri::ImageSpec, _: Option<cri::AuthConfig>, _: Option<cri::PodSandboxConfig>) -> Result<String> {
        self.0.lock().calls.push(format!("pull {}", image.image));
        Err(not_found("pull_image", &image.image))
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.0.lock().images.remove(image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        Ok(cri::ImageFsInfoResponse::default())
    }
}
