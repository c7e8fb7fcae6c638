//! Rules for resource names and amounts: what containers ask for and may use, what nodes have.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use api::names;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::bounds::{NOT_NEGATIVE, follows};

/// Amounts by resource name.
pub type List = BTreeMap<String, Text>;

const HUGE_PAGES: &str = "hugepages-";
/// Resources that every node has, of whole units.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// The amount, where the text is one.
pub fn amount(text: &Text) -> Option<Quantity> {
    text.0.parse().ok()
}

/// Writes an amount in the canonical form, as upstream does when it reads one.
pub fn canonical(text: &mut Text) {
    if let Ok(quantity) = text.0.parse::<Quantity>() {
        text.0 = quantity.to_string();
    }
}

/// Writes a list's amounts in the canonical form.
pub fn canonical_list(list: &mut Option<List>) {
    list.iter_mut().flatten().for_each(|(_, text)| canonical(text));
}

/// Writes requests and limits in the canonical form.
pub fn canonical_requirements(requirements: &mut Option<ResourceRequirements>) {
    if let Some(r) = requirements {
        canonical_list(&mut r.requests);
        canonical_list(&mut r.limits);
    }
}

/// Whether the resource is one that Kubernetes itself defines: without a prefix or with `kubernetes.io/`.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.split('/').next().is_some_and(|p| p == "kubernetes.io" || p.ends_with(".kubernetes.io"))
}

/// Whether the resource is huge pages of some size.
pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Whether it is a resource that somebody else defines (`example.com/gpu`).
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more may be used than is asked for.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Checks that an amount is one, not negative, and whole where the resource comes in units.
pub fn validate_amount(name: &str, text: &Text, path: &Path, errors: &mut Errors) {
    match amount(text) {
        None => {
            errors.invalid(path, &text.0, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
        }
        Some(q) if q.is_negative() => errors.invalid(path, &text.0, NOT_NEGATIVE),
        Some(q) if is_extended(name) && !q.is_whole() => errors.invalid(path, &text.0, "must be an integer"),
        Some(_) => {}
    }
}

/// Checks an amount of storage: above 0.
pub fn validate_positive(text: &Text, path: &Path, errors: &mut Errors) {
    if amount(text).is_none_or(|q| q.is_zero() || q.is_negative()) {
        errors.invalid(path, &text.0, super::bounds::POSITIVE);
    }
}

/// Checks the name of any resource: qualified, or one that Kubernetes knows.
pub fn validate_name(name: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    follows(name, names::qualified_name, path, errors);
    if !name.contains('/') && !known.contains(&name) && !is_huge_pages(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn validate_container_resource(name: &str, path: &Path, errors: &mut Errors) {
    follows(name, names::qualified_name, path, errors);
    if !name.contains('/') {
        if !STANDARD.contains(&name) && !is_huge_pages(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// Checks what a container asks for and may use. `claims` are the names of the pod's resource claims.
pub fn validate_requirements(r: &ResourceRequirements, claims: &[&str], path: &Path, errors: &mut Errors) {
    let empty = List::new();
    let (limits, requests) = (r.limits.as_ref().unwrap_or(&empty), r.requests.as_ref().unwrap_or(&empty));
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, text) in limits {
        let path = limits_path.key(name);
        validate_container_resource(name, &path, errors);
        validate_amount(name, text, &path, errors);
    }
    for (name, text) in requests {
        let path = requests_path.key(name);
        validate_container_resource(name, &path, errors);
        validate_amount(name, text, &path, errors);
        match limits.get(name) {
            Some(limit) => {
                let (Some(asked), Some(most)) = (amount(text), amount(limit)) else { continue };
                if asked > most {
                    errors.invalid(&requests_path, &text.0, &format!("must be less than or equal to {name} limit of {}", limit.0));
                } else if asked != most && !may_overcommit(name) {
                    errors.invalid(&requests_path, &text.0, &format!("must be equal to {name} limit of {}", limit.0));
                }
            }
            None if !may_overcommit(name) => errors.required(&limits_path, "Limit must be set for non overcommitable resources"),
            None => {}
        }
    }
    let has = |f: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|n| f(n));
    if has(is_huge_pages) && !has(|n| n == "cpu" || n == "memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    for (i, claim) in r.claims.iter().flatten().enumerate() {
        let path = path.child("claims").index(i);
        if claim.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !claims.contains(&claim.name.as_str()) {
            errors.not_found(&path.child("name"), &claim.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(requirements: &str, expected: Expect) {
        let parsed = serde_json::from_value(crate::resources::rows_in_tests::yaml(requirements)).unwrap();
        let mut errors = Errors::new();
        validate_requirements(&parsed, &["c"], &Path::new("resources"), &mut errors);
        expected.assert_eq(&errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn requirements() {
        check("{limits: {cpu: 1, memory: 1Gi, example.com/gpu: 2}, requests: {cpu: 500m}, claims: [{name: c}]}", expect![""]);
        check(
            "{limits: {cpu: 1, memory: -1}, requests: {cpu: 2}}",
            expect![[r#"
                resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0
                resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]],
        );
        check(
            "{limits: {example.com/gpu: 1500m, things: 1}, requests: {hugepages-2Mi: 2Mi}, claims: [{name: d}]}",
            expect![[r#"
                resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
                resources.limits[things]: Invalid value: "things": must be a standard resource for containers
                resources.limits: Required value: Limit must be set for non overcommitable resources
                resources: Forbidden: HugePages require cpu or memory
                resources.claims[0].name: Not found: "d""#]],
        );
    }
}
