//! Removes images that nobody uses when their file system fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::cri;
use crate::events::Kind;
use crate::kubelet::Kubelet;

/// How often it is looked whether there is too much (upstream's ImageGCPeriod).
const EVERY: Duration = Duration::from_secs(300);

/// An image nobody uses at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// When it was last seen in use; when it was first seen, if never.
    pub last_used: Timestamp,
    /// When it was first seen.
    pub first_seen: Timestamp,
}

/// The images to remove for `wanted` bytes: the longest unused first, none that has only just come.
#[must_use]
pub fn plan(mut images: Vec<Unused>, wanted: u64, least_age: SignedDuration, now: Timestamp) -> Vec<String> {
    images.retain(|i| now.duration_since(i.first_seen) >= least_age);
    images.sort_by_key(|i| (i.last_used, i.first_seen, i.id.clone()));
    let mut freed = 0_u64;
    let mut out = vec![];
    for image in images {
        if freed >= wanted {
            break;
        }
        freed = freed.saturating_add(image.size);
        out.push(image.id);
    }
    out
}

/// Looks now and then whether images take too much, until `shutdown`.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut seen: BTreeMap<String, (Timestamp, Timestamp)> = BTreeMap::new();
    loop {
        if let Err(error) = round(&kubelet, &mut seen).await {
            tracing::warn!(error = format!("{error:#}"), "images could not be collected");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(kubelet: &Kubelet, seen: &mut BTreeMap<String, (Timestamp, Timestamp)>) -> anyhow::Result<()> {
    let now = kubelet.clock.now();
    let (images, used) = inventory(kubelet).await?;
    seen.retain(|id, _| images.iter().any(|i| i.id == *id));
    for image in &images {
        let entry = seen.entry(image.id.clone()).or_insert((now, now));
        if used.contains(&image.id) {
            entry.1 = now;
        }
    }
    let info = kubelet.runtime.image_fs_info().await?;
    let Some(mount) = info.image_filesystems.iter().find_map(|f| f.fs_id.as_ref()).map(|f| PathBuf::from(&f.mountpoint)) else {
        return Ok(());
    };
    let stat = rustix::fs::statvfs(&mount).with_context(|| format!("measuring {}", mount.display()))?;
    let (capacity, available) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    let percent = 100 - available.saturating_mul(100).checked_div(capacity).unwrap_or(100);
    let flags = &kubelet.flags;
    // As upstream: 100 means never.
    if percent < u64::from(flags.image_gc_high_threshold) || flags.image_gc_high_threshold >= 100 {
        return Ok(());
    }
    let wanted = (capacity * u64::from(100 - flags.image_gc_low_threshold.min(100)) / 100).saturating_sub(available);
    tracing::info!(percent, high = flags.image_gc_high_threshold, wanted, "the images' file system fills up; removing images");
    let least = SignedDuration::try_from(flags.minimum_image_ttl_duration).unwrap_or(SignedDuration::MAX);
    let unused = images.iter().filter(|i| !used.contains(&i.id)).filter_map(|i| {
        let (first_seen, last_used) = *seen.get(&i.id)?;
        Some(Unused { id: i.id.clone(), size: i.size, last_used, first_seen })
    });
    let chosen = plan(unused.collect(), wanted, least, now);
    let freed: u64 = images.iter().filter(|i| chosen.contains(&i.id)).map(|i| i.size).sum();
    for id in chosen {
        kubelet.runtime.remove_image(&id).await?;
    }
    if freed < wanted {
        let words = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        );
        kubelet.events.node(&kubelet.node.load(), Kind::Warning, "FreeDiskSpaceFailed", words);
    }
    Ok(())
}

/// Removes every image that nobody uses: the disk is full.
///
/// # Errors
/// The runtime could not be asked, or refused.
pub async fn remove_unused(kubelet: &Kubelet) -> anyhow::Result<()> {
    let (images, used) = inventory(kubelet).await?;
    for image in images.iter().filter(|i| !used.contains(&i.id)) {
        kubelet.runtime.remove_image(&image.id).await?;
    }
    Ok(())
}

/// The images that may be removed at all, and the ids of those in use by containers.
async fn inventory(kubelet: &Kubelet) -> anyhow::Result<(Vec<cri::Image>, BTreeSet<String>)> {
    let images = kubelet.runtime.list_images().await?;
    let containers = kubelet.runtime.list_containers(None).await?;
    let named: BTreeSet<&str> = containers
        .iter()
        .flat_map(|c| [c.image_ref.as_str(), c.image_id.as_str(), c.image.as_ref().map_or("", |i| i.image.as_str())])
        .collect();
    let uses =
        |i: &cri::Image| named.contains(i.id.as_str()) || i.repo_tags.iter().chain(&i.repo_digests).any(|n| named.contains(n.as_str()));
    let used = images.iter().filter(|i| uses(i)).map(|i| i.id.clone()).collect();
    // The image of sandboxes is not any container's; runtimes that do not pin it name it `pause`.
    let removable =
        |i: &cri::Image| !i.pinned && !i.repo_tags.iter().any(|t| t.rsplit('/').next().is_some_and(|n| n.starts_with("pause:")));
    Ok((images.into_iter().filter(removable).collect(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first_until_it_is_enough() {
        let at = |s| Timestamp::from_second(s).expect("in range");
        let image =
            |id: &str, size, last_used, first_seen| Unused { id: id.into(), size, last_used: at(last_used), first_seen: at(first_seen) };
        let images = vec![image("new", 50, 990, 990), image("old", 50, 100, 10), image("older", 50, 50, 10), image("oldest", 50, 20, 10)];
        let age = SignedDuration::from_secs(120);
        assert_eq!(plan(images.clone(), 60, age, at(1000)), ["oldest", "older"]);
        assert_eq!(plan(images.clone(), 1000, age, at(1000)), ["oldest", "older", "old"]);
        assert!(plan(images, 0, age, at(1000)).is_empty());
    }
}
