//! What a kubelet tells through the apiserver, and whom (KEP-2862).

use std::path::Path;

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, Kubectl, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-instrumentation] Metrics should grab all metrics from kubelet /metrics/resource endpoint",
        test!(resource_metrics),
    ),
    Behaviour::new(
        "newer: [sig-node] Kubelet Fine-Grained Authorization: configz, healthz and pods have rights of their own",
        test!(rights),
    ),
];

async fn node(f: &Framework) -> String {
    f.list("/api/v1/nodes").await[0]["metadata"]["name"].as_str().expect("a name").to_owned()
}

async fn resource_metrics(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&Framework::script("measured", "exec sleep 3600")).await;
    let pod = f.until_ready("measured").await;
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    // A pod that has ended on the same node is in nobody's way: containerd 1.6 gives no answer for all sandboxes then.
    let mut ended = Framework::script("ended", "true");
    ended["spec"]["nodeName"] = json!(node);
    ended["spec"]["restartPolicy"] = json!("Never");
    f.create_pod(&ended).await;
    f.until_it(&f.core("pods/ended"), "to have ended", POD, |p| p["status"]["phase"] == "Succeeded").await;
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let text = f
        .until("the pod to be measured", POD, || async {
            let text = f.wire.get(&path).await.text();
            (text.contains("pod=\"measured\"") && text.contains("container_start_time_seconds")).then_some(text)
        })
        .await;
    for name in [
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_start_time_seconds",
        "pod_cpu_usage_seconds_total",
        "pod_memory_working_set_bytes",
        "resource_scrape_error",
    ] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} in {text}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} has a type");
    }
    Ok(())
}

async fn rights(f: Framework) -> anyhow::Result<()> {
    let node = node(&f).await;
    let name = format!("kubelet-{}", f.namespace);
    let grant = async |resource: &str| {
        let role = format!("{name}-{resource}");
        let object = json!({"metadata": {"name": role}, "rules": [{"apiGroups": [""], "resources": [format!("nodes/{resource}")], "verbs": ["get"]}]});
        f.wire.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &object).await.expect(201);
        f.remove_later(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}"));
        let binding = json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": f.namespace}]});
        f.wire.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.expect(201);
        f.remove_later(&format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{role}"));
        f.wire.post(&f.core("serviceaccounts"), &json!({"metadata": {"name": role}})).await.expect(201);
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let made = f.wire.post(&f.core(&format!("serviceaccounts/{role}/token")), &request).await.expect(201);
        made["status"]["token"].as_str().expect("a token").to_owned()
    };
    // The kubelet itself, as its admin sees it.
    let proxied = async |rest: &str| f.wire.get(&format!("/api/v1/nodes/{node}/proxy/{rest}")).await;
    let settings = proxied("configz").await.expect(200);
    assert!(settings["kubeletconfig"]["maxPods"].is_number() && settings["kubeletconfig"]["kind"].is_string(), "{settings}");
    assert_eq!(proxied("healthz").await.text(), "ok");
    assert_eq!(proxied("pods").await.expect(200)["kind"], "PodList");
    let nodes: Value = f.wire.get(&format!("/api/v1/nodes/{node}")).await.expect(200);
    let address = nodes["status"]["addresses"]
        .as_array()
        .expect("addresses")
        .iter()
        .find(|a| a["type"] == "InternalIP")
        .expect("an address")["address"]
        .clone();
    let address = address.as_str().expect("a text");
    let server = format!("--server=https://{address}:10250");
    for resource in ["configz", "healthz", "pods"] {
        let token = format!("--token={}", grant(resource).await);
        for path in ["configz", "healthz", "pods", "metrics"] {
            // kubectl reads from any server; of no kubeconfig, so that nothing but the token tells who asks.
            let kubectl = Kubectl::new(Path::new("/dev/null"), &f.namespace);
            let raw = format!("/{path}");
            let arguments = [&*server, &token, "--insecure-skip-tls-verify", "get", "--raw", &raw];
            f.until(&format!("/{path} to be as the right to nodes/{resource} says"), SOON, || async {
                let asked = kubectl.run(&arguments).await.expect("kubectl runs");
                (asked.success == (path == resource) && (asked.success || asked.err.contains("orbidden"))).then_some(())
            })
            .await;
        }
    }
    Ok(())
}
