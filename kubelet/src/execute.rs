//! Does what a plan says: one function an action. Nothing is decided here but how a failure is called.
//!
//! Everything may be cut short: a worker drops these futures when its pod is to end. What was half done is found by the next observation.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Secret, Service};
use kube::Api;
use kube::api::ListParams;

use crate::cgroups::Limits;
use crate::events::{Kind, container_path};
use crate::kubelet::Kubelet;
use crate::mirrors::is_static;
use crate::pod::resize::{PodCgroup, Resource};
use crate::pod::{Sandbox, Waiting, container_spec, host_network, identity};
use crate::spec::{Parts, log_directory, message_path};
use crate::volumes::Mounts;
use crate::{cri, env, hooks, hosts, objects, resources, security, spec, volumes};

/// When something that failed without a back-off of its own is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// A container's stop signal is followed by SIGKILL after at least this, even when the preStop hook used all the time.
const LEAST_STOP: Duration = Duration::from_secs(2);

/// Makes the pod's cgroup, directories and volumes, then its sandbox.
///
/// # Errors
/// Why not, and when to try again.
pub async fn create_sandbox(kubelet: &Kubelet, pod: &Pod, attempt: u32) -> Result<(), Waiting> {
    let now = kubelet.clock.now();
    let retry = |message: String| Waiting {
        reason: "ContainerCreating".into(),
        message,
        retry_at: now.saturating_add(RETRY).unwrap_or(Timestamp::MAX),
    };
    let pod_spec = pod.spec.clone().unwrap_or_default();
    if let Some(why) = kubelet.network.load().as_ref()
        && !host_network(&pod_spec)
    {
        let message = format!("network is not ready: {why}");
        kubelet.events.pod(pod, None, Kind::Warning, "NetworkNotReady", &message);
        let soon = now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
        return Err(Waiting { retry_at: soon, ..retry(message) });
    }
    let cgroup = kubelet.cgroups.ensure(pod).map_err(|error| {
        let message = format!("failed to ensure that the pod: {} cgroups exist and are correctly applied: {error:#}", identity(pod).2);
        kubelet.events.pod(
            pod,
            None,
            Kind::Warning,
            "FailedCreatePodContainer",
            format!("unable to ensure pod container exists: {message}"),
        );
        retry(message)
    })?;
    let logs = log_directory(&kubelet.flags.pod_logs_dir, pod);
    for dir in [&kubelet.pod_dir(identity(pod).2), &logs] {
        std::fs::create_dir_all(dir).map_err(|e| retry(format!("making {}: {e}", dir.display())))?;
    }
    volumes::mount(&kubelet.volumes, pod).await.map_err(|error| {
        kubelet.events.pod(pod, None, Kind::Warning, "FailedMount", error.to_string());
        retry(error.to_string())
    })?;
    let config = spec::sandbox(pod, attempt, &kubelet.settings, &kubelet.flags.pod_logs_dir, &cgroup);
    let handler = runtime_handler(kubelet, &pod_spec).await;
    let made = match (config, handler) {
        (Ok(config), Ok(handler)) => {
            // The semaphore is never closed, so acquiring cannot fail.
            let _slot = kubelet.sandbox_slots.acquire().await;
            kubelet.runtime.run_pod_sandbox(config, &handler).await.map_err(|e| e.to_string())
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    made.map(|_| ()).map_err(|error| {
        let message = format!("Failed to create pod sandbox: {error}");
        kubelet.events.pod(pod, None, Kind::Warning, "FailedCreatePodSandBox", &message);
        retry(message)
    })
}

/// The runtime's name for the pod's RuntimeClass.
async fn runtime_handler(kubelet: &Kubelet, spec: &PodSpec) -> Result<String, String> {
    let Some(name) = spec.runtime_class_name.as_deref().filter(|n| !n.is_empty()) else { return Ok(String::new()) };
    let api: Api<k8s_openapi::api::node::v1::RuntimeClass> = Api::all(kubelet.client.clone());
    let class = api.get(name).await.map_err(|error| match error {
        kube::Error::Api(s) if s.code == 404 => format!("failed to get sandbox runtime: RuntimeClass {name:?} not found"),
        other => format!("failed to get sandbox runtime: {}", daemon::describe(&other)),
    })?;
    Ok(class.handler)
}

/// Pulls the image, makes and starts a container, and runs its postStart hook.
///
/// # Errors
/// The state in which the container waits, and when to try again.
pub async fn start_container(kubelet: &Kubelet, pod: &Arc<Pod>, name: &str, attempt: u32, sandbox: &Sandbox) -> Result<(), Waiting> {
    let now = kubelet.clock.now();
    let fail = |reason: &str, message: String| Waiting {
        reason: reason.to_owned(),
        message,
        retry_at: now.saturating_add(RETRY).unwrap_or(Timestamp::MAX),
    };
    let say = |kind, reason: &str, words: String| kubelet.events.pod(pod, container_path(pod, name), kind, reason, words);
    let error = |reason: &str, message: String| {
        say(Kind::Warning, "Failed", format!("Error: {message}"));
        fail(reason, message)
    };
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let container = container_spec(&pod_spec, name).ok_or_else(|| fail("CreateContainerConfigError", format!("no container {name}")))?;
    let cgroup = kubelet.cgroups.pod_path(pod).display().to_string();
    let sandbox_config = spec::sandbox(pod, sandbox.attempt, &kubelet.settings, &kubelet.flags.pod_logs_dir, &cgroup)
        .map_err(|e| error("CreateContainerConfigError", e))?;

    let secrets = pull_secrets(kubelet, pod, &pod_spec).await;
    let image = kubelet.images.ensure(pod, &container, &secrets, &sandbox_config, || kubelet.clock.now()).await?;

    let pod_ips = if sandbox.host_network { kubelet.facts.host_ips.clone() } else { sandbox.ips.clone() };
    let mounted = volumes::mount(&kubelet.volumes, pod).await.map_err(|e| {
        kubelet.events.pod(pod, None, Kind::Warning, "FailedMount", e.to_string());
        fail("ContainerCreating", e.to_string())
    })?;
    let mut sources = sources(kubelet, pod, &container, &pod_ips).await.map_err(|e| error("CreateContainerConfigError", e))?;
    for file in env::files(&container) {
        let found = env::File::read(mounted.volumes.get(&file.0).map(|v| v.path.as_path()), &file.1);
        sources.files.insert(file, found);
    }
    let environment = env::environment(pod, &container, &sources).map_err(|e| error("CreateContainerConfigError", e.to_string()))?;
    let mounts = mounts(kubelet, pod, &pod_spec, &container, &environment, &mounted, &pod_ips)
        .map_err(|e| error("CreateContainerConfigError", e))?;
    let target = target(kubelet, pod, &pod_spec, name);
    let security = security::container(pod, &container, &image.user, target.as_deref(), &kubelet.settings.profiles)
        .map_err(|e| error("CreateContainerConfigError", e))?;
    let limits = limits(kubelet, pod, &container);
    let parts = Parts {
        attempt,
        image_ref: image.image_ref,
        command: env::command(&container, &environment),
        env: environment,
        mounts,
        resources: limits,
        security,
    };
    let config = spec::container(pod, &container, parts);
    kubelet
        .allocations
        .actuate(identity(pod).2, name, &container.resources.clone().unwrap_or_default())
        .map_err(|e| error("CreateContainerError", format!("{e:#}")))?;
    std::fs::create_dir_all(log_directory(&kubelet.flags.pod_logs_dir, pod).join(name))
        .map_err(|e| error("CreateContainerError", format!("making the log directory: {e}")))?;
    let id = create_and_start(kubelet, sandbox, config, &sandbox_config, &say).await.map_err(|(reason, message)| error(reason, message))?;
    post_start(kubelet, pod, &container, &id, &pod_ips).await.map_err(|message| fail("PostStartHookError", message))
}

fn limits(kubelet: &Kubelet, pod: &Pod, container: &Container) -> cri::LinuxContainerResources {
    let mut limits = resources::container_resources(pod, container, kubelet.memory);
    if !kubelet.flags.cpu_cfs_quota {
        limits.cpu_quota = 0;
    }
    limits
}

/// Changes what the pod's cgroup may use.
///
/// # Errors
/// Why not.
pub fn resize_pod(kubelet: &Kubelet, pod: &Pod, limits: Limits) -> Result<(), String> {
    let wrong = |e: anyhow::Error| format!("failed to set the pod's cgroup: {e:#}");
    kubelet.cgroups.change(pod, limits).map_err(wrong)?;
    let PodCgroup { now, wanted, .. } = kubelet.cgroups.view(pod).map_err(wrong)?;
    // What the kernel takes and does not keep would be written again and again.
    let written =
        [(limits.shares, now.shares, wanted.shares), (limits.quota, now.quota, wanted.quota), (limits.memory, now.memory, wanted.memory)];
    if written.iter().all(|(written, has, wants)| *written == 0 || has == wants) {
        Ok(())
    } else {
        Err(format!("the pod's cgroup has {now:?} after {limits:?} was written"))
    }
}

/// Gives a running container the memory or the CPU that is allocated to it; of the other it keeps what it has, `given`.
///
/// # Errors
/// Why not.
pub async fn resize_container(
    kubelet: &Kubelet,
    pod: &Pod,
    (id, name): (&str, &str),
    resource: Resource,
    given: Option<&ResourceRequirements>,
) -> Result<(), String> {
    let mut container = pod.spec.as_ref().and_then(|s| container_spec(s, name)).ok_or_else(|| format!("no container {name}"))?;
    let wanted = container.resources.clone().unwrap_or_default();
    let now = crate::pod::resize::mixed(&wanted, given.unwrap_or(&wanted), resource);
    container.resources = Some(now.clone());
    let limits = limits(kubelet, pod, &container);
    kubelet.runtime.update_container_resources(id, limits).await.map_err(|e| e.to_string())?;
    kubelet.allocations.actuate(identity(pod).2, name, &now).map_err(|e| format!("{e:#}"))
}

/// The oom_score_adj below which this machine lets nobody go; `i64::MIN` until the kernel has refused one.
static OOM_FLOOR: AtomicI64 = AtomicI64::new(i64::MIN);

async fn create_and_start(
    kubelet: &Kubelet,
    sandbox: &Sandbox,
    mut config: cri::ContainerConfig,
    sandbox_config: &cri::PodSandboxConfig,
    say: &(impl Fn(Kind, &str, String) + Sync),
) -> Result<String, (&'static str, String)> {
    loop {
        clamp_oom_score(&mut config, OOM_FLOOR.load(Ordering::Relaxed));
        let id = kubelet
            .runtime
            .create_container(&sandbox.id, config.clone(), sandbox_config.clone())
            .await
            .map_err(|e| ("CreateContainerError", e.to_string()))?;
        say(Kind::Normal, "Created", "Container created".to_owned());
        match kubelet.runtime.start_container(&id).await {
            Ok(()) => {
                say(Kind::Normal, "Started", "Container started".to_owned());
                return Ok(id);
            }
            Err(error) if oom_refused(&error.message, &config) && OOM_FLOOR.load(Ordering::Relaxed) == i64::MIN => {
                // Without CAP_SYS_RESOURCE no process may become less likely to be killed than its parent.
                let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|v| v.trim().parse().ok()).unwrap_or(0);
                OOM_FLOOR.store(own, Ordering::Relaxed);
                tracing::warn!(floor = own, error = %error, "this machine refuses negative oom_score_adj; containers get none below its own");
                if let Err(error) = kubelet.runtime.remove_container(&id).await {
                    tracing::debug!(container = id, %error, "removing the container that could not start");
                }
            }
            Err(error) => return Err(("RunContainerError", error.to_string())),
        }
    }
}

fn oom_score(config: &mut cri::ContainerConfig) -> Option<&mut i64> {
    config.linux.as_mut().and_then(|l| l.resources.as_mut()).map(|r| &mut r.oom_score_adj)
}

fn clamp_oom_score(config: &mut cri::ContainerConfig, floor: i64) {
    if let Some(score) = oom_score(config) {
        *score = (*score).max(floor);
    }
}

/// runc's words when the kernel refuses the score: in its log, or only that its child has died.
fn oom_refused(message: &str, config: &cri::ContainerConfig) -> bool {
    let negative = config.linux.as_ref().and_then(|l| l.resources.as_ref()).is_some_and(|r| r.oom_score_adj < 0);
    negative && (message.contains("oom_score_adj") || message.contains("can't get final child's PID from pipe"))
}

async fn post_start(kubelet: &Kubelet, pod: &Arc<Pod>, container: &Container, id: &str, ips: &[String]) -> Result<(), String> {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
    let target = hook_target(kubelet, pod, container, id, ips);
    let Err(error) = hooks::run(hook, &target).await else { return Ok(()) };
    let path = container_path(pod, &container.name);
    kubelet.events.pod(pod, path.clone(), Kind::Warning, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
    kill_container(kubelet, pod, &container.name, id, crate::pod::grace_seconds(pod), "FailedPostStartHook", ips).await;
    Err(format!("PostStartHook failed: {error}"))
}

fn hook_target(kubelet: &Kubelet, pod: &Arc<Pod>, container: &Container, id: &str, ips: &[String]) -> hooks::Target {
    hooks::Target {
        runtime: kubelet.runtime.clone(),
        pod: pod.clone(),
        container: container.clone(),
        container_id: id.to_owned(),
        pod_ip: ips.first().cloned().unwrap_or_default(),
    }
}

/// Ends a container within `grace` seconds: preStop hook, stop signal, SIGKILL.
pub async fn kill_container(kubelet: &Kubelet, pod: &Arc<Pod>, name: &str, id: &str, grace: i64, why: &str, ips: &[String]) {
    let path = container_path(pod, name);
    kubelet.events.pod(pod, path.clone(), Kind::Normal, "Killing", why);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    let began = tokio::time::Instant::now();
    let container = pod.spec.as_ref().and_then(|s| container_spec(s, name));
    let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.as_ref());
    if let (Some(hook), Some(container)) = (hook, container.as_ref()) {
        let target = hook_target(kubelet, pod, container, id, ips);
        match tokio::time::timeout(grace, hooks::run(hook, &target)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                kubelet.events.pod(pod, path, Kind::Warning, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
            }
            Err(_) => tracing::info!(pod = identity(pod).1, container = name, "the preStop hook took longer than the grace period"),
        }
    }
    let rest = grace.saturating_sub(began.elapsed()).max(LEAST_STOP.min(grace));
    if let Err(error) = kubelet.runtime.stop_container(id, rest).await
        && !error.is_not_found()
    {
        kubelet.events.pod(
            pod,
            container_path(pod, name),
            Kind::Warning,
            "FailedKillPod",
            format!("error killing pod: failed to \"KillContainer\" for {name:?} with KillContainerError: {error:?}"),
        );
    }
}

/// The secrets named by `imagePullSecrets`; those that are not there are said to be so, and the pull is tried without.
async fn pull_secrets(kubelet: &Kubelet, pod: &Pod, spec: &PodSpec) -> Vec<Secret> {
    let (namespace, ..) = identity(pod);
    let (mut found, mut missing) = (vec![], vec![]);
    for reference in spec.image_pull_secrets.iter().flatten() {
        match kubelet.objects.secret(namespace, &reference.name).await {
            Ok(secret) => found.push(secret),
            Err(error) => {
                tracing::warn!(namespace, pod = identity(pod).1, secret = reference.name, %error, "an image pull secret could not be read");
                missing.push(reference.name.clone());
            }
        }
    }
    if !missing.is_empty() {
        let words =
            format!("Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.", missing.join(", "));
        kubelet.events.pod(pod, None, Kind::Warning, "FailedToRetrieveImagePullSecret", words);
    }
    found
}

/// Everything the container's environment is made from.
async fn sources(kubelet: &Kubelet, pod: &Pod, container: &Container, pod_ips: &[String]) -> Result<env::Sources, String> {
    let (namespace, ..) = identity(pod);
    let (maps, secrets) = env::wanted(container);
    let mut sources = env::Sources { node: kubelet.facts.clone(), pod_ips: pod_ips.to_vec(), ..env::Sources::default() };
    for name in maps {
        match kubelet.objects.config_map(namespace, &name).await {
            Ok(map) => drop(sources.config_maps.insert(name, map)),
            Err(objects::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    for name in secrets {
        match kubelet.objects.secret(namespace, &name).await {
            Ok(secret) => drop(sources.secrets.insert(name, secret)),
            Err(objects::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    sources.services = match services(kubelet, namespace, links).await {
        Ok(services) => services,
        // The apiserver itself may be a static pod: it cannot wait for what it serves.
        Err(_) if is_static(pod) => vec![],
        Err(error) => return Err(error),
    };
    Ok(sources)
}

/// The Services of a namespace and the apiserver's own; as last seen when the apiserver is away.
async fn services(kubelet: &Kubelet, namespace: &str, links: bool) -> Result<Vec<Service>, String> {
    let fresh = async {
        let mut services = match Api::<Service>::namespaced(kubelet.client.clone(), "default").get("kubernetes").await {
            Ok(service) => vec![service],
            Err(kube::Error::Api(s)) if s.code == 404 => vec![],
            Err(error) => return Err(error),
        };
        if links {
            let listed = Api::<Service>::namespaced(kubelet.client.clone(), namespace).list(&ListParams::default()).await?.items;
            services.extend(listed.into_iter().filter(|s| namespace != "default" || s.metadata.name.as_deref() != Some("kubernetes")));
        }
        for service in &mut services {
            service.metadata.managed_fields = None;
        }
        Ok(services)
    };
    let key = format!("{namespace}/{links}");
    let answer = tokio::time::timeout(Duration::from_secs(5), fresh).await;
    match answer.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
        Ok(services) => {
            let mut known = kubelet.services.lock();
            if known.len() >= MAX_NAMESPACES && !known.contains_key(&key) {
                known.clear();
            }
            known.insert(key, services.clone());
            Ok(services)
        }
        Err(error) => kubelet
            .services
            .lock()
            .get(&key)
            .cloned()
            .ok_or(format!("services have not yet been read at least once, cannot construct envvars: {error}")),
    }
}

/// Namespaces whose Services are remembered; a node's pods are of fewer.
const MAX_NAMESPACES: usize = 256;

/// The id of the container whose processes an ephemeral container wants to see.
fn target(kubelet: &Kubelet, pod: &Pod, spec: &PodSpec, name: &str) -> Option<String> {
    let ephemeral = spec.ephemeral_containers.iter().flatten().find(|e| e.name == name)?;
    let wanted = ephemeral.target_container_name.as_deref()?;
    kubelet.pods.get(identity(pod).2)?.container_id(wanted).map(str::to_owned)
}

/// The container's volumes, `/etc/hosts` and the file for its termination message.
fn mounts(
    kubelet: &Kubelet,
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    environment: &[(String, String)],
    volumes: &Mounts,
    pod_ips: &[String],
) -> Result<Vec<cri::Mount>, String> {
    let mut mounts = volumes.mounts_for(container, environment).map_err(|e| e.to_string())?;
    let taken = |mounts: &[cri::Mount], path: &str| mounts.iter().any(|m| m.container_path.trim_end_matches('/') == path);
    let bind = |container_path: &str, host: &Path| cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        ..cri::Mount::default()
    };
    let (_, _, uid) = identity(pod);
    let dir = kubelet.pod_dir(uid);
    if !taken(&mounts, "/etc/hosts") && (host_network(spec) || !pod_ips.is_empty()) {
        let names = hosts::names(pod, &kubelet.settings.dns.domain)?;
        let host = if host_network(spec) {
            Some(std::fs::read_to_string("/etc/hosts").map_err(|e| format!("reading /etc/hosts: {e}"))?)
        } else {
            None
        };
        let text = hosts::hosts_file(&names, pod_ips, spec.host_aliases.as_deref().unwrap_or_default(), host.as_deref());
        let file = dir.join("etc-hosts");
        write_file(&file, &text, 0o644)?;
        mounts.push(bind("/etc/hosts", &file));
    }
    let message = message_path(container);
    if !taken(&mounts, message) {
        let messages = dir.join("containers").join(&container.name);
        std::fs::create_dir_all(&messages).map_err(|e| format!("making {}: {e}", messages.display()))?;
        let file = messages.join(format!("{:08x}", rand::random::<u32>()));
        // Whatever user the container runs as must be able to write it.
        write_file(&file, "", 0o666)?;
        mounts.push(bind(message, &file));
    }
    Ok(mounts)
}

fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    std::fs::write(path, text)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("writing {}: {e}", path.display()))
}
