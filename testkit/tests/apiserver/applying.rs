//! Server-side apply as a client sees it: who owns what after a sequence of writes, written down as Kubernetes gives it.
//!
//! The cases follow upstream's documentation of server-side apply and the behaviour of its integration tests; what is compared is
//! `fieldsV1` itself, entry by entry.

use serde_json::{Value, json};
use testkit::{Answer, ApiServer, Wire};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/t/deployments";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    (server, wire)
}

async fn apply(wire: &Wire, path: &str, manager: &str, config: &Value) -> Answer {
    wire.patch("apply", &format!("{path}?fieldManager={manager}"), config).await
}

/// `manager operation[/subresource] version: fieldsV1`, one a line.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    entries
        .iter()
        .map(|e| {
            let sub = e.get("subresource").map(|s| format!("/{}", text(s))).unwrap_or_default();
            assert!(e["time"].is_string() && e["fieldsType"] == "FieldsV1", "{e}");
            format!("{} {}{sub} {}: {}", text(&e["manager"]), text(&e["operation"]), text(&e["apiVersion"]), e["fieldsV1"])
        })
        .collect()
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

/// The smallest Deployment, with these containers.
fn with_containers(containers: Value) -> Value {
    deployment(json!({
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}},
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_share_a_map() {
    let (_server, wire) = world().await;
    let path = format!("{MAPS}/m");
    let first = apply(&wire, &path, "one", &map(json!({"a": "1", "b": "1"}))).await.expect(201);
    assert_eq!(owners(&first), [r#"one Apply v1: {"f:data":{"f:a":{},"f:b":{}}}"#]);
    // The same values are shared without a conflict.
    let second = apply(&wire, &path, "two", &map(json!({"b": "1", "c": "2"}))).await.expect(200);
    assert_eq!(owners(&second), [r#"one Apply v1: {"f:data":{"f:a":{},"f:b":{}}}"#, r#"two Apply v1: {"f:data":{"f:b":{},"f:c":{}}}"#]);
    let refused = apply(&wire, &path, "two", &map(json!({"b": "2", "c": "2"}))).await;
    assert_eq!(refused.refusal(), r#"409 Conflict: Apply failed with 1 conflict: conflict with "one": .data.b"#);
    assert_eq!(
        refused.json()["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.b"}])
    );
    let forced = wire.patch("apply", &format!("{path}?fieldManager=two&force=true"), &map(json!({"b": "2", "c": "2"}))).await.expect(200);
    assert_eq!(
        owners(&forced),
        [r#"one Apply v1: {"f:data":{"f:a":{}}}"#, r#"two Apply v1: {"f:data":{"f:b":{},"f:c":{}}}"#],
        "what is forced changes hands"
    );
    // What a manager no longer applies is gone, unless another applies it too.
    let dropped = apply(&wire, &path, "two", &map(json!({"c": "2"}))).await.expect(200);
    assert_eq!(dropped["data"], json!({"a": "1", "c": "2"}));
    // An apply that changes nothing is no change.
    let again = apply(&wire, &path, "two", &map(json!({"c": "2"}))).await.expect(200);
    assert_eq!(again, dropped);
    let empty = apply(&wire, &path, "one", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})).await.expect(200);
    assert_eq!((&empty["data"], owners(&empty)), (&json!({"c": "2"}), vec![r#"two Apply v1: {"f:data":{"f:c":{}}}"#.to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_what_it_changes() {
    let (server, wire) = world().await;
    let path = format!("{MAPS}/m");
    apply(&wire, &path, "one", &map(json!({"a": "1", "b": "1"}))).await.expect(201);
    let patched = wire.patch("merge", &format!("{path}?fieldManager=editor"), &json!({"data": {"b": "2", "c": "3"}})).await.expect(200);
    assert_eq!(owners(&patched), [r#"one Apply v1: {"f:data":{"f:a":{}}}"#, r#"editor Update v1: {"f:data":{"f:b":{},"f:c":{}}}"#]);
    let refused = apply(&wire, &path, "one", &map(json!({"a": "1", "b": "1"}))).await.refusal();
    assert_eq!(refused, r#"409 Conflict: Apply failed with 1 conflict: conflict with "editor" using v1: .data.b"#);
    let both = apply(&wire, &path, "one", &map(json!({"b": "1", "c": "1"}))).await.refusal();
    assert_eq!(both, "409 Conflict: Apply failed with 2 conflicts: conflicts with \"editor\" using v1:\n- .data.b\n- .data.c");
    // Removed by an update, it is nobody's.
    let removed = wire.patch("merge", &format!("{path}?fieldManager=editor"), &json!({"data": {"b": null}})).await.expect(200);
    assert_eq!(owners(&removed), [r#"one Apply v1: {"f:data":{"f:a":{}}}"#, r#"editor Update v1: {"f:data":{"f:c":{}}}"#]);
    // The manager's name comes from the client's program when it says none.
    let kubectl = server.wire_with_agent("kubectl/v1.35.0 (linux/amd64)").await.expect("a client");
    let created = kubectl.post(MAPS, &json!({"metadata": {"name": "n"}, "data": {"x": "y"}})).await;
    assert_eq!(owners(&created.expect(201)), [r#"kubectl Update v1: {"f:data":{".":{},"f:x":{}}}"#]);
    let long = wire.patch("merge", &format!("{path}?fieldManager={}", "x".repeat(129)), &json!({})).await;
    assert_eq!(
        long.refusal(),
        "422 Invalid: PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_by_key_have_owners_item_by_item() {
    let (_server, wire) = world().await;
    let path = format!("{DEPLOYMENTS}/d");
    let config =
        with_containers(json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E", "value": "1"}]}]));
    let first = apply(&wire, &path, "one", &config).await.expect(201);
    let port = &first["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!(port, &json!({"containerPort": 80, "protocol": "TCP"}), "the default is there, and part of the key");
    let owned: Value = serde_json::from_str(owners(&first)[0].split_once(": ").expect("fields").1).expect("JSON");
    assert_eq!(
        owned,
        json!({"f:spec": {"f:selector": {}, "f:template": {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:containers": {
            "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {},
                "f:env": {"k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}})
    );
    // Another manager's container, and another's port in the first one.
    let other =
        with_containers(json!([{"name": "side", "image": "s"}, {"name": "c", "ports": [{"containerPort": 81, "protocol": "UDP"}]}]));
    let both = apply(&wire, &path, "two", &other).await.expect(200);
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
        list.iter().map(|c| format!("{} {}", c["name"].as_str().unwrap_or(""), c["ports"].as_array().map_or(0, Vec::len))).collect()
    };
    let mut shown = names(&both);
    shown.sort();
    assert_eq!(shown, ["c 2", "side 0"]);
    // Each can take its own away, and nothing else goes.
    let less = apply(&wire, &path, "two", &with_containers(json!([{"name": "side", "image": "s"}]))).await.expect(200);
    let mut shown = names(&less);
    shown.sort();
    assert_eq!(shown, ["c 1", "side 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_atomic_fields() {
    let (_server, wire) = world().await;
    let path = format!("{MAPS}/m");
    // Finalizers are a set: each value has owners of its own.
    let with = |finalizers: &[&str]| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "finalizers": finalizers}});
    apply(&wire, &path, "one", &with(&["example.com/a"])).await.expect(201);
    let both = apply(&wire, &path, "two", &with(&["example.com/b"])).await.expect(200);
    assert_eq!(both["metadata"]["finalizers"], json!(["example.com/a", "example.com/b"]));
    assert_eq!(
        owners(&both),
        [
            r#"one Apply v1: {"f:metadata":{"f:finalizers":{"v:\"example.com/a\"":{}}}}"#,
            r#"two Apply v1: {"f:metadata":{"f:finalizers":{"v:\"example.com/b\"":{}}}}"#
        ]
    );
    let less = apply(&wire, &path, "one", &with(&[])).await.expect(200);
    assert_eq!(less["metadata"]["finalizers"], json!(["example.com/b"]));
    apply(&wire, &path, "two", &with(&[])).await.expect(200);
    // A selector is atomic: it is owned as a whole.
    let service = |selector: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": selector, "ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/t/services/s";
    apply(&wire, services, "one", &service(json!({"a": "1"}))).await.expect(201);
    let refused = apply(&wire, services, "two", &service(json!({"b": "1"}))).await.refusal();
    assert_eq!(refused, r#"409 Conflict: Apply failed with 1 conflict: conflict with "one": .spec.selector"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_have_managers_of_their_own() {
    let (_server, wire) = world().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&wire, &path, "one", &with_containers(json!([{"name": "c", "image": "i"}]))).await.expect(201);
    let status = json!({"status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True", "reason": "r", "message": "m"}]}});
    let after = wire.patch("merge", &format!("{path}/status?fieldManager=controller"), &status).await.expect(200);
    let last = owners(&after).pop().expect("an entry");
    assert_eq!(
        last,
        r#"controller Update/status apps/v1: {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:message":{},"f:reason":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#
    );
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"observedGeneration": 7}});
    let after = apply(&wire, &format!("{path}/status"), "applier", &applied).await.expect(200);
    assert_eq!((&after["status"]["observedGeneration"], &after["status"]["replicas"]), (&json!(7), &json!(1)));
    assert!(
        owners(&after).contains(&r#"applier Apply/status apps/v1: {"f:status":{"f:observedGeneration":{}}}"#.to_owned()),
        "{:?}",
        owners(&after)
    );
    // A status that is applied to the object itself is nobody's, and does nothing.
    let mut whole = with_containers(json!([{"name": "c", "image": "i"}]));
    whole["status"] = json!({"replicas": 99});
    let same = apply(&wire, &path, "one", &whole).await.expect(200);
    assert_eq!(same["status"]["replicas"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_client_side_apply_to_server_side_apply() {
    let (_server, wire) = world().await;
    let path = format!("{MAPS}/m");
    let last = |data: &Value| json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{}\n", map(data.clone()))});
    let data = json!({"a": "1", "b": "1"});
    let mut client = map(data.clone());
    client["metadata"]["annotations"] = last(&data);
    wire.post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), &client).await.expect(201);
    // kubectl may change what the client side applied, without a conflict with its own former self.
    let changed = apply(&wire, &path, "kubectl", &map(json!({"a": "2", "b": "1"}))).await.expect(200);
    assert_eq!(changed["data"], json!({"a": "2", "b": "1"}));
    let kubectl = owners(&changed).remove(0);
    assert_eq!(kubectl, r#"kubectl Apply v1: {"f:data":{"f:a":{},"f:b":{}}}"#);
    let said = changed["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().expect("an annotation");
    let said: Value = serde_json::from_str(said).expect("JSON");
    assert_eq!(said["data"], json!({"a": "2", "b": "1"}), "the annotation follows, for those who go back");
    // Somebody else's apply meets the owner it has now.
    let refused = apply(&wire, &path, "other", &map(json!({"a": "3"}))).await;
    assert_eq!(refused.code, 409);
    assert!(refused.refusal().contains("conflict with \"kubectl\""), "{}", refused.refusal());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_applied() {
    let (_server, wire) = world().await;
    let path = format!("{MAPS}/m");
    let refusal = |answer: Answer| answer.refusal();
    assert_eq!(
        refusal(wire.patch("apply", &path, &map(json!({}))).await),
        "422 Invalid: PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let mut managed = map(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    assert_eq!(refusal(apply(&wire, &path, "one", &managed).await), "400 BadRequest: metadata.managedFields must be nil");
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "nonsense": 1});
    let answer = apply(&wire, &path, "one", &unknown).await;
    assert_eq!(answer.code, 500, "{}", answer.text());
    assert!(answer.text().contains(".nonsense: field not declared in schema"), "{}", answer.text());
    let forced = wire.patch("merge", &format!("{path}?force=true"), &json!({})).await;
    assert_eq!(
        refusal(forced),
        "422 Invalid: PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    assert_eq!(wire.get(&path).await.code, 404, "nothing of it was stored");
}

/// Two managers own different fields of one Deployment, and keep them through a hundred applies in a random order, with other writers'
/// updates in between.
#[tokio::test(flavor = "multi_thread")]
async fn two_managers_keep_their_fields_through_a_hundred_applies() {
    let (_server, wire) = world().await;
    let path = format!("{DEPLOYMENTS}/d");
    let mut state = u64::from(std::process::id()) | 1;
    println!("seed {state}");
    let mut random = move |n: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    };
    // One keeps the container's image, the other scales it, sets its environment and puts labels on the object.
    let one = |image: u64, tty: bool| {
        let mut container = json!({"name": "c", "image": format!("i:{image}")});
        if tty {
            container["tty"] = true.into();
        }
        with_containers(json!([container]))
    };
    let two = |replicas: u64, label: Option<u64>, env: u64| {
        let env: Vec<Value> = (0..env).map(|i| json!({"name": format!("E{i}"), "value": replicas.to_string()})).collect();
        let mut config = deployment(json!({"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "env": env}]}}}));
        if let Some(label) = label {
            config["metadata"]["labels"] = json!({"two": label.to_string()});
        }
        config
    };
    let (mut first, mut second) = (one(0, false), None);
    apply(&wire, &path, "one", &first).await.expect(201);
    for round in 0..100 {
        let object = match random(5) {
            0 | 1 => {
                first = one(random(9), random(2) == 0);
                apply(&wire, &path, "one", &first).await.expect(200)
            }
            2 | 3 => {
                let config = two(random(9), (random(2) == 0).then(|| random(9)), random(3));
                let object = apply(&wire, &path, "two", &config).await.expect(200);
                second = Some(config);
                object
            }
            _ => {
                // A third party that changes what is neither's.
                let note = json!({"metadata": {"annotations": {"note": round.to_string()}}});
                wire.patch("merge", &format!("{path}?fieldManager=three"), &note).await.expect(200)
            }
        };
        let (spec, wanted) = (&object["spec"], &first["spec"]["template"]["spec"]["containers"][0]);
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!((&container["image"], container.get("tty")), (&wanted["image"], wanted.get("tty")), "round {round}: {object}");
        if let Some(second) = &second {
            let wanted = &second["spec"]["template"]["spec"]["containers"][0]["env"];
            assert_eq!(spec["replicas"], second["spec"]["replicas"], "round {round}");
            let env = container.get("env").cloned().unwrap_or_else(|| json!([]));
            assert_eq!(&env, wanted, "round {round}");
            assert_eq!(object["metadata"]["labels"]["two"], second["metadata"]["labels"]["two"], "round {round}");
        }
        let managers: Vec<String> = owners(&object).iter().filter_map(|o| o.split(' ').next().map(str::to_owned)).collect();
        let mut distinct = managers.clone();
        distinct.dedup();
        assert_eq!(managers, distinct, "one entry a manager");
        // Neither owns what the other does.
        let fields = |who: &str| owners(&object).into_iter().find(|o| o.starts_with(who)).unwrap_or_default();
        assert!(!fields("one ").contains("f:replicas") && !fields("two ").contains("f:image"), "{:?}", owners(&object));
    }
}
