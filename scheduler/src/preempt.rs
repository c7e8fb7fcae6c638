//! Making room: which less important pods would have to go for this one to fit?
//!
//! A what-if. On each node that might do, all less important pods are taken away in a hypothetical snapshot; if the pod fits
//! then, as many as possible are put back, the most important first and those that a disruption budget protects before
//! others. Who is left out is a victim. Among the nodes the one that hurts least is chosen. Nothing here acts.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::labels::Selector;
use jiff::Timestamp;

use crate::cycle::fits;
use crate::diagnosis::{Diagnosis, unavailable};
use crate::identity::{NodeName, Uid};
use crate::plugins::{Plugin, Refusal};
use crate::pod::Pod;
use crate::snapshot::Snapshot;

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its namespace; it protects pods there.
    pub namespace: String,
    /// Which pods.
    pub selector: Selector,
    /// How many may go now.
    pub allowed: i64,
    /// Names of pods that are counted as gone already.
    pub disrupted: BTreeSet<String>,
}

impl Budget {
    fn protects(&self, pod: &Pod) -> bool {
        // A budget that selects everything protects nothing here, as upstream has it.
        *self.namespace == *pod.namespace
            && !pod.labels.is_empty()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&*pod.name)
    }
}

/// What came of the question.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing can or should be evicted; the words for the event. `withdraw`: nor is room being made anywhere, so an earlier
    /// nomination is void.
    None {
        /// Why.
        message: String,
        /// Whether an earlier nomination is void.
        withdraw: bool,
    },
    /// These pods are to go.
    Evict(Plan),
}

/// Whom to evict, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The node on which room is made.
    pub node: NodeName,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them go against a disruption budget.
    pub violations: usize,
}

/// At least so many nodes are tried before the best of them is taken.
const FEWEST_CANDIDATES: usize = 100;

/// Decides whom to evict for `pod`, which `diagnosis` says fits nowhere. `random` chooses where the search starts.
#[must_use]
pub fn plan(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, diagnosis: &Diagnosis, budgets: &[Budget], random: u64) -> Outcome {
    if let Some(why) = ineligible(pod, snapshot, diagnosis) {
        return Outcome::None { message: why.to_owned(), withdraw: false };
    }
    let nodes: Vec<&NodeName> = diagnosis.resolvable().collect();
    let enough = (nodes.len() / 10).max(FEWEST_CANDIDATES).min(nodes.len());
    let start = if nodes.is_empty() { 0 } else { usize::try_from(random % nodes.len() as u64).unwrap_or(0) };
    let (mut candidates, mut refused) = (Vec::<Plan>::new(), Vec::<Refusal>::new());
    for node in nodes[start..].iter().chain(&nodes[..start]) {
        match on_node(plugins, pod, snapshot, node, budgets) {
            Ok(plan) => candidates.push(plan),
            Err(refusal) => refused.push(refusal),
        }
        if candidates.len() >= enough && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    match candidates.into_iter().min_by_key(harm) {
        Some(plan) => Outcome::Evict(plan),
        None => {
            let others = (snapshot.len() - refused.len(), "Preemption is not helpful for scheduling");
            Outcome::None { message: unavailable(snapshot.len(), refused.iter(), Some(others)), withdraw: true }
        }
    }
}

/// Why `pod` may not evict others at all.
fn ineligible(pod: &Pod, snapshot: &Snapshot, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    // Room is being made already: wait for it, unless it would be of no use any more.
    let name = pod.nominated.as_ref()?;
    let hopeless = diagnosis.pod.is_some() || diagnosis.refused.iter().any(|(node, r)| node == name && !r.resolvable);
    let leaving = |p: &&Arc<Pod>| p.deleting && p.preempted && p.priority < pod.priority;
    let waits = !hopeless && snapshot.node(name.as_str()).is_some_and(|node| node.pods.iter().any(|p| leaving(&p)));
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The fewest victims on one node.
fn on_node(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, name: &NodeName, budgets: &[Budget]) -> Result<Plan, Refusal> {
    let pods = snapshot.node(name.as_str()).map_or(&[][..], |node| &node.pods);
    let mut lesser: Vec<Arc<Pod>> = pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(Refusal::for_good("No preemption victims found for incoming pod"));
    }
    let mut world = snapshot.clone();
    for victim in &lesser {
        world.remove_pod(name, victim);
    }
    fits(plugins, pod, &world, name)?;
    lesser.sort_by(importance);
    let protected = protected_by(&lesser, budgets);
    let mut plan = Plan { node: name.clone(), victims: Vec::new(), violations: 0 };
    // Protected pods are put back first: fewer of them remain as victims.
    for wanted in [true, false] {
        for victim in lesser.iter().filter(|p| protected.contains(&p.uid) == wanted) {
            world.add_pod(name, victim.clone());
            if fits(plugins, pod, &world, name).is_err() {
                world.remove_pod(name, victim);
                plan.victims.push(victim.clone());
                plan.violations += usize::from(wanted);
            }
        }
    }
    plan.victims.sort_by(importance);
    Ok(plan)
}

/// The more important first: by priority, then who runs longer.
fn importance(a: &Arc<Pod>, b: &Arc<Pod>) -> std::cmp::Ordering {
    b.priority.cmp(&a.priority).then(a.since().cmp(&b.since()))
}

/// Which of `pods` cannot all go without breaking a budget: those that come when a budget is used up.
fn protected_by(pods: &[Arc<Pod>], budgets: &[Budget]) -> BTreeSet<Option<Uid>> {
    let mut left: Vec<i64> = budgets.iter().map(|b| b.allowed).collect();
    let mut out = BTreeSet::new();
    for pod in pods {
        for (_, left) in budgets.iter().zip(&mut left).filter(|(b, _)| b.protects(pod)) {
            *left -= 1;
            if *left < 0 {
                out.insert(pod.uid.clone());
            }
        }
    }
    out
}

/// The less, the better: budgets broken, the most important victim, all victims' priorities, their number, and then the
/// node whose most important victims started last.
fn harm(plan: &Plan) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = plan.victims.first().map_or(i32::MIN, |p| p.priority);
    // Shifted so that one more victim always weighs, even one of negative priority.
    let sum = plan.victims.iter().map(|p| i64::from(p.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = plan.victims.iter().filter(|p| p.priority == highest).map(|p| p.since()).min().unwrap_or(Timestamp::MAX);
    (plan.violations, highest, sum, plan.victims.len(), Reverse(earliest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::{Chance, Decision, schedule};
    use crate::plugins::PLUGINS;
    use crate::world;
    use expect_test::{Expect, expect};

    /// What is done for the pod in the cluster, with these budgets (`namespace/selector=allowed`).
    fn check_with(budgets: &[(&str, i64)], cluster: &str, pod: &str, expect: Expect) {
        let world = world::world(cluster);
        let pod = world::pod(pod);
        let budgets: Vec<Budget> = budgets
            .iter()
            .map(|(selector, allowed)| Budget {
                namespace: "default".to_owned(),
                selector: Selector::parse(selector).expect("a selector"),
                allowed: *allowed,
                disrupted: BTreeSet::new(),
            })
            .collect();
        let Decision::Refuse(diagnosis) = schedule(PLUGINS, &pod, world.snapshot(), Chance::default()) else { panic!("it fits") };
        let said = match plan(PLUGINS, &pod, world.snapshot(), &diagnosis, &budgets, 0) {
            Outcome::None { message, .. } => diagnosis.message(Some(&message)),
            Outcome::Evict(plan) => {
                let victims: Vec<&str> = plan.victims.iter().map(|v| &*v.name).collect();
                format!("{}: {} ({} against a budget)", plan.node, victims.join(" "), plan.violations)
            }
        };
        expect.assert_eq(&said);
    }

    fn check(cluster: &str, pod: &str, expect: Expect) {
        check_with(&[], cluster, pod, expect);
    }

    #[test]
    fn the_least_important_go_and_no_more_than_must() {
        let cluster = "
            node a cpu=4
            pod x on=a cpu=1 priority=1
            pod y on=a cpu=1 priority=2
            pod z on=a cpu=2 priority=3";
        check(cluster, "pod p cpu=1 priority=10", expect!["a: x (0 against a budget)"]);
        check(cluster, "pod p cpu=2 priority=10", expect!["a: y x (0 against a budget)"]);
        check(cluster, "pod p cpu=4 priority=10", expect!["a: z y x (0 against a budget)"]);
    }

    #[test]
    fn says_why_not() {
        check(
            "node a cpu=2\n node b cpu=1\n node c unschedulable\n pod x on=a cpu=2 priority=5",
            "pod p cpu=2 priority=5",
            expect![
                "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
            ],
        );
        check(
            "node a cpu=4\n pod x on=a cpu=1 priority=1\n pod y on=a cpu=3 priority=9",
            "pod p cpu=3 priority=5",
            expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu."],
        );
        check(
            "node a cpu=1\n pod x on=a cpu=1",
            r#"pod p cpu=1 priority=5 spec:{"preemptionPolicy": "Never"}"#,
            expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."],
        );
        check(
            "node a cpu=1\n pod x on=a cpu=1 deleting preempted",
            "pod p cpu=1 priority=5 nominated=a",
            expect![
                "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node."
            ],
        );
    }

    #[test]
    fn a_victim_that_is_leaving_anyway_is_not_waited_for_when_the_node_became_hopeless() {
        check(
            "node a cpu=1 unschedulable\n node b cpu=1\n pod x on=a cpu=1 deleting preempted\n pod y on=b cpu=1",
            "pod p cpu=1 priority=5 nominated=a",
            expect!["b: y (0 against a budget)"],
        );
    }

    #[test]
    fn budgets_are_kept_if_they_can() {
        let cluster = "node a cpu=1\n node b cpu=1\n pod x on=a cpu=1 label:app=x\n pod y on=b cpu=1 priority=1";
        check(cluster, "pod p cpu=1 priority=5", expect!["a: x (0 against a budget)"]);
        check_with(&[("app=x", 0)], cluster, "pod p cpu=1 priority=5", expect!["b: y (0 against a budget)"]);
        check_with(&[("app=x", 1)], cluster, "pod p cpu=1 priority=5", expect!["a: x (0 against a budget)"]);
        // On one node: the protected pod stays although it is less important.
        let cluster = "node a cpu=2\n pod x on=a cpu=1 label:app=x\n pod y on=a cpu=1 priority=1";
        check_with(&[("app=x", 0)], cluster, "pod p cpu=1 priority=5", expect!["a: y (0 against a budget)"]);
        check_with(&[("app=x", 0)], cluster, "pod p cpu=2 priority=5", expect!["a: y x (1 against a budget)"]);
    }

    #[test]
    fn the_node_that_hurts_least_is_chosen() {
        let pod = "pod p cpu=2 priority=10";
        // The lowest top priority, then the lowest sum, then the fewest, then the one started last.
        check(
            "node a cpu=2\n node b cpu=2\n pod x on=a cpu=2 priority=3\n pod y on=b cpu=2 priority=2",
            pod,
            expect!["b: y (0 against a budget)"],
        );
        check(
            "node a cpu=2\n node b cpu=2\n pod x on=a cpu=1 priority=2\n pod x2 on=a cpu=1 priority=2\n pod y on=b cpu=1 priority=2\n pod y2 on=b cpu=1 priority=1",
            pod,
            expect!["b: y y2 (0 against a budget)"],
        );
        check(
            "node a cpu=2\n node b cpu=2\n pod x on=a cpu=1 priority=2\n pod x2 on=a cpu=1 priority=-2147483648\n pod y on=b cpu=2 priority=2",
            pod,
            expect!["b: y (0 against a budget)"],
        );
        check(
            "node a cpu=2\n node b cpu=2\n pod x on=a cpu=2 started=10\n pod y on=b cpu=2 started=20",
            pod,
            expect!["b: y (0 against a budget)"],
        );
        check(
            "node a cpu=1\n pod x on=a cpu=1 started=10\n pod y on=a started=20\n pod z on=a",
            "pod p cpu=1 priority=1",
            expect!["a: x (0 against a budget)"],
        );
    }

    #[test]
    fn evicts_for_ports_anti_affinity_and_spread() {
        check("node a\n pod x on=a port=80", "pod p port=80 priority=1", expect!["a: x (0 against a budget)"]);
        check(
            "node a\n pod x on=a label:app=x\n pod y on=a",
            r#"pod p priority=1 spec:{"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}}}"#,
            expect!["a: x (0 against a budget)"],
        );
        check(
            "node a label:zone=z1\n node b label:zone=z2 cpu=1\n pod x on=a label:app=x\n pod y on=b cpu=1 priority=9",
            r#"pod p cpu=500m label:app=x priority=1 spec:{"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]}"#,
            expect!["a: x (0 against a budget)"],
        );
    }

    #[test]
    fn room_kept_for_more_important_pods_is_not_given_away() {
        check(
            "node a cpu=2\n pod x on=a cpu=2 priority=1\n pod vip nominated=a cpu=2 priority=100",
            "pod p cpu=1 priority=10",
            expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu."],
        );
    }
}
