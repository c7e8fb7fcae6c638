//! Tokens that are objects: those of accounts, and those to join with.

use super::*;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

/// Who the holder of a token is; nothing when it is not taken.
async fn who(cluster: &Cluster, token: &str) -> Option<String> {
    let wire = cluster.server.wire_with_token(Some(token)).await.expect("a client");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = wire.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await;
    (answer.code == 201).then(|| answer.json()["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_for_an_account_is_filled_and_its_token_lives_as_long_as_both() {
    let cluster = Cluster::start().await;
    let (accounts, secrets) = (cluster.api::<ServiceAccount>(), cluster.api::<Secret>());
    let account = json!({"metadata": {"name": "robot"}});
    accounts.create(&PostParams::default(), &serde_json::from_value(account).expect("an account")).await.expect("the account");
    let secret = json!({"metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token"});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).expect("a secret")).await.expect("the secret");
    let data =
        eventually("the token", SOON, || async { secrets.get("robot-token").await.ok()?.data.filter(|d| d.contains_key("token")) }).await;
    assert!(data.contains_key("ca.crt") && data["namespace"].0 == b"default");
    let token = String::from_utf8(data["token"].0.clone()).expect("a token");
    assert_eq!(who(&cluster, &token).await.as_deref(), Some("system:serviceaccount:default:robot"));
    accounts.delete("robot", &DeleteParams::default()).await.expect("the deletion");
    eventually("the secret to go", SOON, || async { secrets.get_opt("robot-token").await.ok()?.is_none().then_some(()) }).await;
    eventually("the token to be void", SOON, || async { who(&cluster, &token).await.is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_token_lets_in_signs_and_expires() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-public");
    let info = json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "apiVersion: v1"}});
    maps.create(&PostParams::default(), &serde_json::from_value(info).expect("a map")).await.expect("the map");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "kube-system");
    let token = |id: &str, expiration: &str| {
        let secret = json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
                           "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true"}});
        serde_json::from_value::<Secret>(secret).expect("a secret")
    };
    secrets.create(&PostParams::default(), &token("aaaaaa", "2100-01-01T00:00:00Z")).await.expect("the token");
    secrets.create(&PostParams::default(), &token("bbbbbb", "2020-01-01T00:00:00Z")).await.expect("the token");
    eventually("the token to be taken", SOON, || async {
        (who(&cluster, "aaaaaa.0123456789abcdef").await.as_deref() == Some("system:bootstrap:aaaaaa")).then_some(())
    })
    .await;
    assert_eq!(who(&cluster, "bbbbbb.0123456789abcdef").await, None);
    assert_eq!(who(&cluster, "aaaaaa.0123456789abcdeX").await, None);
    eventually("the expired one to go", SOON, || async { secrets.get_opt("bootstrap-token-bbbbbb").await.ok()?.is_none().then_some(()) })
        .await;
    let signed = |wanted: bool| {
        let maps = maps.clone();
        async move {
            eventually("the signature", SOON, || async {
                let data = maps.get("cluster-info").await.ok()?.data?;
                (data.contains_key("jws-kubeconfig-aaaaaa") == wanted && !data.contains_key("jws-kubeconfig-bbbbbb")).then_some(())
            })
            .await;
        }
    };
    signed(true).await;
    secrets.delete("bootstrap-token-aaaaaa", &DeleteParams::default()).await.expect("the deletion");
    signed(false).await;
}
