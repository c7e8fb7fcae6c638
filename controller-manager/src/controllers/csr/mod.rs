//! CertificateSigningRequests: [`approving`] the kubelets' own, [`signing`] what is approved, [`cleaning`] up what is old.

pub mod approving;
mod authority;
pub mod cleaning;
mod request;
pub mod signing;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

/// For clients of the apiserver; never approved by itself.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// For kubelets as clients of the apiserver.
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// For what kubelets serve.
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// For whatever was signed before signers had names; never approved by itself.
const LEGACY: &str = "kubernetes.io/legacy-unknown";

fn condition<'a>(csr: &'a CertificateSigningRequest, type_: &str) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

fn is(csr: &CertificateSigningRequest, type_: &str) -> bool {
    condition(csr, type_).is_some_and(|c| c.status == "True")
}

/// The certificate, once there is one.
fn issued(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    csr.status.as_ref()?.certificate.as_ref().map(|c| c.0.as_slice()).filter(|c| !c.is_empty())
}

/// `csr` with a further condition.
fn with_condition(csr: &CertificateSigningRequest, type_: &str, reason: &str, message: &str) -> CertificateSigningRequest {
    let mut csr = csr.clone();
    csr.status.get_or_insert_default().conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..CertificateSigningRequestCondition::default()
    });
    csr
}
