//! Admission policies written as expressions (KEP-3488, KEP-3962).

use serde_json::{Value, json};

use crate::framework::{Behaviour, Definition, Framework, Resource, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment",
        test!(deployment),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables.",
        test!(variables),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should type check validation expressions",
        test!(types),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should type check a CRD",
        test!(types_of_crd),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations",
        test!(policies),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations",
        test!(bindings),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer params",
        test!(params),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should apply configurations and patches, and support its API operations",
        test!(mutating),
    ),
];

const GROUP: &str = "admissionregistration.k8s.io/v1";
const BETA: &str = "admissionregistration.k8s.io/v1beta1";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// A policy about what is written to `resources` in the test's namespace.
fn policy(f: &Framework, group: &str, resources: &str, more: Value) -> Value {
    let mut spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": f.namespace}},
            "resourceRules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resources]}],
        },
    });
    crate::common::put(&mut spec, more);
    json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": format!("{}.policy.example.com", f.namespace)}, "spec": spec})
}

async fn create(f: &Framework, policy: &Value) -> String {
    let made = f.wire.post(POLICIES, policy).await.expect(201);
    let path = format!("{POLICIES}/{}", made["metadata"]["name"].as_str().expect("a name"));
    f.remove_later(&path);
    path
}

async fn bind(f: &Framework, more: Value) {
    let name = format!("{}.policy.example.com", f.namespace);
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    crate::common::put(&mut spec, more);
    let binding = json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": format!("{}-binding", f.namespace)}, "spec": spec});
    f.wire.post(BINDINGS, &binding).await.expect(201);
    f.remove_later(&format!("{BINDINGS}/{}-binding", f.namespace));
}

/// What making a deployment of so many replicas comes to.
async fn deploys(f: &Framework, name: &str, replicas: usize) -> Result<(), String> {
    let deployment = Framework::workload("Deployment", name, replicas, &json!({"app": name}));
    let answer = f.wire.post(&f.group("apps/v1", "deployments?dryRun=All"), &deployment).await;
    if answer.code == 201 { Ok(()) } else { Err(answer.refusal()) }
}

/// Waits until one replica is refused, and gives the words.
async fn until_refused(f: &Framework) -> String {
    f.until("one replica to be refused", SOON, || async { deploys(f, "marker", 1).await.err() }).await
}

fn refusal(f: &Framework, words: &str) -> String {
    let (policy, binding) = (format!("{}.policy.example.com", f.namespace), format!("{}-binding", f.namespace));
    format!(
        "422 Invalid: deployments.apps \"marker\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {words}"
    )
}

async fn deployment(f: Framework) -> anyhow::Result<()> {
    let own = format!("namespaceObject.metadata.name == '{}'", f.namespace);
    let validations = json!([
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"},
        {"expression": own, "message": "Internal error! Other namespace should not be allowed."},
    ]);
    let path = create(&f, &policy(&f, "apps", "deployments", json!({"validations": validations}))).await;
    bind(&f, json!({})).await;
    assert_eq!(until_refused(&f).await, refusal(&f, "wants replicas > 1, got 1"));
    deploys(&f, "replicated", 2).await.expect("two replicas are fine");
    let policy = f.until_it(&path, "to be checked", SOON, |p| p["status"]["observedGeneration"] == p["metadata"]["generation"]).await;
    assert_eq!(policy["status"]["typeChecking"].get("expressionWarnings"), None, "{policy}");
    // ReplicaSets are none of its business.
    f.wire
        .post(&f.group("apps/v1", "replicasets?dryRun=All"), &Framework::workload("ReplicaSet", "rs", 1, &json!({"a": "b"})))
        .await
        .expect(201);
    Ok(())
}

async fn variables(f: Framework) -> anyhow::Result<()> {
    let more = json!({
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1", "message": "more than one"},
            {"expression": "variables.oddReplicas", "messageExpression": "'%d is even'.format([variables.replicas])"},
        ],
    });
    create(&f, &policy(&f, "apps", "deployments", more)).await;
    bind(&f, json!({})).await;
    assert_eq!(until_refused(&f).await, refusal(&f, "more than one"));
    assert_eq!(deploys(&f, "marker", 2).await, Err(refusal(&f, "2 is even")));
    deploys(&f, "replicated", 3).await.expect("three are odd, and more than one");
    Ok(())
}

/// The warnings that a policy's status comes to have.
async fn warned(f: &Framework, path: &str) -> Vec<(String, String)> {
    let policy = f.until_it(path, "to be checked", SOON, |p| p["status"]["observedGeneration"] == p["metadata"]["generation"]).await;
    let all = policy["status"]["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or("?").to_owned();
    all.iter().map(|w| (text(&w["fieldRef"]), text(&w["warning"]))).collect()
}

async fn types(f: Framework) -> anyhow::Result<()> {
    let validations = json!([
        {"expression": "object.spec.replicas > '1'", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"},
        {"expression": "object.spec.replicas > 1"},
    ]);
    let mut object = policy(&f, "apps", "deployments", json!({"validations": validations}));
    // What stands for any version is not looked up.
    object["spec"]["matchConstraints"]["resourceRules"][0]["apiVersions"] = json!(["v1"]);
    let path = create(&f, &object).await;
    let warnings = warned(&f, &path).await;
    let fields: Vec<&str> = warnings.iter().map(|(field, _)| &**field).collect();
    assert_eq!(fields, ["spec.validations[0].expression", "spec.validations[0].messageExpression"], "{warnings:?}");
    assert!(
        warnings[0]
            .1
            .starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"),
        "{warnings:?}"
    );
    assert!(warnings[1].1.contains("found no matching overload for '_+_' applied to '(string, int)'"), "{warnings:?}");
    Ok(())
}

async fn types_of_crd(f: Framework) -> anyhow::Result<()> {
    let word = f.unique("foo");
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
    let definition = f.define(Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1"], &schema)).await;
    // Schemas of custom resources are looked up by their exact group, version and resource.
    let mut object =
        policy(&f, definition.group(), definition.plural(), json!({"validations": [{"expression": "object.spec.replicas > '1'"}]}));
    object["spec"]["matchConstraints"]["resourceRules"][0]["apiVersions"] = json!(["v1"]);
    let path = create(&f, &object).await;
    let warnings = warned(&f, &path).await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].0, "spec.validations[0].expression");
    assert!(warnings[0].1.contains("found no matching overload for '_>_' applied to '(int, string)'"), "{warnings:?}");
    Ok(())
}

async fn policies(f: Framework) -> anyhow::Result<()> {
    let spec = policy(&f, "apps", "deployments", json!({"validations": [{"expression": "object.spec.replicas <= 100"}]}))["spec"].clone();
    let object = json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "spec": spec});
    let status = json!({"conditions": [{"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "Set by e2e test", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    f.operations(&Resource { group_version: GROUP, name: "validatingadmissionpolicies", namespaced: false, object, status: Some(status) })
        .await;
    Ok(())
}

async fn bindings(f: Framework) -> anyhow::Result<()> {
    let object = json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": "none.example.com", "validationActions": ["Deny"]}});
    f.operations(&Resource { group_version: GROUP, name: "validatingadmissionpolicybindings", namespaced: false, object, status: None })
        .await;
    Ok(())
}

async fn params(f: Framework) -> anyhow::Result<()> {
    let more = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas > int(params.data.least)", "messageExpression": "'more than ' + params.data.least"}],
    });
    create(&f, &policy(&f, "apps", "deployments", more)).await;
    for (name, least, labels) in [("one", "1", json!({"for": "deployments"})), ("nine", "9", json!({}))] {
        let map = json!({"metadata": {"name": name, "labels": labels}, "data": {"least": least}});
        f.wire.post(&f.core("configmaps"), &map).await.expect(201);
    }
    // Those of the namespace of what is written, by their labels.
    bind(&f, json!({"paramRef": {"selector": {"matchLabels": {"for": "deployments"}}, "parameterNotFoundAction": "Deny"}})).await;
    assert_eq!(until_refused(&f).await, refusal(&f, "more than 1"));
    deploys(&f, "replicated", 2).await.expect("more than one");
    f.wire.patch("merge", &f.core("configmaps/nine"), &json!({"metadata": {"labels": {"for": "deployments"}}})).await.expect(200);
    f.until("both to be heeded", SOON, || async { (deploys(&f, "marker", 2).await == Err(refusal(&f, "more than 9"))).then_some(()) })
        .await;
    Ok(())
}

async fn mutating(f: Framework) -> anyhow::Result<()> {
    let name = format!("{}.policy.example.com", f.namespace);
    let mut spec = policy(&f, "apps", "deployments", json!({
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 3}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'marked': 'yes'}}]"}},
        ],
    }))["spec"].clone();
    spec["matchConditions"] = json!([{"name": "few", "expression": "object.spec.replicas < 3"}]);
    for (resource, spec, kind) in [
        ("mutatingadmissionpolicies", spec.clone(), "MutatingAdmissionPolicy"),
        ("mutatingadmissionpolicybindings", json!({"policyName": name}), "MutatingAdmissionPolicyBinding"),
    ] {
        let path = format!("/apis/{BETA}/{resource}");
        f.wire.post(&path, &json!({"apiVersion": BETA, "kind": kind, "metadata": {"name": name}, "spec": spec})).await.expect(201);
        f.remove_later(&format!("{path}/{name}"));
        let mut object = json!({"apiVersion": BETA, "kind": kind, "spec": spec});
        if resource.ends_with("bindings") {
            object["spec"]["policyName"] = json!("none.example.com");
        }
        f.operations(&Resource { group_version: BETA, name: resource, namespaced: false, object, status: None }).await;
    }
    let made = async |replicas: usize| {
        let deployment = Framework::workload("Deployment", "changed", replicas, &json!({"app": "changed"}));
        f.wire.post(&f.group("apps/v1", "deployments?dryRun=All"), &deployment).await.expect(201)
    };
    f.until("the policy to be heeded", SOON, || async {
        let changed = made(1).await;
        (changed["spec"]["replicas"] == 3 && changed["metadata"]["labels"]["marked"] == "yes").then_some(())
    })
    .await;
    assert_eq!(made(5).await["spec"]["replicas"], 5, "enough is left alone");
    Ok(())
}
