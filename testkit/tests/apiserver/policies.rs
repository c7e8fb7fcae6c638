//! Admission policies: expressions stored in the cluster decide about requests, as soon as they are bound.

use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};
use testkit::{ApiServer, Wire, eventually};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const BETA: &str = "/apis/admissionregistration.k8s.io/v1beta1";
const MAPS: &str = "/api/v1/namespaces/t/configmaps";

async fn world() -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    crate::namespace(&admin, "t").await;
    (server, admin)
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

/// A policy over config maps, with more in its spec.
fn policy(name: &str, kind: &str, more: Value) -> Value {
    let mut spec = json!({"matchConstraints": {"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["configmaps"]}]}});
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    json!({"kind": kind, "metadata": {"name": name}, "spec": spec})
}

async fn bind(admin: &Wire, more: Value) {
    let mut spec = json!({"policyName": "p"});
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    let binding = json!({"metadata": {"name": "b"}, "spec": spec});
    admin.post(&format!("{GROUP}/validatingadmissionpolicybindings"), &binding).await.ok();
}

/// What a create that is not stored comes to, once its code is this: policies are heeded as soon as the caches have them.
async fn becomes(admin: &Wire, code: u16, object: &Value) -> String {
    let answer = eventually(&format!("{code} for {object}"), Duration::from_secs(20), || async {
        let answer = admin.post(&format!("{MAPS}?dryRun=All"), object).await;
        (answer.code == code).then_some(answer)
    })
    .await;
    if code < 300 { String::new() } else { answer.refusal() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_policy_refuses() {
    let (_server, admin) = world().await;
    let spec = json!({
        "variables": [{"name": "size", "expression": "has(object.data) ? size(object.data) : 0"}],
        "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('free')"}],
        "validations": [{"expression": "variables.size <= 1", "messageExpression": "'at most one entry, not %d'.format([variables.size])"}]});
    admin.post(&format!("{GROUP}/validatingadmissionpolicies"), &policy("p", "ValidatingAdmissionPolicy", spec)).await.ok();
    let two = json!({"a": "1", "b": "2"});
    // Nothing is refused before the policy is bound.
    admin.post(MAPS, &map("before", two.clone())).await.ok();
    bind(&admin, json!({"validationActions": ["Deny"]})).await;
    let refused = becomes(&admin, 422, &map("after", two.clone())).await;
    expect![[r#"422 Invalid: configmaps "after" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: at most one entry, not 2"#]].assert_eq(&refused);
    assert_eq!(admin.get(&format!("{MAPS}/after")).await.code, 404);
    admin.post(MAPS, &map("free-one", two.clone())).await.ok();
    admin.post(MAPS, &map("after", json!({"a": "1"}))).await.ok();
    let grown = admin.patch("merge", &format!("{MAPS}/after"), &json!({"data": {"b": "2"}})).await;
    expect![[r#"422 Invalid: configmaps "after" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: at most one entry, not 2"#]].assert_eq(&grown.refusal());
    // What is deleted has no object, which is an error of the condition: the policy fails.
    let deleted = admin.delete(&format!("{MAPS}/after")).await;
    expect![[r#"422 Invalid: configmaps "after" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression '!object.metadata.name.startsWith('free')' resulted in error: no such overload"#]].assert_eq(&deleted.refusal());
    // Without its binding the policy has nothing to say.
    admin.delete(&format!("{GROUP}/validatingadmissionpolicybindings/b")).await.ok();
    becomes(&admin, 201, &map("again", two)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_are_told() {
    let (_server, admin) = world().await;
    let spec = json!({"validations": [{"expression": "request.operation != 'CREATE'", "message": "made"}]});
    admin.post(&format!("{GROUP}/validatingadmissionpolicies"), &policy("p", "ValidatingAdmissionPolicy", spec)).await.ok();
    bind(&admin, json!({"validationActions": ["Warn"]})).await;
    let warning = eventually("a warning", Duration::from_secs(20), || async {
        let made = admin.post(&format!("{MAPS}?dryRun=All"), &map("a", json!({}))).await;
        Some(made.header("warning").to_owned()).filter(|w| !w.is_empty())
    })
    .await;
    assert_eq!(warning, "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': made\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_may_be_custom_resources() {
    let (_server, admin) = world().await;
    let schema = json!({"type": "object", "properties": {"most": {"type": "integer"}}});
    let crd = json!({"metadata": {"name": "limits.x.io"}, "spec": {"group": "x.io", "scope": "Namespaced",
        "names": {"kind": "Limit", "plural": "limits", "singular": "limit"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await.ok();
    let limits = "/apis/x.io/v1/namespaces/t/limits";
    eventually("limits to be served", Duration::from_secs(20), || async { (admin.get(limits).await.code == 200).then_some(()) }).await;
    admin.post(limits, &json!({"apiVersion": "x.io/v1", "kind": "Limit", "metadata": {"name": "l"}, "most": 1})).await.ok();
    let spec = json!({"paramKind": {"apiVersion": "x.io/v1", "kind": "Limit"}, "validations": [{"expression": "size(object.data) <= params.most"}]});
    admin.post(&format!("{GROUP}/validatingadmissionpolicies"), &policy("p", "ValidatingAdmissionPolicy", spec)).await.ok();
    bind(&admin, json!({"validationActions": ["Deny"], "paramRef": {"name": "l", "parameterNotFoundAction": "Deny"}})).await;
    admin.post(MAPS, &map("one", json!({"a": "1"}))).await.ok();
    expect![[r#"422 Invalid: configmaps "two" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: size(object.data) <= params.most"#]].assert_eq(&becomes(&admin, 422, &map("two", json!({"a": "1", "b": "2"}))).await);
    admin.patch("merge", &format!("{limits}/l"), &json!({"most": 2})).await.ok();
    becomes(&admin, 201, &map("two", json!({"a": "1", "b": "2"}))).await;
    admin.delete(&format!("{limits}/l")).await.ok();
    expect![[r#"422 Invalid: configmaps "three" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"#]].assert_eq(&becomes(&admin, 422, &map("three", json!({"a": "1"}))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_checked_when_they_are_written() {
    let (_server, admin) = world().await;
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let wrong = json!({"validations": [{"expression": "request.nope == 1"}]});
    let refused = admin.post(&path, &policy("wrong", "ValidatingAdmissionPolicy", wrong)).await;
    expect![[r#"
        422 Invalid: ValidatingAdmissionPolicy.admissionregistration.k8s.io "wrong" is invalid: spec.validations[0].expression: Invalid value: "request.nope == 1": compilation failed: ERROR: <input>:1:8: undefined field 'nope'
         | request.nope == 1
         | .......^"#]]
    .assert_eq(&refused.refusal());
    // What is wrong about the kinds only is told in the status.
    let doubtful = json!({"validations": [{"expression": "object.dat.size() > 0"}]});
    admin.post(&path, &policy("doubtful", "ValidatingAdmissionPolicy", doubtful)).await.ok();
    let status = eventually("the types to be checked", Duration::from_secs(20), || async {
        let policy = admin.get(&format!("{path}/doubtful")).await.ok();
        (policy["status"]["observedGeneration"] == 1).then(|| policy["status"].clone())
    })
    .await;
    assert_eq!(
        status["typeChecking"]["expressionWarnings"],
        json!([{"fieldRef": "spec.validations[0].expression",
            "warning": "v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field 'dat'\n | object.dat.size() > 0\n | ......^"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_policies_change_what_is_written() {
    let (_server, admin) = world().await;
    let spec = json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{annotations: {'seen': request.userInfo.username}}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('added'), value: object.metadata.annotations.seen}]"}}]});
    admin.post(&format!("{BETA}/mutatingadmissionpolicies"), &policy("p", "MutatingAdmissionPolicy", spec)).await.ok();
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    admin.post(&format!("{BETA}/mutatingadmissionpolicybindings"), &binding).await.ok();
    let made = eventually("a mutated object", Duration::from_secs(20), || async {
        let made = admin.post(&format!("{MAPS}?dryRun=All"), &map("a", json!({"x": "y"}))).await.ok();
        made["metadata"]["annotations"]["seen"].is_string().then_some(made)
    })
    .await;
    let user = made["metadata"]["annotations"]["seen"].clone();
    assert_eq!(made["data"], json!({"x": "y", "added": user}));
    // There is no `data` to add to.
    let refused = admin.post(MAPS, &map("b", Value::Null)).await;
    assert_eq!(refused.code, 422);
    assert!(refused.refusal().contains("policy 'p' with binding 'b' denied request: JSON Patch: "), "{}", refused.refusal());
}
