//! Pods of a group are spread evenly over zones, nodes, or the values of any other node label (KEP-895).
//!
//! Pods that ask for nothing but belong to a Service or a controller are spread by upstream's default constraints: over nodes
//! and zones, as a wish.

use std::collections::HashMap;

use super::{MAX_SCORE, Plugin, PreFilter, Refusal};
use crate::cluster_event::ClusterEvent;
use crate::identity::NodeName;
use crate::node::{Node, NodeFacts};
use crate::pod::Pod;
use crate::pod_terms::SpreadConstraint;
use crate::snapshot::Snapshot;
use crate::taints::admitted;

pub struct PodTopologySpread;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Whether `node` counts as a domain of `constraint` for `pod`.
fn eligible(constraint: &SpreadConstraint, pod: &Pod, node: &NodeFacts) -> bool {
    (!constraint.honor_affinity || pod.node_affinity.admits(node)) && (!constraint.honor_taints || admitted(&node.taints, &pod.tolerations))
}

/// Pods of the group on the node.
fn members(constraint: &SpreadConstraint, pod: &Pod, node: &Node) -> i64 {
    let same = node.pods.iter().filter(|p| !p.deleting && p.namespace == pod.namespace && constraint.selects(&p.labels));
    i64::try_from(same.count()).unwrap_or(i64::MAX)
}

/// The domain that the node is in.
fn value<'n>(node: &'n Node, constraint: &SpreadConstraint) -> Option<&'n str> {
    node.facts.labels.get(&constraint.topology_key).map(String::as_str)
}

fn has_all_keys(constraints: &[&SpreadConstraint], node: &NodeFacts) -> bool {
    constraints.iter().all(|c| node.labels.contains_key(&c.topology_key))
}

/// How the group is spread now, as one constraint sees it.
struct Spread<'a> {
    constraint: &'a SpreadConstraint,
    members: HashMap<&'a str, i64>,
    /// In the emptiest domain.
    least: i64,
    /// 1 when the pod itself is of the group.
    own: i64,
}

impl<'a> Spread<'a> {
    fn new(constraint: &'a SpreadConstraint, all: &[&'a SpreadConstraint], pod: &Pod, snapshot: &'a Snapshot) -> Self {
        let mut domains = HashMap::<&str, i64>::new();
        for node in snapshot.nodes().filter(|n| has_all_keys(all, &n.facts) && eligible(constraint, pod, &n.facts)) {
            *domains.entry(node.facts.labels[&constraint.topology_key].as_str()).or_default() += members(constraint, pod, node);
        }
        let enough = domains.len() >= constraint.min_domains;
        let least = if enough { domains.values().copied().min().unwrap_or(0) } else { 0 };
        Self { constraint, members: domains, least, own: i64::from(constraint.selects(&pod.labels)) }
    }

    fn admits(&self, node: &NodeFacts) -> Result<(), Refusal> {
        let Some(value) = node.labels.get(&self.constraint.topology_key) else {
            return Err(Refusal::for_good("node(s) didn't match pod topology spread constraints (missing required label)"));
        };
        let here = self.members.get(value.as_str()).copied().unwrap_or(0);
        if here + self.own - self.least > self.constraint.max_skew {
            return Err(Refusal::for_now("node(s) didn't match pod topology spread constraints"));
        }
        Ok(())
    }
}

/// The constraints that a pod has which asks for none: none when it belongs to nothing.
fn default_constraints(pod: &Pod, snapshot: &Snapshot) -> Vec<SpreadConstraint> {
    let selectors = snapshot.group_of(pod);
    if selectors.is_empty() {
        return Vec::new();
    }
    let constraint = |key: &str, max_skew| SpreadConstraint {
        topology_key: key.to_owned(),
        max_skew,
        hard: false,
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
        selectors: selectors.clone(),
    };
    vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)]
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn pre_filter<'a>(&self, pod: &'a Pod, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let hard: Vec<&SpreadConstraint> = pod.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return PreFilter::Skip;
        }
        let spreads: Vec<Spread<'a>> = hard.iter().map(|c| Spread::new(c, &hard, pod, snapshot)).collect();
        PreFilter::Filter(Box::new(move |node: &Node| spreads.iter().try_for_each(|s| s.admits(&node.facts))))
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // upstream's formula; numbers of pods and nodes are small
    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let defaults = if pod.spread.is_empty() { default_constraints(pod, snapshot) } else { Vec::new() };
        let soft: Vec<&SpreadConstraint> = pod.spread.iter().filter(|c| !c.hard).chain(&defaults).collect();
        if soft.is_empty() {
            return None;
        }
        // A node that lacks a label is left out when the pod asked for the constraint, and else only where it matters.
        let counts = |node: &NodeFacts| !defaults.is_empty() || has_all_keys(&soft, node);
        let scored = nodes.iter().filter(|n| counts(&n.facts)).count();
        let mut groups = Vec::<(&SpreadConstraint, HashMap<&NodeName, i64>)>::new();
        let mut raw = vec![0.0; nodes.len()];
        for constraint in &soft {
            // Going through all pods is what takes time: constraints on the same group share it.
            let known = groups.iter().position(|(c, _)| c.selectors == constraint.selectors);
            let at = known.unwrap_or_else(|| {
                groups.push((constraint, snapshot.nodes().map(|n| (n.name(), members(constraint, pod, n))).collect()));
                groups.len() - 1
            });
            let group = &groups[at].1;
            let per_node = constraint.topology_key == HOSTNAME;
            let mut domains = HashMap::<&str, i64>::new();
            if !per_node {
                domains.extend(nodes.iter().filter(|n| counts(&n.facts)).filter_map(|n| Some((value(n, constraint)?, 0))));
                for node in snapshot.nodes().filter(|n| counts(&n.facts) && eligible(constraint, pod, &n.facts)) {
                    if let Some(sum) = value(node, constraint).and_then(|v| domains.get_mut(v)) {
                        *sum += group[node.name()];
                    }
                }
            }
            let size = if per_node { scored } else { domains.len() };
            let weight = ((size + 2) as f64).ln();
            for (node, score) in nodes.iter().zip(&mut raw).filter(|(n, _)| counts(&n.facts)) {
                let Some(value) = value(node, constraint) else { continue };
                let here = if per_node { group[node.name()] } else { domains.get(value).copied().unwrap_or(0) };
                *score += here as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
        let raw: Vec<Option<i64>> = nodes.iter().zip(raw).map(|(n, s)| counts(&n.facts).then_some(s.round() as i64)).collect();
        Some(fewest_is_best(&raw))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn cured_by(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let of_group = |other: &Pod| other.namespace == pod.namespace && pod.spread.iter().any(|c| c.hard && c.selects(&other.labels));
        let is_domain = |node: &NodeFacts| pod.spread.iter().filter(|c| c.hard).all(|c| node.labels.contains_key(&c.topology_key));
        match event {
            ClusterEvent::PodAssigned(other) | ClusterEvent::AssignedPodGone(other) => of_group(other),
            ClusterEvent::AssignedPodChanged { old, new } => {
                (old.labels != new.labels || old.deleting != new.deleting) && (of_group(old) || of_group(new))
            }
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeRemoved(node) => is_domain(node),
            ClusterEvent::NodeChanged { old, new } => {
                (old.labels != new.labels || old.taints != new.taints) && (is_domain(old) || is_domain(new))
            }
            ClusterEvent::NamespaceChanged { .. } | ClusterEvent::Storage(_) => false,
        }
    }
}

/// The fewer, the better; `None` is a node that does not count.
fn fewest_is_best(raw: &[Option<i64>]) -> Vec<i64> {
    let least = raw.iter().flatten().copied().min().unwrap_or(0);
    let most = raw.iter().flatten().copied().max().unwrap_or(0);
    let score = |s: &Option<i64>| match s {
        None => 0,
        Some(_) if most == 0 => MAX_SCORE,
        Some(s) => MAX_SCORE * (most + least - s) / most,
    };
    raw.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Change;
    use crate::plugins::verdicts;
    use crate::world;
    use expect_test::{Expect, expect};

    const ZONES: &str = "
        node a1 label:zone=a
        node a2 label:zone=a
        node b1 label:zone=b
        node c";

    fn pod(skew: u32, key: &str, unsatisfiable: &str, rest: &str) -> String {
        let key = if key == "zone" { "topology.kubernetes.io/zone" } else { "kubernetes.io/hostname" };
        format!(
            r#"pod p label:app=x label:v=2 spec:{{"topologySpreadConstraints": [{{"maxSkew": {skew}, "topologyKey": "{key}",
            "whenUnsatisfiable": "{unsatisfiable}", "labelSelector": {{"matchLabels": {{"app": "x"}}}}{rest}}}]}}"#
        )
        .replace('\n', " ")
    }

    fn check(pods: &str, pod: &str, expect: Expect) {
        expect.assert_eq(&verdicts(&PodTopologySpread, &format!("{ZONES}\n{pods}"), pod));
    }

    #[test]
    fn no_domain_gets_ahead_of_the_emptiest_by_more_than_the_skew() {
        check(
            "pod x on=a1 label:app=x",
            &pod(1, "zone", "DoNotSchedule", ""),
            expect![[r#"
                a1: node(s) didn't match pod topology spread constraints (for now)
                a2: node(s) didn't match pod topology spread constraints (for now)
                b1 fits
                c: node(s) didn't match pod topology spread constraints (missing required label)
            "#]],
        );
        check(
            "pod x on=a1 label:app=x",
            &pod(2, "zone", "DoNotSchedule", ""),
            expect![[r#"
                a1 fits
                a2 fits
                b1 fits
                c: node(s) didn't match pod topology spread constraints (missing required label)
            "#]],
        );
    }

    #[test]
    fn only_living_pods_of_the_group_and_the_namespace_count() {
        let free = || {
            expect![[r#"
                a1 fits
                a2 fits
                b1 fits
                c: node(s) didn't match pod topology spread constraints (missing required label)
            "#]]
        };
        check("pod x on=a1 label:app=x deleting", &pod(1, "zone", "DoNotSchedule", ""), free());
        check("pod x on=a1 label:app=x ns=other", &pod(1, "zone", "DoNotSchedule", ""), free());
        check("pod x on=a1 label:app=y", &pod(1, "zone", "DoNotSchedule", ""), free());
        check("pod x on=a1 label:app=x label:v=1", &pod(1, "zone", "DoNotSchedule", r#", "matchLabelKeys": ["v"]"#), free());
    }

    #[test]
    fn too_few_domains_count_as_an_empty_one() {
        check(
            "pod x on=a1 label:app=x\n pod y on=b1 label:app=x",
            &pod(1, "zone", "DoNotSchedule", r#", "minDomains": 3"#),
            expect![[r#"
                a1: node(s) didn't match pod topology spread constraints (for now)
                a2: node(s) didn't match pod topology spread constraints (for now)
                b1: node(s) didn't match pod topology spread constraints (for now)
                c: node(s) didn't match pod topology spread constraints (missing required label)
            "#]],
        );
    }

    #[test]
    fn nodes_that_the_pod_cannot_use_are_no_domains() {
        let cluster = "node a1 label:zone=a\n node b1 label:zone=b taint:x:NoSchedule\n pod x on=a1 label:app=x";
        let fits = |rest| verdicts(&PodTopologySpread, cluster, &pod(1, "zone", "DoNotSchedule", rest));
        assert!(fits("").starts_with("a1: node(s) didn't match"));
        assert!(fits(r#", "nodeTaintsPolicy": "Honor""#).starts_with("a1 fits"));
    }

    #[test]
    fn wishes_are_scores() {
        check(
            "pod x on=a1 label:app=x\n pod y on=a2 label:app=x\n pod z on=b1 label:app=x",
            &pod(1, "zone", "ScheduleAnyway", ""),
            expect![[r#"
                a1 fits 33
                a2 fits 33
                b1 fits 100
                c fits 0
            "#]],
        );
        check(
            "pod x on=a1 label:app=x",
            &pod(1, "host", "ScheduleAnyway", ""),
            expect![[r#"
                a1 fits 0
                a2 fits 100
                b1 fits 100
                c fits 100
            "#]],
        );
    }

    #[test]
    fn pods_of_a_service_or_controller_are_spread_by_default() {
        let mut world = world::world(&format!("{ZONES}\n pod x on=a1 label:app=x owner=rs"));
        let pod = world::pod("pod p label:app=x owner=rs");
        let scores = |world: &crate::cache::Cache| {
            let nodes: Vec<&Node> = ["a1", "a2", "b1", "c"].map(|n| world.snapshot().node(n).expect("a node")).to_vec();
            PodTopologySpread.score(&pod, world.snapshot(), &nodes)
        };
        assert_eq!(scores(&world), None);
        let selector = api::labels::Selector::parse("app=x").expect("a selector");
        world.snapshot_mut().groups_mut().controller("replicasets", Change::Put("rs".into(), selector));
        // Same node, same zone, other zone; and a node without zone, which nothing speaks against.
        assert_eq!(scores(&world), Some(vec![22, 44, 55, 100]));
    }
}
