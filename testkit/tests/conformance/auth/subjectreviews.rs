//! What a review says is what happens.

use serde_json::json;

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-auth] SubjectReview should support SubjectReview API operations", test!(reviews))];

async fn reviews(f: Framework) -> anyhow::Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "e2e"}});
    let made = f.wire.post(&f.core("serviceaccounts"), &account).await.expect(201);
    let uid = made["metadata"]["uid"].as_str().expect("a uid");
    let user = format!("system:serviceaccount:{}:e2e", f.namespace);
    let groups =
        ["system:authenticated".to_owned(), "system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", f.namespace)];
    let spec = json!({
        "resourceAttributes": {"verb": "list", "resource": "configmaps", "namespace": f.namespace, "version": "v1"},
        "user": user, "groups": groups, "uid": uid,
    });
    let review =
        |kind: &str| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {"namespace": f.namespace}, "spec": spec});
    let everywhere = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let here = f.group("authorization.k8s.io/v1", "localsubjectaccessreviews");
    let mut as_account = f.wire.with("impersonate-user", &user).with("impersonate-uid", uid);
    for group in &groups {
        as_account = as_account.and("impersonate-group", group);
    }

    // Before and after it is granted: upstream asks once, whichever it is.
    for allowed in [false, true] {
        if allowed {
            let role = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "e2e"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": f.namespace}],
            });
            f.wire.post(&f.group("rbac.authorization.k8s.io/v1", "rolebindings"), &role).await.expect(201);
            f.until("the account to be allowed to", crate::framework::SOON, || async {
                (as_account.get(&f.core("configmaps")).await.code == 200).then_some(())
            })
            .await;
        }
        let mut global = review("SubjectAccessReview");
        global.as_object_mut().expect("an object").remove("metadata");
        let answer = f.wire.post(everywhere, &global).await.expect(201);
        assert_eq!(answer["status"]["allowed"], allowed, "{answer}");
        let local = f.wire.post(&here, &review("LocalSubjectAccessReview")).await.expect(201);
        assert_eq!(local["status"]["allowed"], allowed, "{local}");
        let answer = as_account.get(&f.core("configmaps")).await;
        if allowed {
            answer.expect(200);
        } else {
            let refusal = answer.refusal();
            assert!(
                refusal.starts_with(&format!(r#"403 Forbidden: configmaps is forbidden: User "{user}" cannot list resource "configmaps""#)),
                "{refusal}"
            );
        }
    }
    Ok(())
}
