//! Codes, words and forms that clients go by: what upstream answers to options, forms and deletions, said here once each.

use expect_test::{Expect, expect};
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, ApiServer, Wire};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const PODS: &str = "/api/v1/namespaces/t/pods";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    crate::namespace(&wire, "t").await;
    (server, wire)
}

async fn make(wire: &Wire, name: &str) -> Value {
    wire.post(MAPS, &json!({"metadata": {"name": name}, "data": {"a": "b"}})).await.expect(201)
}

#[track_caller]
fn check(answer: &Answer, expected: Expect) {
    expected.assert_eq(&answer.refusal());
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_lists_and_watches() {
    let (_server, wire) = world().await;
    let list = async |query: &str| wire.get(&format!("{MAPS}?{query}")).await;
    check(
        &list("resourceVersionMatch=Exact").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"#
        ]],
    );
    check(
        &list("resourceVersionMatch=Nearly&resourceVersion=1").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Nearly": supported values: "Exact", "NotOlderThan", """#
        ]],
    );
    check(
        &list("resourceVersionMatch=Exact&resourceVersion=0").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0""#
        ]],
    );
    check(
        &list("sendInitialEvents=true").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"#
        ]],
    );
    check(
        &list("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]"#
        ]],
    );
    check(
        &list("watch=1&resourceVersionMatch=NotOlderThan").await,
        expect![[
            r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"#
        ]],
    );
    check(
        &list("labelSelector=a%20b").await,
        expect!["400 BadRequest: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
    );
    check(
        &list("fieldSelector=data.a%3Db").await,
        expect![[r#"400 BadRequest: "data.a" is not a known field selector: only "metadata.name", "metadata.namespace""#]],
    );
    check(
        &wire.get(&format!("{PODS}?fieldSelector=spec.nothing%3Db")).await,
        expect!["400 BadRequest: field label not supported: spec.nothing"],
    );
    check(&list("continue=nonsense").await, expect!["400 BadRequest: continue key is not valid"]);
    check(
        &list("continue=eyJydiI6NSwic3RhcnQiOiJhIn0&resourceVersion=5").await,
        expect!["400 BadRequest: specifying resource version is not allowed when using continue"],
    );
    check(&list("limit=x").await, expect![[r#"400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax"#]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_writes() {
    let (_server, wire) = world().await;
    make(&wire, "a").await;
    let (path, object) = (format!("{MAPS}/a"), json!({"metadata": {"name": "b"}}));
    check(
        &wire.post(&format!("{MAPS}?dryRun=Some"), &object).await,
        expect![[r#"422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All""#]],
    );
    check(
        &wire.put(&format!("{path}?fieldValidation=Harsh"), &object).await,
        expect![[
            r#"422 Invalid: UpdateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Harsh": supported values: "Ignore", "Strict", "Warn""#
        ]],
    );
    check(
        &wire.patch("merge", &format!("{path}?fieldManager=a%0Ab"), &json!({})).await,
        expect![[
            r#"422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "a\nb": should only contain printable characters"#
        ]],
    );
    check(
        &wire.delete_with(&path, &json!({"propagationPolicy": "Sideways"})).await,
        expect![[
            r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil""#
        ]],
    );
    check(
        &wire.delete_with(&path, &json!({"propagationPolicy": "Orphan", "orphanDependents": true})).await,
        expect![[
            r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#
        ]],
    );
    let made = wire.get(&path).await.ok();
    let version = made["metadata"]["resourceVersion"].as_str().expect("a version");
    let refused = wire.delete_with(&path, &json!({"preconditions": {"resourceVersion": "1"}})).await.refusal();
    assert_eq!(
        refused,
        format!(
            "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: {version}"
        )
    );
    assert_eq!(wire.get(&path).await.ok(), made, "nothing of it was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths() {
    let (_server, wire) = world().await;
    make(&wire, "a").await;
    let not_allowed = expect!["405 MethodNotAllowed: the server does not allow this method on the requested resource"];
    let answer = wire.post("/api/v1/configmaps", &json!({"metadata": {"name": "x"}})).await;
    not_allowed.assert_eq(&answer.refusal());
    not_allowed.assert_eq(&wire.send(Method::DELETE, "/api/v1/namespaces/t/bindings", vec![]).await.refusal());
    let missing = wire.get(&format!("{MAPS}/none")).await;
    check(&missing, expect![[r#"404 NotFound: configmaps "none" not found"#]]);
    assert_eq!(missing.json()["details"], json!({"name": "none", "kind": "configmaps"}));
    let missing = wire.get("/apis/apps/v1/namespaces/t/deployments/none").await;
    assert_eq!(missing.json()["details"], json!({"name": "none", "group": "apps", "kind": "deployments"}));
    let head = wire.send(Method::HEAD, &format!("{MAPS}/a"), vec![]).await;
    assert_eq!((head.code, head.body.len()), (200, 0), "what GET says, without the body");
    for path in [MAPS.to_owned(), format!("{MAPS}/")] {
        assert_eq!(wire.get(&path).await.ok()["kind"], "ConfigMapList", "{path}");
    }
    for form in ["watch=1", "watch=true", "watch", "watch=yes"] {
        let first = wire.watch(&format!("{MAPS}?{form}&timeoutSeconds=5")).await.short().await;
        assert_eq!(first, "ADDED a", "{form}");
    }
    for form in ["watch=0", "watch=false", "watch=False"] {
        assert_eq!(wire.get(&format!("{MAPS}?{form}")).await.ok()["kind"], "ConfigMapList", "{form}");
    }
    for path in ["/api/v1/watch/configmaps", "/api/v1/watch/namespaces/t/configmaps", "/api/v1/watch/namespaces/t/configmaps/a"] {
        // Where all namespaces are watched, the server's own maps are not meant.
        let query = "fieldSelector=metadata.namespace%3Dt&timeoutSeconds=5";
        assert_eq!(wire.watch(&format!("{path}?{query}")).await.short().await, "ADDED a", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_metadata() {
    let (_server, wire) = world().await;
    make(&wire, "a").await;
    let form = |kind: &str, version: &str| wire.with("accept", &format!("application/json;as={kind};v={version};g=meta.k8s.io"));
    for version in ["v1", "v1beta1"] {
        let api = format!("meta.k8s.io/{version}");
        let table = form("Table", version).get(MAPS).await.ok();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!(api)));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["rows"][0]["object"]["apiVersion"], api);
        let one = form("PartialObjectMetadata", version).get(&format!("{MAPS}/a")).await.ok();
        assert_eq!((&one["kind"], &one["apiVersion"], one.get("data")), (&json!("PartialObjectMetadata"), &json!(api), None));
        let all = form("PartialObjectMetadataList", version).get(MAPS).await.ok();
        assert_eq!((&all["kind"], &all["items"][0]["apiVersion"]), (&json!("PartialObjectMetadataList"), &json!(api)));
    }
    for (include, kind) in [("None", Value::Null), ("Metadata", json!("PartialObjectMetadata")), ("Object", json!("ConfigMap"))] {
        let table = form("Table", "v1").get(&format!("{MAPS}?includeObject={include}")).await.ok();
        assert_eq!(table["rows"][0]["object"]["kind"], kind, "{include}");
    }
    check(
        &form("Table", "v1").get(&format!("{MAPS}?includeObject=All")).await,
        expect![[
            r#"400 BadRequest: Unable to convert to Table as requested: includeObject: Invalid value: "All": must be 'Metadata', 'Object', 'None', or empty"#
        ]],
    );
    check(
        &form("PartialObjectMetadata", "v1").get(MAPS).await,
        expect!["406 NotAcceptable: you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"],
    );
    check(
        &form("PartialObjectMetadataList", "v1").get(&format!("{MAPS}/a")).await,
        expect!["406 NotAcceptable: you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)"],
    );
    let later = form("Table", "v2").get(MAPS).await;
    assert_eq!(later.code, 406, "{}", later.text());
    // With another form to fall back on, the client gets that.
    let either = wire.with("accept", "application/json;as=Table;v=v7;g=meta.k8s.io,application/json").get(MAPS).await.ok();
    assert_eq!(either["kind"], "ConfigMapList");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_people_and_for_slow_lines() {
    let (server, wire) = world().await;
    make(&wire, "a").await;
    let path = format!("{MAPS}/a");
    let plain = wire.get(&path).await;
    let pretty = wire.get(&format!("{path}?pretty=true")).await;
    assert_eq!(pretty.json(), plain.json());
    assert!(pretty.text().starts_with("{\n  \"") && pretty.text().contains("\n  \"data\": {\n    \"a\": \"b\"\n  }"), "{}", pretty.text());
    let curl = server.wire_with_agent("curl/8.5.0").await.expect("a client");
    assert!(curl.get(MAPS).await.text().starts_with("{\n  \""), "people use curl");
    assert!(curl.get(&format!("{MAPS}/none")).await.text().contains("\n  \"message\""), "and read errors");
    assert!(!curl.get(&format!("{path}?pretty=false")).await.text().contains('\n'));
    let text = "x".repeat(200 << 10);
    wire.post(MAPS, &json!({"metadata": {"name": "large"}, "data": {"a": text}})).await.expect(201);
    let packed = wire.with("accept-encoding", "gzip").get(MAPS).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < 20_000);
    assert_eq!(wire.with("accept-encoding", "gzip").get(&path).await.header("content-encoding"), "", "what is small is not worth it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deletion_answers() {
    let (_server, wire) = world().await;
    let made = make(&wire, "a").await;
    let gone = wire.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(
        gone,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}})
    );
    let account = json!({"metadata": {"name": "x"}});
    wire.post("/api/v1/namespaces/t/serviceaccounts", &account).await.expect(201);
    let gone = wire.delete("/api/v1/namespaces/t/serviceaccounts/x").await.expect(200);
    assert_eq!((&gone["kind"], &gone["metadata"]["name"]), (&json!("ServiceAccount"), &json!("x")), "some kinds are shown a last time");
    // Held by a finalizer: it is shown as it is now, and who asked in the old way that dependents go learns that it is not gone.
    for (options, code) in [(json!({}), 200), (json!({"orphanDependents": false}), 202)] {
        let held = json!({"metadata": {"name": "h", "finalizers": ["example.com/hold"]}});
        wire.post(MAPS, &held).await.expect(201);
        let waiting = wire.delete_with(&format!("{MAPS}/h"), &options).await.expect(code);
        assert!(waiting["metadata"]["deletionTimestamp"].is_string(), "{waiting}");
        wire.patch("merge", &format!("{MAPS}/h"), &json!({"metadata": {"finalizers": null}})).await.ok();
    }
    // A collection: only what is selected, with the options for each, and nothing in a dry run.
    for i in 0..4 {
        let labels = json!({"even": (i % 2 == 0).to_string()});
        wire.post(MAPS, &json!({"metadata": {"name": format!("c-{i}"), "labels": labels}})).await.expect(201);
    }
    let dry = wire.delete(&format!("{MAPS}?dryRun=All")).await.expect(200);
    assert_eq!(dry["kind"], "ConfigMapList");
    let selected =
        wire.delete_with(&format!("{MAPS}?labelSelector=even%3Dtrue"), &json!({"propagationPolicy": "Background"})).await.expect(200);
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(2));
    let one = wire.delete(&format!("{MAPS}?fieldSelector=metadata.name%3Dc-1")).await.expect(200);
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
    let left = wire.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().expect("items").iter().map(|i| i["metadata"]["name"].clone()).collect::<Vec<_>>(), [json!("c-3")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_and_what_does_not_change_them() {
    let (_server, wire) = world().await;
    let deployments = "/apis/apps/v1/namespaces/t/deployments";
    let object = json!({"metadata": {"name": "d", "generation": 9}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let made = wire.post(deployments, &object).await.expect(201);
    let path = format!("{deployments}/d");
    let generation = |o: &Value| o["metadata"]["generation"].as_i64();
    assert_eq!(generation(&made), Some(1), "whatever the client says");
    let labelled = wire.patch("merge", &path, &json!({"metadata": {"labels": {"x": "y"}}})).await.ok();
    assert_eq!(generation(&labelled), Some(1));
    let noted = wire.patch("merge", &path, &json!({"metadata": {"annotations": {"x": "y"}}})).await.ok();
    assert_eq!(generation(&noted), Some(2), "a Deployment's annotations go to its ReplicaSets");
    let status = wire.patch("merge", &format!("{path}/status"), &json!({"status": {"replicas": 3}, "spec": {"replicas": 9}})).await.ok();
    assert_eq!((generation(&status), &status["spec"]["replicas"]), (Some(2), &json!(1)));
    let scaled = wire.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 2);
    assert_eq!(generation(&wire.get(&path).await.ok()), Some(3));
}
