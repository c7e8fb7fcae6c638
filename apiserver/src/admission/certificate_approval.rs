//! Only who may approve for a signer can approve a request for its certificates.

use api::status::Status;
use serde_json::Value;

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::text;

pub(super) const GROUP: &str = "certificates.k8s.io";

/// Upstream's `CertificateApproval`.
pub struct CertificateApproval;

impl Step for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate(&self, at: &Attributes<'_>, csr: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        let approves = at.row.group == GROUP && at.subresource == "approval" && at.operation == Operation::Update;
        let signer = text(at.old.unwrap_or(csr), "/spec/signerName");
        if approves && !may(at, view, "approve", signer) {
            return Err(at.forbidden(&format!("user not permitted to approve requests with signerName {signer:?}")));
        }
        Ok(())
    }
}

/// Whether the user may do that for a signer: for it by name, or for all of its domain (`example.com/*`).
pub(super) fn may(at: &Attributes<'_>, view: &dyn View, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or(signer);
    let names = [signer.to_owned(), format!("{domain}/*")];
    names.iter().any(|name| view.allows(at.user, verb, GROUP, "signers", name))
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, verdict};
    use super::CertificateApproval;
    use crate::resources::certificates::certificatesigningrequests;

    #[test]
    fn who_may() {
        let csr = "{metadata: {name: a}, spec: {signerName: example.com/s}}";
        let approve = |user: &str| {
            let request = Request::update(certificatesigningrequests::row(), csr, csr).part("approval").by(user);
            verdict(&CertificateApproval, &World::default(), &request)
        };
        assert_eq!(approve("admin"), "ok");
        assert!(approve("somebody").ends_with("user not permitted to approve requests with signerName \"example.com/s\""));
    }
}
