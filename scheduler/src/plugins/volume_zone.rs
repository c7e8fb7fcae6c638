//! A pod whose volumes carry labels of a zone or region goes to a node of it.

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::{ClusterEvent, StorageEvent};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct VolumeZone;

const LABELS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The label as it is called today.
fn modern(label: &str) -> &str {
    match label {
        "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
        other => other,
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, world: &'a Snapshot) -> PreFilter<'a> {
        let volumes = world.volumes();
        let bound = volumes.claims_of(pod).filter_map(|c| volumes.volume(&c.volume));
        // Several zones in one label are separated by two underscores.
        let demands: Vec<(&str, Vec<&str>)> =
            bound.flat_map(|v| LABELS.iter().filter_map(|l| Some((*l, v.labels.get(*l)?.split("__").collect())))).collect();
        if demands.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(move |node: &Node| {
            let labels = &node.facts.labels;
            // A node without any such label is in a cluster of one zone.
            if !LABELS.iter().any(|l| labels.contains_key(*l)) {
                return Ok(());
            }
            let here = |label: &str| labels.get(label).or_else(|| labels.get(modern(label)));
            let met = demands.iter().all(|(label, zones)| here(label).is_some_and(|zone| zones.contains(&zone.as_str())));
            if met { Ok(()) } else { Err(Refusal::for_good("node(s) had no available volume zone")) }
        }))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Storage(StorageEvent::Claim(key)) => pod.uses_claim(key),
            ClusterEvent::Storage(StorageEvent::Volume | StorageEvent::Class) | ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeChanged { old, new } => old.labels != new.labels,
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
    fn the_zone_of_the_volume_counts() {
        let cluster = "node a label:zone=z1\n node b label:zone=z3\n node c\n claim x volume=v bound\n volume v claim=x label:zone=z1__z2";
        expect![[r#"
            a fits
            b: node(s) had no available volume zone
            c fits
        "#]]
        .assert_eq(&verdicts(
            &VolumeZone,
            cluster,
            r#"pod p spec:{"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "x"}}]}"#,
        ));
    }
}
