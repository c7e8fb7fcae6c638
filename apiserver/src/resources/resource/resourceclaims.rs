//! resource.k8s.io/v1 ResourceClaim

use api::field::{Errors, Path};
use api::names;
use serde_json::{Value, json};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::{int, items, text};

/// The most requests, constraints and selectors of a claim.
const MOST: usize = 32;
/// The most objects that may use a claim at a time.
const MOST_RESERVED: usize = 256;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced(super::GROUP, "v1", "ResourceClaim", "resourceclaims")
        .returns_deleted()
        .status()
        .columns(vec![Column::name(), Column::compute("State", |o, _| state(o).into()), Column::age()])
        .rules::<Value>(ClaimRules)
}

fn state(o: &Value) -> String {
    let mut out = Vec::new();
    if !text(o, "/metadata/deletionTimestamp").is_empty() {
        out.push("deleted");
    }
    if o.pointer("/status/allocation").is_none() {
        if text(o, "/metadata/deletionTimestamp").is_empty() {
            out.push("pending");
        }
    } else {
        out.push("allocated");
        out.push(if items(o, "/status/reservedFor").is_empty() { "" } else { "reserved" });
    }
    out.retain(|s| !s.is_empty());
    out.join(",")
}

struct ClaimRules;

/// Fills in what a claim's requests leave out.
pub(super) fn default_spec(spec: &mut Value) {
    let requests = spec.pointer_mut("/devices/requests").and_then(Value::as_array_mut);
    for request in requests.into_iter().flatten() {
        default_request(request.get_mut("exactly"));
        for sub in request.get_mut("firstAvailable").and_then(Value::as_array_mut).into_iter().flatten() {
            default_request(Some(sub));
        }
    }
}

fn default_request(request: Option<&mut Value>) {
    let Some(request) = request.filter(|r| r.is_object()) else { return };
    if text(request, "/allocationMode").is_empty() {
        request["allocationMode"] = "ExactCount".into();
    }
    if request["allocationMode"] == "ExactCount" && int(request, "/count") == 0 {
        request["count"] = 1.into();
    }
    for toleration in request.get_mut("tolerations").and_then(Value::as_array_mut).into_iter().flatten().filter(|t| t.is_object()) {
        if text(toleration, "/operator").is_empty() {
            toleration["operator"] = "Equal".into();
        }
    }
}

impl Rules<Value> for ClaimRules {
    fn default(&self, claim: &mut Value) {
        if let Some(spec) = claim.get_mut("spec") {
            default_spec(spec);
        }
    }
    fn prepare_create(&self, claim: &mut Value, _: Cx<'_>) {
        claim["status"] = json!({});
    }
    fn prepare_update(&self, new: &mut Value, old: &Value, _: Cx<'_>) {
        new["status"] = old.get("status").cloned().unwrap_or_else(|| json!({}));
    }
    fn validate(&self, claim: &Value, errors: &mut Errors) {
        validate_spec(&claim["spec"], &Path::new("spec"), errors);
    }
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("spec"), &new["spec"], &old["spec"]);
    }
    fn validate_part(&self, _: &str, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("status");
        let reserved = items(new, "/status/reservedFor");
        if reserved.len() > MOST_RESERVED {
            errors.too_many(&path.child("reservedFor"), reserved.len(), MOST_RESERVED);
        }
        let (now, before) = (new.pointer("/status/allocation"), old.pointer("/status/allocation"));
        if !reserved.is_empty() && now.is_none() {
            errors.forbidden(&path.child("reservedFor"), "may not be specified when `allocated` is not set");
        }
        if let (Some(now), Some(before)) = (now, before) {
            errors.immutable(&path.child("allocation"), now, before);
        }
    }
}

/// Checks a claim's spec, in a claim as in a template of one.
pub(super) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let requests = items(spec, "/devices/requests");
    let path = path.child("devices").child("requests");
    if requests.len() > MOST {
        errors.too_many(&path, requests.len(), MOST);
    }
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        let name = text(request, "/name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            follows(name, names::dns1123_label, &path.child("name"), errors);
        }
        if requests[..i].iter().any(|r| r["name"] == request["name"]) {
            errors.duplicate(&path.child("name"), name);
        }
        let subs = items(request, "/firstAvailable");
        match (request.get("exactly").filter(|e| e.is_object()), subs.is_empty()) {
            (Some(_), false) => {
                errors.invalid(&path, request, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set")
            }
            (None, true) => errors.required(&path, "exactly one of `exactly` or `firstAvailable` is required"),
            (Some(exactly), true) => validate_request(exactly, &path.child("exactly"), errors),
            (None, false) => {
                for (j, sub) in subs.iter().enumerate() {
                    validate_request(sub, &path.child("firstAvailable").index(j), errors);
                }
            }
        }
    }
}

fn validate_request(request: &Value, path: &Path, errors: &mut Errors) {
    let class = text(request, "/deviceClassName");
    if class.is_empty() {
        errors.required(&path.child("deviceClassName"), "");
    } else {
        follows(class, names::dns1123_subdomain, &path.child("deviceClassName"), errors);
    }
    validate_selectors(request, path, errors);
    let (mode, count) = (text(request, "/allocationMode"), int(request, "/count"));
    one_of(mode, &["All", "ExactCount"], &path.child("allocationMode"), errors);
    match mode {
        "All" if count != 0 => {
            errors.invalid(&path.child("count"), count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => errors.invalid(&path.child("count"), count, "must be greater than zero"),
        _ => {}
    }
}

pub(super) fn validate_selectors(owner: &Value, path: &Path, errors: &mut Errors) {
    let selectors = items(owner, "/selectors");
    if selectors.len() > MOST {
        errors.too_many(&path.child("selectors"), selectors.len(), MOST);
    }
    for (i, selector) in selectors.iter().enumerate() {
        if text(selector, "/cel/expression").trim().is_empty() {
            errors.required(&path.child("selectors").index(i).child("cel"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, created, errors};
    use expect_test::expect;

    fn claim(requests: &str) -> String {
        format!("{{metadata: {{name: a}}, spec: {{devices: {{requests: {requests}}}}}}}")
    }

    #[test]
    fn one_device_of_a_class() {
        let created = created(row(), &claim("[{name: r, exactly: {deviceClassName: c}}]"));
        assert!(created.contains("allocationMode: ExactCount") && created.contains("count: 1"), "{created}");
        assert_eq!(cells(row(), &claim("[]")), "a | pending | <unknown>");
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            spec.devices.requests[1].name: Duplicate value: "r"
            spec.devices.requests[1].exactly.deviceClassName: Required value
            spec.devices.requests[1].exactly.selectors[0].cel: Required value
            spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"#]]
        .assert_eq(&errors(row(), &claim("[{name: r}, {name: r, exactly: {allocationMode: All, count: 2, selectors: [{}]}}]")));
    }
}
