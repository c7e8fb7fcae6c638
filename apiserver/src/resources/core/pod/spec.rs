//! What is wrong with a pod's spec, in a Pod as in a template.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{PodResourceClaim, PodSpec};

use super::{containers, naming, scheduling, security, volumes};
use crate::resources::bounds::{follows, one_of, required_one_of};
use crate::resources::quantities;

/// Checks a pod's spec.
pub fn validate(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    volumes::validate(spec.volumes.as_deref().unwrap_or_default(), path, errors);
    validate_claims(spec.resource_claims.as_deref().unwrap_or_default(), &path.child("resourceClaims"), errors);
    containers::validate(spec, path, errors);
    required_one_of(spec.restart_policy.as_deref().unwrap_or(""), &["Always", "OnFailure", "Never"], &path.child("restartPolicy"), errors);
    naming::validate(spec, path, errors);
    security::validate_pod(spec, path, errors);
    scheduling::validate(spec, path, errors);
    for (name, value) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            follows(value, names::dns1123_subdomain, &path.child(name), errors);
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        validate_deadline(seconds, path, errors);
    }
    if let Some(policy) = &spec.preemption_policy {
        one_of(policy, &["Never", "PreemptLowerPriority"], &path.child("preemptionPolicy"), errors);
    }
    if let Some(os) = &spec.os {
        required_one_of(&os.name, &["linux", "windows"], &path.child("os").child("name"), errors);
    }
    validate_amounts(spec, path, errors);
}

pub(super) fn validate_deadline(seconds: i64, path: &Path, errors: &mut Errors) {
    if !(1..=i64::from(i32::MAX)).contains(&seconds) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
}

fn validate_amounts(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (name, text) in spec.overhead.iter().flatten() {
        quantities::validate_amount(name, text, &path.child("overhead").key(name), errors);
    }
    let Some(whole) = &spec.resources else { return };
    let path = path.child("resources");
    quantities::validate_requirements(whole, &[], &path, errors);
    for (list, amounts) in [("limits", &whole.limits), ("requests", &whole.requests)] {
        for name in amounts.iter().flatten().map(|(n, _)| n) {
            if !matches!(name.as_str(), "cpu" | "memory") && !quantities::is_huge_pages(name) {
                let known = &["cpu", "hugepages-", "memory"];
                errors.not_supported(&path.child(list).key(name), name, known);
            }
        }
    }
    for (name, text) in whole.requests.iter().flatten() {
        let of_containers =
            spec.containers.iter().filter_map(|c| quantities::amount(c.resources.as_ref()?.requests.as_ref()?.get(name)?)).sum();
        if quantities::amount(text).is_some_and(|q| q < of_containers) {
            let why = format!("must be greater than or equal to aggregate container requests of {of_containers}");
            errors.invalid(&path.child("requests").key(name), &text.0, &why);
        }
    }
}

fn validate_claims(claims: &[PodResourceClaim], path: &Path, errors: &mut Errors) {
    for (i, claim) in claims.iter().enumerate() {
        let path = path.index(i);
        if claim.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            follows(&claim.name, names::dns1123_label, &path.child("name"), errors);
            if claims[..i].iter().any(|c| c.name == claim.name) {
                errors.duplicate(&path.child("name"), &claim.name);
            }
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, &serde_json::json!(claim), why);
            }
            (None, None) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, &serde_json::json!(claim), why);
            }
            (one, other) => {
                let name = one.as_ref().or(other.as_ref()).map_or("", String::as_str);
                let field = if one.is_some() { "resourceClaimName" } else { "resourceClaimTemplateName" };
                follows(name, names::dns1123_subdomain, &path.child(field), errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check;
    use expect_test::expect;

    #[test]
    fn the_rest() {
        check("containers: [{name: c, image: i}]", expect![[""]]);
        check(
            "containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}], restartPolicy: Often, activeDeadlineSeconds: 0, preemptionPolicy: x,
             os: {name: beos}, priorityClassName: A, overhead: {cpu: -1}, resources: {requests: {cpu: 1, ephemeral-storage: 1}},
             resourceClaims: [{name: a}, {name: a, resourceClaimName: b, resourceClaimTemplateName: c}]",
            expect![[r#"
                spec.resourceClaims[0]: Invalid value: {"name":"a"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`
                spec.resourceClaims[1].name: Duplicate value: "a"
                spec.resourceClaims[1]: Invalid value: {"name":"a","resourceClaimName":"b","resourceClaimTemplateName":"c"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified
                spec.restartPolicy: Unsupported value: "Often": supported values: "Always", "OnFailure", "Never"
                spec.priorityClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                spec.preemptionPolicy: Unsupported value: "x": supported values: "Never", "PreemptLowerPriority"
                spec.os.name: Unsupported value: "beos": supported values: "linux", "windows"
                spec.overhead[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"
                spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2"#]],
        );
    }
}
