//! What is wrong with what a Job says about failures (KEP-3329, KEP-3850), about success (KEP-3998) and about who runs it (KEP-4368).

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule, SuccessPolicyRule};
use serde_json::json;

use crate::resources::bounds::{follows, not_negative, one_of, required_one_of};

/// The most rules of a policy.
const MAX_RULES: usize = 20;
/// The most conditions, and the most exit codes, of a rule.
const MAX_CONDITIONS: usize = 20;
const MAX_CODES: usize = 255;
/// The longest list of indexes, in bytes.
const MAX_INDEXES_TEXT: usize = 64 * 1024;
/// The longest name of a controller.
const MAX_MANAGED_BY: usize = 63;

/// Checks a job's policies.
pub(super) fn validate(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if let Some(name) = &spec.managed_by {
        let path = path.child("managedBy");
        follows(name, domain_prefixed, &path, errors);
        if name.len() > MAX_MANAGED_BY {
            errors.too_long(&path, MAX_MANAGED_BY);
        }
    }
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.child("podFailurePolicy").child("rules");
        if policy.rules.len() > MAX_RULES {
            errors.too_many(&path, policy.rules.len(), MAX_RULES);
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            failure(rule, spec, &path.index(i), errors);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.child("successPolicy");
        if spec.completion_mode.as_deref() != Some("Indexed") {
            return errors.invalid(&path, &json!(policy), "requires indexed completion mode");
        }
        let path = path.child("rules");
        if policy.rules.is_empty() {
            errors.required(&path, "at least one rules must be specified when the successPolicy is specified");
        }
        if policy.rules.len() > MAX_RULES {
            errors.too_many(&path, policy.rules.len(), MAX_RULES);
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            success(rule, spec.completions.unwrap_or(0), &path.index(i), errors);
        }
    }
}

/// A name such as `example.com/jobs`.
fn domain_prefixed(name: &str) -> Vec<String> {
    match name.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => names::dns1123_subdomain(domain),
        _ => vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()],
    }
}

fn failure(rule: &PodFailurePolicyRule, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    required_one_of(&rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], &path.child("action"), errors);
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.invalid(&path.child("action"), &rule.action, why);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => errors.invalid(path, &json!(rule), "specifying both OnExitCodes and OnPodConditions is not supported"),
        (None, true) => errors.invalid(path, &json!(rule), "specifying one of OnExitCodes and OnPodConditions is required"),
        _ => {}
    }
    if let Some(codes) = &rule.on_exit_codes {
        let path = path.child("onExitCodes");
        required_one_of(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
        if let Some(name) = &codes.container_name {
            let pod = spec.template.spec.as_ref();
            let mut all = pod.into_iter().flat_map(|p| p.containers.iter().chain(p.init_containers.iter().flatten()));
            if !all.any(|c| c.name == *name) {
                errors.invalid(
                    &path.child("containerName"),
                    name,
                    "must be one of the container or initContainer names in the pod template",
                );
            }
        }
        let path = path.child("values");
        if codes.values.is_empty() {
            errors.invalid(&path, &json!(codes.values), "at least one value is required");
        } else if codes.values.len() > MAX_CODES {
            errors.too_many(&path, codes.values.len(), MAX_CODES);
        }
        for (i, code) in codes.values.iter().enumerate() {
            if codes.operator == "In" && *code == 0 {
                errors.invalid(&path.index(i), 0, "must not be 0 for the In operator");
            }
            if codes.values[..i].contains(code) {
                errors.duplicate(&path.index(i), *code);
            }
        }
        if !codes.values.is_sorted() {
            errors.invalid(&path, &json!(codes.values), "must be ordered");
        }
    }
    let path = path.child("onPodConditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(&path, conditions.len(), MAX_CONDITIONS);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        follows(&pattern.type_, names::qualified_name, &path.index(i).child("type"), errors);
        one_of(pattern.status.as_deref().unwrap_or_default(), &["False", "True", "Unknown"], &path.index(i).child("status"), errors);
    }
}

fn success(rule: &SuccessPolicyRule, completions: i32, path: &Path, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut listed = None;
    if let Some(text) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.too_long(&path, MAX_INDEXES_TEXT);
        }
        match count_indexes(text, completions) {
            Ok(count) => listed = Some(count),
            Err(why) => errors.invalid(&path, text, &format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let path = path.child("succeededCount");
    not_negative(Some(count), &path, errors);
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&path, count, &why);
    }
    if let Some(listed) = listed.filter(|n| count > *n) {
        let why = format!("must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)");
        errors.invalid(&path, count, &why);
    }
}

/// How many indexes a list such as `1,3-5` holds; they rise, and stay below `completions`.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let number = |text: &str| {
            let n: i32 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            if n < completions { Ok(n) } else { Err(format!("too large index: {text:?}")) }
        };
        let first = number(ends[0])?;
        let end = if let Some(end) = ends.get(1) { number(end)? } else { first };
        let order = |previous: i32, current: i32| format!("non-increasing order, previous: {previous}, current: {current}");
        if ends.len() == 2 && first >= end {
            return Err(order(first, end));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(order(last, first));
        }
        (total, last) = (total + end - first + 1, Some(end));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::super::jobs::row;
    use super::count_indexes;
    use crate::resources::rows_in_tests::errors;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let template = "template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}, selector: {matchLabels: {a: b}}";
        let said = errors(row(), &format!("{{metadata: {{name: a, uid: u}}, spec: {{{template}, {spec}}}}}"));
        let said: Vec<&str> = said.lines().filter(|l| !l.starts_with("spec.template.metadata.labels")).collect();
        expected.assert_eq(&said.join("\n"));
    }

    #[test]
    fn failures() {
        check(
            "podFailurePolicy: {rules: [
               {action: FailIndex, onExitCodes: {containerName: d, operator: In, values: [3, 0, 3]}},
               {action: Ignore, onPodConditions: [{type: DisruptionTarget}, {type: 'a b', status: Perhaps}]},
               {action: Count}]}",
            expect![[r#"
                spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
                spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or initContainer names in the pod template
                spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator
                spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3
                spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered
                spec.podFailurePolicy.rules[1].onPodConditions[1].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.podFailurePolicy.rules[1].onPodConditions[1].status: Unsupported value: "Perhaps": supported values: "False", "True", "Unknown"
                spec.podFailurePolicy.rules[2]: Invalid value: {"action":"Count"}: specifying one of OnExitCodes and OnPodConditions is required"#]],
        );
    }

    #[test]
    fn successes() {
        check(
            "completions: 2, successPolicy: {rules: [{succeededCount: 1}]}",
            expect![[r#"spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode"#]],
        );
        check(
            "completions: 5, completionMode: Indexed, successPolicy: {rules: [{}, {succeededCount: 6}, {succeededIndexes: '1-2', succeededCount: 3}, {succeededIndexes: '2,1'}]}",
            expect![[r#"
                spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
                spec.successPolicy.rules[1].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)
                spec.successPolicy.rules[2].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)
                spec.successPolicy.rules[3].succeededIndexes: Invalid value: "2,1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1"#]],
        );
    }

    #[test]
    fn lists_of_indexes() {
        let counted = |text| count_indexes(text, 10);
        assert_eq!((counted(""), counted("0,2-4,9")), (Ok(0), Ok(5)));
        for (text, why) in [
            ("10", "too large index: \"10\""),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("3-1", "non-increasing order, previous: 3, current: 1"),
        ] {
            assert_eq!(counted(text), Err(why.to_owned()));
        }
        assert!(counted("1-2-3").is_err());
    }
}
