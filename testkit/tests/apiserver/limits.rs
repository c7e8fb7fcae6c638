//! A flood is told to come again, and does not keep the nodes and the leases from being served. What happens is counted.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{ApiServer, eventually};

const PODS: &str = "/api/v1/namespaces/t/pods";
/// More requests than the queues of one flow hold.
const FLOOD: usize = 360;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_starve_the_system() {
    let server = ApiServer::start_with(&["--max-requests-inflight=8", "--max-mutating-requests-inflight=0"]).await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    crate::namespace(&admin, "t").await;
    let binding = json!({"metadata": {"name": "bob"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.expect(201);
    let bob = server.wire_of("bob", None).await.expect("a client");
    let node = server.wire_of("system:node:n", Some("system:nodes")).await.expect("a client");
    let scheduler = server.wire_of("system:kube-scheduler", None).await.expect("a client");
    eventually("bob's rights", Duration::from_secs(10), || async { (bob.get(PODS).await.code == 200).then_some(()) }).await;

    // Reads without a resourceVersion wait for etcd, which does not answer: they sit on their seats.
    server.etcd.freeze().expect("etcd stops");
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| {
            let bob = bob.clone();
            tokio::spawn(async move { bob.try_send(Method::GET, PODS, vec![]).await })
        })
        .collect();
    // One seat is his level's own, six are lent to it, and his flow has six queues of fifty. An administrator needs no seat.
    let refused_total = format!(
        "rejected_requests_total{{flow_schema=\"global-default\",priority_level=\"global-default\",reason=\"queue-full\"}} {}",
        FLOOD - 307
    );
    eventually("the queues to be full", Duration::from_secs(15), || async {
        admin.get("/metrics").await.text().contains(&refused_total).then_some(())
    })
    .await;
    let refused = bob.get(&format!("{PODS}?resourceVersion=0")).await;
    assert_eq!(
        (refused.header("retry-after"), refused.refusal().as_str()),
        ("1", "429 TooManyRequests: Too many requests, please try again later.")
    );
    assert_eq!(node.get("/api/v1/nodes?resourceVersion=0").await.code, 200, "a node is served meanwhile");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler?resourceVersion=0";
    assert_eq!(scheduler.get(lease).await.code, 404, "and so is the leader election");
    assert_eq!(admin.get(&format!("{PODS}?resourceVersion=0")).await.code, 200, "and an administrator");
    assert_eq!(admin.get("/livez/ping").await.code, 200);
    server.etcd.go_on().expect("etcd goes on");

    let mut codes: Vec<u16> = vec![];
    for request in flood {
        codes.push(request.await.expect("no panic").expect("an answer").code);
    }
    let count = |code: u16| codes.iter().filter(|c| **c == code).count();
    assert_eq!(count(429), FLOOD - 307, "{codes:?}");
    assert!(count(200) >= 300, "{codes:?}");
    assert_eq!(bob.get(PODS).await.code, 200, "afterwards all is well");

    let metrics = admin.get("/metrics").await.text();
    for wanted in [
        r#"apiserver_request_total{code="200",component="apiserver",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} "#,
        r#"apiserver_request_duration_seconds_bucket{le="0.005","#,
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
        r#"apiserver_storage_objects{resource="namespaces"} "#,
        r#"etcd_request_duration_seconds_count{operation="txn"} "#,
        r#"apiserver_flowcontrol_dispatched_requests_total{flow_schema="system-node-high",priority_level="node-high"} "#,
        r#"apiserver_flowcontrol_current_executing_requests{flow_schema="global-default",priority_level="global-default"} 0"#,
        r#"apiserver_flowcontrol_current_inqueue_requests{flow_schema="global-default",priority_level="global-default"} 0"#,
        r#"apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} 4"#,
        r#"apiserver_flowcontrol_request_wait_duration_seconds_count{execute="true",flow_schema="global-default",priority_level="global-default"} 300"#,
    ] {
        assert!(metrics.contains(wanted), "no {wanted} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_classified_by_objects() {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    let (flows, levels) =
        ("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations");
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().expect("items").iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect()
    };
    let uid = |object: &Value| object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    assert_eq!(
        names(&admin.get(levels).await.ok()),
        ["catch-all", "exempt", "global-default", "leader-election", "node-high", "system", "workload-high", "workload-low"]
    );
    assert_eq!(names(&admin.get(flows).await.ok()).len(), 13);
    let exempt = (uid(&admin.get(&format!("{flows}/exempt")).await.ok()), uid(&admin.get(&format!("{levels}/exempt")).await.ok()));
    let answer = admin.get("/api/v1/namespaces").await;
    assert_eq!(
        (answer.header("x-kubernetes-pf-flowschema-uid"), answer.header("x-kubernetes-pf-prioritylevel-uid")),
        (exempt.0.as_str(), exempt.1.as_str())
    );

    // A schema of one's own takes requests from then on; without its level it takes none, and says so.
    let schema = json!({"metadata": {"name": "bobs"}, "spec": {"priorityLevelConfiguration": {"name": "bobs"}, "matchingPrecedence": 50,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "bob"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}]}});
    let made = admin.post(flows, &schema).await.expect(201);
    let dangling = |wanted: &'static str| {
        let admin = admin.clone();
        eventually("the condition", Duration::from_secs(15), move || {
            let admin = admin.clone();
            async move {
                let object = admin.get(&format!("{flows}/bobs")).await.ok();
                let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Dangling" && c["status"] == wanted).then_some(())
            }
        })
    };
    dangling("True").await;
    let bob = server.wire_of("bob", None).await.expect("a client");
    assert_ne!(bob.get(PODS).await.header("x-kubernetes-pf-flowschema-uid"), uid(&made));
    let level = json!({"metadata": {"name": "bobs"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}});
    admin.post(levels, &level).await.expect(201);
    dangling("False").await;
    eventually("bob's schema", Duration::from_secs(5), || async {
        (bob.get(PODS).await.header("x-kubernetes-pf-flowschema-uid") == uid(&made)).then_some(())
    })
    .await;

    // What the system needs is put right again.
    let spoilt = json!({"spec": {"limited": {"nominalConcurrencyShares": 500}}});
    admin.patch("merge", &format!("{levels}/catch-all"), &spoilt).await.ok();
    admin.delete(&format!("{flows}/exempt")).await.ok();
    eventually("what is mandatory", Duration::from_secs(15), || async {
        let level = admin.get(&format!("{levels}/catch-all")).await.ok();
        (level["spec"]["limited"]["nominalConcurrencyShares"] == 5 && admin.get(&format!("{flows}/exempt")).await.code == 200).then_some(())
    })
    .await;
}
