//! What a Job's successPolicy says of the indexes that have succeeded (KEP-3998).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{JobSpec, SuccessPolicyRule};

use super::indexes;

/// The message of the first rule that is met; nothing when none is.
#[must_use]
pub fn met(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<String> {
    let rules = spec.success_policy.as_ref()?.rules.iter();
    let index = rules.enumerate().find(|(_, rule)| is_met(rule, succeeded))?.0;
    Some(format!("Matched rules at index {index}"))
}

fn is_met(rule: &SuccessPolicyRule, succeeded: &BTreeSet<i32>) -> bool {
    let count = rule.succeeded_count.and_then(|n| usize::try_from(n).ok());
    match (&rule.succeeded_indexes, count) {
        (Some(text), count) => {
            let wanted = indexes::parse(text);
            wanted.intersection(succeeded).count() >= count.unwrap_or(wanted.len()) && !wanted.is_empty()
        }
        (None, Some(count)) => succeeded.len() >= count,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_first_rule_that_is_met_counts() {
        let check = |rules: Value, succeeded: &[i32]| {
            let spec = json!({"template": {}, "successPolicy": {"rules": rules}});
            met(&serde_json::from_value(spec).expect("a spec"), &succeeded.iter().copied().collect()).unwrap_or_default()
        };
        let rules = json!([{"succeededIndexes": "0-2"}, {"succeededIndexes": "5-9", "succeededCount": 2}, {"succeededCount": 4}]);
        assert_eq!(check(rules.clone(), &[0, 1]), "");
        assert_eq!(check(rules.clone(), &[0, 1, 2]), "Matched rules at index 0");
        assert_eq!(check(rules.clone(), &[0, 5, 7]), "Matched rules at index 1");
        assert_eq!(check(rules, &[0, 1, 3, 4]), "Matched rules at index 2");
    }
}
