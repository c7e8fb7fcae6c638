//! Endpoints and EndpointSlices of Services.

use serde_json::{Value, json};

use super::serving::until_endpoints;
use crate::framework::{Behaviour, Framework, POD, Resource, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-network] EndpointSlice should have Endpoints and EndpointSlices pointing to API Server", test!(api_server)),
    Behaviour::new(
        "[sig-network] EndpointSlice should create and delete Endpoints and EndpointSlices for a Service with a selector specified",
        test!(come_and_go),
    ),
    Behaviour::new("[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service", test!(of_pods)),
    Behaviour::new("[sig-network] EndpointSlice should support creating EndpointSlice API operations", test!(operations)),
];

const GROUP: &str = "discovery.k8s.io/v1";

fn of_service(f: &Framework, name: &str) -> String {
    f.group(GROUP, &format!("endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"))
}

async fn api_server(f: Framework) -> anyhow::Result<()> {
    f.discovered(GROUP, &["endpointslices"]).await;
    let default = f.in_namespace("default");
    f.wire.get(&default.core("services/kubernetes")).await.expect(200);
    let endpoints = f.wire.get(&default.core("endpoints/kubernetes")).await.expect(200);
    let subsets = endpoints["subsets"].as_array().expect("subsets");
    assert!(subsets.iter().all(|s| s["addresses"].as_array().is_some_and(|a| !a.is_empty())) && !subsets.is_empty(), "{endpoints}");
    let slices = f.list(&of_service(&default, "kubernetes")).await;
    let count = |list: &[Value], field: &str| list.iter().map(|o| o[field].as_array().map_or(0, Vec::len)).sum::<usize>();
    assert_eq!(count(&slices, "endpoints"), count(subsets, "addresses"), "{slices:?}");
    assert_eq!(slices.len(), subsets.len(), "one port each");
    Ok(())
}

async fn come_and_go(f: Framework) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "example-empty-selector"},
        "spec": {"selector": {"does-not-match-anything": "endpoints-and-endpoint-slices-should-still-be-created"},
            "ports": [{"name": "example", "port": 80, "protocol": "TCP"}]},
    });
    let made = f.wire.post(&f.core("services"), &service).await.expect(201);
    let endpoints = f.core("endpoints/example-empty-selector");
    f.until_it(&endpoints, "to be there", SOON, |_| true).await;
    let slices = of_service(&f, "example-empty-selector");
    let slice = f.until("a slice", SOON, || async { f.list(&slices).await.pop() }).await;
    assert_eq!(slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    let owners = slice["metadata"]["ownerReferences"].as_array().expect("owners");
    assert_eq!((owners.len(), &owners[0]["uid"], &owners[0]["kind"]), (1, &made["metadata"]["uid"], &json!("Service")));

    f.wire.delete(&f.core("services/example-empty-selector")).await.expect(200);
    f.until_gone(&endpoints, SOON).await;
    f.until("the slices to go", SOON, || async { f.list(&slices).await.is_empty().then_some(()) }).await;
    Ok(())
}

async fn of_pods(f: Framework) -> anyhow::Result<()> {
    let pod = |name: &str, port: u16, extra: &str| {
        let labels = json!({"foo": "bar", extra: extra});
        let mut pod = Framework::idle_template(&labels);
        (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!(name));
        pod["spec"]["containers"][0]["ports"] = json!([{"name": "example-name", "containerPort": port, "protocol": "TCP"}]);
        pod
    };
    f.create_pod(&pod("pod1", 3000, "one")).await;
    f.create_pod(&pod("pod2", 3001, "two")).await;
    let service = |name: &str, selector: Value, port: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "publishNotReadyAddresses": true, "ports": [port]},
        })
    };
    let number = json!({"name": "example", "port": 80, "targetPort": 3000, "protocol": "TCP"});
    let named = json!({"name": "http", "port": 80, "targetPort": "example-name", "protocol": "TCP"});
    f.wire.post(&f.core("services"), &service("example-int-port", json!({"foo": "bar", "one": "one"}), number)).await.expect(201);
    f.wire.post(&f.core("services"), &service("example-named-port", json!({"foo": "bar"}), named)).await.expect(201);
    until_endpoints(&f, "example-int-port", &[("pod1", 3000)]).await;
    // A name stands for another number in each pod: they cannot share a slice, nor a subset.
    until_endpoints(&f, "example-named-port", &[("pod1", 3000), ("pod2", 3001)]).await;
    assert_eq!(f.list(&of_service(&f, "example-named-port")).await.len(), 2);
    for slice in f.list(&of_service(&f, "example-named-port")).await {
        let endpoint = &slice["endpoints"][0];
        assert_eq!((&slice["ports"][0]["name"], &endpoint["targetRef"]["kind"]), (&json!("http"), &json!("Pod")));
        let pod = f.wire.get(&f.core(&format!("pods/{}", endpoint["targetRef"]["name"].as_str().expect("a name")))).await.expect(200);
        assert_eq!((&endpoint["targetRef"]["uid"], &endpoint["nodeName"]), (&pod["metadata"]["uid"], &pod["spec"]["nodeName"]));
        assert_eq!(endpoint["conditions"]["ready"], true, "unready pods are published");
    }
    f.wire.delete(&f.core("pods/pod1")).await.expect(200);
    until_endpoints(&f, "example-named-port", &[("pod2", 3001)]).await;
    until_endpoints(&f, "example-int-port", &[]).await;
    f.until_gone(&f.core("pods/pod1"), POD).await;
    Ok(())
}

async fn operations(f: Framework) -> anyhow::Result<()> {
    f.operations(&Resource {
        group_version: GROUP,
        name: "endpointslices",
        namespaced: true,
        object: json!({
            "apiVersion": GROUP, "kind": "EndpointSlice", "addressType": "IPv4",
            "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}],
        }),
        status: None,
    })
    .await;
    Ok(())
}
