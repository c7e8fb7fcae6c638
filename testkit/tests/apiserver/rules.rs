//! Rules of custom resources (`x-kubernetes-validations`), from the definition to the object.

use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};
use testkit::{ApiServer, Wire, eventually};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/x.io/v1/namespaces/default/tabs";

fn definition(spec: Value) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "properties": {
        "ready": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0", "message": "ready is a count"}]}}}}});
    json!({"metadata": {"name": "tabs.x.io"}, "spec": {"group": "x.io", "scope": "Namespaced",
        "names": {"kind": "Tab", "plural": "tabs", "singular": "tab"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]}})
}

fn spec(rules: Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
        "replicas": {"type": "integer"}, "most": {"type": "integer"}, "name": {"type": "string", "maxLength": 20},
        "hosts": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 50}}}})
}

fn tab(spec: Value) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Tab", "metadata": {"name": "a"}, "spec": spec})
}

async fn world(rules: Value) -> (ApiServer, Wire) {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    admin.post(DEFINITIONS, &definition(spec(rules))).await.ok();
    served(&admin).await;
    (server, admin)
}

async fn served(admin: &Wire) {
    eventually("tabs to be served", Duration::from_secs(20), || async { (admin.get(TABS).await.code == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_refuse_objects() {
    let (_server, admin) = world(json!([
        {"rule": "self.replicas <= self.most", "messageExpression": "'replicas (%d) may be %d'.format([self.replicas, self.most])", "fieldPath": ".replicas"},
        {"rule": "!has(oldSelf.name) || self.name == oldSelf.name", "message": "name is immutable"},
        {"rule": "self.?hosts.orValue([]).all(h, h.endsWith('.io'))"}]))
    .await;
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: [spec.replicas: Invalid value: "object": replicas (3) may be 2, spec: Invalid value: "object": failed rule: self.?hosts.orValue([]).all(h, h.endsWith('.io'))]"#]].assert_eq(&admin.post(TABS, &tab(json!({"replicas": 3, "most": 2, "hosts": ["a.com"]}))).await.refusal());
    let made = admin.post(TABS, &tab(json!({"replicas": 1, "most": 2, "name": "n", "hosts": ["a.io"]}))).await.ok();
    let one = format!("{TABS}/a");
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: spec: Invalid value: "object": name is immutable"#]]
        .assert_eq(&admin.patch("merge", &one, &json!({"spec": {"name": "m"}})).await.refusal());
    admin.patch("merge", &one, &json!({"spec": {"replicas": 2}})).await.ok();
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: status.ready: Invalid value: "integer": ready is a count"#]]
        .assert_eq(&admin.patch("merge", &format!("{one}/status"), &json!({"status": {"ready": -1}})).await.refusal());
    assert_eq!(made["spec"]["replicas"], 1);
    // What is of the wrong type is said before rules have their say.
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: [spec.most: Invalid value: "string": spec.most in body must be of type integer: "string", <nil>: Invalid value: "null": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]"#]].assert_eq(&admin.patch("merge", &one, &json!({"spec": {"most": "x"}})).await.refusal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_definition_does_not_lock_objects_out() {
    let (_server, admin) = world(json!([])).await;
    admin.post(TABS, &tab(json!({"replicas": 9, "hosts": ["old.com"]}))).await.ok();
    let stricter = |schema: &mut Value| {
        let place = &mut schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        place["replicas"]["x-kubernetes-validations"] = json!([{"rule": "self < 5"}]);
        place["hosts"]["items"]["x-kubernetes-validations"] = json!([{"rule": "self.endsWith('.io')"}]);
    };
    let mut stored = admin.get(&format!("{DEFINITIONS}/tabs.x.io")).await.ok();
    stricter(&mut stored);
    admin.put(&format!("{DEFINITIONS}/tabs.x.io"), &stored).await.ok();
    let one = format!("{TABS}/a");
    eventually("the rule to hold", Duration::from_secs(20), || async {
        let dry = admin.patch("merge", &format!("{one}?dryRun=All"), &json!({"spec": {"replicas": 8}})).await;
        (dry.code == 422).then_some(())
    })
    .await;
    // What stays as it was is not looked at.
    admin.patch("merge", &one, &json!({"spec": {"name": "n"}})).await.ok();
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: spec.replicas: Invalid value: "integer": failed rule: self < 5"#]]
        .assert_eq(&admin.patch("merge", &one, &json!({"spec": {"replicas": 8}})).await.refusal());
    expect![[r#"422 Invalid: Tab.x.io "a" is invalid: [spec.hosts[0]: Invalid value: "string": failed rule: self.endsWith('.io'), spec.hosts[1]: Invalid value: "string": failed rule: self.endsWith('.io')]"#]].assert_eq(&admin.patch("merge", &one, &json!({"spec": {"hosts": ["old.com", "new.com"]}})).await.refusal());
    admin.patch("merge", &one, &json!({"spec": {"replicas": 4, "hosts": ["new.io"]}})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_with_wrong_rules_are_refused() {
    let server = ApiServer::start().await.expect("an apiserver");
    let admin = server.wire().await.expect("a client");
    let refused = async |rules: Value| admin.post(DEFINITIONS, &definition(spec(rules))).await.refusal();
    expect![[r#"
        422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "tabs.x.io" is invalid: spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"self.nope > 1", Message:"", MessageExpression:"", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'
         | self.nope > 1
         | ....^"#]].assert_eq(&refused(json!([{"rule": "self.nope > 1"}])).await);
    expect![[r#"422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "tabs.x.io" is invalid: spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 7.0x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"#]].assert_eq(&refused(json!([{"rule": "self.hosts.all(a, self.hosts.all(b, self.hosts.all(c, self.hosts.all(d, self.hosts.all(e, self.hosts.all(f, a == b && c == d && e == f))))))"}])).await);
    let mut unbounded = spec(json!([{"rule": "self.hosts.all(h, h.contains('x'))"}]));
    unbounded["properties"]["hosts"] = json!({"type": "array", "items": {"type": "string"}});
    expect![[r#"422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "tabs.x.io" is invalid: [spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared), spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)]"#]].assert_eq(&admin.post(DEFINITIONS, &definition(unbounded)).await.refusal());
}
