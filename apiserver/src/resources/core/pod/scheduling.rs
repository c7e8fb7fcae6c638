//! What is wrong with what a pod says about where it runs: selectors, affinity, tolerations, spreading, gates.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};

use crate::resources::bounds::{follows, one_of};
use crate::resources::label_selector;
use crate::resources::metadata::validate_labels;

/// The effects that taints have.
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const MUST_BE_POSITIVE: &str = "must be greater than zero";

pub(super) fn validate(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    validate_labels(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    if let Some(affinity) = &spec.affinity {
        validate_affinity(affinity, &path.child("affinity"), errors);
    }
    for (i, toleration) in spec.tolerations.iter().flatten().enumerate() {
        validate_toleration(toleration, &path.child("tolerations").index(i), errors);
    }
    let constraints: Vec<_> = spec.topology_spread_constraints.iter().flatten().collect();
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        validate_constraint(constraint, &path, errors);
        let same = |c: &&TopologySpreadConstraint| {
            c.topology_key == constraint.topology_key && c.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[..i].iter().any(same) {
            let pair = format!("{{{}, {}}}", constraint.topology_key, constraint.when_unsatisfiable);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
    }
    let gates: Vec<_> = spec.scheduling_gates.iter().flatten().collect();
    for (i, gate) in gates.iter().enumerate() {
        let path = path.child("schedulingGates").index(i);
        follows(&gate.name, names::qualified_name, &path, errors);
        if gates[..i].iter().any(|g| g.name == gate.name) {
            errors.duplicate(&path, &gate.name);
        }
    }
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(i).child("conditionType");
        follows(&gate.condition_type, names::qualified_name, &path, errors);
    }
}

fn validate_affinity(affinity: &Affinity, path: &Path, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            validate_node_selector(selector, &path.child(REQUIRED), errors);
        }
        for (i, term) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            let path = path.child(PREFERRED).index(i);
            validate_weight(term.weight, &path, errors);
            validate_node_term(&term.preference, &path.child("preference"), errors);
        }
    }
    let pods = affinity
        .pod_affinity
        .as_ref()
        .map(|a| (&a.required_during_scheduling_ignored_during_execution, &a.preferred_during_scheduling_ignored_during_execution));
    let anti = affinity
        .pod_anti_affinity
        .as_ref()
        .map(|a| (&a.required_during_scheduling_ignored_during_execution, &a.preferred_during_scheduling_ignored_during_execution));
    for (name, terms) in [("podAffinity", pods), ("podAntiAffinity", anti)] {
        let Some((required, preferred)) = terms else { continue };
        let path = path.child(name);
        for (i, term) in required.iter().flatten().enumerate() {
            validate_pod_term(term, &path.child(REQUIRED).index(i), errors);
        }
        for (i, WeightedPodAffinityTerm { weight, pod_affinity_term }) in preferred.iter().flatten().enumerate() {
            let path = path.child(PREFERRED).index(i);
            validate_weight(*weight, &path, errors);
            validate_pod_term(pod_affinity_term, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn validate_weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Checks a selector of nodes.
pub(crate) fn validate_node_selector(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        validate_node_term(term, &path.index(i), errors);
    }
}

fn validate_node_term(term: &NodeSelectorTerm, path: &Path, errors: &mut Errors) {
    for (i, r) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(i);
        validate_node_requirement(r, &path, errors);
        follows(&r.key, names::qualified_name, &path.child("key"), errors);
        for (j, value) in r.values.iter().flatten().enumerate().filter(|_| matches!(r.operator.as_str(), "In" | "NotIn")) {
            follows(value, names::label_value, &path.child("values").index(j), errors);
        }
    }
    for (i, r) in term.match_fields.iter().flatten().enumerate() {
        let path = path.child("matchFields").index(i);
        if !matches!(r.operator.as_str(), "In" | "NotIn") {
            errors.invalid(&path.child("operator"), &r.operator, "not a valid selector operator");
        } else if r.values.as_ref().map_or(0, Vec::len) != 1 {
            errors.required(&path.child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        if r.key == "metadata.name" {
            for (j, value) in r.values.iter().flatten().enumerate() {
                follows(value, names::dns1123_subdomain, &path.child("values").index(j), errors);
            }
        } else {
            errors.invalid(&path.child("key"), &r.key, "not a valid field selector key");
        }
    }
}

fn validate_node_requirement(r: &NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = r.values.as_deref().unwrap_or_default();
    let path_of_values = path.child("values");
    match r.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path_of_values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&path_of_values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&path_of_values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

fn validate_pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    for (name, selector) in [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)] {
        if let Some(selector) = selector {
            label_selector::validate(selector, &path.child(name), errors);
        }
    }
    for namespace in term.namespaces.iter().flatten() {
        follows(namespace, names::dns1123_label, &path.child("namespace"), errors);
    }
    if term.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    follows(&term.topology_key, |k| if k.is_empty() { vec![] } else { names::qualified_name(k) }, &path.child("topologyKey"), errors);
    validate_label_keys(term.match_label_keys.as_deref(), term.label_selector.is_some(), &path.child("matchLabelKeys"), errors);
    validate_label_keys(term.mismatch_label_keys.as_deref(), term.label_selector.is_some(), &path.child("mismatchLabelKeys"), errors);
    let same = term.match_label_keys.as_deref().unwrap_or_default();
    for (i, key) in term.mismatch_label_keys.iter().flatten().enumerate().filter(|(_, key)| same.contains(key)) {
        errors.invalid(&path.child("mismatchLabelKeys").index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

fn validate_label_keys(keys: Option<&[String]>, selects: bool, path: &Path, errors: &mut Errors) {
    let keys = keys.unwrap_or_default();
    if !keys.is_empty() && !selects {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (i, key) in keys.iter().enumerate() {
        follows(key, names::qualified_name, &path.index(i), errors);
    }
}

pub(crate) fn validate_toleration(t: &Toleration, path: &Path, errors: &mut Errors) {
    let (key, value) = (t.key.as_deref().unwrap_or(""), t.value.as_deref().unwrap_or(""));
    let (operator, effect) = (t.operator.as_deref().unwrap_or(""), t.effect.as_deref().unwrap_or(""));
    if !key.is_empty() {
        follows(key, names::qualified_name, &path.child("key"), errors);
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&path.child("operator"), operator, why);
    }
    if t.toleration_seconds.is_some() && effect != "NoExecute" {
        errors.invalid(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    match operator {
        "" | "Equal" => {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                errors.invalid(&path.child("operator"), value, &wrong.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            errors.invalid(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        one_of(effect, EFFECTS, &path.child("effect"), errors);
    }
}

fn validate_constraint(c: &TopologySpreadConstraint, path: &Path, errors: &mut Errors) {
    if c.max_skew <= 0 {
        errors.invalid(&path.child("maxSkew"), c.max_skew, MUST_BE_POSITIVE);
    }
    if c.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    } else {
        follows(&c.topology_key, names::qualified_name, &path.child("topologyKey"), errors);
    }
    one_of(&c.when_unsatisfiable, &["DoNotSchedule", "ScheduleAnyway"], &path.child("whenUnsatisfiable"), errors);
    if let Some(domains) = c.min_domains {
        let path = path.child("minDomains");
        if domains <= 0 {
            errors.invalid(&path, domains, MUST_BE_POSITIVE);
        }
        if c.when_unsatisfiable != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", c.when_unsatisfiable);
            errors.invalid(&path, domains, &why);
        }
    }
    for (name, policy) in [("nodeAffinityPolicy", &c.node_affinity_policy), ("nodeTaintsPolicy", &c.node_taints_policy)] {
        if let Some(policy) = policy {
            one_of(policy, &["Honor", "Ignore"], &path.child(name), errors);
        }
    }
    if let Some(selector) = &c.label_selector {
        label_selector::validate(selector, &path.child("labelSelector"), errors);
    }
    validate_label_keys(c.match_label_keys.as_deref(), c.label_selector.is_some(), &path.child("matchLabelKeys"), errors);
}

#[cfg(test)]
mod tests {
    use super::super::checks::check;
    use expect_test::expect;

    const C: &str = "containers: [{name: c, image: i}]";

    #[test]
    fn affinity() {
        check(
            &format!(
                "{C}, affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: []}},
                  preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 0, preference: {{matchExpressions: [{{key: a, operator: In}}, {{key: b, operator: Like}}],
                    matchFields: [{{key: metadata.uid, operator: In, values: [x]}}]}}}}]}},
                  podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: ''}}]}}}}"
            ),
            expect![[r#"
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty"#]],
        );
    }

    #[test]
    fn tolerations_spreading_and_gates() {
        check(
            &format!(
                "{C}, tolerations: [{{operator: Exists}}, {{value: x}}, {{key: a, operator: Exists, value: x}}, {{key: a, operator: Like}},
                   {{key: a, effect: NoSchedule, tolerationSeconds: 3}}, {{key: a, effect: Never}}],
                 topologySpreadConstraints: [{{maxSkew: 0, topologyKey: '', whenUnsatisfiable: Never}},
                   {{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, minDomains: 1}}, {{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}}],
                 schedulingGates: [{{name: a}}, {{name: a}}], nodeSelector: {{a b: c}}"
            ),
            expect![[r#"
                spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.tolerations[1].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
                spec.tolerations[2].operator: Invalid value: "x": value must be empty when `operator` is 'Exists'
                spec.tolerations[3].operator: Unsupported value: "Like": supported values: "Equal", "Exists"
                spec.tolerations[4].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
                spec.tolerations[5].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
                spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
                spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
                spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values: "DoNotSchedule", "ScheduleAnyway"
                spec.topologySpreadConstraints[1].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
                spec.topologySpreadConstraints[2].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, ScheduleAnyway}"
                spec.schedulingGates[1]: Duplicate value: "a""#]],
        );
    }
}
