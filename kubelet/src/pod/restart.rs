//! Whether a container that ended is started again.

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};

use super::{is_sidecar, restart_policy};

/// Whether a container that ended with `exit_code` is to run again: its own rules first, then its own policy, then
/// the pod's (KEP-5307). An init container of an `Always` pod is retried only when it failed.
#[must_use]
pub fn restarts(spec: &PodSpec, container: &Spec, init: bool, exit_code: i32) -> bool {
    if init && is_sidecar(container) {
        return true;
    }
    if let Some(restart) = container.restart_policy_rules.iter().flatten().find_map(|rule| {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.values.iter().flatten().any(|c| *c == exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        matches.then_some(rule.action == "Restart")
    }) && !(init && exit_code == 0)
    {
        return restart;
    }
    match container.restart_policy.as_deref().unwrap_or(restart_policy(spec)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => !init || exit_code != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(policy: &str, container: &str, init: bool, exit_code: i32, expected: bool) {
        let spec = PodSpec { restart_policy: Some(policy.into()), ..PodSpec::default() };
        let container: Spec = serde_json::from_str(container).expect("a container");
        assert_eq!(restarts(&spec, &container, init, exit_code), expected);
    }

    #[test]
    fn the_pods_policy() {
        check("Always", r#"{"name":"a"}"#, false, 0, true);
        check("OnFailure", r#"{"name":"a"}"#, false, 0, false);
        check("OnFailure", r#"{"name":"a"}"#, false, 1, true);
        check("Never", r#"{"name":"a"}"#, false, 1, false);
    }

    #[test]
    fn init_containers_run_until_they_succeed() {
        check("Always", r#"{"name":"a"}"#, true, 0, false);
        check("Always", r#"{"name":"a"}"#, true, 1, true);
        check("Never", r#"{"name":"a"}"#, true, 1, false);
        check("Never", r#"{"name":"a","restartPolicy":"Always"}"#, true, 0, true);
    }

    #[test]
    fn a_containers_own_rules_come_first() {
        let rules = r#"{"name":"a","restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]}"#;
        check("Always", rules, false, 42, true);
        check("Always", rules, false, 1, false);
        check("Never", r#"{"name":"a","restartPolicy":"OnFailure"}"#, false, 1, true);
    }
}
