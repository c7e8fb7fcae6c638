//! A pod goes where its volumes are, or can be made. What its claims get is chosen with the node.

use super::{Plugin, PreFilter, Refusal};
use crate::cluster_event::{ClusterEvent, StorageEvent};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, world: &'a Snapshot) -> PreFilter<'a> {
        if pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        let volumes = world.volumes();
        if let Err(why) = volumes.check(pod) {
            return PreFilter::Refuse(Refusal::for_good(why));
        }
        PreFilter::Filter(Box::new(move |node: &Node| match volumes.choose(pod, &node.facts) {
            Ok(_) => Ok(()),
            Err(reasons) => Err(Refusal { reasons: reasons.into_iter().map(Into::into).collect(), resolvable: false }),
        }))
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Storage(StorageEvent::Claim(key)) => pod.uses_claim(key),
            ClusterEvent::Storage(_) | ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeChanged { old, new } => old.labels != new.labels,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::verdicts;
    use expect_test::{Expect, expect};

    fn check(cluster: &str, claims: &str, expected: Expect) {
        let volumes: Vec<String> =
            claims.split(' ').map(|c| format!(r#"{{"name": "{c}", "persistentVolumeClaim": {{"claimName": "{c}"}}}}"#)).collect();
        expected.assert_eq(&verdicts(&VolumeBinding, cluster, &format!(r#"pod p spec:{{"volumes": [{}]}}"#, volumes.join(","))));
    }

    const NODES: &str =
        "node a label:zone=1\n node b label:zone=2\n class later waits\n class made waits provisioner=example.com/p\n class now\n";

    #[test]
    fn claims_that_are_not_as_they_should_be() {
        check(NODES, "x", expect![[r#"persistentvolumeclaim "x" not found"#]]);
        check(&format!("{NODES} claim x class=now"), "x", expect!["pod has unbound immediate PersistentVolumeClaims"]);
        check(&format!("{NODES} claim x class=gone"), "x", expect!["pod has unbound immediate PersistentVolumeClaims"]);
        check(
            &format!("{NODES} claim x volume=v lost"),
            "x",
            expect![[r#"persistentvolumeclaim "x" bound to non-existent persistentvolume "v""#]],
        );
        check(&format!("{NODES} claim x deleting"), "x", expect![[r#"persistentvolumeclaim "x" is being deleted"#]]);
    }

    #[test]
    fn a_bound_volume_is_where_it_is() {
        check(
            &format!("{NODES} claim x volume=v bound\n volume v on=b claim=x"),
            "x",
            expect![[r#"
                a: node(s) didn't match PersistentVolume's node affinity
                b fits
            "#]],
        );
        check(
            &format!("{NODES} claim x volume=v bound"),
            "x",
            expect![[r#"
                a: node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)
                b: node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)
            "#]],
        );
    }

    #[test]
    fn a_waiting_claim_needs_a_volume_that_the_node_reaches() {
        check(
            &format!("{NODES} claim x class=later size=2Gi\n volume v on=b class=later size=2Gi\n volume w on=a class=later size=1Gi"),
            "x",
            expect![[r#"
                a: node(s) didn't find available persistent volumes to bind
                b fits
            "#]],
        );
        // Two claims, one volume.
        check(
            &format!("{NODES} claim x class=later\n claim y class=later\n volume v on=b class=later\n volume w on=b class=other"),
            "x y",
            expect![[r#"
                a: node(s) didn't find available persistent volumes to bind
                b: node(s) didn't find available persistent volumes to bind
            "#]],
        );
    }

    #[test]
    fn a_provisioner_makes_volumes_for_the_node_that_was_selected() {
        let anywhere = expect![[r#"
            a fits
            b fits
        "#]];
        check(&format!("{NODES} claim x class=made"), "x", anywhere);
        check(
            &format!("{NODES} claim x class=made selected=b"),
            "x",
            expect![[r#"
                a: node(s) didn't find available persistent volumes to bind
                b fits
            "#]],
        );
    }

    #[test]
    fn no_eviction_helps() {
        assert!(
            !verdicts(
                &VolumeBinding,
                &format!("{NODES} claim x class=later"),
                r#"pod p spec:{"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "x"}}]}"#
            )
            .contains("for now")
        );
    }
}
