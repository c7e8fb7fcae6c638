//! Approves what kubelets ask for themselves: a client certificate in a node's name, when who asks may have it.
//!
//! Whether somebody may is the apiserver's to say: `create` on `certificatesigningrequests/selfnodeclient`, for a node that asks
//! for its own name, or on `.../nodeclient`, for anybody (as a bootstrap token's holder) that asks for a node's.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::request::Request;
use super::{KUBELET_CLIENT, is, issued, with_condition};
use crate::apply::{Outcome, json_request, message};
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Failure, Plan, to_json};
use crate::queue::Queue;
use crate::runner::{Controller, Run, View};

/// A right that lets a request be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The subresource of `certificatesigningrequests` that the right is to create.
    pub subresource: &'static str,
    /// What the approval says.
    pub message: &'static str,
}

const SELF: Right =
    Right { subresource: "selfnodeclient", message: "Auto approving self kubelet client certificate after SubjectAccessReview." };
const ANY: Right = Right { subresource: "nodeclient", message: "Auto approving kubelet client certificate after SubjectAccessReview." };

/// Whether nobody decided about the request yet.
fn waits(csr: &CertificateSigningRequest) -> bool {
    csr.spec.signer_name == KUBELET_CLIENT && issued(csr).is_none() && !is(csr, "Approved") && !is(csr, "Denied")
}

/// The rights of which one is needed, in the order in which they are asked about; none when a person has to decide.
///
/// # Errors
/// A request that cannot be read.
pub fn rights(csr: &CertificateSigningRequest) -> Result<Vec<Right>, String> {
    if !waits(csr) {
        return Ok(Vec::new());
    }
    let request = Request::parse(&csr.spec.request.0).map_err(|e| format!("unable to parse csr {:?}: {e}", csr.name()))?;
    if request.check_kubelet_client(csr.spec.usages.as_deref().unwrap_or_default()).is_err() {
        return Ok(Vec::new());
    }
    let own = csr.spec.username.as_deref() == Some(request.common_name().as_str());
    Ok(if own { vec![SELF, ANY] } else { vec![ANY] })
}

/// Approves by a right that the requestor has.
#[must_use]
pub fn plan(csr: &CertificateSigningRequest, by: Right) -> Plan {
    let mut plan = Plan::default();
    plan.push(Action::update_status_by(csr, &with_condition(csr, "Approved", "AutoApproved", by.message), "approval"));
    plan
}

/// The question whether the requestor has a right.
fn review(csr: &CertificateSigningRequest, right: Right) -> SubjectAccessReview {
    let some = |text: &str| Some(text.to_owned());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: some("certificates.k8s.io"),
                resource: some("certificatesigningrequests"),
                subresource: some(right.subresource),
                verb: some("create"),
                version: some("*"),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// The controller.
pub struct Approving;

impl Approving {
    async fn decide(run: &Run, csr: &CertificateSigningRequest) -> Result<Option<Plan>, String> {
        let rights = rights(csr)?;
        for right in &rights {
            let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews");
            let request = json_request(request, "application/json", &to_json(&review(csr, *right))).map_err(|e| message(&e))?;
            let answer: SubjectAccessReview = run.executor.client().request(request).await.map_err(|e| message(&e))?;
            if answer.status.is_some_and(|s| s.allowed) {
                return Ok(Some(plan(csr, *right)));
            }
        }
        if rights.is_empty() {
            return Ok(None);
        }
        // The binding that allows it may be about to be made.
        let tried: Vec<&str> = rights.iter().map(|r| r.subresource).collect();
        Err(format!("recognized csr {:?} as {tried:?} but subject access review was not approved", csr.name()))
    }
}

impl Controller for Approving {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let queue = queue.clone();
        caches.csrs.subscribe(move |change: Change<'_, CertificateSigningRequest>| {
            if change.new.is_some_and(waits) {
                queue.add(change.latest().key());
            }
        });
    }

    /// Nothing without asking what the requestor may: see [`Controller::act`].
    fn plan(&self, _: &View<'_>, _: &Key) -> Plan {
        Plan::default()
    }

    fn act<'a>(&'a self, run: &'a Run, key: &'a Key, _: Option<&'a Failure>) -> BoxFuture<'a, (Outcome, Option<Timestamp>)> {
        Box::pin(async move {
            let Some(csr) = run.caches.csrs.get(key) else { return (Outcome::default(), None) };
            match Self::decide(run, &csr).await {
                Ok(None) => (Outcome::default(), None),
                Ok(Some(plan)) => (run.executor.apply(plan).await, None),
                Err(message) => (Outcome { failure: Some(Failure { reason: "", message }), ..Outcome::default() }, None),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::pem;
    use super::*;
    use crate::world::World;
    use k8s_openapi::ByteString;
    use serde_json::json;

    fn csr(signer: &str, who: &str, request: &[u8], usages: &[&str]) -> (World, CertificateSigningRequest) {
        let mut world = World::new();
        let csr = world.add::<CertificateSigningRequest>(json!({
            "metadata": {"name": "a"},
            "spec": {"request": ByteString(request.to_vec()), "signerName": signer, "usages": usages, "username": who}
        }));
        (world, csr)
    }

    fn asked(signer: &str, who: &str, name: &str, usages: &[&str]) -> String {
        let (_, csr) = csr(signer, who, &pem(name, &["system:nodes"], &[]), usages);
        rights(&csr).expect("a request").iter().map(|r| r.subresource).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn kubelets_are_recognised() {
        let usages = ["digital signature", "client auth"];
        assert_eq!(asked(KUBELET_CLIENT, "system:node:a", "system:node:a", &usages), "selfnodeclient nodeclient");
        assert_eq!(asked(KUBELET_CLIENT, "system:bootstrap:x", "system:node:a", &usages), "nodeclient");
        assert_eq!(asked(KUBELET_CLIENT, "system:node:a", "someone", &usages), "");
        assert_eq!(asked(KUBELET_CLIENT, "system:node:a", "system:node:a", &["server auth"]), "");
        assert_eq!(asked("kubernetes.io/kube-apiserver-client", "system:node:a", "system:node:a", &usages), "");
        assert_eq!(asked("kubernetes.io/legacy-unknown", "system:node:a", "system:node:a", &usages), "");
    }

    #[test]
    fn an_approval_is_made_once_and_says_why() {
        let (mut world, csr) =
            csr(KUBELET_CLIENT, "system:node:a", &pem("system:node:a", &["system:nodes"], &[]), &["digital signature", "client auth"]);
        world.apply(plan(&csr, SELF));
        assert_eq!(
            world.told(),
            "patch CertificateSigningRequest a/approval {\"status\":{\"conditions\":[{\"message\":\"Auto approving self kubelet client \
             certificate after SubjectAccessReview.\",\"reason\":\"AutoApproved\",\"status\":\"True\",\"type\":\"Approved\"}]}}\n"
        );
        assert!(rights(&world.get(&Key::cluster("a")).expect("it")).expect("a request").is_empty());
    }
}
