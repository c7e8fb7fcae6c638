//! Several apiservers on one etcd are one cluster: what one writes the other reads at once, and no value is handed out twice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{ApiServer, Wire, eventually};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const SERVICES: &str = "/api/v1/namespaces/t/services";

/// Two servers, and what an administrator gets from each.
async fn world() -> (ApiServer, ApiServer, [Wire; 2]) {
    let one = ApiServer::start().await.expect("an apiserver");
    let two = one.beside(&[]).await.expect("another");
    let wires = [one.wire().await.expect("a client"), two.wire().await.expect("a client")];
    crate::namespace(&wires[0], "t").await;
    (one, two, wires)
}

fn service(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80, "protocol": "TCP"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_the_other_reads_at_once() {
    let (_one, _two, [a, b]) = world().await;
    let made = a.post(MAPS, &json!({"metadata": {"name": "m"}, "data": {"n": "0"}})).await.expect(201);
    let from = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = b.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    for n in 1..=40 {
        let (writes, reads) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let written = writes.patch("merge", &format!("{MAPS}/m"), &json!({"data": {"n": n.to_string()}})).await.ok();
        assert_eq!(reads.get(&format!("{MAPS}/m")).await.ok(), written, "a get is as fresh as a quorum read");
        let list = reads.get(MAPS).await.ok();
        assert_eq!(list["items"][0], written, "and so is a list");
        assert_eq!(watch.next().await.expect("an event")["object"], written, "a watch has every change once, in order");
    }
    // What one has removed is not there for the other; and it may not write to it from memory.
    a.delete(&format!("{MAPS}/m")).await.ok();
    assert_eq!(b.patch("merge", &format!("{MAPS}/m"), &json!({"data": {"n": "x"}})).await.code, 404);
    assert_eq!(b.get(&format!("{MAPS}/m")).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_between_two_servers() {
    let (_one, _two, wires) = world().await;
    wires[0].post(MAPS, &json!({"metadata": {"name": "counter"}, "data": {}})).await.expect(201);
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let wire = wires[w % 2].clone();
            tokio::spawn(async move {
                for n in 0..15 {
                    // Each is a read and a conditional write, until it goes through.
                    loop {
                        let mut object = wire.get(&format!("{MAPS}/counter")).await.ok();
                        object["data"][format!("{w}-{n}")] = "".into();
                        let answer = wire.put(&format!("{MAPS}/counter"), &object).await;
                        if answer.code == 200 {
                            break;
                        }
                        assert_eq!(answer.code, 409, "{}", answer.text());
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let object = wires[1].get(&format!("{MAPS}/counter")).await.ok();
    assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_and_no_port_is_handed_out_twice() {
    // Small pools, so that both servers choose among the same few values.
    let flags = ["--service-cluster-ip-range=10.96.0.0/26", "--service-node-port-range=30000-30039"];
    let one = ApiServer::start_with(&flags).await.expect("an apiserver");
    let two = one.beside(&flags).await.expect("another");
    let wires = [one.wire().await.expect("a client"), two.wire().await.expect("a client")];
    crate::namespace(&wires[0], "t").await;
    let makers: Vec<_> = (0..30)
        .map(|i| {
            let wire = wires[i % 2].clone();
            tokio::spawn(async move {
                let answer = wire.post(SERVICES, &service(&format!("s-{i}"), "NodePort")).await;
                if i % 3 == 0 && answer.code == 201 {
                    wire.delete(&format!("{SERVICES}/s-{i}")).await.ok();
                    let answer = wire.post(SERVICES, &service(&format!("t-{i}"), "NodePort")).await;
                    return (answer.code, answer.text());
                }
                (answer.code, answer.text())
            })
        })
        .collect();
    for maker in makers {
        let (code, text) = maker.await.expect("a maker");
        assert_eq!(code, 201, "{text}");
    }
    let list = wires[1].get("/api/v1/services").await.ok();
    let items = list["items"].as_array().expect("items");
    let all = |pointer: &str| items.iter().filter_map(|s| s.pointer(pointer).cloned()).map(|v| v.to_string()).collect::<Vec<_>>();
    for pointer in ["/spec/clusterIP", "/spec/ports/0/nodePort"] {
        let values = all(pointer);
        let distinct: BTreeSet<&String> = values.iter().collect();
        assert_eq!(distinct.len(), values.len(), "{pointer}: {values:?}");
    }
    // Each address in use is an IPAddress, and no other is.
    let addresses = wires[0].get("/apis/networking.k8s.io/v1/ipaddresses").await.ok();
    let named: BTreeSet<String> = addresses["items"].as_array().expect("items").iter().map(|a| a["metadata"]["name"].to_string()).collect();
    assert_eq!(named, all("/spec/clusterIP").into_iter().collect());

    // Of two who ask for the same value at once, one gets it.
    let asked = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}});
    let (first, second) = (asked("p"), asked("q"));
    let (p, q) = tokio::join!(wires[0].post(SERVICES, &first), wires[1].post(SERVICES, &second));
    let codes = BTreeSet::from([p.code, q.code]);
    assert_eq!(codes, BTreeSet::from([201, 422]), "{} {}", p.text(), q.text());
    let refused = if p.code == 422 { p } else { q };
    assert!(refused.refusal().contains("provided IP is already allocated"), "{}", refused.refusal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_made_at_one_is_served_by_both() {
    let (_one, _two, [a, b]) = world().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}}}}}]},
    });
    a.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    let foos = "/apis/example.com/v1/namespaces/t/foos";
    for wire in [&a, &b] {
        eventually("the resource to be served", Duration::from_secs(10), || async { (wire.get(foos).await.code == 200).then_some(()) })
            .await;
    }
    let made =
        b.post(foos, &json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "x"}, "spec": {}})).await.expect(201);
    assert_eq!(made["spec"]["n"], 3, "by the schema");
    assert_eq!(a.get(&format!("{foos}/x")).await.ok(), made);
    b.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.example.com").await.ok();
    for wire in [&a, &b] {
        eventually("the resource to be gone", Duration::from_secs(15), || async { (wire.get(foos).await.code == 404).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_not_overspent_by_two_servers() {
    let (_one, _two, wires) = world().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "10"}}});
    let path = "/api/v1/namespaces/t/resourcequotas";
    wires[0].post(path, &quota).await.expect(201);
    // What a controller would say of a namespace without secrets.
    let status = json!({"status": {"hard": {"count/secrets": "10"}, "used": {"count/secrets": "0"}}});
    wires[0].patch("merge", &format!("{path}/q/status"), &status).await.ok();
    let makers: Vec<_> = (0..24)
        .map(|i| {
            let wire = wires[i % 2].clone();
            tokio::spawn(
                async move { wire.post("/api/v1/namespaces/t/secrets", &json!({"metadata": {"name": format!("s-{i}")}})).await.code },
            )
        })
        .collect();
    for maker in makers {
        let code = maker.await.expect("a maker");
        assert!(matches!(code, 201 | 403 | 409), "{code}");
    }
    let list = wires[1].get("/api/v1/namespaces/t/secrets").await.ok();
    assert!(list["items"].as_array().expect("items").len() <= 10, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_endpoints_of_the_kubernetes_service() {
    let (_one, two, [a, _]) = world().await;
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    let addresses = |object: &Value| -> BTreeSet<String> {
        object["subsets"][0]["addresses"].as_array().into_iter().flatten().filter_map(|a| a["ip"].as_str().map(str::to_owned)).collect()
    };
    let both = BTreeSet::from(["192.0.2.10".to_owned(), "192.0.2.11".to_owned()]);
    eventually("both addresses", Duration::from_secs(30), || async { (addresses(&a.get(path).await.ok()) == both).then_some(()) }).await;
    drop(two);
    let one = BTreeSet::from(["192.0.2.10".to_owned()]);
    eventually("one address", Duration::from_secs(60), || async { (addresses(&a.get(path).await.ok()) == one).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_somebody_spoilt_are_repaired() {
    let mut server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    let made = wire.post(SERVICES, &service("a", "NodePort")).await.expect(201);
    let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
    // Behind the server's back: what is in use is no longer taken, and what nobody uses is.
    let (ip_key, port_key) = (format!("/registry/ipaddresses/{address}"), format!("/registry/ranges/nodeports/{port}"));
    for key in [&ip_key, &port_key] {
        assert_eq!(server.etcd.ctl(&["del", key]).expect("etcdctl"), b"1\n", "{key}");
    }
    let leaked = "/registry/ranges/nodeports/32001";
    server.etcd.ctl(&["put", leaked, r#"{"metadata":{"name":"32001"},"service":"t/none"}"#]).expect("etcdctl");
    // An address that another program keeps is its own business.
    let others = json!({"metadata": {"name": "192.0.2.7", "labels": {"ipaddress.kubernetes.io/managed-by": "example.com"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "t", "name": "none"}}});
    wire.post("/apis/networking.k8s.io/v1/ipaddresses", &others).await.expect(201);
    server.restart().await.expect("a restart");
    eventually("the repair", Duration::from_secs(30), || async {
        let there = |key: &str| server.etcd.ctl(&["get", "--keys-only", key]).is_ok_and(|out| out.len() > 1);
        (there(&ip_key) && there(&port_key) && !there(leaked)).then_some(())
    })
    .await;
    assert_eq!(wire.get("/apis/networking.k8s.io/v1/ipaddresses/192.0.2.7").await.code, 200);
    let asked = json!({"metadata": {"name": "b"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    assert_eq!(wire.post(SERVICES, &asked).await.code, 422, "it is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn further_ranges_of_addresses_come_and_go() {
    let flags = ["--service-cluster-ip-range=10.96.0.0/29"];
    let one = ApiServer::start_with(&flags).await.expect("an apiserver");
    let two = one.beside(&flags).await.expect("another");
    let (a, b) = (one.wire().await.expect("a client"), two.wire().await.expect("a client"));
    crate::namespace(&a, "t").await;
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let own = a.get(&format!("{ranges}/kubernetes")).await.ok();
    assert_eq!((&own["spec"]["cidrs"], &own["status"]["conditions"][0]["type"]), (&json!(["10.96.0.0/29"]), &json!("Ready")));
    // Six addresses, of which the Service `kubernetes` has one.
    for i in 0..5 {
        a.post(SERVICES, &service(&format!("s-{i}"), "ClusterIP")).await.expect(201);
    }
    let full = a.post(SERVICES, &service("full", "ClusterIP")).await;
    assert_eq!((full.code, full.json()["message"].as_str().is_some_and(|m| m.contains("range is full"))), (500, true), "{}", full.text());
    a.post(ranges, &json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/28"]}})).await.expect(201);
    let made = eventually("an address out of the new range, at the other server", Duration::from_secs(10), || async {
        let answer = b.post(SERVICES, &service("more", "ClusterIP")).await;
        (answer.code == 201).then(|| answer.json())
    })
    .await;
    assert!(made["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("10.97.0.")), "{made}");
    // While an address of it is in use it stays, and hands out nothing more.
    a.delete(&format!("{ranges}/more")).await.ok();
    eventually("the condition", Duration::from_secs(10), || async {
        let object = a.get(&format!("{ranges}/more")).await.ok();
        (object["status"]["conditions"][0]["reason"] == "Terminating").then_some(())
    })
    .await;
    assert_eq!(a.post(SERVICES, &service("full", "ClusterIP")).await.code, 500);
    b.delete(&format!("{SERVICES}/more")).await.ok();
    eventually("the range to go", Duration::from_secs(15), || async { (a.get(&format!("{ranges}/more")).await.code == 404).then_some(()) })
        .await;
}
