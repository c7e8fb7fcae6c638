//! Asks the runtime what there is of a pod.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::cgroups::Limits;
use crate::cri;
use crate::kubelet::Kubelet;
use crate::pod::resize::lowers_memory;
use crate::pod::{Container, Observed, Sandbox, State, identity};
use crate::resources::CPU_PERIOD;
use crate::runtime::{Error, Runtime};
use crate::spec::{CONTAINER_NAME, HASH, MESSAGE_PATH, MESSAGE_POLICY, POD_UID, RESTART_COUNT};

/// The most of a termination message that is kept (API: 4096 bytes a container).
const MAX_MESSAGE: u64 = 4096;
/// The most of a log that stands in for it, in bytes (API: 2048 bytes or 80 lines).
const MAX_LOG: u64 = 2048;
/// And in lines.
const MAX_LOG_LINES: usize = 80;

/// The sandboxes and containers of the pod with this uid, newest first.
///
/// # Errors
/// The runtime could not be asked. Something that vanished between two questions is left out.
pub async fn pod(runtime: &dyn Runtime, uid: &str) -> Result<(Vec<Sandbox>, Vec<Container>), Error> {
    let selector: std::collections::HashMap<String, String> = [(POD_UID.to_owned(), uid.to_owned())].into();
    let filter = cri::PodSandboxFilter { label_selector: selector.clone(), ..cri::PodSandboxFilter::default() };
    let mut sandboxes = vec![];
    for listed in runtime.list_pod_sandboxes(Some(filter)).await? {
        match runtime.pod_sandbox_status(&listed.id).await {
            Ok(status) => sandboxes.push(sandbox(&status)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let filter = cri::ContainerFilter { label_selector: selector, ..cri::ContainerFilter::default() };
    let mut containers = vec![];
    for listed in runtime.list_containers(Some(filter)).await? {
        match runtime.container_status(&listed.id).await {
            Ok(status) => containers.push(container(&status, &listed.pod_sandbox_id)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    sandboxes.sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
    containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    Ok((sandboxes, containers))
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()).flatten()
}

/// A sandbox in our terms.
#[must_use]
pub fn sandbox(status: &cri::PodSandboxStatus) -> Sandbox {
    let network = status.network.clone().unwrap_or_default();
    let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip)).filter(|ip| !ip.is_empty()).collect();
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state == i32::from(cri::PodSandboxState::SandboxReady),
        created_at: time(status.created_at).unwrap_or_default(),
        host_network: options.is_some_and(|o| o.network == i32::from(cri::NamespaceMode::Node)),
        ips,
    }
}

/// A container in our terms.
#[must_use]
pub fn container(status: &cri::ContainerStatus, sandbox: &str) -> Container {
    let note = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => State::Created,
        Ok(cri::ContainerState::ContainerRunning) => State::Running,
        Ok(cri::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let image = status.image.clone().unwrap_or_default();
    let user_image = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
    Container {
        id: status.id.clone(),
        name: status.labels.get(CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        sandbox: sandbox.to_owned(),
        attempt: note(RESTART_COUNT).parse().unwrap_or(metadata.attempt),
        state,
        created_at: time(status.created_at).unwrap_or_default(),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: if state == State::Exited { termination_message(status) } else { String::new() },
        image: user_image,
        image_id: if status.image_ref.is_empty() { status.image_id.clone() } else { status.image_ref.clone() },
        hash: note(HASH),
        limits: status.resources.as_ref().and_then(|r| r.linux.as_ref()).map(|l| Limits {
            shares: l.cpu_shares,
            // A quota means something beside its period.
            quota: l.cpu_quota.saturating_mul(CPU_PERIOD).checked_div(l.cpu_period).unwrap_or(0),
            memory: l.memory_limit_in_bytes,
            pids: 0,
        }),
    }
}

/// What a resize that is under way depends on beside the containers: the pod's cgroup, and the memory in use when limits are to be lowered.
///
/// # Errors
/// The cgroup or the use could not be read.
pub async fn resize(kubelet: &Kubelet, pod: &Pod, seen: &mut Observed) -> anyhow::Result<()> {
    let Some(spec) = pod.spec.as_ref() else { return Ok(()) };
    let mut cgroup = kubelet.cgroups.view(pod)?;
    if !kubelet.flags.cpu_cfs_quota {
        cgroup.wanted.quota = 0;
    }
    seen.resize.cgroup = Some(cgroup);
    if !lowers_memory(spec, seen) {
        return Ok(());
    }
    let label_selector = [(POD_UID.to_owned(), identity(pod).2.to_owned())].into();
    let filter = cri::ContainerStatsFilter { label_selector, ..cri::ContainerStatsFilter::default() };
    for stats in kubelet.runtime.list_container_stats(Some(filter)).await? {
        let memory = stats.memory.unwrap_or_default();
        let used = memory.usage_bytes.or(memory.working_set_bytes).map(|v| i64::try_from(v.value).unwrap_or(i64::MAX));
        if let (Some(of), Some(used)) = (stats.attributes, used) {
            seen.resize.usage.insert(of.id, used);
        }
    }
    Ok(())
}

/// What a container that ended has to say: its message file, or the end of its log if it wants that, or the runtime's words.
fn termination_message(status: &cri::ContainerStatus) -> String {
    let note = |key: &str| status.annotations.get(key).map_or("", String::as_str);
    let path = note(MESSAGE_PATH);
    let file = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path).map(|m| PathBuf::from(&m.host_path));
    let own = file.and_then(|f| tail(&f, MAX_MESSAGE)).unwrap_or_default();
    if !own.is_empty() {
        return own;
    }
    if note(MESSAGE_POLICY) == "FallbackToLogsOnError" && status.exit_code != 0 && !status.log_path.is_empty() {
        // Each line of the log carries some 40 bytes of CRI's own.
        return tail(Path::new(&status.log_path), MAX_LOG * 8).map_or_else(String::new, |log| last_lines(&log));
    }
    status.message.clone()
}

fn last_lines(log: &str) -> String {
    // CRI log lines: time, stream, P(artial) or F(ull), text. What is partial goes on in the next, or ended without a line's end.
    let parts = log.lines().filter_map(|l| {
        let mut words = l.splitn(4, ' ').skip(2);
        let end = if words.next()? == "P" { "" } else { "\n" };
        Some([words.next()?, end])
    });
    let parts: Vec<[&str; 2]> = parts.collect();
    let text = parts[parts.len().saturating_sub(MAX_LOG_LINES)..].as_flattened().concat();
    let most = usize::try_from(MAX_LOG).unwrap_or(usize::MAX);
    let cut = text.ceil_char_boundary(text.len().saturating_sub(most));
    text[cut..].to_owned()
}

/// The last `most` bytes of a file; `None` when there is none.
fn tail(path: &Path, most: u64) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most))).ok()?;
    let mut bytes = vec![];
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_comes_from_its_file_or_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, log) = (dir.path().join("message"), dir.path().join("0.log"));
        std::fs::write(&file, "").expect("written");
        std::fs::write(&log, "2026-01-01T00:00:00Z stdout F first\n2026-01-01T00:00:01Z stderr F it broke\n").expect("written");
        let mut status = cri::ContainerStatus {
            exit_code: 1,
            message: "runtime".into(),
            log_path: log.display().to_string(),
            mounts: vec![cri::Mount { container_path: "/m".into(), host_path: file.display().to_string(), ..cri::Mount::default() }],
            annotations: [(MESSAGE_PATH.to_owned(), "/m".to_owned())].into(),
            ..cri::ContainerStatus::default()
        };
        assert_eq!(termination_message(&status), "runtime");
        status.annotations.insert(MESSAGE_POLICY.to_owned(), "FallbackToLogsOnError".to_owned());
        assert_eq!(termination_message(&status), "first\nit broke\n");
        std::fs::write(&log, "2026-01-01T00:00:00Z stdout F first\n2026-01-01T00:00:01Z stdout P DO\n2026-01-01T00:00:01Z stdout P NE\n")
            .expect("written");
        assert_eq!(termination_message(&status), "first\nDONE", "as it was written");
        std::fs::write(&file, "mine").expect("written");
        assert_eq!(termination_message(&status), "mine");
    }
}
