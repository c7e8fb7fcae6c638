//! Requests for certificates: approved where a kubelet may ask, signed when approved.

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;

fn request(name: &str, user: &str, group: &str, signer: &str, usages: &[&str], key: &KeyPair) -> CertificateSigningRequest {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.distinguished_name.push(DnType::OrganizationName, group);
    let pem = params.serialize_request(key).expect("a request").pem().expect("PEM");
    let spec = json!({"request": ByteString(pem.into_bytes()), "signerName": signer, "usages": usages, "expirationSeconds": 3600});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a request")
}

async fn certificate(api: &Api<CertificateSigningRequest>, name: &str) -> String {
    let certificate = eventually("the certificate", SOON, || async { api.get(name).await.ok()?.status?.certificate }).await;
    String::from_utf8(certificate.0).expect("PEM")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_s_own_request_is_approved_and_signed() {
    let cluster = Cluster::start().await;
    let binding = json!({"metadata": {"name": "nodes"}, "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}});
    let binding: ClusterRoleBinding = serde_json::from_value(binding).expect("a binding");
    Api::all(cluster.client.clone()).create(&PostParams::default(), &binding).await.expect("the binding");
    let node = cluster.server.client_of("system:node:n1", Some("system:nodes")).await.expect("a client");
    let api: Api<CertificateSigningRequest> = Api::all(node);
    let key = KeyPair::generate().expect("a key");
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let asked = request("mine", "system:node:n1", "system:nodes", signer, &["digital signature", "client auth"], &key);
    api.create(&PostParams::default(), &asked).await.expect("the request");
    let pem = certificate(&api, "mine").await;
    let approved = api.get("mine").await.expect("it").status.and_then(|s| s.conditions).expect("conditions");
    assert_eq!(approved[0].message.as_deref(), Some("Auto approving self kubelet client certificate after SubjectAccessReview."));
    // The certificate is good for what it was asked for.
    let pki = &cluster.server.pki;
    let path = pki.kubeconfig("new", "nobody", None, &cluster.server.url).expect("a kubeconfig");
    std::fs::write(pki.file("new.crt"), pem).expect("written");
    std::fs::write(pki.file("new.key"), key.serialize_pem()).expect("written");
    let client = daemon::client::connect(&path, "test").await.expect("a client");
    let review =
        Api::<SelfSubjectReview>::all(client).create(&PostParams::default(), &SelfSubjectReview::default()).await.expect("an answer");
    let user = review.status.and_then(|s| s.user_info).expect("a user");
    assert_eq!((user.username.as_deref(), user.groups.unwrap_or_default()[0].as_str()), (Some("system:node:n1"), "system:nodes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_request_waits_for_a_person() {
    let cluster = Cluster::start().await;
    let api: Api<CertificateSigningRequest> = Api::all(cluster.client.clone());
    let key = KeyPair::generate().expect("a key");
    let signer = "kubernetes.io/kube-apiserver-client";
    for (name, usage) in [("good", "client auth"), ("bad", "server auth")] {
        let asked = request(name, "me", "us", signer, &[usage], &key);
        api.create(&PostParams::default(), &asked).await.expect("the request");
        let mut decided = api.get(name).await.expect("it");
        assert!(decided.status.clone().and_then(|s| s.conditions).is_none());
        let approved = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Me", "message": "ok"}]});
        decided.status = serde_json::from_value(approved).expect("a status");
        let body = serde_json::to_vec(&decided).expect("JSON");
        let answer: Result<CertificateSigningRequest, _> = {
            let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval");
            let request = http::Request::put(path).header("content-type", "application/json").body(body).expect("a request");
            cluster.client.request(request).await
        };
        answer.expect("the approval");
    }
    certificate(&api, "good").await;
    let failed = eventually("the failure", SOON, || async {
        api.get("bad").await.ok()?.status?.conditions?.into_iter().find(|c| c.type_ == "Failed")
    })
    .await;
    assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(failed.message.as_deref(), Some("invalid usage for client certificate: server auth"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_people_bind_are_the_sum_of_the_labelled_ones() {
    let cluster = Cluster::start().await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let allows = |role: &'static str, resource: &'static str, wanted: bool| {
        let roles = roles.clone();
        async move {
            eventually(&format!("{role} and {resource}"), SOON, || async {
                let rules = roles.get(role).await.ok()?.rules.unwrap_or_default();
                let named = rules.iter().any(|r| r.resources.iter().flatten().any(|n| n == resource));
                (named == wanted).then_some(())
            })
            .await;
        }
    };
    allows("view", "pods", true).await;
    allows("edit", "secrets", true).await;
    allows("admin", "rolebindings", true).await;
    allows("admin", "pods", true).await;
    let role = json!({"metadata": {"name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["widgets"]}]});
    roles.create(&PostParams::default(), &serde_json::from_value(role).expect("a role")).await.expect("the role");
    for role in ["view", "edit", "admin"] {
        allows(role, "widgets", true).await;
    }
    roles.delete("widgets", &DeleteParams::default()).await.expect("the deletion");
    allows("admin", "widgets", false).await;
}
