//! A node's CSI driver can have so many volumes and no more.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::{ClusterEvent, StorageEvent};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::volumes::Volumes;

pub struct NodeVolumeLimits;

/// Driver, and what makes a volume another one: its handle, or while it is still to be made its claim.
type Attached = BTreeSet<(String, String)>;

fn attached(pod: &Pod, volumes: &Volumes) -> Attached {
    let of = |claim: &std::sync::Arc<crate::volumes::Claim>| {
        if let Some(volume) = volumes.volume(&claim.volume) {
            return volume.csi.clone();
        }
        let class = volumes.class(&claim.class)?;
        Some((class.provisioner.clone(), format!("{}/{}", claim.key.0, claim.key.1)))
    };
    volumes.claims_of(pod).filter_map(of).collect()
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, world: &'a Snapshot) -> PreFilter<'a> {
        let volumes = world.volumes();
        let wanted = attached(pod, volumes);
        if wanted.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(move |node: &Node| {
            let Some(limits) = volumes.limits_of(node.name()).filter(|l| wanted.iter().any(|(d, _)| l.contains_key(d))) else {
                return Ok(());
            };
            let there: Attached = node.pods.iter().flat_map(|p| attached(p, volumes)).collect();
            let mut count = BTreeMap::<&str, i64>::new();
            for (driver, _) in there.union(&wanted) {
                *count.entry(driver).or_default() += 1;
            }
            // What is there already costs nothing more.
            let more = |driver: &str| wanted.difference(&there).any(|(d, _)| d == driver);
            let full = limits.iter().any(|(driver, most)| more(driver) && count.get(driver.as_str()).is_some_and(|n| n > most));
            if full { Err(Refusal::for_now("node(s) exceed max volume count")) } else { Ok(()) }
        }))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::AssignedPodGone(gone) => !gone.claims.is_empty(),
            ClusterEvent::Storage(StorageEvent::Claim(key)) => pod.uses_claim(key),
            ClusterEvent::Storage(StorageEvent::Limits) | ClusterEvent::NodeAdded(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::verdicts;
    use expect_test::expect;

    #[test]
    fn a_full_node_takes_only_what_it_has() {
        let pod = |line: &str, claim: &str| {
            format!(r#"{line} spec:{{"volumes": [{{"name": "x", "persistentVolumeClaim": {{"claimName": "{claim}"}}}}]}}"#)
        };
        let cluster = format!(
            "node a\n node b\n limits a d=1\n limits b d=2\n claim x volume=v bound\n claim y volume=w bound\n volume v csi=d\n volume w csi=d\n {}\n {}",
            pod("pod one on=a", "x"),
            pod("pod two on=b", "x")
        );
        expect![[r#"
            a: node(s) exceed max volume count (for now)
            b fits
        "#]]
        .assert_eq(&verdicts(&NodeVolumeLimits, &cluster, &pod("pod p", "y")));
        assert_eq!(verdicts(&NodeVolumeLimits, &cluster, &pod("pod p", "x")), "a fits\nb fits\n");
    }
}
