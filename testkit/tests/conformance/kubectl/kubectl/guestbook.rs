//! An application of three parts that find each other by name: what is written at the front is read at the front, by way of a primary
//! that stores and replicas that copy.

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Framework, POD};

/// The primary: sets a value, gives it.
const PRIMARY: &str = r#"
case "$QUERY_STRING" in
*cmd=set*) echo "${QUERY_STRING##*value=}" | tr -d '\n' >/tmp/value; body='{"message":"Updated"}' ;;
*) body="{\"data\":\"$(cat /tmp/value 2>/dev/null)\"}" ;;
esac
printf 'Content-Type: application/json\r\n\r\n%s' "$body"
"#;
/// A replica: gives what the primary has.
const REPLICA: &str = r#"
body=$(timeout 5 wget -qO- http://agnhost-primary:6379/cgi-bin/guestbook?cmd=get) || exit 1
printf 'Content-Type: application/json\r\n\r\n%s' "$body"
"#;
/// The front: writes go to the primary, reads to the replicas.
const FRONTEND: &str = r#"
case "$QUERY_STRING" in
*cmd=set*) at=agnhost-primary:6379 ;;
*) at=agnhost-replica:6379 ;;
esac
body=$(timeout 5 wget -qO- "http://$at/cgi-bin/guestbook?$QUERY_STRING") || exit 1
printf 'Content-Type: application/json\r\n\r\n%s' "$body"
"#;

/// A part: a Deployment of web servers that run a script, and its Service.
fn part(name: &str, labels: &Value, replicas: usize, port: u16, script: &str) -> [Value; 2] {
    let start = format!(
        "mkdir -p /www/cgi-bin && printf '%s' '#!/bin/sh' >/www/cgi-bin/guestbook && printf '%s' \"$SCRIPT\" >>/www/cgi-bin/guestbook && \
         chmod +x /www/cgi-bin/guestbook && exec httpd -f -p {port} -h /www"
    );
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "server", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", start],
                "env": [{"name": "SCRIPT", "value": script}], "ports": [{"containerPort": port}],
                "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}},
            }]},
        }},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
        "spec": {"ports": [{"port": port}], "selector": labels},
    });
    [deployment, service]
}

fn labels(role: &str, tier: &str) -> Value {
    json!({"app": if tier == "frontend" { "guestbook" } else { "agnhost" }, "role": role, "tier": tier})
}

/// Asks the front through the apiserver until the answer is this one.
async fn answers(f: &Framework, query: &str, wanted: &str) {
    let path = f.core(&format!("services/frontend/proxy/cgi-bin/guestbook?{query}"));
    f.until(&format!("{wanted} to {query}"), POD, || async {
        let answer = f.wire.get(&path).await;
        (answer.code == 200 && answer.text() == wanted).then_some(())
    })
    .await;
}

pub async fn works(f: Framework) -> anyhow::Result<()> {
    let items: Vec<Value> = [
        part("agnhost-replica", &labels("replica", "backend"), 2, 6379, REPLICA),
        part("agnhost-primary", &labels("primary", "backend"), 1, 6379, PRIMARY),
        part("frontend", &labels("frontend", "frontend"), 3, 80, FRONTEND),
    ]
    .concat();
    let all = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    f.kubectl().stdin(&*all).ok(&["create", "-f", "-"]).await?;
    for name in ["agnhost-primary", "agnhost-replica", "frontend"] {
        f.kubectl().ok(&["rollout", "status", "deployment", name, "--timeout=150s"]).await?;
    }
    answers(&f, "cmd=get&key=messages&value=", r#"{"data":""}"#).await;
    answers(&f, "cmd=set&key=messages&value=TestEntry", r#"{"message":"Updated"}"#).await;
    answers(&f, "cmd=get&key=messages&value=", r#"{"data":"TestEntry"}"#).await;
    f.kubectl().stdin(&*all).ok(&["delete", "--grace-period=0", "--force", "-f", "-"]).await?;
    assert_eq!(f.kubectl().ok(&["get", "deployments,services", "-o", "name"]).await?, "");
    f.until("the pods to go", POD, || async { f.list(&f.core("pods")).await.is_empty().then_some(()) }).await;
    Ok(())
}
