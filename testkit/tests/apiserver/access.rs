//! Who may do what: nobody by default, what RBAC grants at once, and nodes what is theirs.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire, eventually};

const PODS: &str = "/api/v1/namespaces/t/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    crate::namespace(&admin, "t").await;
    (server, admin)
}

async fn becomes(what: &str, wire: &Wire, path: &str, code: u16) {
    eventually(what, Duration::from_secs(5), || async { (wire.get(path).await.code == code).then_some(()) }).await;
}

fn pod(name: &str, node: &str, secret: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "secret": {"secretName": secret}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_health_and_version() {
    let (server, _admin) = world().await;
    let stranger = server.wire_with_token(None).await.expect("a client");
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(stranger.get(path).await.code, 200, "{path}");
    }
    assert_eq!(
        stranger.get(PODS).await.refusal(),
        "403 Forbidden: pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"t\""
    );
    assert_eq!(
        stranger.get("/metrics").await.refusal(),
        "403 Forbidden: forbidden: User \"system:anonymous\" cannot get path \"/metrics\""
    );
    let liar = server.wire_with_token(Some("not-a-token")).await.expect("a client");
    let refused = liar.get("/version").await;
    assert_eq!(refused.refusal(), "401 Unauthorized: Unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_come_and_go_at_once() {
    let (server, admin) = world().await;
    let bob = server.wire_of("bob", Some("developers")).await.expect("a client");
    assert_eq!(
        bob.get(PODS).await.refusal(),
        "403 Forbidden: pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"t\""
    );
    assert_eq!(
        bob.get("/api/v1/nodes/a").await.refusal(),
        "403 Forbidden: nodes \"a\" is forbidden: User \"bob\" cannot get resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        bob.patch("merge", "/apis/apps/v1/namespaces/t/deployments/a/scale", &json!({})).await.refusal(),
        "403 Forbidden: deployments.apps \"a\" is forbidden: User \"bob\" cannot patch resource \"deployments/scale\" in API group \"apps\" in the namespace \"t\""
    );
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}, {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]}]});
    admin.post(&format!("{RBAC}/namespaces/t/roles"), &role).await.ok();
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "developers"}]});
    admin.post(&format!("{RBAC}/namespaces/t/rolebindings"), &binding).await.ok();
    becomes("the grant", &bob, PODS, 200).await;
    assert_eq!(bob.get(&format!("{PODS}/a")).await.code, 403, "another verb");
    assert_eq!(bob.get("/api/v1/namespaces/default/pods").await.code, 403, "another namespace");
    assert_eq!(bob.get("/api/v1/pods").await.code, 403, "all namespaces");
    assert_eq!(bob.get("/api/v1/namespaces/t/configmaps/mine").await.code, 404, "the one that is named, if it were there");
    assert_eq!(bob.get("/api/v1/namespaces/t/configmaps/other").await.code, 403);
    let review = json!({"spec": {"resourceAttributes": {"namespace": "t", "verb": "list", "resource": "pods"}}});
    assert_eq!(bob.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await.ok()["status"]["allowed"], true);
    assert_eq!(
        bob.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok()["status"]["userInfo"]["username"],
        "bob"
    );
    // Nobody gives what they do not have.
    let escalation = json!({"metadata": {"name": "e"}, "rules": [{"apiGroups": [""], "resources": ["rbac"], "verbs": ["*"]}]});
    let grant = json!({"metadata": {"name": "g"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]}]});
    admin.post(&format!("{RBAC}/namespaces/t/roles"), &grant).await.ok();
    let mut second = binding.clone();
    second["metadata"]["name"] = "g".into();
    second["roleRef"]["name"] = "g".into();
    admin.post(&format!("{RBAC}/namespaces/t/rolebindings"), &second).await.ok();
    let refused = eventually("the right to make roles", Duration::from_secs(5), || async {
        let answer = bob.post(&format!("{RBAC}/namespaces/t/roles"), &escalation).await;
        answer.text().contains("attempting to grant RBAC permissions not currently held").then_some(answer)
    })
    .await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    admin.delete(&format!("{RBAC}/namespaces/t/rolebindings/b")).await.ok();
    becomes("the revocation", &bob, PODS, 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_with_an_identity_of_its_own_has_its_rights_and_no_others() {
    let (_server, admin) = world().await;
    let controller = admin.with("impersonate-user", "system:serviceaccount:kube-system:replicaset-controller");
    let may = async |verb: &str, group: &str, resource: &str| {
        let attributes = json!({"namespace": "t", "verb": verb, "group": group, "resource": resource});
        let review = json!({"spec": {"resourceAttributes": attributes}});
        controller.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await.ok()["status"]["allowed"] == true
    };
    assert!(may("create", "", "pods").await && may("watch", "apps", "replicasets").await && may("create", "", "events").await);
    assert!(!may("create", "apps", "replicasets").await && !may("delete", "", "nodes").await && !may("get", "", "secrets").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonation_needs_the_right() {
    let (server, admin) = world().await;
    let who = |wire: Wire| async move {
        wire.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok()["status"]["userInfo"].clone()
    };
    let as_alice = admin.with("impersonate-user", "alice").with("impersonate-group", "writers");
    let alice = who(as_alice.clone()).await;
    assert_eq!((&alice["username"], &alice["groups"]), (&json!("alice"), &json!(["writers", "system:authenticated"])));
    assert_eq!(as_alice.get(PODS).await.code, 403, "what alice may not, the impersonator may not either");
    let account = who(admin.with("impersonate-user", "system:serviceaccount:t:default")).await;
    assert!(account["groups"].as_array().is_some_and(|g| g.contains(&json!("system:serviceaccounts:t"))), "{account}");
    let bob = server.wire_of("bob", None).await.expect("a client");
    let refused = bob.with("impersonate-user", "alice").get(PODS).await;
    assert_eq!(
        refused.refusal(),
        "403 Forbidden: users \"alice\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_service_accounts() {
    let (server, admin) = world().await;
    let path = "/api/v1/namespaces/t/serviceaccounts/default/token";
    let asked = admin.post(path, &json!({"spec": {"expirationSeconds": 600}})).await.expect(201);
    let token = asked["status"]["token"].as_str().expect("a token").to_owned();
    let review = |token: String, audiences: Value| {
        let admin = admin.clone();
        async move {
            admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token, "audiences": audiences}})).await.ok()
                ["status"]
                .clone()
        }
    };
    let reviewed = review(token.clone(), json!([])).await;
    assert_eq!((&reviewed["authenticated"], &reviewed["user"]["username"]), (&json!(true), &json!("system:serviceaccount:t:default")));
    assert_eq!(review(token.clone(), json!(["vault"])).await["authenticated"], Value::Null);
    let holder = server.wire_with_token(Some(&token)).await.expect("a client");
    assert_eq!(holder.get(PODS).await.code, 403, "known, but without rights");
    assert_eq!(holder.get("/version").await.code, 200);

    // For another audience: not for the apiserver.
    let other = admin.post(path, &json!({"spec": {"audiences": ["vault"]}})).await.expect(201)["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(review(other.clone(), json!(["vault"])).await["audiences"], json!(["vault"]));
    assert_eq!(server.wire_with_token(Some(&other)).await.expect("a client").get("/version").await.code, 401);
    assert_eq!(admin.post(path, &json!({"spec": {"expirationSeconds": 5}})).await.code, 422, "too short");

    // Bound to a pod: good as long as the pod is there.
    let made =
        admin.post(PODS, &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).await.expect(201);
    let bound = json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}}});
    let bound = admin.post(path, &bound).await.expect(201)["status"]["token"].as_str().expect("a token").to_owned();
    let extra = review(bound.clone(), json!([])).await["user"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]), "{extra}");
    let holder = server.wire_with_token(Some(&bound)).await.expect("a client");
    assert_eq!(holder.get("/version").await.code, 200);
    admin.delete_with(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0})).await.ok();
    becomes("the pod's token to end", &holder, "/version", 401).await;
    // A new account of the same name is another account.
    admin.delete("/api/v1/namespaces/t/serviceaccounts/default").await.ok();
    let holder = server.wire_with_token(Some(&token)).await.expect("a client");
    becomes("the account's token to end", &holder, "/version", 401).await;
    admin.post("/api/v1/namespaces/t/serviceaccounts", &json!({"metadata": {"name": "default"}})).await.expect(201);
    assert_eq!(holder.get("/version").await.code, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_may_touch_what_is_theirs() {
    let (server, admin) = world().await;
    let node = server.wire_of("system:node:n1", Some("system:nodes")).await.expect("a client");
    let secrets = "/api/v1/namespaces/t/secrets";
    for name in ["mine", "others"] {
        admin.post(secrets, &json!({"metadata": {"name": name}})).await.expect(201);
    }
    for (name, on) in [("p1", "n1"), ("p2", "n2")] {
        let secret = if on == "n1" { "mine" } else { "others" };
        admin.post(PODS, &pod(name, on, secret)).await.expect(201);
    }
    becomes("the pod's secret to be readable", &node, &format!("{secrets}/mine"), 200).await;
    assert_eq!(node.get(&format!("{secrets}/others")).await.code, 403);
    assert_eq!(node.get(secrets).await.code, 403, "not all of them");
    let only = node.get(&format!("{secrets}?fieldSelector=metadata.name%3Dmine")).await;
    assert_eq!(only.code, 200, "{}", only.text());
    // A pod that is gone takes the right with it.
    admin.delete_with(&format!("{PODS}/p1"), &json!({"gracePeriodSeconds": 0})).await.ok();
    becomes("the right to end", &node, &format!("{secrets}/mine"), 403).await;

    let object = |name: &str| json!({"metadata": {"name": name}});
    node.post("/api/v1/nodes", &object("n1")).await.expect(201);
    let refused = node.post("/api/v1/nodes", &object("n9")).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(refused.text().contains("is not allowed to modify node"), "{}", refused.text());
    admin.post("/api/v1/nodes", &object("n2")).await.expect(201);
    assert_eq!(node.patch("merge", "/api/v1/nodes/n2/status", &json!({"status": {"phase": "Running"}})).await.code, 403);
    assert_eq!(
        node.patch("merge", "/api/v1/nodes/n1", &json!({"metadata": {"labels": {"node-restriction.kubernetes.io/a": "b"}}})).await.code,
        403
    );
    let taints = node.patch("merge", "/api/v1/nodes/n1", &json!({"spec": {"taints": []}})).await;
    assert_eq!(taints.refusal(), "403 Forbidden: nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints");
    assert_eq!(node.patch("merge", "/api/v1/nodes/n1", &json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}})).await.code, 200);
    assert_eq!(
        node.patch("merge", &format!("{PODS}/p2/status"), &json!({"status": {"message": "x"}})).await.code,
        403,
        "a pod of another node"
    );
    assert_eq!(node.delete(&format!("{PODS}/p2")).await.code, 403);
    let mirror = json!({"metadata": {"name": "m"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(node.post(PODS, &mirror).await.code, 403, "a node makes mirror pods only");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(node.post(leases, &object("n1")).await.code, 201);
    assert_eq!(node.post(leases, &object("n2")).await.code, 403);
}
