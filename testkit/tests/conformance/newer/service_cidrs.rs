//! Ranges of cluster IPs and the addresses out of them, as objects (KEP-1880).

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, POD, Resource, SOON, has_condition, test, until_event};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::serial("newer: [sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations", test!(ranges)),
    Behaviour::new("newer: [sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations", test!(addresses)),
    Behaviour::serial("newer: [sig-network] Service CIDRs should create Services and serve on different Service CIDRs", test!(served)),
];

const GROUP: &str = "networking.k8s.io/v1";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn range(name: &str, cidr: &str) -> Value {
    json!({"apiVersion": GROUP, "kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
}

fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

async fn ranges(f: Framework) -> anyhow::Result<()> {
    f.discovered(GROUP, &["servicecidrs", "servicecidrs/status", "ipaddresses"]).await;
    assert!(is_ready(&f.wire.get(&format!("{RANGES}/kubernetes")).await.expect(200)), "the cluster's own");
    let mut object = range("", "10.229.0.0/24");
    object["metadata"] = json!({});
    f.operations(&Resource { group_version: GROUP, name: "servicecidrs", namespaced: false, object, status: None }).await;
    let name = f.unique("e2e-range");
    let path = format!("{RANGES}/{name}");
    f.wire.post(RANGES, &range(&name, "10.229.0.0/24")).await.expect(201);
    f.remove_later(&path);
    f.until_it(&path, "to be ready", SOON, is_ready).await;
    let condition = json!([{"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "Set by e2e test", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let patched = f.wire.patch("merge", &format!("{path}/status"), &json!({"status": {"conditions": condition}})).await.expect(200);
    assert!(has_condition(&patched, "StatusPatched") && !is_ready(&patched), "{patched}");
    f.until_it(&path, "to be ready again", SOON, |o| is_ready(o) && has_condition(o, "StatusPatched")).await;
    let refused = f.wire.patch("merge", &path, &json!({"spec": {"cidrs": ["10.230.0.0/24"]}})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, SOON).await;
    Ok(())
}

async fn addresses(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("ip");
    let object = |ip: &str| {
        json!({
            "apiVersion": GROUP, "kind": "IPAddress", "metadata": {"name": ip, "labels": {"e2e-ip": label}},
            "spec": {"parentRef": {"group": "example.com", "resource": "gateways", "namespace": "none", "name": "none"}},
        })
    };
    let selected = format!("{ADDRESSES}?labelSelector=e2e-ip%3D{label}");
    let mut watch = f.watch_from_now(&selected).await;
    for ip in ["192.168.229.1", "192.168.229.2", "2001:db8::229"] {
        f.wire.post(ADDRESSES, &object(ip)).await.expect(201);
        f.remove_later(&format!("{ADDRESSES}/{ip}"));
        until_event(&mut watch, "ADDED", |o| o["metadata"]["name"] == ip).await;
    }
    let path = format!("{ADDRESSES}/192.168.229.1");
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["parentRef"]["resource"], "gateways");
    assert_eq!(f.list(&selected).await.len(), 3);
    let of_parent = format!("{ADDRESSES}?fieldSelector=spec.parentRef.resource%3Dgateways&labelSelector=e2e-ip%3D{label}");
    assert_eq!(f.list(&of_parent).await.len(), 3);
    let patched = f.wire.patch("merge", &path, &json!({"metadata": {"annotations": {"patched": "true"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let updated = f.update(&path, |o| o["metadata"]["annotations"]["updated"] = json!("true")).await;
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    until_event(&mut watch, "MODIFIED", |o| o["metadata"]["annotations"]["updated"] == "true").await;
    for wrong in ["192.168.229.01", "not-an-ip", "2001:DB8::1"] {
        assert_eq!(f.wire.post(ADDRESSES, &object(wrong)).await.code, 422, "{wrong}");
    }
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, SOON).await;
    until_event(&mut watch, "DELETED", |o| o["metadata"]["name"] == "192.168.229.1").await;
    f.delete_collection(&selected).await;
    Ok(())
}

async fn served(f: Framework) -> anyhow::Result<()> {
    let name = f.unique("e2e-second");
    let path = format!("{RANGES}/{name}");
    f.wire.post(RANGES, &range(&name, "10.231.0.0/28")).await.expect(201);
    f.remove_later(&path);
    f.until_it(&path, "to be ready", SOON, is_ready).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "labels": {"app": "server"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "mkdir /www; cd /www; hostname > hostname; exec httpd -f -p 8080"]}]},
    });
    f.create_pod(&pod).await;
    f.until_ready("server").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "second"}, "spec": {
        "clusterIP": "10.231.0.5", "selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let address = f.wire.get(&format!("{ADDRESSES}/10.231.0.5")).await.expect(200);
    assert_eq!(
        (&address["spec"]["parentRef"]["name"], &address["spec"]["parentRef"]["namespace"]),
        (&json!("second"), &json!(f.namespace))
    );
    f.until("the Service to answer at its address and by its name", POD, || async {
        for at in ["10.231.0.5", "second"] {
            let url = format!("http://{at}/hostname");
            let asked =
                f.kubectl().run(&["exec", "server", "--", "timeout", "3", "wget", "-q", "-O", "-", &url]).await.expect("kubectl runs");
            (asked.success && asked.out == "server\n").then_some(())?;
        }
        Some(())
    })
    .await;
    // A range is held by the addresses out of it, and says so; nothing new comes out of it.
    f.wire.delete(&path).await.expect(200);
    f.until_it(&path, "to say that it waits", SOON, |o| {
        o["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["reason"] == "Terminating"))
    })
    .await;
    let mut late = service.clone();
    (late["metadata"]["name"], late["spec"]["clusterIP"]) = (json!("late"), json!("10.231.0.6"));
    let refused = f.wire.post(&f.core("services"), &late).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    f.wire.delete(&f.core("services/second")).await.expect(200);
    f.until_gone(&path, SOON).await;
    Ok(())
}
