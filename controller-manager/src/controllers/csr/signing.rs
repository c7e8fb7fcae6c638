//! Signs approved requests for the signers of `kubernetes.io/`.
//!
//! What a signer does not give is answered with the condition Failed; a request for somebody else's signer is left alone.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::authority::{Authority, Terms};
use super::request::Request;
use super::{is, issued, with_condition};
use crate::apply::Outcome;
use crate::cache::Change;
use crate::caches::Caches;
use crate::flags::Flags;
use crate::kind::{Key, Object};
use crate::plan::{Failure, Plan};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// The shortest life that a request may ask for.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// What signing takes besides the request.
pub struct Means<'a> {
    /// Who signs.
    pub authority: &'a Authority,
    /// The longest life of a certificate.
    pub longest: SignedDuration,
    /// The time.
    pub now: Timestamp,
    /// A number for the certificate.
    pub serial: [u8; 16],
}

/// Whether the request waits for a signature.
#[must_use]
pub fn waits(csr: &CertificateSigningRequest) -> bool {
    is(csr, "Approved") && !is(csr, "Denied") && !is(csr, "Failed") && issued(csr).is_none()
}

/// Signs, or says why not.
///
/// # Errors
/// The authority cannot sign, which is not the request's fault.
pub fn plan(csr: &CertificateSigningRequest, means: &Means<'_>) -> Result<Plan, String> {
    let mut plan = Plan::default();
    if !waits(csr) {
        return Ok(plan);
    }
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    let request = Request::parse(&csr.spec.request.0);
    let checked = match &request {
        Ok(request) => match request.check_for(&csr.spec.signer_name, usages) {
            None => return Ok(plan),
            Some(checked) => checked.map(|()| request),
        },
        // What cannot be read is only ours to refuse when the signer is ours.
        Err(_) if !csr.spec.signer_name.starts_with("kubernetes.io/") => return Ok(plan),
        Err(why) => Err(why.clone()),
    };
    let signed = match checked {
        Err(why) => with_condition(csr, "Failed", "SignerValidationFailure", &why),
        Ok(request) => {
            let asked = csr.spec.expiration_seconds.map(|s| SignedDuration::from_secs(s.into()).max(SHORTEST));
            let life = asked.unwrap_or(means.longest).min(means.longest);
            let pem = means.authority.sign(request, &Terms { usages, life, now: means.now, serial: means.serial })?;
            let mut signed = csr.clone();
            signed.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
            signed
        }
    };
    plan.update_status(csr, &signed);
    Ok(plan)
}

/// The controller.
pub struct Signing {
    certificate: PathBuf,
    key: PathBuf,
    longest: SignedDuration,
}

impl Signing {
    /// By the flags; none when they name no authority.
    #[must_use]
    pub fn new(flags: &Flags) -> Option<Self> {
        Some(Self {
            certificate: flags.cluster_signing_cert_file.clone()?,
            key: flags.cluster_signing_key_file.clone()?,
            longest: flags.cluster_signing_duration.try_into().unwrap_or(SignedDuration::MAX),
        })
    }

    /// Reads the authority anew for each signature: they are rare, and the files may have been replaced.
    async fn authority(&self) -> Result<Authority, String> {
        let read = async |path: &PathBuf| tokio::fs::read(path).await.map_err(|e| format!("reading {}: {e}", path.display()));
        Authority::parse(&read(&self.certificate).await?, &read(&self.key).await?)
    }

    async fn sign(&self, run: &Run, csr: &CertificateSigningRequest) -> Result<Plan, String> {
        let authority = self.authority().await?;
        let (longest, now, serial) = (self.longest, run.clock.now(), rand::random());
        plan(csr, &Means { authority: &authority, longest, now, serial })
    }
}

impl Controller for Signing {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.csrs.subscribe(move |change: Change<'_, CertificateSigningRequest>| {
            if change.new.is_some_and(waits) {
                queue.add(change.latest().key());
            }
        });
    }

    /// Nothing without the authority's key: see [`Controller::act`].
    fn plan(&self, _: &View<'_>, _: &Key) -> Plan {
        Plan::default()
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, _: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let Some(csr) = run.caches.csrs.get(key).filter(|c| waits(c)) else { return (Outcome::default(), None) };
            match self.sign(run, &csr).await {
                Ok(plan) => (run.executor.apply(plan).await, None),
                Err(message) => (Outcome { failure: Some(Failure { reason: "", message }), ..Outcome::default() }, None),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::authority;
    use super::super::request::tests::pem;
    use super::*;
    use crate::world::World;
    use serde_json::{Value, json};

    fn world(signer: &str, request: &[u8], conditions: &[&str]) -> World {
        let mut world = World::new();
        let conditions: Vec<Value> = conditions.iter().map(|c| json!({"type": c, "status": "True"})).collect();
        world.add::<CertificateSigningRequest>(json!({
            "metadata": {"name": "a"},
            "spec": {"request": ByteString(request.to_vec()), "signerName": signer, "usages": ["client auth"], "expirationSeconds": 3600},
            "status": {"conditions": conditions}
        }));
        world
    }

    fn settle(world: &mut World) -> CertificateSigningRequest {
        let (authority, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
        let key = Key::cluster("a");
        world.settle_with(|world| {
            let csr = world.get::<CertificateSigningRequest>(&key).expect("it");
            let means = Means { authority: &authority, longest: SignedDuration::from_hours(100), now: world.now, serial: [1; 16] };
            let plan = plan(&csr, &means).expect("the authority signs");
            world.apply(plan)
        });
        world.get(&key).expect("it")
    }

    #[test]
    fn what_is_approved_is_signed_once() {
        let mut world = world("kubernetes.io/kube-apiserver-client", &pem("me", &["us"], &[]), &["Approved"]);
        let csr = settle(&mut world);
        let (_, block) = x509_parser::pem::parse_x509_pem(issued(&csr).expect("a certificate")).expect("PEM");
        let cert = block.parse_x509().expect("a certificate");
        assert_eq!(cert.subject().to_string(), "CN=me, O=us");
        assert_eq!(cert.validity().not_after.to_string(), "Jan  1 01:00:00 2026 +00:00");
        world.told();
        settle(&mut world);
        assert_eq!(world.told(), "");
    }

    #[test]
    fn what_is_not_approved_or_not_ours_is_left_alone() {
        for (signer, conditions) in [
            ("kubernetes.io/kube-apiserver-client", vec![]),
            ("kubernetes.io/kube-apiserver-client", vec!["Denied"]),
            ("kubernetes.io/kube-apiserver-client", vec!["Approved", "Failed"]),
            ("example.com/mine", vec!["Approved"]),
        ] {
            let mut world = world(signer, &pem("me", &[], &[]), &conditions);
            settle(&mut world);
            assert_eq!(world.told(), "", "{signer} {conditions:?}");
        }
    }

    #[test]
    fn what_the_signer_does_not_give_has_failed() {
        let mut world = world("kubernetes.io/kubelet-serving", &pem("me", &[], &[]), &["Approved"]);
        let csr = settle(&mut world);
        let failed = super::super::condition(&csr, "Failed").expect("the condition");
        assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
        assert_eq!(failed.message.as_deref(), Some("subject organization is not system:nodes"));
    }
}
