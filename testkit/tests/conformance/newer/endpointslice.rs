//! Services whose endpoints somebody else writes, in several slices.

use serde_json::{Value, json};

use crate::framework::{BUSYBOX, Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices",
        |f| Box::pin(by_hand(f, true)),
    ),
    Behaviour::new(
        "newer: [sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices",
        |f| Box::pin(by_hand(f, false)),
    ),
    Behaviour::new(
        "newer: [sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods",
        test!(empty),
    ),
];

fn server(name: &str) -> Value {
    let script = "mkdir /www; cd /www; echo $NAME > hostname; httpd -p 3000; httpd -p 3001; exec sleep 3600";
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
            "env": [{"name": "NAME", "value": name}]}]},
    })
}

async fn by_hand(f: Framework, ports: bool) -> anyhow::Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "example-custom-endpoints"}, "spec": {"ports": [
        {"name": "port80", "port": 80, "targetPort": 3000}, {"name": "port81", "port": 81, "targetPort": 3001}]}});
    let made = f.wire.post(&f.core("services"), &service).await.expect(201);
    let ip = made["spec"]["clusterIP"].as_str().expect("an address");
    let mut addresses = vec![];
    for name in ["pod1", "pod2", "client"] {
        f.create_pod(&server(name)).await;
        addresses.push(f.until_ready(name).await["status"]["podIP"].clone());
    }
    let slice = |name: &str, address: &Value, ports: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
            "metadata": {"name": name, "labels": {
                "kubernetes.io/service-name": "example-custom-endpoints", "endpointslice.kubernetes.io/managed-by": "e2e-test.k8s.io"}},
            "endpoints": [{"addresses": [address]}],
        })
    };
    let (first, second) =
        (json!({"name": "port80", "port": 3000, "protocol": "TCP"}), json!({"name": "port81", "port": 3001, "protocol": "TCP"}));
    let slices = if ports {
        [slice("custom-1", &addresses[0], json!([first])), slice("custom-2", &addresses[0], json!([second]))]
    } else {
        [slice("custom-1", &addresses[0], json!([first, second])), slice("custom-2", &addresses[1], json!([first, second]))]
    };
    for slice in &slices {
        f.wire.post(&f.group("discovery.k8s.io/v1", "endpointslices"), slice).await.expect(201);
    }
    let ask = async |port: u16| {
        let url = format!("http://{ip}:{port}/hostname");
        let asked = f.kubectl().run(&["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", &url]).await.expect("kubectl runs");
        asked.success.then(|| asked.out.trim().to_owned())
    };
    let wanted: &[&str] = if ports { &["pod1"] } else { &["pod1", "pod2"] };
    for port in [80, 81] {
        for name in wanted {
            f.until(&format!("{name} to answer at {ip}:{port}"), POD, || async { (ask(port).await? == *name).then_some(()) }).await;
        }
    }
    // Nobody else's controllers touch what is marked as somebody's, and no Endpoints appear that nobody wrote.
    assert_eq!(f.wire.get(&f.core("endpoints/example-custom-endpoints")).await.code, 404);
    for slice in &slices {
        let path = f.group("discovery.k8s.io/v1", &format!("endpointslices/{}", slice["metadata"]["name"].as_str().expect("a name")));
        assert_eq!(f.wire.get(&path).await.expect(200)["endpoints"], slice["endpoints"]);
    }
    Ok(())
}

async fn empty(f: Framework) -> anyhow::Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "example-empty-selector"}, "spec": {
        "selector": {"does-not-match-anything": "endpoints-should-still-be-created"}, "ports": [{"name": "example", "port": 80, "protocol": "TCP"}]}});
    f.wire.post(&f.core("services"), &service).await.expect(201);
    let path = f.core("endpoints/example-empty-selector");
    let made = f.until_it(&path, "to be there", POD, |_| true).await;
    assert_eq!(made.get("subsets").and_then(Value::as_array).map_or(0, Vec::len), 0, "{made}");
    f.wire.delete(&f.core("services/example-empty-selector")).await.expect(200);
    f.until_gone(&path, POD).await;
    Ok(())
}
