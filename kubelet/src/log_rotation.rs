//! Keeps containers' logs small: a log that has grown too large is renamed, the runtime opens a new one, the oldest are removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::quantity::Quantity;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;
use crate::spec::log_directory;

/// How often logs are looked at (upstream's `containerLogMonitorInterval`).
const EVERY: Duration = Duration::from_secs(10);

/// Looks at the logs of running containers until `shutdown`.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let flags = &kubelet.flags;
    let Ok(most) = flags.container_log_max_size.parse::<Quantity>() else {
        return tracing::error!(value = flags.container_log_max_size, "--container-log-max-size is not a quantity; logs are not rotated");
    };
    let most = u64::try_from(most.value()).unwrap_or(u64::MAX);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for known in kubelet.pods.all() {
            let dir = log_directory(&flags.pod_logs_dir, &known.pod);
            let lists =
                [&known.status.container_statuses, &known.status.init_container_statuses, &known.status.ephemeral_container_statuses];
            for status in lists.into_iter().flatten().flatten().filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some())) {
                let log = dir.join(&status.name).join(format!("{}.log", status.restart_count));
                let Some(id) = known.container_id(&status.name) else { continue };
                if std::fs::metadata(&log).is_ok_and(|m| m.len() >= most)
                    && let Err(error) = rotate(&kubelet, &log, id).await
                {
                    tracing::warn!(log = %log.display(), error = format!("{error:#}"), "the log could not be rotated");
                }
            }
        }
    }
}

async fn rotate(kubelet: &Kubelet, log: &Path, container: &str) -> anyhow::Result<()> {
    let stamp = kubelet.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
    let renamed = PathBuf::from(format!("{}.{stamp}", log.display()));
    std::fs::rename(log, &renamed).with_context(|| format!("renaming {}", log.display()))?;
    if let Err(error) = kubelet.runtime.reopen_container_log(container).await {
        // The runtime still writes to the old file: give it its name back, or its lines would be lost to readers.
        std::fs::rename(&renamed, log).with_context(|| format!("renaming {} back", renamed.display()))?;
        return Err(error).context("reopening the log");
    }
    for old in surplus(rotated(log)?, kubelet.flags.container_log_max_files) {
        std::fs::remove_file(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    Ok(())
}

/// The rotated files of a log, oldest first: their names sort by time.
fn rotated(log: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dir = log.parent().context("a log has a directory")?;
    let prefix = format!("{}.", log.file_name().and_then(|n| n.to_str()).unwrap_or_default());
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?.flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&prefix))).map(|e| e.path()).collect();
    files.sort();
    Ok(files)
}

/// Those of the rotated files (oldest first) that are too many beside the one being written.
fn surplus(mut files: Vec<PathBuf>, most: usize) -> Vec<PathBuf> {
    let keep = most.saturating_sub(1).max(1);
    files.truncate(files.len().saturating_sub(keep));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000002", "0.log.20260101-000001", "0.log.20260101-000003", "10.log.20260101-000000"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        let names = |files: Vec<PathBuf>| files.iter().filter_map(|f| f.file_name()?.to_str().map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(names(surplus(rotated(&log).expect("read"), 3)), ["0.log.20260101-000001"]);
        assert!(surplus(rotated(&log).expect("read"), 5).is_empty());
    }
}
