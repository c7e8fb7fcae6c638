//! A flood is told to come again, and does not keep the nodes and the leases from being served. What happens is counted.

use std::time::Duration;

use http::Method;
use serde_json::json;
use testkit::{ApiServer, eventually};

const PODS: &str = "/api/v1/namespaces/t/pods";

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_starve_the_system() {
    let server = ApiServer::start_with(&["--max-requests-inflight=8", "--max-mutating-requests-inflight=0"]).await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    crate::namespace(&admin, "t").await;
    let binding = json!({"metadata": {"name": "bob"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.expect(201);
    let bob = server.wire_of("bob", None).await.expect("a client");
    let node = server.wire_of("system:node:n", Some("system:nodes")).await.expect("a client");
    eventually("bob's rights", Duration::from_secs(10), || async { (bob.get(PODS).await.code == 200).then_some(()) }).await;

    // Reads without a resourceVersion wait for etcd, which does not answer: they sit on their seats.
    server.etcd.freeze().expect("etcd stops");
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let bob = bob.clone();
            tokio::spawn(async move { bob.try_send(Method::GET, PODS, vec![]).await })
        })
        .collect();
    // 6 seats for the workload, and four waiting for each; the administrator needs none, and sees it.
    eventually("the queue to be full", Duration::from_secs(5), || async {
        admin.get("/metrics").await.text().contains("rejected_requests_total{priority_level=\"workload-low\"} 70").then_some(())
    })
    .await;
    let refused = bob.get(&format!("{PODS}?resourceVersion=0")).await;
    assert_eq!(
        (refused.header("retry-after"), refused.refusal().as_str()),
        ("1", "429 TooManyRequests: too many requests, please try again later")
    );
    assert_eq!(node.get("/api/v1/nodes?resourceVersion=0").await.code, 200, "a node is served meanwhile");
    assert_eq!(admin.get(&format!("{PODS}?resourceVersion=0")).await.code, 200, "and so is an administrator");
    assert_eq!(admin.get("/livez/ping").await.code, 200);
    server.etcd.go_on().expect("etcd goes on");

    let mut codes: Vec<u16> = vec![];
    for request in flood {
        codes.push(request.await.expect("no panic").expect("an answer").code);
    }
    let count = |code: u16| codes.iter().filter(|c| **c == code).count();
    assert_eq!((count(200), count(429)), (30, 70), "{codes:?}");
    assert_eq!(bob.get(PODS).await.code, 200, "afterwards all is well");

    let metrics = admin.get("/metrics").await.text();
    for wanted in [
        r#"apiserver_request_total{code="200",component="apiserver",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} "#,
        r#"apiserver_request_duration_seconds_bucket{le="0.005","#,
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
        r#"apiserver_storage_objects{resource="namespaces"} "#,
        r#"etcd_request_duration_seconds_count{operation="txn"} "#,
        r#"apiserver_flowcontrol_rejected_requests_total{priority_level="workload-low"} 71"#,
    ] {
        assert!(metrics.contains(wanted), "no {wanted} in\n{metrics}");
    }
}
