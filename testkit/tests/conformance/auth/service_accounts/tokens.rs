//! Tokens in pods: mounted, or not; whom they name; and how others verify them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Framework, NGINX, PAUSE, SOON};

/// Where pods find the token, the authority and their namespace.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

async fn account(f: &Framework, name: &str, automount: Option<bool>) {
    let mut object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    if let Some(automount) = automount {
        object["automountServiceAccountToken"] = json!(automount);
    }
    f.wire.post(&f.core("serviceaccounts"), &object).await.expect(201);
}

pub async fn mounted(f: Framework) -> anyhow::Result<()> {
    account(&f, "mount-test", None).await;
    let mut pod = Framework::script("pod-service-account", "sleep 100000");
    pod["spec"]["serviceAccountName"] = json!("mount-test");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    f.create_pod(&pod).await;
    f.until_ready("pod-service-account").await;
    let kubectl = f.kubectl();
    let read = async |file: &str| kubectl.ok(&["exec", "pod-service-account", "-c", "main", "--", "cat", &format!("{MOUNT}/{file}")]).await;
    let authority = f.until_it(&f.core("configmaps/kube-root-ca.crt"), "to be there", SOON, |_| true).await;
    assert_eq!(read("ca.crt").await?, authority["data"]["ca.crt"].as_str().unwrap_or(""));
    assert_eq!(read("namespace").await?, f.namespace);

    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": read("token").await?}});
    let answer = f.wire.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect(201);
    let status = &answer["status"];
    assert_eq!((&status["authenticated"], status.get("error")), (&json!(true), None), "{status}");
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{}:mount-test", f.namespace));
    for group in ["system:authenticated", "system:serviceaccounts", &format!("system:serviceaccounts:{}", f.namespace)] {
        assert!(status["user"]["groups"].as_array().is_some_and(|all| all.iter().any(|g| g == group)), "{group} is not in {status}");
    }
    Ok(())
}

pub async fn opting_out(f: Framework) -> anyhow::Result<()> {
    account(&f, "mount", Some(true)).await;
    account(&f, "nomount", Some(false)).await;
    // The pod's word counts; without one, the account's; without that, the token is mounted.
    for (account, in_pod, wanted) in [
        ("default", None, true),
        ("mount", None, true),
        ("nomount", None, false),
        ("default", Some(true), true),
        ("mount", Some(true), true),
        ("nomount", Some(true), true),
        ("default", Some(false), false),
        ("mount", Some(false), false),
        ("nomount", Some(false), false),
    ] {
        let name = format!("pod-service-account-{account}-{}", in_pod.map_or("unset".to_owned(), |b| b.to_string()));
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "token-test", "image": PAUSE, "imagePullPolicy": "IfNotPresent"}],
            },
        });
        if let Some(in_pod) = in_pod {
            pod["spec"]["automountServiceAccountToken"] = json!(in_pod);
        }
        let made = f.create_pod(&pod).await;
        let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        assert_eq!(mounts.iter().any(|m| m["mountPath"] == MOUNT), wanted, "{name}: {mounts:?}");
        f.wire.delete_with(&f.core(&format!("pods/{name}")), &json!({"gracePeriodSeconds": 0})).await.ok();
    }
    Ok(())
}

/// A pod with a token of its own beside the usual one, and a script that uses it.
fn pod_with_token(name: &str, token: &Value, script: &str) -> Value {
    let mut pod = Framework::script(name, script);
    pod["spec"]["containers"][0]["image"] = json!(BUSYBOX);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "test-volume", "mountPath": "/test-volume", "readOnly": true}]);
    pod["spec"]["volumes"] = json!([{"name": "test-volume", "projected": {"sources": [{"serviceAccountToken": token}]}}]);
    pod
}

fn claims(token: &str) -> anyhow::Result<Value> {
    let parts: Vec<&str> = token.trim().split('.').collect();
    anyhow::ensure!(parts.len() == 3 && parts.iter().all(|p| !p.is_empty()), "{token:?} is no signed token");
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1])?)?)
}

pub async fn projected(f: Framework) -> anyhow::Result<()> {
    let pod = pod_with_token("test-pod", &json!({"path": "token", "expirationSeconds": 3600}), "cat /test-volume/token");
    let claims = claims(&f.output_of(&pod).await)?;
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:default", f.namespace));
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "test-pod", "it is bound to its pod");
    let (from, until) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
    assert_eq!(until - from, 3600, "{claims}");
    Ok(())
}

pub async fn discovery(f: Framework) -> anyhow::Result<()> {
    let role = "system:service-account-issuer-discovery";
    let binding = format!("{}-{role}", f.namespace);
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": binding},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": f.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    });
    f.wire.post(path, &object).await.expect(201);
    f.remove_later(&format!("{path}/{binding}"));

    // The pod shows its token and what it was served, as the account that it is, by the server's name in the cluster. nginx is its client,
    // because that verifies the server's certificate.
    let script = format!(
        "cat >/tmp/nginx.conf <<END\n\
         pid /tmp/nginx.pid; error_log /tmp/nginx.log; events {{}}\n\
         http {{ access_log off; server {{ listen 127.0.0.1:8080; location / {{\n\
           proxy_pass https://kubernetes.default.svc; proxy_http_version 1.1; proxy_set_header Host kubernetes.default.svc;\n\
           proxy_ssl_verify on; proxy_ssl_name kubernetes.default.svc; proxy_ssl_trusted_certificate {MOUNT}/ca.crt;\n\
           proxy_set_header Authorization \"Bearer $(cat {MOUNT}/token)\";\n\
         }} }} }}\n\
         END\n\
         nginx -c /tmp/nginx.conf 2>/tmp/nginx.log || {{ cat /tmp/nginx.log; exit 1; }}\n\
         echo $(cat /test-volume/sa-token)\n\
         for path in .well-known/openid-configuration openid/v1/jwks; do wget -qO- http://127.0.0.1:8080/$path || {{ cat /tmp/nginx.log; exit 1; }}; echo; done\n"
    );
    let audience = "oidc-discovery-test";
    let token = json!({"path": "sa-token", "expirationSeconds": 600, "audience": audience});
    let mut pod = pod_with_token("oidc-discovery-validator", &token, &script);
    pod["spec"]["containers"][0]["image"] = json!(NGINX);
    let said = f.output_of(&pod).await;
    let [token, configuration, keys] = said.lines().collect::<Vec<_>>()[..] else { anyhow::bail!("not three lines: {said}") };
    let (configuration, keys): (Value, Value) = (serde_json::from_str(configuration)?, serde_json::from_str(keys)?);

    let issuer = configuration["issuer"].as_str().expect("an issuer");
    assert_eq!(configuration["response_types_supported"], json!(["id_token"]), "{configuration}");
    assert!(configuration["jwks_uri"].as_str().is_some_and(|u| u.ends_with("/openid/v1/jwks")), "{configuration}");
    let header = jsonwebtoken::decode_header(token)?;
    let algorithm = serde_json::to_value(header.alg)?;
    assert!(
        configuration["id_token_signing_alg_values_supported"].as_array().is_some_and(|all| all.contains(&algorithm)),
        "{configuration}"
    );
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys)?;
    let key = keys.find(header.kid.as_deref().unwrap_or("")).expect("the key that the token names is published");
    let mut wanted = jsonwebtoken::Validation::new(header.alg);
    wanted.set_issuer(&[issuer]);
    wanted.set_audience(&[audience]);
    let verified = jsonwebtoken::decode::<Value>(token, &jsonwebtoken::DecodingKey::from_jwk(key)?, &wanted)?;
    assert_eq!(verified.claims["sub"], format!("system:serviceaccount:{}:default", f.namespace));
    Ok(())
}
