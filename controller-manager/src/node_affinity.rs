//! Whether a pod's node selector and required node affinity allow a node.

use std::collections::BTreeMap;

use api::labels::Selector;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::kind::Object as _;

/// Whether `spec` may be on `node`, taints aside.
#[must_use]
pub fn allows(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let fields = [("metadata.name".to_owned(), node.name().to_owned())].into();
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required =
        spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches(term, &labels, &fields)))
}

/// All requirements of a term hold; a term without any matches nothing.
fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, fields: &BTreeMap<String, String>) -> bool {
    let on_labels = term.match_expressions.as_deref().unwrap_or_default();
    let on_fields = term.match_fields.as_deref().unwrap_or_default();
    !(on_labels.is_empty() && on_fields.is_empty()) && selector(on_labels).matches(labels) && selector(on_fields).matches(fields)
}

fn selector(requirements: &[NodeSelectorRequirement]) -> Selector {
    let parts = requirements.iter().map(|r| (r.key.as_str(), r.operator.as_str(), r.values.as_deref().unwrap_or_default()));
    Selector::from_parts(None, parts).unwrap_or_else(|_| Selector::nothing())
}
