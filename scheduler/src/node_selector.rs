//! Which nodes a pod asks for: `nodeSelector` and node affinity, parsed once.

use std::collections::BTreeSet;

use api::labels::{Operator, Selector};
use k8s_openapi::api::core::v1 as core;

use crate::identity::Labels;
use crate::node::NodeFacts;

/// A pod's demands on and wishes for the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeAffinity {
    /// Labels that the node must have (`spec.nodeSelector`).
    pub selector: Labels,
    /// One of these terms must match; `None` when the pod demands nothing.
    pub required: Option<Vec<Term>>,
    /// Terms with the weight that a matching node gains.
    pub preferred: Vec<(i64, Term)>,
}

/// Requirements that all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    labels: Selector,
    fields: Selector,
}

/// The one field of a node that terms may speak of.
const NAME: &str = "metadata.name";

impl NodeAffinity {
    /// From the pod's spec.
    ///
    /// # Errors
    /// A requirement that cannot be understood.
    pub fn parse(spec: &core::PodSpec) -> Result<Self, String> {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Ok(Self {
            selector: spec.node_selector.clone().unwrap_or_default(),
            required: required.map(|r| r.node_selector_terms.iter().map(Term::parse).collect()).transpose()?,
            preferred: preferred
                .into_iter()
                .flatten()
                .filter(|p| p.weight != 0)
                .map(|p| Ok((i64::from(p.weight), Term::parse(&p.preference)?)))
                .collect::<Result<_, String>>()?,
        })
    }

    /// Whether the pod may run on `node`.
    #[must_use]
    pub fn admits(&self, node: &NodeFacts) -> bool {
        self.selector.iter().all(|(k, v)| node.labels.get(k) == Some(v))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(node)))
    }

    /// Whether the pod may run on any node, for all it says here.
    #[must_use]
    pub fn demands_nothing(&self) -> bool {
        self.selector.is_empty() && self.required.is_none()
    }

    /// The only nodes that can match, when every term names some (as those of a DaemonSet's pods do).
    #[must_use]
    pub fn named(&self) -> Option<BTreeSet<&str>> {
        let terms = self.required.as_ref()?;
        let mut out = BTreeSet::new();
        for term in terms {
            out.extend(term.named()?);
        }
        (!terms.is_empty()).then_some(out)
    }
}

impl Term {
    /// From a term of a node selector.
    ///
    /// # Errors
    /// A requirement that cannot be understood.
    pub fn parse(term: &core::NodeSelectorTerm) -> Result<Self, String> {
        let parse = |list: Option<&Vec<core::NodeSelectorRequirement>>| {
            let parts = list.into_iter().flatten();
            Selector::from_parts(None, parts.map(|r| (r.key.as_str(), r.operator.as_str(), r.values.as_deref().unwrap_or_default())))
        };
        let term = Self { labels: parse(term.match_expressions.as_ref())?, fields: parse(term.match_fields.as_ref())? };
        match term.fields.requirements().into_iter().flatten().find(|r| r.key != NAME) {
            Some(other) => Err(format!("not a valid field selector key: {:?}", other.key)),
            None => Ok(term),
        }
    }

    /// Whether `node` fulfils it; a term that requires nothing matches nothing.
    #[must_use]
    pub fn matches(&self, node: &NodeFacts) -> bool {
        !(self.labels.is_everything() && self.fields.is_everything())
            && self.labels.matches(&node.labels)
            && self.fields.matches_with(|_| Some(node.name.as_str()))
    }

    fn named(&self) -> Option<BTreeSet<&str>> {
        let mut lists = self.fields.requirements()?.iter().filter_map(|r| match &r.operator {
            Operator::In(values) => Some(values.iter().map(String::as_str).collect::<BTreeSet<_>>()),
            _ => None,
        });
        let first = lists.next()?;
        Some(lists.fold(first, |all, next| all.intersection(&next).copied().collect()))
    }
}
