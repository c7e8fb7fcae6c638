//! Only who may sign for a signer can put in its certificates.

use api::status::Status;
use serde_json::Value;

use super::certificate_approval::{GROUP, may};
use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::text;

/// Upstream's `CertificateSigning`.
pub struct CertificateSigning;

impl Step for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validate(&self, at: &Attributes<'_>, csr: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        let signs = at.row.group == GROUP && at.subresource == "status" && at.operation == Operation::Update;
        let Some(old) = at.old.filter(|_| signs) else { return Ok(()) };
        let part = |o: &Value| (o.pointer("/status/certificate").cloned(), o.pointer("/status/conditions").cloned());
        let signer = text(old, "/spec/signerName");
        if part(csr) != part(old) && !may(at, view, "sign", signer) {
            return Err(at.forbidden(&format!("user not permitted to sign requests with signerName {signer:?}")));
        }
        Ok(())
    }
}
