//! What a Job's podFailurePolicy says of a failed pod (KEP-3329).

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

use crate::kind::Object as _;

/// What becomes of a failed pod's failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    /// It does not count.
    Ignore,
    /// The whole job has failed, for this reason.
    FailJob(String),
    /// The pod's index has failed.
    FailIndex,
}

/// The verdict of the first rule that matches.
#[must_use]
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|p| &p.rules);
    for (index, rule) in rules.enumerate() {
        let Some(what) = matching(rule, pod) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            "FailIndex" => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// Says what of the pod the rule matches.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let status = pod.status.as_ref();
        let containers =
            status.into_iter().flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
        let mut failed = containers
            .filter(|c| codes.container_name.as_ref().is_none_or(|n| *n == c.name))
            .filter_map(|c| Some((c.name.as_str(), c.state.as_ref()?.terminated.as_ref()?.exit_code)))
            .filter(|(_, code)| *code != 0);
        let (name, code) = failed.find(|(_, code)| codes.values.contains(code) == (codes.operator == "In"))?;
        return Some(format!("Container {name} for pod {} failed with exit code {code}", pod.key()));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let condition =
        conditions.iter().find(|c| patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status))?;
    Some(format!("Pod {} has condition {}", pod.key(), condition.type_))
}
