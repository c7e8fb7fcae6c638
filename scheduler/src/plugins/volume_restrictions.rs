//! A claim for one pod (`ReadWriteOncePod`) is used by one pod: the next waits until that is gone.

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::{ClusterEvent, StorageEvent};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct VolumeRestrictions;

const TAKEN: &str = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

fn shares_claim(pod: &Pod, other: &Pod) -> bool {
    pod.namespace == other.namespace && pod.claims.iter().any(|c| other.claims.iter().any(|o| o.name == c.name))
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, world: &'a Snapshot) -> PreFilter<'a> {
        let exclusive: Vec<&str> = world.volumes().claims_of(pod).filter(|c| c.for_one_pod).map(|c| c.key.1.as_str()).collect();
        if exclusive.is_empty() {
            return PreFilter::Skip;
        }
        let uses =
            |other: &Pod| other.namespace == pod.namespace && !other.is(pod) && other.claims.iter().any(|c| exclusive.contains(&&*c.name));
        // Wherever it is used, it is not to be had.
        if !world.nodes().any(|n| n.pods.iter().any(|p| uses(p))) {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(|_: &Node| Err(Refusal::for_now(TAKEN))))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::AssignedPodGone(gone) => shares_claim(pod, gone),
            ClusterEvent::Storage(StorageEvent::Claim(key)) => pod.uses_claim(key),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::verdicts;
    use expect_test::expect;

    fn pod(line: &str) -> String {
        format!(r#"{line} spec:{{"volumes": [{{"name": "x", "persistentVolumeClaim": {{"claimName": "x"}}}}]}}"#)
    }

    #[test]
    fn one_pod_at_a_time() {
        let world = |mode: &str, namespace: &str| {
            format!("node a\n node b\n claim x mode={mode}\n {}", pod(&format!("pod other on=a ns={namespace}")))
        };
        expect![[r#"
            a: node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode (for now)
            b: node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode (for now)
        "#]]
        .assert_eq(&verdicts(&VolumeRestrictions, &world("ReadWriteOncePod", "default"), &pod("pod p")));
        for free in [world("ReadWriteOnce", "default"), world("ReadWriteOncePod", "else")] {
            assert_eq!(verdicts(&VolumeRestrictions, &free, &pod("pod p")), "a fits\nb fits\n");
        }
    }
}
