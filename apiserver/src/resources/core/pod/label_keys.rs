//! `matchLabelKeys` and `mismatchLabelKeys`: what a pod's own labels add to the selectors of its affinity (KEP-3633) and of its
//! spreading (KEP-3243), written out once when the pod is made, so that every scheduler reads plain selectors.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

type Labels = BTreeMap<String, String>;

/// Adds them to the selectors of a pod with these labels. A key that the pod has no label of adds nothing.
pub(super) fn merge(spec: &mut PodSpec, labels: &Labels) {
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        add(constraint.label_selector.as_mut(), constraint.match_label_keys.as_deref(), "In", labels);
    }
    let Some(affinity) = &mut spec.affinity else { return };
    let lists = [
        affinity.pod_affinity.as_mut().map(|a| {
            (&mut a.required_during_scheduling_ignored_during_execution, &mut a.preferred_during_scheduling_ignored_during_execution)
        }),
        affinity.pod_anti_affinity.as_mut().map(|a| {
            (&mut a.required_during_scheduling_ignored_during_execution, &mut a.preferred_during_scheduling_ignored_during_execution)
        }),
    ];
    for (required, preferred) in lists.into_iter().flatten() {
        let wished = preferred.iter_mut().flatten().map(|weighted| &mut weighted.pod_affinity_term);
        required.iter_mut().flatten().chain(wished).for_each(|term| merge_term(term, labels));
    }
}

fn merge_term(term: &mut PodAffinityTerm, labels: &Labels) {
    add(term.label_selector.as_mut(), term.match_label_keys.as_deref(), "In", labels);
    add(term.label_selector.as_mut(), term.mismatch_label_keys.as_deref(), "NotIn", labels);
}

fn add(selector: Option<&mut LabelSelector>, keys: Option<&[String]>, operator: &str, labels: &Labels) {
    let Some(selector) = selector else { return };
    for (key, value) in keys.into_iter().flatten().filter_map(|k| labels.get_key_value(k)) {
        let requirement = LabelSelectorRequirement { key: key.clone(), operator: operator.to_owned(), values: Some(vec![value.clone()]) };
        selector.match_expressions.get_or_insert_default().push(requirement);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pods_own_labels_are_written_out() {
        let selector = json!({"matchLabels": {"app": "a"}});
        let term =
            json!({"topologyKey": "t", "labelSelector": selector, "matchLabelKeys": ["hash", "none"], "mismatchLabelKeys": ["tenant"]});
        let mut spec: PodSpec = serde_json::from_value(json!({
            "containers": [],
            "topologySpreadConstraints": [{"topologyKey": "t", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector, "matchLabelKeys": ["hash"]}],
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "t", "matchLabelKeys": ["hash"]}}]},
            },
        }))
        .expect("a spec");
        merge(&mut spec, &[("hash", "1"), ("tenant", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let spec = serde_json::to_value(spec).expect("JSON");
        let hash = json!({"key": "hash", "operator": "In", "values": ["1"]});
        assert_eq!(spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"], json!([hash]));
        assert_eq!(
            spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchExpressions"],
            json!([hash, {"key": "tenant", "operator": "NotIn", "values": ["x"]}])
        );
        let far = &spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(far.get("labelSelector"), None, "without a selector there is nothing to narrow");
    }
}
