//! What a pod says about other pods: inter-pod affinity terms and topology spread constraints, parsed once.

use std::collections::BTreeSet;

use api::labels::Selector;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::identity::Labels;
use crate::pod::Pod;

/// The selector of a spec; one that is absent selects nothing.
///
/// # Errors
/// A requirement that cannot be understood.
pub fn selector(from: Option<&LabelSelector>) -> Result<Selector, String> {
    let Some(from) = from else { return Ok(Selector::nothing()) };
    let parts = from.match_expressions.iter().flatten();
    let parts = parts.map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    Selector::from_parts(from.match_labels.as_ref(), parts)
}

/// A group of pods, and the node label within whose value they count as near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityTerm {
    /// The node label.
    pub topology_key: String,
    selector: Selector,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
}

impl AffinityTerm {
    fn parse(term: &core::PodAffinityTerm, namespace: &str) -> Result<Self, String> {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Ok(Self {
            topology_key: term.topology_key.clone(),
            selector: selector(term.label_selector.as_ref())?,
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref())?,
        })
    }

    /// Whether `pod`, whose namespace has `labels`, is of the group.
    #[must_use]
    pub fn matches(&self, pod: &Pod, labels: &Labels) -> bool {
        (self.namespaces.contains(&*pod.namespace) || self.namespace_selector.matches(labels)) && self.selector.matches(&pod.labels)
    }

    /// Whether `pod` is of the group, or would be if its namespace had the right labels.
    #[must_use]
    pub fn may_match(&self, pod: &Pod) -> bool {
        let by_labels = self.namespace_selector.requirements().is_some();
        (by_labels || self.namespaces.contains(&*pod.namespace)) && self.selector.matches(&pod.labels)
    }
}

/// A pod's inter-pod affinity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodAffinity {
    /// Groups that must be near.
    pub required: Vec<AffinityTerm>,
    /// Groups that must not be near.
    pub forbidden: Vec<AffinityTerm>,
    /// Groups that had better be near (positive weight) or not (negative weight).
    pub preferred: Vec<(i64, AffinityTerm)>,
}

impl PodAffinity {
    /// From the spec of a pod in `namespace`; `None` when it says nothing.
    ///
    /// # Errors
    /// A selector that cannot be understood.
    pub fn parse(spec: &core::PodSpec, namespace: &str) -> Result<Option<Box<Self>>, String> {
        let Some(affinity) = &spec.affinity else { return Ok(None) };
        let terms = |list: Option<&Vec<core::PodAffinityTerm>>| -> Result<Vec<AffinityTerm>, String> {
            list.into_iter().flatten().map(|t| AffinityTerm::parse(t, namespace)).collect()
        };
        let mut out = Self::default();
        let mut wish = |sign: i64, list: Option<&Vec<core::WeightedPodAffinityTerm>>| -> Result<(), String> {
            for wish in list.into_iter().flatten() {
                out.preferred.push((sign * i64::from(wish.weight), AffinityTerm::parse(&wish.pod_affinity_term, namespace)?));
            }
            Ok(())
        };
        if let Some(near) = &affinity.pod_affinity {
            wish(1, near.preferred_during_scheduling_ignored_during_execution.as_ref())?;
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            wish(-1, far.preferred_during_scheduling_ignored_during_execution.as_ref())?;
        }
        if let Some(near) = &affinity.pod_affinity {
            out.required = terms(near.required_during_scheduling_ignored_during_execution.as_ref())?;
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            out.forbidden = terms(far.required_during_scheduling_ignored_during_execution.as_ref())?;
        }
        Ok((out != Self::default()).then(|| Box::new(out)))
    }
}

/// How evenly pods of a group are to be spread over the values of a node label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadConstraint {
    /// The node label.
    pub topology_key: String,
    /// How many more pods than in the emptiest domain are allowed, at least 1.
    pub max_skew: i64,
    /// Whether a pod is kept away (`DoNotSchedule`) or only rather goes elsewhere (`ScheduleAnyway`).
    pub hard: bool,
    /// Fewer domains than this count as an empty one.
    pub min_domains: usize,
    /// Nodes that the pod's node affinity excludes do not count.
    pub honor_affinity: bool,
    /// Nodes whose taints the pod does not tolerate do not count.
    pub honor_taints: bool,
    /// The group, of the pod's own namespace: all of these select its pods.
    pub selectors: Vec<Selector>,
}

impl SpreadConstraint {
    /// The constraints of the spec of a pod with `labels`.
    ///
    /// # Errors
    /// A selector that cannot be understood.
    pub fn parse(spec: &core::PodSpec, labels: &Labels) -> Result<Vec<Self>, String> {
        spec.topology_spread_constraints.iter().flatten().map(|c| Self::parse_one(c, labels)).collect()
    }

    fn parse_one(constraint: &core::TopologySpreadConstraint, labels: &Labels) -> Result<Self, String> {
        // matchLabelKeys: the group is further narrowed to pods that agree with this one on these labels.
        let keys = constraint.match_label_keys.iter().flatten();
        let same: Labels = keys.filter_map(|k| Some((k.clone(), labels.get(k)?.clone()))).collect();
        let mut selectors = vec![selector(constraint.label_selector.as_ref())?];
        if !same.is_empty() {
            selectors.push(Selector::from_parts(Some(&same), [])?);
        }
        Ok(Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew).max(1),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            selectors,
        })
    }

    /// Whether a pod with these labels is of the group.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.selectors.iter().all(|s| s.matches(labels))
    }
}
