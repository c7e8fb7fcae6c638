//! v1 ResourceQuota

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::map;
use crate::resources::quantities::{canonical_list, validate_amount};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "ResourceQuota", "resourcequotas")
        .returns_deleted()
        .short(&["quota"])
        .status()
        .columns(vec![
            Column::name(),
            Column::compute("Request", |o, _| used(o, false).into()),
            Column::compute("Limit", |o, _| used(o, true).into()),
            Column::age(),
        ])
        .rules::<ResourceQuota>(QuotaRules)
}

/// `cpu: 1/2, pods: 3/10`: of limits, or of everything else.
fn used(o: &Value, limits: bool) -> String {
    let used = map(o, "/status/used");
    let hard = map(o, "/status/hard").into_iter().filter(|(name, _)| name.starts_with("limits") == limits);
    let one = |(name, hard): (String, String)| format!("{name}: {}/{hard}", used.get(&name).map_or("0", String::as_str));
    hard.map(one).collect::<Vec<_>>().join(", ")
}

struct QuotaRules;

impl Rules<ResourceQuota> for QuotaRules {
    fn default(&self, quota: &mut ResourceQuota) {
        if let Some(spec) = &mut quota.spec {
            canonical_list(&mut spec.hard);
        }
        if let Some(status) = &mut quota.status {
            canonical_list(&mut status.hard);
            canonical_list(&mut status.used);
        }
    }
    fn prepare_create(&self, quota: &mut ResourceQuota, _: Cx<'_>) {
        quota.status = Some(Default::default());
    }
    fn prepare_update(&self, new: &mut ResourceQuota, old: &ResourceQuota, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut ResourceQuota, old: &ResourceQuota, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, quota: &ResourceQuota, errors: &mut Errors) {
        let (Some(spec), path) = (&quota.spec, Path::new("spec")) else { return };
        for (name, text) in spec.hard.iter().flatten() {
            let path = path.child("hard").key(name);
            validate_name(name, &path, errors);
            validate_amount(name, text, &path, errors);
        }
        validate_scopes(spec, &path, errors);
    }
    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota, errors: &mut Errors) {
        let scopes = |q: &ResourceQuota| {
            let mut scopes = q.spec.as_ref().and_then(|s| s.scopes.clone()).unwrap_or_default();
            scopes.sort();
            scopes
        };
        errors.immutable(&Path::new("spec").child("scopes"), &scopes(new), &scopes(old));
    }
    fn validate_part(&self, _: &str, new: &ResourceQuota, _: &ResourceQuota, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, Path::new("status")) else { return };
        for (field, list) in [("hard", &status.hard), ("used", &status.used)] {
            for (name, text) in list.iter().flatten() {
                validate_amount(name, text, &path.child(field).key(name), errors);
            }
        }
    }
}

fn validate_name(name: &str, path: &Path, errors: &mut Errors) {
    const KNOWN: &[&str] = &[
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "requests.storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "configmaps",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    ];
    let plain = name.strip_prefix("requests.").unwrap_or(name);
    crate::resources::bounds::follows(name, api::names::qualified_name, path, errors);
    if !name.contains('/') && !KNOWN.contains(&name) && !crate::resources::quantities::is_huge_pages(plain) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

fn validate_scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let at = path.child("scopes");
    for scope in scopes {
        one_of(scope, SCOPES, &at, errors);
    }
    let has = |s: &str| scopes.iter().any(|x| x == s);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        errors.invalid(&at, &serde_json::json!(scopes), "conflicting scopes");
    }
    let expressions = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    for (i, expression) in expressions.enumerate() {
        let at = path.child("scopeSelector").child("matchExpressions").index(i);
        one_of(&expression.scope_name, SCOPES, &at.child("scopeName"), errors);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&at.child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.invalid(
                    &at.child("values"),
                    &serde_json::json!(values),
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    #[test]
    fn table() {
        let quota = "{metadata: {name: a}, status: {hard: {limits.cpu: '2', pods: '10', requests.cpu: '1'}, used: {pods: '3'}}}";
        assert_eq!(cells(row(), quota), "a | pods: 3/10, requests.cpu: 0/1 | limits.cpu: 0/2 | <unknown>");
    }

    #[test]
    fn rules() {
        let quota = |spec: &str| format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        expect![[r#"
            spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0
            spec.hard[things]: Invalid value: "things": must be a standard resource for quota
            spec.scopes: Unsupported value: "Odd": supported values: "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating", "VolumeAttributesClass"
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: conflicting scopes"#]].assert_eq(&errors(row(), &quota("hard: {things: 1, pods: -1}, scopes: [BestEffort, NotBestEffort, Odd]")));
        expect!["spec.scopes: Invalid value: []: field is immutable"].assert_eq(&update_errors(
            row(),
            &quota("scopes: [BestEffort]"),
            &quota("hard: {pods: 1}"),
        ));
    }
}
