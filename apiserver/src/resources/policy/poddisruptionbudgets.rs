//! policy/v1 PodDisruptionBudget

use api::field::{Errors, Path};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{at_most_100_percent, int_or_percent, not_negative, one_of};
use crate::resources::label_selector;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::compute("Min Available", |o, _| amount(o, "/spec/minAvailable").into()),
            Column::compute("Max Unavailable", |o, _| amount(o, "/spec/maxUnavailable").into()),
            Column::integer_or_zero("Allowed Disruptions", "/status/disruptionsAllowed"),
            Column::age(),
        ])
        .rules::<PodDisruptionBudget>(BudgetRules)
}

fn amount(o: &Value, pointer: &str) -> String {
    match o.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        _ => "N/A".to_owned(),
    }
}

struct BudgetRules;

impl Rules<PodDisruptionBudget> for BudgetRules {
    fn prepare_create(&self, budget: &mut PodDisruptionBudget, _: Cx<'_>) {
        budget.status = Some(PodDisruptionBudgetStatus::default());
    }
    fn prepare_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, budget: &PodDisruptionBudget, errors: &mut Errors) {
        let (Some(spec), path) = (&budget.spec, Path::new("spec")) else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.invalid(&path, &serde_json::json!(spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for (name, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                int_or_percent(value, &path.child(name), errors);
                at_most_100_percent(value, &path.child(name), errors);
            }
        }
        if let Some(selector) = &spec.selector {
            label_selector::validate(selector, &path.child("selector"), errors);
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            one_of(policy, &["AlwaysAllow", "IfHealthyBudget"], &path.child("unhealthyPodEvictionPolicy"), errors);
        }
    }
    fn validate_part(&self, _: &str, new: &PodDisruptionBudget, _: &PodDisruptionBudget, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, Path::new("status")) else { return };
        for (name, n) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            not_negative(Some(n), &path.child(name), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let budget = |spec: &str| format!("{{metadata: {{name: a}}, spec: {{{spec}}}, status: {{disruptionsAllowed: 1}}}}");
        assert_eq!(cells(row(), &budget("minAvailable: 50%")), "a | 50% | N/A | 1 | <unknown>");
        expect![[r#"
            spec: Invalid value: {"maxUnavailable":-1,"minAvailable":"150%"}: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: "150%": must not be greater than 100%
            spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"#]]
        .assert_eq(&errors(row(), &budget("minAvailable: 150%, maxUnavailable: -1")));
    }
}
