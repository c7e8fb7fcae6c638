//! Pods that want to be near or far from other pods, and pods that keep others away.
//!
//! "Near" is: on a node with the same value of a label. The counts by label value are made once a pod, over all nodes.

use std::collections::{BTreeSet, HashMap};

use super::{Plugin, PreFilter, Refusal, normalize};
use crate::cluster_event::ClusterEvent;
use crate::node::Node;
use crate::pod::Pod;
use crate::pod_terms::{AffinityTerm, PodAffinity};
use crate::snapshot::Snapshot;

pub struct InterPodAffinity;

/// How much a required affinity of a pod that is there already counts for a pod that comes.
const HARD_AFFINITY_WEIGHT: i64 = 1;

/// Something counted by label and value.
type Tally<'a> = HashMap<(&'a str, &'a str), i64>;

fn value<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.facts.labels.get(key).map(String::as_str)
}

fn count<'a>(tally: &mut Tally<'a>, node: &'a Node, key: &'a str, by: i64) {
    if let Some(value) = value(node, key) {
        *tally.entry((key, value)).or_default() += by;
    }
}

fn counted(tally: &Tally<'_>, node: &Node, key: &str) -> i64 {
    value(node, key).and_then(|v| tally.get(&(key, v))).copied().unwrap_or(0)
}

/// Where pods are that keep `pod` away.
fn repelled<'a>(pod: &Pod, snapshot: &'a Snapshot) -> Tally<'a> {
    let mut out = Tally::new();
    if !snapshot.has_repelling_pods() {
        return out;
    }
    let labels = snapshot.namespace_labels(&pod.namespace);
    for node in snapshot.nodes().filter(|n| n.repelling > 0) {
        for term in node.pods.iter().filter_map(|p| p.affinity.as_deref()).flat_map(|a| &a.forbidden) {
            if term.matches(pod, labels) {
                count(&mut out, node, &term.topology_key, 1);
            }
        }
    }
    out
}

/// Where pods are that `affinity` wants near (that match all its required terms), and where those that it wants far.
fn wanted<'a>(affinity: &'a PodAffinity, snapshot: &'a Snapshot) -> (Tally<'a>, Tally<'a>) {
    let (mut near, mut far) = (Tally::new(), Tally::new());
    for node in snapshot.nodes() {
        for other in &node.pods {
            let labels = snapshot.namespace_labels(&other.namespace);
            if !affinity.required.is_empty() && affinity.required.iter().all(|t| t.matches(other, labels)) {
                affinity.required.iter().for_each(|t| count(&mut near, node, &t.topology_key, 1));
            }
            affinity.forbidden.iter().filter(|t| t.matches(other, labels)).for_each(|t| count(&mut far, node, &t.topology_key, 1));
        }
    }
    (near, far)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let repelled = repelled(pod, snapshot);
        let affinity = pod.affinity.as_deref().filter(|a| !a.required.is_empty() || !a.forbidden.is_empty());
        if repelled.is_empty() && affinity.is_none() {
            return PreFilter::Skip;
        }
        let (near, far) = affinity.map(|a| wanted(a, snapshot)).unwrap_or_default();
        let (required, forbidden) = affinity.map_or((&[][..], &[][..]), |a| (&a.required[..], &a.forbidden[..]));
        // The first pod of a group that wants to be together has nobody to be near to.
        let labels = snapshot.namespace_labels(&pod.namespace);
        let is_first = near.is_empty() && required.iter().all(|t| t.matches(pod, labels));
        PreFilter::Filter(Box::new(move |node: &Node| {
            let beside =
                |t: &AffinityTerm| value(node, &t.topology_key).is_some() && (is_first || counted(&near, node, &t.topology_key) > 0);
            if !required.iter().all(beside) {
                return Err(Refusal::for_good("node(s) didn't match pod affinity rules"));
            }
            if forbidden.iter().any(|t| counted(&far, node, &t.topology_key) > 0) {
                return Err(Refusal::for_now("node(s) didn't match pod anti-affinity rules"));
            }
            if repelled.iter().any(|((key, val), n)| *n > 0 && value(node, key) == Some(val)) {
                return Err(Refusal::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
            }
            Ok(())
        }))
    }

    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let wishes = pod.affinity.as_deref().map_or(&[][..], |a| &a.preferred[..]);
        if wishes.is_empty() && !snapshot.has_affine_pods() {
            return None;
        }
        let own = snapshot.namespace_labels(&pod.namespace);
        let mut tally = Tally::new();
        for node in snapshot.nodes().filter(|n| !wishes.is_empty() || n.affine > 0) {
            for other in &node.pods {
                if !wishes.is_empty() {
                    let labels = snapshot.namespace_labels(&other.namespace);
                    for (weight, term) in wishes.iter().filter(|(_, t)| t.matches(other, labels)) {
                        count(&mut tally, node, &term.topology_key, *weight);
                    }
                }
                let Some(theirs) = other.affinity.as_deref() else { continue };
                let required = theirs.required.iter().map(|t| (HARD_AFFINITY_WEIGHT, t));
                for (weight, term) in theirs.preferred.iter().map(|(w, t)| (*w, t)).chain(required) {
                    if term.matches(pod, own) {
                        count(&mut tally, node, &term.topology_key, weight);
                    }
                }
            }
        }
        if tally.is_empty() {
            return None;
        }
        let keys: BTreeSet<&str> = tally.keys().map(|(key, _)| *key).collect();
        let mut scores: Vec<i64> = nodes.iter().map(|n| keys.iter().map(|key| counted(&tally, n, key)).sum()).collect();
        normalize::stretched(&mut scores);
        Some(scores)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        // Namespace labels are not at hand here: a term that goes by them counts as matching.
        let affinity = pod.affinity.as_deref();
        let missed = |other: &Pod| affinity.is_some_and(|a| a.required.iter().any(|t| t.may_match(other)));
        let shunned = |other: &Pod| affinity.is_some_and(|a| a.forbidden.iter().any(|t| t.may_match(other)));
        let keeps_away = |other: &Pod| other.affinity.as_deref().is_some_and(|a| a.forbidden.iter().any(|t| t.may_match(pod)));
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeChanged { old, new } => old.labels != new.labels,
            ClusterEvent::NodeRemoved(_) | ClusterEvent::Storage(_) => false,
            ClusterEvent::PodAssigned(other) => missed(other),
            ClusterEvent::AssignedPodGone(other) => shunned(other) || keeps_away(other),
            ClusterEvent::AssignedPodChanged { old, new } => old.labels != new.labels && (missed(new) || shunned(old)),
            ClusterEvent::NamespaceChanged { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::verdicts;
    use expect_test::{Expect, expect};

    const ZONES: &str = "
        namespace default team=a
        namespace other team=b
        node a1 label:zone=a
        node a2 label:zone=a
        node b1 label:zone=b
        node c";

    fn term(kind: &str, key: &str, rest: &str) -> String {
        let key = if key == "zone" { "topology.kubernetes.io/zone" } else { "kubernetes.io/hostname" };
        format!(
            r#"spec:{{"affinity": {{"{kind}": {{"requiredDuringSchedulingIgnoredDuringExecution": [
            {{"topologyKey": "{key}", "labelSelector": {{"matchLabels": {{"app": "x"}}}}{rest}}}]}}}}}}"#
        )
    }

    fn wish(kind: &str, weight: i64) -> String {
        format!(
            r#"spec:{{"affinity": {{"{kind}": {{"preferredDuringSchedulingIgnoredDuringExecution": [
            {{"weight": {weight}, "podAffinityTerm": {{"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {{"matchLabels": {{"app": "x"}}}}}}}}]}}}}}}"#
        )
        .replace('\n', " ")
    }

    fn check(pods: &str, pod: &str, expect: Expect) {
        let cluster = format!("{ZONES}\n{pods}");
        expect.assert_eq(&verdicts(&InterPodAffinity, &cluster, &pod.replace('\n', " ")));
    }

    #[test]
    fn near_is_the_same_value_of_the_label() {
        let near = expect![[r#"
            a1 fits
            a2 fits
            b1: node(s) didn't match pod affinity rules
            c: node(s) didn't match pod affinity rules
        "#]];
        check("pod x on=a1 label:app=x", &format!("pod p {}", term("podAffinity", "zone", "")), near);
        let far = expect![[r#"
            a1: node(s) didn't match pod anti-affinity rules (for now)
            a2: node(s) didn't match pod anti-affinity rules (for now)
            b1 fits
            c fits
        "#]];
        check("pod x on=a1 label:app=x", &format!("pod p {}", term("podAntiAffinity", "zone", "")), far);
    }

    #[test]
    fn the_first_of_a_group_may_go_anywhere_that_has_the_label() {
        let anywhere = expect![[r#"
            a1 fits
            a2 fits
            b1 fits
            c: node(s) didn't match pod affinity rules
        "#]];
        check("", &format!("pod p label:app=x {}", term("podAffinity", "zone", "")), anywhere);
        let nowhere = expect![[r#"
            a1: node(s) didn't match pod affinity rules
            a2: node(s) didn't match pod affinity rules
            b1: node(s) didn't match pod affinity rules
            c: node(s) didn't match pod affinity rules
        "#]];
        check("", &format!("pod p {}", term("podAffinity", "zone", "")), nowhere);
    }

    #[test]
    fn pods_that_are_there_keep_others_away() {
        check(
            &format!("pod x on=a1 {}", term("podAntiAffinity", "host", "").replace('\n', " ")),
            "pod p label:app=x",
            expect![[r#"
                a1: node(s) didn't satisfy existing pods anti-affinity rules (for now)
                a2 fits
                b1 fits
                c fits
            "#]],
        );
    }

    #[test]
    fn terms_mean_their_own_namespace_unless_they_say_others() {
        let everywhere = || {
            expect![[r#"
                a1 fits
                a2 fits
                b1 fits
                c fits
            "#]]
        };
        let not_on_a1 = || {
            expect![[r#"
                a1: node(s) didn't match pod anti-affinity rules (for now)
                a2 fits
                b1 fits
                c fits
            "#]]
        };
        let other = "pod x on=a1 label:app=x ns=other";
        let pod = |rest: &str| format!("pod p {}", term("podAntiAffinity", "host", rest));
        check(other, &pod(""), everywhere());
        check(other, &pod(r#", "namespaces": ["other"]"#), not_on_a1());
        check(other, &pod(r#", "namespaceSelector": {"matchLabels": {"team": "b"}}"#), not_on_a1());
        check(other, &pod(r#", "namespaceSelector": {"matchLabels": {"team": "c"}}"#), everywhere());
        check(other, &pod(r#", "namespaceSelector": {}"#), not_on_a1());
    }

    #[test]
    fn wishes_are_scores() {
        check(
            "pod x on=a1 label:app=x",
            &format!("pod p {}", wish("podAffinity", 7)),
            expect![[r#"
                a1 fits 100
                a2 fits 100
                b1 fits 0
                c fits 0
            "#]],
        );
        check(
            "pod x on=a1 label:app=x",
            &format!("pod p {}", wish("podAntiAffinity", 7)),
            expect![[r#"
                a1 fits 0
                a2 fits 0
                b1 fits 100
                c fits 100
            "#]],
        );
        // So are the wishes and demands of pods that are there already.
        check(
            &format!(
                "pod x on=b1 {}\n pod y on=a1 label:app=x {}",
                wish("podAffinity", 7),
                term("podAffinity", "zone", "").replace('\n', " ")
            ),
            "pod p label:app=x",
            expect![[r#"
                a1 fits 14
                a2 fits 14
                b1 fits 100
                c fits 0
            "#]],
        );
    }
}
