//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::fs;
use std::io;
use std::path::Path;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{mounting, ownership};
use crate::env::NodeFacts;

/// Where an empty directory's files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// The file system of `--root-dir`.
    Disk,
    /// Memory, at most so many bytes; without a number, what the kernel allows.
    Memory(Option<u64>),
}

impl Medium {
    /// What an `emptyDir` asks for; `None` when there is no such medium here.
    #[must_use]
    pub fn of(source: &EmptyDirVolumeSource, pod: &Pod, node: &NodeFacts) -> Option<Self> {
        match source.medium.as_deref().unwrap_or_default() {
            "" => Some(Self::Disk),
            "Memory" => Some(Self::Memory(size(source, pod, node))),
            _ => None,
        }
    }
}

/// The smallest of `sizeLimit`, the memory the pod may use, and the node's allocatable memory.
fn size(source: &EmptyDirVolumeSource, pod: &Pod, node: &NodeFacts) -> Option<u64> {
    let bytes = |text: &Text| text.0.parse::<Quantity>().ok().and_then(|q| u64::try_from(q.value()).ok()).filter(|n| *n > 0);
    let limits: Option<Vec<u64>> = pod.spec.as_ref().and_then(|spec| {
        let of = |c: &k8s_openapi::api::core::v1::Container| c.resources.as_ref()?.limits.as_ref()?.get("memory").and_then(bytes);
        spec.containers.iter().map(of).collect()
    });
    let pod_limit = limits.filter(|l| !l.is_empty()).map(|l| l.into_iter().fold(0, u64::saturating_add));
    [source.size_limit.as_ref().and_then(bytes), pod_limit, node.allocatable.get("memory").and_then(bytes)].into_iter().flatten().min()
}

/// Makes the directory, writable for everybody; one that is there is left as it is.
///
/// # Errors
/// What the file system says.
pub fn set_up(dir: &Path, medium: Medium, group: Option<u32>) -> io::Result<()> {
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    match medium {
        Medium::Memory(size) => {
            fs::create_dir_all(dir)?;
            if !mounting::is_mount_point(dir)? {
                mounting::tmpfs(dir, size, mode, group)?;
            }
        }
        Medium::Disk if dir.is_dir() => {}
        Medium::Disk => {
            // Made aside and renamed, so that one that is there is always finished.
            let aside = dir.with_extension("new");
            fs::create_dir_all(&aside)?;
            ownership::give_directory(&aside, mode, group)?;
            fs::rename(&aside, dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(source: serde_json::Value, memory_limits: &[&str], expected: Option<Medium>) {
        let containers: Vec<_> = memory_limits
            .iter()
            .map(|m| json!({"name": "c", "resources": {"limits": if m.is_empty() { json!({}) } else { json!({"memory": m}) }}}))
            .collect();
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
        let node = NodeFacts { allocatable: [("memory".to_owned(), Text("1Gi".into()))].into(), ..NodeFacts::default() };
        assert_eq!(Medium::of(&serde_json::from_value(source).unwrap(), &pod, &node), expected);
    }

    #[test]
    fn memory_is_bounded_by_the_smallest_limit() {
        check(json!({}), &[""], Some(Medium::Disk));
        check(json!({"medium": "Memory"}), &[""], Some(Medium::Memory(Some(1 << 30))));
        check(json!({"medium": "Memory", "sizeLimit": "1Mi"}), &["2Mi"], Some(Medium::Memory(Some(1 << 20))));
        check(json!({"medium": "Memory"}), &["2Mi", "2Mi"], Some(Medium::Memory(Some(4 << 20))));
        check(json!({"medium": "Memory"}), &["2Mi", ""], Some(Medium::Memory(Some(1 << 30))));
        check(json!({"medium": "Tape"}), &[""], None);
    }

    #[test]
    fn a_second_set_up_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.1");
        set_up(&path, Medium::Disk, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
        fs::write(path.join("f"), "x").unwrap();
        set_up(&path, Medium::Disk, None).unwrap();
        assert!(path.join("f").exists());
    }
}
