//! What people are told when the node's status changes, in upstream's reasons and words. Pure.

use k8s_openapi::api::core::v1::{Node, NodeStatus};

use crate::events::Kind;

/// An event about the node: kind, reason, message.
pub type Told = (Kind, String, String);

/// Conditions, with the reasons of becoming true and false.
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// The events of going from what the Node says to `new`.
#[must_use]
pub fn told(name: &str, before: &Node, new: &NodeStatus) -> Vec<Told> {
    let old = before.status.clone().unwrap_or_default();
    let of = |status: &NodeStatus, type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).map(|c| c.status.clone());
    let mut out = vec![];
    for (type_, on, off) in CONDITIONS {
        let now = of(new, type_);
        // A node that is new is not ready yet; that is no news.
        let news = now != of(&old, type_) && !(type_ == "Ready" && of(&old, type_).is_none() && now.as_deref() != Some("True"));
        if news {
            let reason = if now.as_deref() == Some("True") { on } else { off };
            out.push((Kind::Normal, reason.to_owned(), format!("Node {name} status is now: {reason}")));
        }
    }
    let boot = |status: &NodeStatus| status.node_info.as_ref().map(|i| i.boot_id.clone()).filter(|b| !b.is_empty());
    if let (Some(was), Some(is)) = (boot(&old), boot(new))
        && was != is
    {
        out.push((Kind::Warning, "Rebooted".to_owned(), format!("Node {name} has been rebooted, boot id: {is}")));
    }
    out
}

/// The event of a node that was closed to new pods, or opened to them again.
#[must_use]
pub fn schedulable(name: &str, before: Option<bool>, node: &Node) -> Option<Told> {
    let closed = is_closed(node);
    let reason = if closed { "NodeNotSchedulable" } else { "NodeSchedulable" };
    (before? != closed).then(|| (Kind::Normal, reason.to_owned(), format!("Node {name} status is now: {reason}")))
}

/// Whether the node takes no new pods.
#[must_use]
pub fn is_closed(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSystemInfo};

    use super::*;

    /// A status of `Type=Status` words, and `boot=ID`.
    fn status(text: &str) -> NodeStatus {
        let words = || text.split_whitespace().filter_map(|w| w.split_once('='));
        let conditions = words().filter(|(k, _)| *k != "boot");
        let info = words().find(|(k, _)| *k == "boot").map(|(_, id)| NodeSystemInfo { boot_id: id.into(), ..Default::default() });
        NodeStatus {
            conditions: Some(conditions.map(|(t, s)| NodeCondition { type_: t.into(), status: s.into(), ..Default::default() }).collect()),
            node_info: info,
            ..NodeStatus::default()
        }
    }

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[&str]) {
        let node = Node { status: Some(status(before)), ..Node::default() };
        let told: Vec<String> = told("n", &node, &status(after)).into_iter().map(|(_, reason, _)| reason).collect();
        assert_eq!(told, expected, "{before} to {after}");
    }

    #[test]
    fn changes_are_told_and_nothing_else() {
        let well = "MemoryPressure=False DiskPressure=False PIDPressure=False Ready=True boot=1";
        let all = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"];
        check("", well, &all);
        check("", "Ready=False", &[]);
        check(well, well, &[]);
        check(well, &well.replace("Ready=True", "Ready=False"), &["NodeNotReady"]);
        check(well, &well.replace("MemoryPressure=False", "MemoryPressure=True"), &["NodeHasInsufficientMemory"]);
        check(well, &well.replace("boot=1", "boot=2"), &["Rebooted"]);
        check(&well.replace("False", "Unknown").replace("True", "Unknown"), well, &all);
    }

    #[test]
    fn a_cordon_is_told_once_it_was_seen_to_change() {
        let mut node = Node::default();
        node.spec.get_or_insert_default().unschedulable = Some(true);
        assert_eq!(schedulable("n", None, &node), None);
        assert_eq!(schedulable("n", Some(true), &node), None);
        assert_eq!(schedulable("n", Some(false), &node).map(|t| t.2).as_deref(), Some("Node n status is now: NodeNotSchedulable"));
        assert_eq!(schedulable("n", Some(true), &Node::default()).map(|t| t.1).as_deref(), Some("NodeSchedulable"));
    }
}
