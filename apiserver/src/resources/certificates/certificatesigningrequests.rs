//! certificates.k8s.io/v1 CertificateSigningRequest

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::one_of;
use crate::resources::cells::{human_duration, int, items, text};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// The shortest lifetime that may be asked for.
const MIN_SECONDS: i32 = 600;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
        .short(&["csr"])
        .status()
        .part("approval", &["/metadata/labels", "/metadata/annotations", "/status/conditions"])
        .columns(vec![
            Column::name(),
            Column::age(),
            Column::text("SignerName", "/spec/signerName"),
            Column::text("Requestor", "/spec/username"),
            Column::compute("RequestedDuration", |o, _| duration(o).into()),
            Column::compute("Condition", |o, _| condition(o).into()),
        ])
        .selectable(&[("spec.signerName", "")])
        .names(names::path_segment)
        .rules::<CertificateSigningRequest>(RequestRules)
}

fn duration(o: &Value) -> String {
    match int(o, "/spec/expirationSeconds") {
        0 => "<none>".to_owned(),
        seconds => human_duration(seconds),
    }
}

fn condition(o: &Value) -> String {
    let has = |kind: &str| items(o, "/status/conditions").iter().any(|c| c["type"] == kind);
    let mut out = Vec::new();
    if has("Denied") {
        out.push("Denied");
    } else if has("Approved") {
        out.push("Approved");
    } else {
        out.push("Pending");
    }
    if has("Failed") {
        out.push("Failed");
    }
    if !text(o, "/status/certificate").is_empty() {
        out.push("Issued");
    }
    out.join(",")
}

struct RequestRules;

impl Rules<CertificateSigningRequest> for RequestRules {
    fn default(&self, csr: &mut CertificateSigningRequest) {
        csr.spec.usages.get_or_insert_with(|| vec!["digital signature".to_owned(), "key encipherment".to_owned()]);
    }
    fn prepare_create(&self, csr: &mut CertificateSigningRequest, cx: Cx<'_>) {
        // Whose request it is, is not the client's to say.
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        csr.spec.username = some(&cx.user.name);
        csr.spec.uid = some(&cx.user.uid);
        csr.spec.groups = (!cx.user.groups.is_empty()).then(|| cx.user.groups.clone());
        csr.spec.extra = (!cx.user.extra.is_empty()).then(|| cx.user.extra.clone());
        csr.status = Some(CertificateSigningRequestStatus::default());
    }
    fn prepare_update(&self, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest, cx: Cx<'_>) {
        new.spec.clone_from(&old.spec);
        let is_decision = |kind: &str| matches!(kind, "Approved" | "Denied");
        let status = new.status.get_or_insert_default();
        let before = old.status.iter().flat_map(|s| s.conditions.iter().flatten());
        if part == "status" {
            // Decisions come through `approval`: those there are stay as they are, in their places.
            let mut decisions: Vec<_> = before.filter(|c| is_decision(&c.type_)).cloned().collect();
            let mut all = vec![];
            for condition in status.conditions.take().into_iter().flatten() {
                if let Some(at) = decisions.iter().position(|d| d.type_ == condition.type_) {
                    all.push(decisions.remove(at));
                } else if !is_decision(&condition.type_) {
                    all.push(condition);
                }
            }
            all.extend(decisions);
            status.conditions = (!all.is_empty()).then_some(all);
        } else {
            status.certificate = old.status.as_ref().and_then(|s| s.certificate.clone());
        }
        for condition in status.conditions.iter_mut().flatten() {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(cx.now);
            condition.last_update_time.get_or_insert_with(|| now.clone());
            condition.last_transition_time.get_or_insert(now);
        }
    }
    fn validate(&self, csr: &CertificateSigningRequest, errors: &mut Errors) {
        let path = Path::new("spec");
        if !csr.spec.request.0.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
            errors.invalid(&path.child("request"), &serde_json::json!(csr.spec.request), "PEM block type must be CERTIFICATE REQUEST");
        }
        let usages = csr.spec.usages.as_deref().unwrap_or_default();
        if usages.is_empty() {
            errors.required(&path.child("usages"), "");
        }
        for (i, usage) in usages.iter().enumerate() {
            one_of(usage, USAGES, &path.child("usages").index(i), errors);
            if usages[..i].contains(usage) {
                errors.duplicate(&path.child("usages").index(i), usage);
            }
        }
        validate_signer(&csr.spec.signer_name, &path.child("signerName"), errors);
        if let Some(seconds) = csr.spec.expiration_seconds.filter(|s| *s < MIN_SECONDS) {
            errors.invalid(&path.child("expirationSeconds"), seconds, "may not specify a duration less than 600 seconds (10 minutes)");
        }
    }
    fn validate_part(&self, _: &str, new: &CertificateSigningRequest, old: &CertificateSigningRequest, errors: &mut Errors) {
        let path = Path::new("status").child("conditions");
        let of = |csr: &CertificateSigningRequest| csr.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let (now, before) = (of(new), of(old));
        for (i, condition) in now.iter().enumerate() {
            let path = path.index(i);
            if matches!(condition.type_.as_str(), "Approved" | "Denied" | "Failed") && condition.status != "True" {
                errors.invalid(&path.child("status"), &condition.status, "must be True for conditions of type Approved, Denied, or Failed");
            }
            if now[..i].iter().any(|c| c.type_ == condition.type_) {
                errors.duplicate(&path.child("type"), &condition.type_);
            }
        }
        let has = |kind: &str| now.iter().any(|c| c.type_ == kind);
        if has("Approved") && has("Denied") {
            errors.invalid(&path, "Denied", "Approved and Denied conditions are mutually exclusive");
        }
        for condition in before.iter().filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed") && !has(&c.type_)) {
            errors.forbidden(&path, &format!("updates may not remove a condition of type {:?}", condition.type_));
        }
        let certificate =
            |csr: &CertificateSigningRequest| csr.status.as_ref().and_then(|s| s.certificate.clone()).filter(|c| !c.0.is_empty());
        if certificate(old).is_some() && certificate(old) != certificate(new) {
            errors.forbidden(&Path::new("status").child("certificate"), "updates may not modify a certificate once it is set");
        }
    }
}

/// A signer is named `domain/path`.
fn validate_signer(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.is_empty() && !rest.contains('/')) else {
        return errors.invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    };
    for wrong in names::dns1123_subdomain(domain) {
        errors.invalid(path, domain, &format!("validating label {domain:?}: {wrong}"));
    }
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    for wrong in names::dns1123_subdomain(rest) {
        errors.invalid(path, rest, &format!("validating label {rest:?}: {wrong}"));
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, part_errors, updated_part};
    use expect_test::expect;

    #[test]
    fn table() {
        let csr = "{metadata: {name: a}, spec: {signerName: a.b/c, username: u, expirationSeconds: 3600}, status: {certificate: eA==, conditions: [{type: Approved, status: 'True'}]}}";
        assert_eq!(cells(row(), csr), "a | <unknown> | a.b/c | u | 60m | Approved,Issued");
    }

    #[test]
    fn a_status_keeps_the_decisions_and_the_order() {
        let csr = |conditions: &str| {
            format!("{{metadata: {{name: a}}, spec: {{request: eA==, signerName: a.b/c}}, status: {{conditions: {conditions}}}}}")
        };
        let kept = |old: &str, new: &str| {
            let object = updated_part(row(), "status", &csr(old), &csr(new));
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().map(|c| format!("{} {}", c["type"], c["reason"])).collect::<Vec<_>>().join(", ").replace('"', "")
        };
        let old = "[{type: X, status: 'True', reason: a}, {type: Approved, status: 'True', reason: b}]";
        let new =
            "[{type: X, status: 'True', reason: c}, {type: Approved, status: 'True', reason: d}, {type: Z, status: 'True', reason: e}]";
        assert_eq!(kept(old, new), "X c, Approved b, Z e");
        assert_eq!(kept(old, "[]"), "Approved b");
        assert_eq!(kept("[]", new), "X c, Z e");
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST
            spec.usages[0]: Unsupported value: "x": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
            spec.signerName: Invalid value: "s": must be a fully qualified domain and path of the form 'example.com/signer-name'
            spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)"#]]
        .assert_eq(&errors(row(), "{metadata: {name: a}, spec: {request: eA==, usages: [x], signerName: s, expirationSeconds: 1}}"));
        let csr = |conditions: &str| {
            format!("{{metadata: {{name: a}}, spec: {{request: eA==, signerName: a.b/c}}, status: {{conditions: {conditions}}}}}")
        };
        expect![[r#"
            status.conditions[0].status: Invalid value: "False": must be True for conditions of type Approved, Denied, or Failed
            status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]]
        .assert_eq(&part_errors(row(), "approval", &csr("[{type: Approved, status: 'True'}]"), &csr("[{type: Denied, status: 'False'}]")));
    }
}
