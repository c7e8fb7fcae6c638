//! One scheduling cycle: which node for this pod?
//!
//! [`schedule`] is a plain function of the pod and the snapshot. It filters nodes in turn until enough fit, scores those, and
//! picks one of the best. Start reading here.

use std::collections::BTreeSet;

use crate::diagnosis::Diagnosis;
use crate::identity::NodeName;
use crate::node::Node;
use crate::plugins::{Filter, Plugin, PreFilter, Refusal};
use crate::pod::Pod;
use crate::snapshot::Snapshot;

/// What a cycle decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The pod goes to this node.
    Place {
        /// The node.
        node: NodeName,
        /// How many nodes were looked at; the next search starts after them.
        evaluated: usize,
    },
    /// The pod fits nowhere.
    Refuse(Diagnosis),
}

/// What a cycle leaves to chance or to its caller's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chance {
    /// Where the search starts, so that all nodes have their turn.
    pub start: usize,
    /// Chooses between equally good nodes.
    pub tie: u64,
}

/// In clusters no larger than this, and among at least so many, all nodes that fit are scored.
const ENOUGH: usize = 100;

/// How many fitting nodes are enough to choose from: all in small clusters, then half of them going down to a twentieth.
#[must_use]
pub fn enough_of(nodes: usize) -> usize {
    if nodes < ENOUGH {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH)
}

/// Decides where `pod` goes.
#[must_use]
pub fn schedule(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, chance: Chance) -> Decision {
    let mut diagnosis = Diagnosis { nodes: snapshot.len(), ..Diagnosis::default() };
    let search = match Search::new(plugins, pod, snapshot) {
        Ok(search) => search,
        Err((plugin, refusal)) => {
            diagnosis.plugins.insert(plugin);
            diagnosis.pod = Some(refusal);
            return Decision::Refuse(diagnosis);
        }
    };
    // Where room was made for it, it goes if it can.
    if let Some(node) = pod.nominated.as_ref().and_then(|name| snapshot.node(name.as_str()))
        && search.allows(node)
        && search.judge(node).is_ok()
    {
        return Decision::Place { node: node.name().clone(), evaluated: 0 };
    }
    let enough = enough_of(snapshot.len());
    let mut fitting = Vec::<&Node>::new();
    for node in snapshot.in_turn(chance.start).filter(|n| search.allows(n)) {
        match search.judge(node) {
            Ok(()) => fitting.push(node),
            Err((plugin, refusal)) => {
                diagnosis.plugins.insert(plugin);
                diagnosis.refused.push((node.name().clone(), refusal));
            }
        }
        if fitting.len() >= enough {
            break;
        }
    }
    let evaluated = fitting.len() + diagnosis.refused.len();
    let best = match fitting[..] {
        [] => None,
        [only] => Some(only),
        _ => Some(best_of(plugins, pod, snapshot, &fitting, chance.tie)),
    };
    if let Some(node) = best {
        return Decision::Place { node: node.name().clone(), evaluated };
    }
    if let Some((plugin, _)) = &search.only {
        diagnosis.plugins.insert(plugin);
        diagnosis.others = Some(format!("node(s) didn't satisfy plugin(s) [{plugin}]"));
    }
    Decision::Refuse(diagnosis)
}

/// Whether `pod` would fit on this node of this world.
///
/// # Errors
/// Why not.
pub fn fits(plugins: &[&dyn Plugin], pod: &Pod, world: &Snapshot, name: &NodeName) -> Result<(), Refusal> {
    let Some(node) = world.node(name.as_str()) else { return Err(Refusal::for_good("node not found")) };
    // One node only: what looks at the whole cluster comes last, and is spared when the node lacks room anyway.
    for plugin in plugins {
        match plugin.pre_filter(pod, world) {
            PreFilter::Skip => {}
            PreFilter::Filter(filter) | PreFilter::Only(_, filter) => filter(node)?,
            PreFilter::Refuse(refusal) => return Err(refusal),
        }
    }
    match with_nominated(pod, world, node) {
        Some(later) => fits(plugins, pod, &later, name),
        None => Ok(()),
    }
}

/// The world in which the more important pods for which room is made on `node` have come; `None` when there are none.
fn with_nominated(pod: &Pod, world: &Snapshot, node: &Node) -> Option<Snapshot> {
    let mut coming = world.nominated(node.name(), pod).peekable();
    coming.peek()?;
    let mut later = world.clone();
    for other in coming {
        later.add_pod(node.name(), other.clone());
    }
    later.nominated_mut().remove(node.name());
    Some(later)
}

/// The filters for one pod, in the world as it is and in the world in which the nominated pods have come.
struct Search<'a> {
    pod: &'a Pod,
    world: &'a Snapshot,
    plugins: &'a [&'a dyn Plugin],
    filters: Vec<(&'static str, Filter<'a>)>,
    only: Option<(&'static str, BTreeSet<&'a str>)>,
}

type Refused = (&'static str, Refusal);

impl<'a> Search<'a> {
    fn new(plugins: &'a [&'a dyn Plugin], pod: &'a Pod, world: &'a Snapshot) -> Result<Self, Refused> {
        let mut search = Self { pod, world, plugins, filters: Vec::with_capacity(plugins.len()), only: None };
        for plugin in plugins {
            match plugin.pre_filter(pod, world) {
                PreFilter::Skip => {}
                PreFilter::Filter(filter) => search.filters.push((plugin.name(), filter)),
                PreFilter::Only(names, filter) => {
                    search.only = Some(match search.only {
                        None => (plugin.name(), names),
                        Some((first, others)) => (first, others.intersection(&names).copied().collect()),
                    });
                    search.filters.push((plugin.name(), filter));
                }
                PreFilter::Refuse(refusal) => return Err((plugin.name(), refusal)),
            }
        }
        Ok(search)
    }

    /// Whether the node needs to be judged at all.
    fn allows(&self, node: &Node) -> bool {
        self.only.as_ref().is_none_or(|(_, names)| names.contains(node.name().as_str()))
    }

    fn judge(&self, node: &Node) -> Result<(), Refused> {
        self.judge_as_it_is(node)?;
        // Room that was made for others is theirs; but they may not come, so the pod must fit without them too.
        let Some(later) = with_nominated(self.pod, self.world, node) else { return Ok(()) };
        let search = Search::new(self.plugins, self.pod, &later)?;
        later.node(node.name().as_str()).map_or(Ok(()), |node| search.judge_as_it_is(node))
    }

    fn judge_as_it_is(&self, node: &Node) -> Result<(), Refused> {
        self.filters.iter().try_for_each(|(plugin, filter)| filter(node).map_err(|refusal| (*plugin, refusal)))
    }
}

/// The node with the highest sum of weighted scores; chance decides between equals.
fn best_of<'n>(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, nodes: &[&'n Node], tie: u64) -> &'n Node {
    let mut totals = vec![0; nodes.len()];
    for plugin in plugins {
        if let Some(scores) = plugin.score(pod, snapshot, nodes) {
            let weight = plugin.weight();
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let best = || totals.iter().zip(nodes).filter(|(total, _)| **total == most).map(|(_, node)| *node);
    let chosen = usize::try_from(tie % best().count() as u64).unwrap_or(0);
    best().nth(chosen).unwrap_or(nodes[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::PLUGINS;
    use crate::world;
    use expect_test::{Expect, expect};

    /// Where the pod goes in the cluster; or what is said of it.
    fn check(cluster: &str, pod: &str, expect: Expect) {
        let world = world::world(cluster);
        let said = match schedule(PLUGINS, &world::pod(pod), world.snapshot(), Chance::default()) {
            Decision::Place { node, .. } => node.to_string(),
            Decision::Refuse(diagnosis) => diagnosis.message(None),
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn says_why_node_by_node() {
        let cluster = "
            node a cpu=1
            node b taint:dedicated=db:NoSchedule
            node c unschedulable
            node d taint:node.kubernetes.io/not-ready:NoExecute
            node e cpu=1 memory=1Mi pods=0";
        check(
            cluster,
            "pod p cpu=2 memory=1Gi",
            expect![
                "0/5 nodes are available: 1 Insufficient memory, 1 Too many pods, 1 node(s) were unschedulable, 2 Insufficient cpu, 2 node(s) had untolerated taint(s)."
            ],
        );
        check("", "pod p", expect!["no nodes available to schedule pods"]);
    }

    #[test]
    fn goes_where_most_is_free() {
        check("node a cpu=4\n node b cpu=4\n pod x on=a cpu=2", "pod p cpu=1", expect!["b"]);
        // Balance: on a, CPU and memory would be used to the same part.
        check(
            "node a cpu=10 memory=10Gi\n node b cpu=10 memory=10Gi\n pod x on=a memory=2Gi\n pod y on=b cpu=2",
            "pod p cpu=3 memory=1Gi",
            expect!["a"],
        );
    }

    #[test]
    fn counts_pods_and_extended_resources() {
        check("node a pods=1\n pod x on=a", "pod p", expect!["0/1 nodes are available: 1 Too many pods."]);
        check(
            "node a example.com/gpu=2\n pod x on=a example.com/gpu=1",
            "pod p example.com/gpu=2",
            expect!["0/1 nodes are available: 1 Insufficient example.com/gpu."],
        );
        check("node a\n node b example.com/gpu=2", "pod p example.com/gpu=2", expect!["b"]);
        check(
            "node a ephemeral-storage=1Gi",
            "pod p ephemeral-storage=2Gi",
            expect!["0/1 nodes are available: 1 Insufficient ephemeral-storage."],
        );
    }

    #[test]
    fn absurd_amounts_do_no_harm() {
        let cluster = "node a cpu=8E memory=8E image:big=9000000000000000000\n node b cpu=-1 memory=-1\n pod x on=a cpu=8E memory=8E";
        check(cluster, "pod p memory=8E image=big", expect!["0/2 nodes are available: 2 Insufficient memory."]);
        check(&cluster.replace("pod x", "node c cpu=8E memory=8E\n pod x"), "pod p memory=7E image=big", expect!["c"]);
    }

    #[test]
    fn selects_nodes_by_label() {
        let cluster = "node a label:disk=hdd label:n=5\n node b label:disk=ssd label:n=50";
        check(cluster, r#"pod p spec:{"nodeSelector": {"disk": "ssd"}}"#, expect!["b"]);
        check(
            cluster,
            r#"pod p spec:{"nodeSelector": {"disk": "tape"}}"#,
            expect!["0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."],
        );
        let required = |expression: &str| {
            format!(
                r#"pod p spec:{{"affinity": {{"nodeAffinity": {{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [{expression}]}}}}}}}}"#
            )
        };
        check(cluster, &required(r#"{"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["7"]}]}"#), expect!["b"]);
        check(cluster, &required(r#"{"matchExpressions": [{"key": "n", "operator": "Lt", "values": ["7"]}]}"#), expect!["a"]);
        check(
            cluster,
            &required(
                r#"{"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["hdd"]}]}"#,
            ),
            expect!["b"],
        );
        check(cluster, &required("{}"), expect!["0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."]);
    }

    #[test]
    fn a_pod_of_a_daemon_set_looks_at_its_node_only() {
        let pod = |names: &str| {
            format!(
                r#"pod p cpu=2 spec:{{"affinity": {{"nodeAffinity": {{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [
                {{"matchFields": [{names}]}}]}}}}}}}}"#
            )
        };
        let name = |n: &str| format!(r#"{{"key": "metadata.name", "operator": "In", "values": ["{n}"]}}"#);
        check("node a\n node b\n node c", &pod(&name("b")), expect!["b"]);
        check(
            "node a\n node b cpu=1\n node c",
            &pod(&name("b")),
            expect!["0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."],
        );
        check(
            "node a\n node b",
            &pod(&format!("{}, {}", name("a"), name("b"))),
            expect!["0/2 nodes are available: pod affinity terms conflict."],
        );
    }

    #[test]
    fn prefers_nodes_by_label_and_without_soft_taints() {
        let prefer = r#"pod p spec:{"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}}"#;
        check("node a\n node b label:disk=ssd\n node c", prefer, expect!["b"]);
        check("node a taint:x:PreferNoSchedule\n node b\n node c taint:y:PreferNoSchedule", "pod p", expect!["b"]);
    }

    #[test]
    fn tolerates_taints() {
        let cluster = "node a taint:dedicated=db:NoSchedule\n node b taint:dedicated=web:NoExecute";
        let tolerate = |v: &str| format!(r#"pod p spec:{{"tolerations": [{{"key": "dedicated", "value": "{v}"}}]}}"#);
        check(cluster, &tolerate("db"), expect!["a"]);
        check(cluster, &tolerate("web"), expect!["b"]);
        check(cluster, &tolerate("x"), expect!["0/2 nodes are available: 2 node(s) had untolerated taint(s)."]);
        check(
            "node a unschedulable",
            r#"pod p spec:{"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}"#,
            expect!["a"],
        );
    }

    #[test]
    fn host_ports_conflict_by_address_and_protocol() {
        let taken = || expect!["0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."];
        check("node a\n pod x on=a port=80", "pod p port=80", taken());
        check("node a\n pod x on=a port=127.0.0.1:80", "pod p port=80", taken());
        check("node a\n pod x on=a port=80", "pod p port=127.0.0.1:80", taken());
        check("node a\n pod x on=a port=127.0.0.1:80", "pod p port=127.0.0.2:80", expect!["a"]);
        check("node a\n pod x on=a port=80/UDP", "pod p port=80", expect!["a"]);
    }

    #[test]
    fn goes_where_its_large_image_is() {
        check("node a\n node b image:big:latest=900000000\n node c", "pod p image=big", expect!["b"]);
        check("node a\n node b image:r.io:5000/big:1=900000000\n node c", "pod p image=r.io:5000/big:1", expect!["b"]);
    }

    #[test]
    fn room_made_for_others_is_theirs() {
        let cluster = "node a cpu=2\n pod vip nominated=a cpu=2 priority=10";
        check(cluster, "pod p cpu=1 priority=1", expect!["0/1 nodes are available: 1 Insufficient cpu."]);
        check(cluster, "pod p cpu=1 priority=11", expect!["a"]);
        check("node a\n node b cpu=2\n pod vip nominated=b cpu=2 priority=10", "pod vip cpu=2 priority=10 nominated=b", expect!["b"]);
    }

    #[test]
    fn chance_chooses_between_equals() {
        let world = world::world("node a\n node b\n node c");
        let pod = world::pod("pod p");
        let place = |tie| match schedule(PLUGINS, &pod, world.snapshot(), Chance { start: 0, tie }) {
            Decision::Place { node, .. } => node.to_string(),
            Decision::Refuse(diagnosis) => panic!("{}", diagnosis.message(None)),
        };
        assert_eq!([place(0), place(1), place(2), place(3)], ["a", "b", "c", "a"]);
    }

    #[test]
    fn large_clusters_are_searched_in_part_and_in_turn() {
        assert_eq!([1, 99, 100, 200, 1000, 5000, 10_000].map(enough_of), [1, 99, 100, 100, 420, 500, 500]);
        let text: String = (0..300).map(|i| format!("node n{i} label:zone=z{}\n", i % 3)).collect();
        let world = world::world(&text);
        let evaluated = |start| match schedule(PLUGINS, &world::pod("pod p"), world.snapshot(), Chance { start, tie: 0 }) {
            Decision::Place { evaluated, .. } => evaluated,
            Decision::Refuse(diagnosis) => panic!("{}", diagnosis.message(None)),
        };
        assert_eq!([evaluated(0), evaluated(299), evaluated(1234)], [enough_of(300); 3]);
        let zones: Vec<&str> = world.snapshot().in_turn(0).take(4).map(|n| n.facts.zone()).collect();
        assert_eq!(zones, ["z0", "z1", "z2", "z0"]);
    }
}
