//! Takes away what is no longer needed: dead containers and sandboxes, what deleted pods left, images when the disk fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;

use crate::cri;
use crate::kubelet::Kubelet;
use crate::pod::identity;
use crate::spec::{CONTAINER_NAME, POD_UID, log_directory};
use crate::volumes;

/// Removes the sandboxes (and with them the containers), logs and files of a pod that is deleted. Idempotent.
///
/// # Errors
/// The first of them that cannot be removed.
pub async fn remove_pod(kubelet: &Kubelet, pod: &Pod) -> anyhow::Result<()> {
    let (_, _, uid) = identity(pod);
    remove_sandboxes(kubelet, uid).await?;
    remove_dir(&log_directory(&kubelet.flags.pod_logs_dir, pod))?;
    remove_dir(&kubelet.pod_dir(uid))
}

/// Removes all sandboxes of a pod.
///
/// # Errors
/// One that cannot be removed.
pub async fn remove_sandboxes(kubelet: &Kubelet, uid: &str) -> anyhow::Result<()> {
    let filter =
        cri::PodSandboxFilter { label_selector: [(POD_UID.to_owned(), uid.to_owned())].into(), ..cri::PodSandboxFilter::default() };
    for sandbox in kubelet.runtime.list_pod_sandboxes(Some(filter)).await? {
        kubelet.runtime.stop_pod_sandbox(&sandbox.id).await?;
        kubelet.runtime.remove_pod_sandbox(&sandbox.id).await?;
    }
    Ok(())
}

/// Removes a directory with all that is in it; it may be gone already.
pub(crate) fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", dir.display())),
        _ => Ok(()),
    }
}

/// Which dead containers of pods that still exist are too many: all but the newest `keep` of each container of each pod.
#[must_use]
pub fn surplus(containers: &[cri::Container], keep: usize) -> Vec<String> {
    let mut dead: BTreeMap<(&str, &str), Vec<&cri::Container>> = BTreeMap::new();
    for c in containers.iter().filter(|c| c.state == i32::from(cri::ContainerState::ContainerExited)) {
        let label = |key: &str| c.labels.get(key).map_or("", String::as_str);
        dead.entry((label(POD_UID), label(CONTAINER_NAME))).or_default().push(c);
    }
    let mut out = vec![];
    for list in dead.values_mut() {
        list.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        // When nothing newer runs, the newest dead one is the container's state and is kept in any case.
        out.extend(list.iter().skip(keep.max(1)).map(|c| c.id.clone()));
    }
    out
}

/// Sandboxes that are dead, hold no container and are not the newest of their pod.
#[must_use]
pub fn dead_sandboxes(sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) -> Vec<String> {
    let occupied: BTreeSet<&str> = containers.iter().map(|c| c.pod_sandbox_id.as_str()).collect();
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    let uid = |s: &'_ cri::PodSandbox| s.labels.get(POD_UID).cloned().unwrap_or_default();
    for s in sandboxes {
        let entry = newest.entry(s.labels.get(POD_UID).map_or("", String::as_str)).or_insert(i64::MIN);
        *entry = (*entry).max(s.created_at);
    }
    let dead = sandboxes.iter().filter(|s| s.state == i32::from(cri::PodSandboxState::SandboxNotready));
    dead.filter(|s| !occupied.contains(s.id.as_str()) && newest.get(uid(s).as_str()) != Some(&s.created_at)).map(|s| s.id.clone()).collect()
}

/// One round: dead containers and sandboxes, and what pods left that are not `known` (neither wanted nor in the runtime).
pub async fn round(kubelet: &Kubelet, known: &BTreeSet<String>) {
    if let Err(error) = containers(kubelet).await {
        tracing::warn!(error = format!("{error:#}"), "dead containers could not be collected");
    }
    if let Err(error) = leftovers(kubelet, known).await {
        tracing::warn!(error = format!("{error:#}"), "what old pods left could not be removed");
    }
}

/// Directories, volumes, logs and cgroups of pods that nobody knows any more, such as of those deleted while the kubelet was away.
async fn leftovers(kubelet: &Kubelet, known: &BTreeSet<String>) -> anyhow::Result<()> {
    for uid in entries(&kubelet.flags.root_dir.join("pods"))?.into_iter().filter(|u| !known.contains(u)) {
        tracing::info!(uid, "removing the volumes and files of a pod that is gone");
        volumes::unmount(&kubelet.volumes, &uid).await?;
        remove_dir(&kubelet.pod_dir(&uid))?;
    }
    for uid in kubelet.cgroups.pods()?.into_iter().filter(|u| !known.contains(u)) {
        kubelet.cgroups.remove(&uid)?;
    }
    let logs = &kubelet.flags.pod_logs_dir;
    // `<namespace>_<name>_<uid>`: none of them may hold an underscore.
    for dir in entries(logs)?.into_iter().filter(|d| d.rsplit_once('_').is_some_and(|(_, uid)| !known.contains(uid))) {
        remove_dir(&logs.join(dir))?;
    }
    Ok(())
}

/// The names in a directory, none when it is not there.
fn entries(dir: &Path) -> anyhow::Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error).with_context(|| format!("reading {}", dir.display())),
    }
}

/// One round over containers and sandboxes of pods that exist.
///
/// # Errors
/// The runtime could not be asked. What cannot be removed is logged and met again in the next round.
pub async fn containers(kubelet: &Kubelet) -> anyhow::Result<()> {
    let containers = kubelet.runtime.list_containers(None).await?;
    let containers: Vec<_> = containers.into_iter().filter(|c| c.labels.contains_key(POD_UID)).collect();
    for id in surplus(&containers, kubelet.flags.maximum_dead_containers_per_container) {
        if let Ok(status) = kubelet.runtime.container_status(&id).await
            && !status.log_path.is_empty()
            && let Err(error) = std::fs::remove_file(&status.log_path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(container = id, %error, "removing a dead container's log");
        }
        if let Err(error) = kubelet.runtime.remove_container(&id).await {
            tracing::warn!(container = id, %error, "a dead container could not be removed");
        }
    }
    let sandboxes = kubelet.runtime.list_pod_sandboxes(None).await?;
    let sandboxes: Vec<_> = sandboxes.into_iter().filter(|s| s.labels.contains_key(POD_UID)).collect();
    for id in dead_sandboxes(&sandboxes, &containers) {
        if let Err(error) = kubelet.runtime.remove_pod_sandbox(&id).await {
            tracing::warn!(sandbox = id, %error, "a dead sandbox could not be removed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, name: &str, state: cri::ContainerState, created_at: i64) -> cri::Container {
        let labels = [(POD_UID.to_owned(), "u".to_owned()), (CONTAINER_NAME.to_owned(), name.to_owned())].into();
        cri::Container { id: id.into(), pod_sandbox_id: "s2".into(), state: state.into(), created_at, labels, ..cri::Container::default() }
    }

    #[test]
    fn the_newest_dead_container_is_kept() {
        use cri::ContainerState::{ContainerExited as Dead, ContainerRunning as Runs};
        let all =
            [container("a0", "a", Dead, 1), container("a1", "a", Dead, 2), container("a2", "a", Runs, 3), container("b0", "b", Dead, 1)];
        assert_eq!(surplus(&all, 1), ["a0"]);
        assert_eq!(surplus(&all, 0), ["a0"]);
    }

    #[test]
    fn empty_old_sandboxes_go() {
        let sandbox = |id: &str, created_at| cri::PodSandbox {
            id: id.into(),
            state: cri::PodSandboxState::SandboxNotready.into(),
            created_at,
            labels: [(POD_UID.to_owned(), "u".to_owned())].into(),
            ..cri::PodSandbox::default()
        };
        let all = [sandbox("s1", 1), sandbox("s2", 2), sandbox("s3", 3)];
        assert_eq!(dead_sandboxes(&all, &[container("a", "a", cri::ContainerState::ContainerExited, 1)]), ["s1"]);
    }
}
