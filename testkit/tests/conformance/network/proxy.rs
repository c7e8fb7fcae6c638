//! Pods and Services asked through the apiserver.

use http::Method;
use serde_json::{Value, json};

use super::serving::until_endpoints;
use crate::framework::{Behaviour, Framework, NGINX, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-network] Proxy version v1 should proxy through a service and a pod", test!(ports_and_schemes)),
    Behaviour::new(
        "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath",
        test!(methods_with_path),
    ),
    Behaviour::new("[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy", test!(methods)),
];

/// One port of the server: its number, the name of its Service's port, whether it speaks TLS, what it answers.
const PORTS: &[(u16, &str, bool, &str)] = &[
    (1080, "", false, r#"<a href="/rewriteme">test</a>"#),
    (160, "portname1", false, "foo"),
    (162, "portname2", false, "bar"),
    (443, "", true, r#"<a href="/rewriteme">test</a>"#),
    (460, "tlsportname1", true, "tls baz"),
    (462, "tlsportname2", true, "tls qux"),
];

/// A pod `name` that answers as this nginx configuration says, with a Service of the same name.
async fn serve(f: &Framework, name: &str, servers: &str, ports: Value) -> anyhow::Result<()> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let config = servers.replace("location / {", "location / { default_type text/html;");
    let data = json!({"e2e.conf": config, "tls.crt": certified.cert.pem(), "tls.key": certified.signing_key.serialize_pem()});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    f.wire.post(&f.core("configmaps"), &map).await.expect(201);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports},
    });
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": NGINX, "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 1080}],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/nginx/conf.d"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": name}}],
        },
    });
    f.create_pod(&pod).await;
    f.until_ready(name).await;
    Ok(())
}

/// Asks until there is an answer: the server may not listen yet, and the endpoints may not be there.
async fn ask(f: &Framework, method: Method, path: &str) -> testkit::Answer {
    f.until(&format!("an answer to {method} {path}"), SOON, || async {
        let answer = f.wire.send(method.clone(), path, vec![]).await;
        (answer.code != 503).then_some(answer)
    })
    .await
}

async fn ports_and_schemes(f: Framework) -> anyhow::Result<()> {
    let mut servers = String::new();
    let mut ports = vec![];
    for (number, name, tls, answer) in PORTS {
        let tls = if *tls { " ssl; ssl_certificate conf.d/tls.crt; ssl_certificate_key conf.d/tls.key" } else { "" };
        servers += &format!("server {{ listen {number}{tls}; location / {{ return 200 '{answer}'; }} }}\n");
        if !name.is_empty() {
            ports.push(json!({"name": name, "port": number - 80, "targetPort": number}));
        }
    }
    serve(&f, "proxy-service", &servers, json!(ports)).await?;
    let first = ports.len();
    assert_eq!(first, 4);
    until_endpoints(&f, "proxy-service", &[("proxy-service", 160), ("proxy-service", 162), ("proxy-service", 460), ("proxy-service", 462)])
        .await;
    let expect = async |named: String, answer: &str| {
        let prefix = f.core(&format!("{named}/proxy"));
        let said = ask(&f, Method::GET, &format!("{prefix}/")).await;
        // What the page links to is found below the proxy.
        assert_eq!((said.code, said.text()), (200, answer.replace("/rewriteme", &format!("{prefix}/rewriteme"))), "{named}");
    };
    expect("pods/proxy-service".into(), PORTS[0].3).await;
    expect("pods/http:proxy-service:1080".into(), PORTS[0].3).await;
    for (number, name, tls, answer) in PORTS {
        let scheme = if *tls { "https:" } else { "" };
        expect(format!("pods/{scheme}proxy-service:{number}"), answer).await;
        if !name.is_empty() {
            expect(format!("services/{scheme}proxy-service:{name}"), answer).await;
            expect(format!("services/{scheme}proxy-service:{}", number - 80), answer).await;
        }
    }
    Ok(())
}

const METHODS: [Method; 7] = [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];

/// A server that says by which method it was asked, and where.
async fn mirror(f: &Framework) -> anyhow::Result<Vec<String>> {
    let servers = "server { listen 1080; location / { return 200 '$request_method $uri $arg_method'; } }";
    serve(f, "agnhost", servers, json!([{"port": 80, "targetPort": 1080}])).await?;
    Ok(vec![f.core("pods/agnhost/proxy"), f.core("services/agnhost/proxy")])
}

async fn methods_with_path(f: Framework) -> anyhow::Result<()> {
    for prefix in mirror(&f).await? {
        for method in METHODS {
            let answer = ask(&f, method.clone(), &format!("{prefix}/some/path/with/{method}?method={method}")).await;
            let said = if method == Method::HEAD { String::new() } else { format!("{method} /some/path/with/{method} {method}") };
            assert_eq!((answer.code, answer.text()), (200, said), "{prefix}");
        }
    }
    Ok(())
}

async fn methods(f: Framework) -> anyhow::Result<()> {
    for prefix in mirror(&f).await? {
        for method in METHODS {
            let answer = ask(&f, method.clone(), &format!("{prefix}?method={method}")).await;
            if matches!(method, Method::GET | Method::HEAD) {
                assert_eq!((answer.code, answer.header("location")), (301, &*format!("{prefix}/?method={method}")));
            } else {
                assert_eq!((answer.code, answer.text()), (200, format!("{method} / {method}")), "{prefix}");
            }
        }
    }
    Ok(())
}
