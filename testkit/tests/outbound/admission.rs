//! Admission webhooks.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::reviewer::patched;
use testkit::{ApiServer, Reviewer, Wire, eventually};

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SOON: Duration = Duration::from_secs(20);

struct World {
    /// Ends with the test.
    _server: ApiServer,
    wire: Wire,
}

impl World {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an apiserver");
        let wire = server.wire().await.expect("a client");
        Self { _server: server, wire }
    }

    /// Registers webhooks, each for `/path` of the reviewer. A webhook is a JSON object laid over one that is asked about new ConfigMaps.
    async fn register(&self, kind: &str, name: &str, reviewer: &Reviewer, hooks: &[(&str, Value)]) {
        let hooks: Vec<Value> = hooks
            .iter()
            .map(|(path, over)| {
                let mut hook = json!({
                    "name": format!("{path}.webhooks.test"), "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
                    "clientConfig": reviewer.client(&format!("/{path}")),
                    "rules": [rule("CREATE", "", "configmaps")],
                });
                for (key, value) in over.as_object().expect("a map") {
                    hook[key] = value.clone();
                }
                hook
            })
            .collect();
        let (plural, kind) = match kind {
            "mutating" => ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
            _ => ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
        };
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": hooks});
        self.wire.post(&format!("{HOOKS}/{plural}"), &object).await.expect(201);
        // A read that is as fresh as etcd: the caches have it now, and the next request goes by it.
        self.wire.get(&format!("{HOOKS}/{plural}/{name}")).await.ok();
    }
}

fn rule(operation: &str, group: &str, resource: &str) -> Value {
    json!({"operations": [operation], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]})
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn allow() -> Value {
    json!({"allowed": true})
}

fn add(key: &str, value: &str) -> Value {
    patched(&json!([{"op": "add", "path": format!("/data/{key}"), "value": value}]))
}

#[tokio::test]
async fn webhooks_change_objects_in_order_and_refuse_them() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, request| match path {
        "/first" => add("first", "yes"),
        // Sees what the first did.
        "/second" if request["object"]["data"]["first"] == "yes" => add("second", "yes"),
        "/refuse" if request["object"]["data"].get("bad").is_some() => {
            json!({"allowed": false, "status": {"reason": "the configmap contains unwanted data"}})
        }
        "/refuse" => json!({"allowed": true, "warnings": ["think of your data"], "auditAnnotations": {"looked": "yes"}}),
        _ => allow(),
    })
    .await
    .expect("a server");
    world.register("mutating", "b-second", &reviewer, &[("second", json!({}))]).await;
    world.register("mutating", "a-first", &reviewer, &[("first", json!({}))]).await;
    world.register("validating", "refuse", &reviewer, &[("refuse", json!({}))]).await;

    let made = world.wire.post(MAPS, &map("a")).await;
    assert_eq!(made.expect(201)["data"], json!({"a": "1", "first": "yes", "second": "yes"}));
    assert_eq!(made.header("warning"), r#"299 - "think of your data""#);
    assert_eq!(world.wire.get(&format!("{MAPS}/a")).await.ok()["data"]["second"], "yes");

    let mut bad = map("b");
    bad["data"]["bad"] = "x".into();
    let refused = world.wire.post(MAPS, &bad).await.refusal();
    assert_eq!(refused, r#"400 : admission webhook "refuse.webhooks.test" denied the request: the configmap contains unwanted data"#);
    world.wire.get(&format!("{MAPS}/b")).await.expect(404);

    let asked = reviewer.asked("/refuse").remove(0);
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, expected) in [("kind", &kind), ("requestKind", &kind), ("resource", &resource), ("requestResource", &resource)] {
        assert_eq!(&asked[field], expected, "{field}");
    }
    assert_eq!((&asked["name"], &asked["namespace"], &asked["operation"]), (&json!("a"), &json!("default"), &json!("CREATE")));
    assert_eq!((&asked["oldObject"], &asked["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(asked["options"]["kind"], "CreateOptions");
    assert_eq!(asked["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(asked["object"]["data"]["second"], "yes", "validation sees what mutation left");
}

#[tokio::test]
async fn what_cannot_be_asked_fails_or_is_ignored() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, _| match path {
        "/slow" => json!({"wait": 30}),
        "/gone" => Value::Null,
        "/broken" => json!({"code": 500}),
        "/other" => json!({"allowed": true, "uid": "mine"}),
        _ => allow(),
    })
    .await
    .expect("a server");
    let port = reviewer.server.port();
    let stranger = Reviewer::start(&[], |_, _| allow()).await.expect("a server");
    let mut untrusted = reviewer.client("/x");
    untrusted["caBundle"] = stranger.server.ca_bundle.clone().into();
    let nowhere = json!({"service": {"namespace": "default", "name": "nowhere", "path": "/p"}, "caBundle": reviewer.server.ca_bundle});
    let cases = [
        (
            "slow",
            json!({"timeoutSeconds": 1}),
            format!(r#"failed to call webhook: Post "https://localhost:{port}/slow?timeout=1s": context deadline exceeded"#),
        ),
        ("gone", json!({}), "failed to call webhook: the server could not find the requested resource".to_owned()),
        (
            "broken",
            json!({}),
            r#"failed to call webhook: an error on the server ("Internal Server Error") has prevented the request from succeeding"#
                .to_owned(),
        ),
        (
            "untrusted",
            json!({"clientConfig": untrusted}),
            format!(
                r#"failed to call webhook: Post "https://localhost:{port}/x?timeout=5s": tls: failed to verify certificate: x509: certificate signed by unknown authority"#
            ),
        ),
        (
            "nowhere",
            json!({"clientConfig": nowhere}),
            r#"failed to call webhook: Post "https://nowhere.default.svc:443/p?timeout=5s": service "nowhere" not found"#.to_owned(),
        ),
        (
            "refused",
            json!({"clientConfig": {"url": "https://127.0.0.1:1/x", "caBundle": reviewer.server.ca_bundle}}),
            r#"failed to call webhook: Post "https://127.0.0.1:1/x?timeout=5s": dial tcp 127.0.0.1:1: connect: connection refused"#
                .to_owned(),
        ),
    ];
    for (name, over, expected) in cases {
        world.register("validating", name, &reviewer, &[(name, over.clone())]).await;
        let refused = world.wire.post(MAPS, &map(name)).await.refusal();
        let expected = format!(r#"500 InternalError: Internal error occurred: failed calling webhook "{name}.webhooks.test": {expected}"#);
        assert_eq!(refused, expected);
        let path = format!("{HOOKS}/validatingwebhookconfigurations/{name}");
        let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
        world.wire.patch("json", &path, &ignore).await.ok();
        world.wire.get(&path).await.ok();
        world.wire.post(MAPS, &map(name)).await.expect(201);
        world.wire.delete(&path).await.ok();
        world.wire.get(&path).await.expect(404);
    }
    world.register("validating", "other", &reviewer, &[("other", json!({}))]).await;
    let refused = world.wire.post(MAPS, &map("other")).await.refusal();
    assert!(refused.contains(r#"received invalid webhook response: expected response.uid=""#), "{refused}");
    assert!(refused.ends_with(r#"got "mine""#), "{refused}");
}

#[tokio::test]
async fn selectors_scopes_and_dry_runs_decide_who_is_asked() {
    let world = World::start().await;
    let reviewer =
        Reviewer::start(&[], |_, _| json!({"allowed": false, "status": {"message": "no", "code": 403}})).await.expect("a server");
    let (namespaces, objects) = (json!({"matchLabels": {"guarded": "yes"}}), json!({"matchLabels": {"guarded": "yes"}}));
    world.register("validating", "namespaces", &reviewer, &[("namespaces", json!({"namespaceSelector": namespaces}))]).await;
    world.register("validating", "objects", &reviewer, &[("objects", json!({"objectSelector": objects, "sideEffects": "None"}))]).await;
    let own = json!({"rules": [rule("*", "*", "*")], "namespaceSelector": {}, "objectSelector": {"matchLabels": {"never": "there"}}});
    world.register("validating", "everything", &reviewer, &[("everything", own)]).await;

    world.wire.post(MAPS, &map("free")).await.expect(201);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "guarded", "labels": {"guarded": "yes"}}});
    world.wire.post("/api/v1/namespaces", &namespace).await.expect(201);
    let refused = world.wire.post("/api/v1/namespaces/guarded/configmaps", &map("a")).await.refusal();
    assert_eq!(refused, r#"403 : admission webhook "namespaces.webhooks.test" denied the request: no"#);
    let mut guarded = map("guarded");
    guarded["metadata"]["labels"] = json!({"guarded": "yes"});
    let refused = world.wire.post(MAPS, &guarded).await.refusal();
    assert_eq!(refused, r#"403 : admission webhook "objects.webhooks.test" denied the request: no"#);

    // Nobody can lock the administrators out: configurations are subject to no webhook.
    let all = json!({"rules": [rule("*", "*", "*/*"), rule("*", "*", "*")]});
    world.register("validating", "lock", &reviewer, &[("lock", all)]).await;
    world.wire.delete(&format!("{MAPS}/free")).await.expect(403);
    world.wire.delete(&format!("{HOOKS}/validatingwebhookconfigurations/lock")).await.expect(200);
    world.wire.get(&format!("{HOOKS}/validatingwebhookconfigurations/lock")).await.expect(404);

    let dry = reviewer.asked("/objects").len();
    world.wire.post(&format!("{MAPS}?dryRun=All"), &guarded).await.expect(403);
    let asked = reviewer.asked("/objects");
    assert_eq!((asked.len(), &asked[dry]["dryRun"], &asked[dry]["options"]["dryRun"]), (dry + 1, &json!(true), &json!(["All"])));
}

#[tokio::test]
async fn match_conditions_decide_who_is_asked() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |_, _| json!({"allowed": false})).await.expect("a server");
    let when = |expression: &str| json!({"matchConditions": [{"name": "when", "expression": expression}]});
    let by_name = when("request.userInfo.username == 'kubernetes-admin' && object.metadata.name.startsWith('guarded')");
    world.register("validating", "by-name", &reviewer, &[("by-name", by_name)]).await;
    world
        .register("validating", "fails", &reviewer, &[("fails", when("object.metadata.name == 'odd' && object.data.missing == 'x'"))])
        .await;
    world.wire.post(MAPS, &map("free")).await.expect(201);
    let refused = world.wire.post(MAPS, &map("guarded-a")).await.refusal();
    assert_eq!(refused, r#"400 : admission webhook "by-name.webhooks.test" denied the request without explanation"#);
    let failed = world.wire.post(MAPS, &map("odd")).await.refusal();
    assert!(failed.starts_with(r#"403 Forbidden: configmaps "odd" is forbidden: "#), "{failed}");
    assert!(reviewer.asked("/fails").is_empty());
}

#[tokio::test]
async fn every_kind_of_request_is_reviewed() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |_, _| allow()).await.expect("a server");
    let all = json!({"rules": [rule("*", "*", "*/*"), rule("*", "*", "*")], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}});
    world.register("validating", "all", &reviewer, &[("all", all.clone())]).await;
    let wire = &world.wire;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    wire.post(deployments, &deployment).await.expect(201);
    wire.patch("merge", &format!("{deployments}/d/scale"), &json!({"spec": {"replicas": 3}})).await.ok();
    wire.patch("merge", &format!("{deployments}/d/status"), &json!({"status": {"replicas": 3}})).await.ok();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    wire.post(accounts, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await.expect(201);
    wire.post("/api/v1/namespaces/default/pods", &pod).await.expect(201);
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    wire.post(&format!("{accounts}/default/token"), &token).await.expect(201);
    // There is no node, so the connection comes to nothing; it was admitted all the same.
    wire.post("/api/v1/namespaces/default/pods/p/exec?container=c&command=sh&stdout=true", &Value::Null).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    wire.post("/api/v1/namespaces/default/pods/p/eviction", &eviction).await.expect(201);
    for name in ["x", "y"] {
        wire.post(MAPS, &map(name)).await.expect(201);
    }
    wire.delete_with(MAPS, &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})).await.ok();

    let line = |a: &Value| {
        let text = |pointer: &str| a.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let part = |p: String| if p == "-" { String::new() } else { format!("/{p}") };
        format!(
            "{} {}{} {} {} old={} options={}",
            text("/operation"),
            text("/resource/resource"),
            part(text("/subResource")),
            text("/name"),
            text("/kind/kind"),
            text("/oldObject/kind"),
            text("/options/kind"),
        )
    };
    let mut lines: Vec<String> =
        reviewer.asked("/all").iter().filter(|a| a["userInfo"]["username"] != "system:apiserver").map(line).collect();
    let ends = lines.len().saturating_sub(2);
    lines[ends..].sort();
    expect_test::expect![[r#"
        CREATE deployments d Deployment old=- options=CreateOptions
        UPDATE deployments/scale d Scale old=Scale options=UpdateOptions
        UPDATE deployments/status d Deployment old=Deployment options=UpdateOptions
        CREATE serviceaccounts default ServiceAccount old=- options=CreateOptions
        CREATE pods p Pod old=- options=CreateOptions
        CREATE serviceaccounts/token default TokenRequest old=- options=CreateOptions
        CONNECT pods/exec p PodExecOptions old=- options=-
        CREATE pods/eviction p Eviction old=- options=CreateOptions
        CREATE configmaps x ConfigMap old=- options=CreateOptions
        CREATE configmaps y ConfigMap old=- options=CreateOptions
        DELETE configmaps x ConfigMap old=ConfigMap options=DeleteOptions
        DELETE configmaps y ConfigMap old=ConfigMap options=DeleteOptions"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn an_earlier_webhook_is_asked_again_after_a_change() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, request| {
        let data = &request["object"]["data"];
        match path {
            // Counts what is there; once more when somebody added to it.
            "/count" => add("count", &data.as_object().map_or(0, |d| d.keys().filter(|k| *k != "count").count()).to_string()),
            _ => add("more", "yes"),
        }
    })
    .await
    .expect("a server");
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    world.register("mutating", "m", &reviewer, &[("count", again), ("more", json!({}))]).await;
    let made = world.wire.post(MAPS, &map("a")).await.expect(201);
    assert_eq!(made["data"], json!({"a": "1", "more": "yes", "count": "2"}));
    assert_eq!((reviewer.asked("/count").len(), reviewer.asked("/more").len()), (2, 1));
}

#[tokio::test]
async fn what_a_webhook_leaves_is_defaulted_and_checked_as_if_it_had_been_sent() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, _| match path {
        "/port" => patched(&json!([{"op": "add", "path": "/spec/containers/0/ports", "value": [{"containerPort": 80}]}, {"op": "add", "path": "/spec/unknown", "value": 1}])),
        _ => patched(&json!([{"op": "replace", "path": "/metadata/labels", "value": {"a": "not a label"}}])),
    })
    .await
    .expect("a server");
    let pods = json!({"rules": [rule("CREATE", "", "pods")]});
    world.register("mutating", "port", &reviewer, &[("port", pods)]).await;
    world.register("mutating", "wrong", &reviewer, &[("wrong", json!({}))]).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    world.wire.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = world.wire.post("/api/v1/namespaces/default/pods", &pod).await.expect(201);
    assert_eq!(made["spec"]["containers"][0]["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
    assert_eq!(made["spec"].get("unknown"), None);
    let mut labelled = map("a");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(world.wire.post(MAPS, &labelled).await.code, 422);
}

#[tokio::test]
async fn equivalent_requests_are_converted_for_the_webhook() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, request| match path {
        "/core" => patched(&json!([{"op": "replace", "path": "/message", "value": format!("{} seen", request["object"]["message"].as_str().unwrap_or(""))}])),
        _ => allow(),
    })
    .await
    .expect("a server");
    let hook = |policy: &str| json!({"matchPolicy": policy, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"]}]});
    world.register("mutating", "core", &reviewer, &[("core", hook("Equivalent")), ("exact", hook("Exact"))]).await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "x.io/c", "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal", "note": "it", "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}});
    let made = world.wire.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.expect(201);
    assert_eq!((&made["note"], &made["apiVersion"]), (&json!("it seen"), &json!("events.k8s.io/v1")));
    let asked = reviewer.asked("/core").remove(0);
    assert_eq!((&asked["resource"]["group"], &asked["requestResource"]["group"]), (&json!(""), &json!("events.k8s.io")));
    assert_eq!((&asked["object"]["apiVersion"], &asked["object"]["message"]), (&json!("v1"), &json!("it")));
    assert!(reviewer.asked("/exact").is_empty());
}

#[tokio::test]
async fn custom_resources_are_mutated_and_pruned() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&[], |path, _| match path {
        "/add" => {
            patched(&json!([{"op": "add", "path": "/spec/known", "value": "yes"}, {"op": "add", "path": "/spec/unknown", "value": "no"}]))
        }
        _ => allow(),
    })
    .await
    .expect("a server");
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"known": {"type": "string"}, "d": {"type": "integer", "default": 3}}}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [version("v1", true), version("v2", false)]}});
    world.wire.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await.expect(201);
    let foos = "/apis/x.io/v2/namespaces/default/foos";
    eventually("the definition to be served", SOON, || async { (world.wire.get(foos).await.code == 200).then_some(()) }).await;
    let hook =
        json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["x.io"], "apiVersions": ["v1"], "resources": ["foos"]}]});
    world.register("mutating", "add", &reviewer, &[("add", hook)]).await;
    let made =
        world.wire.post(foos, &json!({"apiVersion": "x.io/v2", "kind": "Foo", "metadata": {"name": "a"}, "spec": {}})).await.expect(201);
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("x.io/v2"), &json!({"known": "yes", "d": 3})));
    let asked = reviewer.asked("/add").remove(0);
    assert_eq!(
        (&asked["object"]["apiVersion"], &asked["kind"]["version"], &asked["requestKind"]["version"]),
        (&json!("x.io/v1"), &json!("v1"), &json!("v2"))
    );
}

#[tokio::test]
async fn a_service_is_called_by_its_name() {
    let world = World::start().await;
    let reviewer = Reviewer::start(&["hook.default.svc"], |_, _| add("by", "service")).await.expect("a server");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": reviewer.server.port()}]}});
    world.wire.post("/api/v1/namespaces/default/services", &service).await.expect(201);
    let client = json!({"service": {"namespace": "default", "name": "hook", "path": "/x", "port": reviewer.server.port()}, "caBundle": reviewer.server.ca_bundle});
    world.register("mutating", "service", &reviewer, &[("x", json!({"clientConfig": client}))]).await;
    let made = world.wire.post(MAPS, &map("a")).await.expect(201);
    assert_eq!(made["data"]["by"], "service");
}
