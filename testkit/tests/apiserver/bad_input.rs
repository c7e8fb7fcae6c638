//! Whatever is sent, the answer is the Status that a Kubernetes user knows, nothing is stored, and the server lives.

use expect_test::{Expect, expect};
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, ApiServer, Wire};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const PODS: &str = "/api/v1/namespaces/t/pods";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// The refusal with its causes, a line each.
#[track_caller]
fn check(answer: &Answer, want: Expect) {
    let mut lines = vec![answer.refusal()];
    for cause in answer.json()["details"]["causes"].as_array().into_iter().flatten() {
        lines.push(format!("  {} {}", cause["field"].as_str().unwrap_or("-"), cause["reason"].as_str().unwrap_or("-")));
    }
    want.assert_eq(&lines.join("\n"));
}

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    (server, wire)
}

async fn nothing_stored(wire: &Wire) {
    for path in [MAPS, PODS] {
        assert_eq!(wire.get(path).await.ok()["items"], json!([]), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read() {
    let (_server, wire) = world().await;
    let send = |media: &'static str, body: &'static str| {
        let wire = wire.with("content-type", media);
        async move { wire.send(Method::POST, MAPS, body).await }
    };
    for body in ["{", "{\"a\":", "[]", "7", "\"x\"", "{}}", "\u{0}", "{\"metadata\": 1}", "{\"kind\": {}}"] {
        let answer = send("application/json", body).await;
        assert_eq!(answer.code, 400, "{body} gave {}", answer.text());
        assert!(answer.refusal().starts_with("400 BadRequest: "), "{body}: {}", answer.refusal());
    }
    for body in ["a: b: c", "- a\n- b", "{", "\t", "a: &x [*x]"] {
        let answer = send("application/yaml", body).await;
        assert!(matches!(answer.code, 400 | 422), "{body:?}: {}", answer.text());
    }
    let deep = "[".repeat(200_000);
    assert_eq!(wire.send(Method::POST, MAPS, deep).await.code, 400);
    let deep = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"a\"}},\"data\":{}1{}}}",
        "{\"a\":".repeat(50_000),
        "}".repeat(50_000)
    );
    assert_eq!(wire.send(Method::POST, MAPS, deep).await.code, 400);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    assert_eq!(send("application/yaml", bomb).await.code, 400);
    for body in ["", "k8s", "k8s\u{0}", "k8s\u{0}\u{a}\u{7f}", "nonsense"] {
        assert_eq!(send("application/vnd.kubernetes.protobuf", body).await.code, 400, "{body:?}");
    }
    let wrong = wire.post(MAPS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": 7}})).await;
    check(
        &wrong,
        expect![
            "400 BadRequest: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        ],
    );
    let other = wire.post(MAPS, &pod("a")).await;
    assert!(other.refusal().starts_with("400 BadRequest: Pod in version \"v1\" cannot be handled as a ConfigMap"), "{}", other.refusal());
    let untyped =
        wire.post(PODS, &json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "ports": "80"}]}})).await;
    assert_eq!(untyped.code, 400, "{}", untyped.text());
    // Upstream fills kind and apiVersion of a body that leaves both out.
    assert_eq!(wire.post(&format!("{MAPS}?dryRun=All"), &json!({"metadata": {"name": "a"}})).await.code, 201);
    nothing_stored(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_types_and_paths() {
    let (_server, wire) = world().await;
    let mut large = map("large");
    large["data"] = json!({"a": "x".repeat(5 << 20)});
    let answer = wire.post(MAPS, &large).await;
    check(&answer, expect!["413 RequestEntityTooLarge: Request entity too large: limit is 3145728"]);
    large["data"] = json!({"a": "x".repeat(1 << 20), "b": "y"});
    let answer = wire.post(MAPS, &large).await;
    assert_eq!(answer.code, 422, "{}", answer.text());

    check(&wire.get(&format!("{MAPS}/none")).await, expect![[r#"404 NotFound: configmaps "none" not found"#]]);
    check(&wire.get("/api/v1/namespaces/t/nothings").await, expect!["404 NotFound: the server could not find the requested resource"]);
    check(&wire.get("/apis/none.example.com/v1/things").await, expect!["404 NotFound: the server could not find the requested resource"]);
    for path in [
        "/nonsense",
        "/api/v2",
        "/apis/apps/v7",
        "/api/v1/nodes/a/b/c/d",
        "/api/v1/namespaces/t/nodes",
        "/api/v1/namespaces/a%2Fb/pods/c/nosub",
    ] {
        assert_eq!(wire.get(path).await.code, 404, "{path}");
    }
    for (method, path) in [
        (Method::PUT, MAPS),
        (Method::PATCH, MAPS),
        (Method::POST, "/api/v1/namespaces/t/configmaps/a"),
        (Method::DELETE, "/api/v1/componentstatuses/etcd-0"),
    ] {
        let answer = wire.send(method.clone(), path, map("a").to_string()).await;
        assert_eq!(answer.code, 405, "{method} {path}: {}", answer.text());
    }
    check(
        &wire.put(MAPS, &map("a")).await,
        expect!["405 MethodNotAllowed: the server does not allow this method on the requested resource"],
    );
    let answer = wire.with("accept", "text/plain").get(MAPS).await;
    check(
        &answer,
        expect![
            "406 NotAcceptable: only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ],
    );
    for accept in ["application/*", "*/*", "text/plain, application/json;q=0.1", "application/json;as=Nonsense;g=x;v=y, application/json"] {
        assert_eq!(wire.with("accept", accept).get(MAPS).await.code, 200, "{accept}");
    }
    let answer = wire.with("content-type", "text/plain").send(Method::POST, MAPS, map("a").to_string()).await;
    check(
        &answer,
        expect![
            "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ],
    );
    let answer = wire.with("content-type", "application/json").send(Method::PATCH, &format!("{MAPS}/a"), "{}").await;
    check(
        &answer,
        expect![
            "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
        ],
    );
    let huge = format!("{MAPS}?labelSelector={}", "a".repeat(40 << 10));
    let answer = wire.try_send(Method::GET, &huge, vec![]).await;
    assert!(answer.as_ref().is_ok_and(|a| matches!(a.code, 400 | 414 | 431)), "{answer:?}");
    nothing_stored(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_make_no_sense() {
    let (_server, wire) = world().await;
    for query in [
        "limit=x",
        "limit=99999999999999999999",
        "timeoutSeconds=soon&watch=1",
        "resourceVersion=new",
        "resourceVersion=-1",
        "continue=garbage",
        "labelSelector=a%3D%3D%3Db",
        "labelSelector=(",
        "labelSelector=a%20in%20(",
        "fieldSelector=spec.nothing%3Da",
        "fieldSelector=a",
        "resourceVersion=99999999999999999999999",
    ] {
        let answer = wire.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(answer.code, 400, "{query}: {}", answer.text());
    }
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Odd&resourceVersion=1",
        "sendInitialEvents=true",
        "watch=1&sendInitialEvents=true",
    ] {
        let answer = wire.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(answer.code, 422, "{query}: {}", answer.text());
    }
    for query in ["limit=-1", "limit=0", "%zz", "&&&", "=", "a=b;c", "limit=5&limit=6", "pretty=true", "labelSelector=", "unknown=1"] {
        assert_eq!(wire.get(&format!("{MAPS}?{query}")).await.code, 200, "{query}");
    }
    for query in ["dryRun=Some", "fieldValidation=Maybe"] {
        let answer = wire.post(&format!("{MAPS}?{query}"), &map("a")).await;
        assert_eq!(answer.code, 422, "{query}: {}", answer.text());
    }
    let manager = "m".repeat(129);
    assert_eq!(wire.post(&format!("{MAPS}?fieldManager={manager}"), &map("a")).await.code, 422);
    nothing_stored(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_the_kind_does_not_have() {
    let (_server, wire) = world().await;
    let mut object = pod("a");
    object["spec"]["nonsense"] = 1.into();
    object["metadata"]["unknwon"] = "x".into();
    let answer = wire.post(&format!("{PODS}?fieldValidation=Strict"), &object).await;
    check(
        &answer,
        expect![[
            r#"400 BadRequest: Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "metadata.unknwon", unknown field "spec.nonsense""#
        ]],
    );
    let answer = wire.post(&format!("{PODS}?fieldValidation=Warn&dryRun=All"), &object).await;
    assert_eq!(answer.ok()["spec"]["nonsense"], Value::Null);
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().filter_map(|w| w.to_str().ok()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"metadata.unknwon\"""#, r#"299 - "unknown field \"spec.nonsense\"""#]);
    let answer = wire.post(&format!("{PODS}?fieldValidation=Ignore&dryRun=All"), &object).await;
    assert_eq!((answer.code, answer.header("warning")), (201, ""));
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"}}"#;
    let answer = wire.send(Method::POST, &format!("{MAPS}?fieldValidation=Strict"), twice).await;
    check(
        &answer,
        expect![[
            r#"400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "metadata.name""#
        ]],
    );
    nothing_stored(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_namespaces_and_versions() {
    let (_server, wire) = world().await;
    for name in ["UPPER", "-a", "a_b", "a..b", &"a".repeat(254), "a/b", "."] {
        let answer = wire.post(MAPS, &map(name)).await;
        assert_eq!(answer.code, 422, "{name}: {}", answer.text());
        assert!(answer.refusal().contains("metadata.name: Invalid value"), "{}", answer.refusal());
    }
    check(
        &wire.post(MAPS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})).await,
        expect![[r#"
        422 Invalid: ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required
          metadata.name FieldValueRequired"#]],
    );
    let mut object = map("a");
    object["metadata"]["namespace"] = "other".into();
    check(
        &wire.post(MAPS, &object).await,
        expect!["400 BadRequest: the namespace of the provided object does not match the namespace sent on the request"],
    );
    object = map("a");
    object["metadata"]["resourceVersion"] = "7".into();
    check(&wire.post(MAPS, &object).await, expect!["400 BadRequest: resourceVersion should not be set on objects to be created"]);
    check(
        &wire.put(&format!("{MAPS}/b"), &map("a")).await,
        expect!["400 BadRequest: the name of the object (a) does not match the name on the URL (b)"],
    );
    check(&wire.post("/api/v1/namespaces/none/configmaps", &map("a")).await, expect![[r#"404 NotFound: namespaces "none" not found"#]]);
    object = map("a");
    object["metadata"]["labels"] = json!({"a b": "c", "d": "e f"});
    let answer = wire.post(MAPS, &object).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    assert_eq!(answer.json()["details"]["causes"].as_array().map(Vec::len), Some(2), "{}", answer.text());
    let mut none = pod("a");
    none["spec"]["containers"] = json!([{"name": "C_", "image": ""}]);
    none["spec"]["restartPolicy"] = "Sometimes".into();
    let answer = wire.post(PODS, &none).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    let fields: Vec<_> = answer.json()["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["field"].as_str().map(str::to_owned))
        .collect();
    for field in ["spec.containers[0].name", "spec.containers[0].image", "spec.restartPolicy"] {
        assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
    }
    nothing_stored(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_what_may_not_change() {
    let (_server, wire) = world().await;
    let first = wire.post(MAPS, &map("a")).await.expect(201);
    check(&wire.post(MAPS, &map("a")).await, expect![[r#"409 AlreadyExists: configmaps "a" already exists"#]]);
    let path = format!("{MAPS}/a");
    let mut changed = first.clone();
    changed["data"] = json!({"a": "1"});
    let second = wire.put(&path, &changed).await.expect(200);
    changed["data"] = json!({"a": "2"});
    check(
        &wire.put(&path, &changed).await,
        expect![[
            r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#
        ]],
    );
    let stale = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "3"}});
    assert_eq!(wire.patch("merge", &path, &stale).await.code, 409);
    let mut other = second.clone();
    other["metadata"]["uid"] = "not-this-one".into();
    assert_eq!(wire.put(&path, &other).await.code, 409);
    // Version zero is none: whatever is there is written over.
    let mut whatever = first.clone();
    whatever["metadata"]["resourceVersion"] = "0".into();
    let second = wire.put(&path, &whatever).await.expect(200);
    assert!(second["metadata"]["resourceVersion"].as_str().is_some_and(|v| v.len() > 1), "{second}");
    let mut immutable = second.clone();
    immutable["immutable"] = true.into();
    let third = wire.put(&path, &immutable).await.expect(200);
    immutable = third.clone();
    immutable["data"] = json!({"a": "4"});
    check(
        &wire.put(&path, &immutable).await,
        expect![[r#"
        422 Invalid: ConfigMap "a" is invalid: data: Forbidden: field is immutable when `immutable` is set
          data FieldValueForbidden"#]],
    );
    // What only the system says is kept, whatever a client sends.
    let mut lie = third.clone();
    lie["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    let kept = wire.put(&path, &lie).await.expect(200);
    assert_eq!(kept["metadata"]["creationTimestamp"], first["metadata"]["creationTimestamp"]);
    for bad in [
        json!([{"op": "remove", "path": "/none"}]),
        json!([{"op": "test", "path": "/data/a", "value": "9"}]),
        json!([{"op": "fly", "path": "/a"}]),
    ] {
        assert_eq!(wire.patch("json", &path, &bad).await.code, 422, "{bad}");
    }
    for bad in [json!({"op": "add"}), json!([7])] {
        assert_eq!(wire.patch("json", &path, &bad).await.code, 400, "{bad}");
    }
    let many: Vec<_> = (0..10_001).map(|_| json!({"op": "add", "path": "/data/a", "value": "1"})).collect();
    assert_eq!(wire.patch("json", &path, &json!(many)).await.code, 413);
    assert_eq!(wire.patch("merge", &path, &json!([1])).await.code, 400);
    assert_eq!(wire.patch("apply", &path, &map("a")).await.code, 422, "an apply names its manager");
    assert_eq!(wire.patch("merge", &path, &json!({"kind": "Secret"})).await.code, 400);
    assert_eq!(wire.get(&path).await.ok(), third);
    let uid = json!({"preconditions": {"uid": "other"}});
    let refused = wire.delete_with(&path, &uid).await.refusal();
    assert!(
        refused.starts_with(
            "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other"
        ),
        "{refused}"
    );
}
