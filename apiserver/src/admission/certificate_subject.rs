//! Nobody gets a client certificate of the group that may do everything.

use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::certificate_approval::GROUP;
use super::{Attributes, Notes, Step, View};
use crate::resources::cells::text;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

/// Upstream's `CertificateSubjectRestriction`.
pub struct CertificateSubjectRestriction;

impl Step for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate(&self, at: &Attributes<'_>, csr: &Value, _: &dyn View, _: &mut Notes) -> Result<(), Status> {
        if !at.creates(GROUP, "certificatesigningrequests") || text(csr, "/spec/signerName") != CLIENT_SIGNER {
            return Ok(());
        }
        match organizations(text(csr, "/spec/request")) {
            None => Err(at.forbidden("unable to parse spec.request as a certificate signing request")),
            Some(all) if all.iter().any(|o| o == MASTERS) => {
                Err(at.forbidden(&format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The organizations of a request's subject; `None` for what is no request.
fn organizations(request: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &csr.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, verdict};
    use super::{CLIENT_SIGNER, CertificateSubjectRestriction};
    use crate::resources::certificates::certificatesigningrequests;
    use base64::Engine as _;

    #[test]
    fn masters_are_not_made_by_request() {
        let ask = |group: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
            let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            let request = base64::engine::general_purpose::STANDARD.encode(pem);
            let csr = format!("{{metadata: {{name: a}}, spec: {{signerName: {CLIENT_SIGNER}, request: {request}}}}}");
            verdict(&CertificateSubjectRestriction, &World::default(), &Request::create(certificatesigningrequests::row(), &csr))
        };
        assert_eq!(ask("people"), "ok");
        assert!(ask("system:masters").ends_with("signer with system:masters group is not allowed"));
    }
}
