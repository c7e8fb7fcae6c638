//! Unknown and duplicate fields, as the server reports them with `fieldValidation=Strict`.

use http::Method;
use serde_json::{Value, json};
use testkit::Answer;

use crate::framework::{Behaviour, Definition, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object", test!(typed)),
    Behaviour::new("[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object", test!(typed_metadata)),
    Behaviour::new("[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema", test!(valid)),
    Behaviour::new(
        "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema",
        test!(no_schema),
    ),
    Behaviour::new(
        "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema",
        test!(extra_properties),
    ),
    Behaviour::new(
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR",
        test!(metadata),
    ),
    Behaviour::new(
        "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields",
        test!(duplicates),
    ),
];

const PARAMETERS: &str = "fieldManager=field_validation_mgr&fieldValidation=Strict";

/// A deployment as text, with further members of its metadata and of its spec: a duplicate member cannot be said otherwise.
fn deployment(metadata: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "my-dep", {metadata} "labels": {{"app": "nginx"}}}},
        "spec": {{{spec} "selector": {{"matchLabels": {{"app": "nginx"}}}},
        "template": {{"metadata": {{"labels": {{"app": "nginx"}}}}, "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}}}"#
    )
}

async fn typed(f: Framework) -> anyhow::Result<()> {
    let path = f.group("apps/v1", &format!("deployments?{PARAMETERS}"));
    let text = deployment("", r#""unknownField": "foo", "replicas": 2, "replicas": 3,"#);
    let refused = f.wire.send(Method::POST, &path, text).await.refusal();
    assert!(refused.starts_with("400 BadRequest: "), "{refused}");
    assert!(refused.contains(r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#), "{refused}");
    Ok(())
}

async fn typed_metadata(f: Framework) -> anyhow::Result<()> {
    let path = f.group("apps/v1", &format!("deployments?{PARAMETERS}"));
    let refused = f.wire.send(Method::POST, &path, deployment(r#""unknownMeta": "foo","#, "")).await.refusal();
    assert!(refused.starts_with("400 BadRequest: "), "{refused}");
    assert!(refused.contains(r#"strict decoding error: unknown field "metadata.unknownMeta""#), "{refused}");
    Ok(())
}

fn schema(more: &Value) -> Value {
    let port = json!({
        "type": "object", "required": ["containerPort", "protocol"],
        "properties": {
            "containerPort": {"type": "integer", "format": "int32"}, "hostIP": {"type": "string"},
            "hostPort": {"type": "integer", "format": "int32"}, "name": {"type": "string"}, "protocol": {"type": "string"},
        },
    });
    let mut spec = json!({
        "type": "object",
        "properties": {
            "foo": {"type": "string"},
            "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
            "ports": {
                "type": "array", "x-kubernetes-list-map-keys": ["containerPort", "protocol"], "x-kubernetes-list-type": "map", "items": port,
            },
        },
    });
    for (name, value) in more.as_object().expect("an object") {
        if name == "template" {
            spec["properties"]["template"] = value.clone();
        } else {
            spec[name] = value.clone();
        }
    }
    json!({"type": "object", "properties": {"spec": spec}})
}

/// Applies an object of a kind with this schema: `root` are further lines of it, `metadata` and `spec` of its parts.
async fn apply(f: &Framework, schema: &Value, root: &str, metadata: &str, spec: &str) -> Answer {
    let definition = Definition::new("mygroup.example.com", &f.unique("noxu"), "Cluster", &["v1beta1", "v1"], schema);
    let definition = f.define(definition).await;
    // The lines are where upstream's are: an error names one.
    let text = format!(
        "\napiVersion: {}\nkind: {}\nmetadata:\n  name: mytest\n{metadata}  finalizers:\n  - test-finalizer\n{root}spec:\n{spec}  cronSpec: \"* * * * */5\"\n  \
         ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP",
        definition.api_version(),
        definition.kind(),
    );
    let path = format!("{}/mytest", definition.objects(""));
    let wire = f.wire.with("content-type", "application/apply-patch+yaml");
    let answer = wire.send(Method::PATCH, &format!("{path}?{PARAMETERS}"), text).await;
    if answer.code == 201 {
        // The object has a finalizer, which would keep the definition.
        f.wire.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    }
    answer
}

async fn valid(f: Framework) -> anyhow::Result<()> {
    let made = apply(&f, &schema(&json!({})), "", "", "  foo: foo1\n").await.expect(201);
    assert_eq!((&made["spec"]["foo"], &made["metadata"]["finalizers"]), (&json!("foo1"), &json!(["test-finalizer"])));
    assert_eq!(made["spec"]["ports"], json!([{"name": "x", "containerPort": 80, "protocol": "TCP"}]));
    Ok(())
}

async fn no_schema(f: Framework) -> anyhow::Result<()> {
    let made = apply(&f, &Definition::anything(), "", "", "  unknown: uk1\n").await.expect(201);
    assert_eq!(made["spec"]["unknown"], "uk1");
    Ok(())
}

async fn extra_properties(f: Framework) -> anyhow::Result<()> {
    let answer = apply(&f, &schema(&json!({})), "unknownField: unknown\n", "", "  foo: foo1\n").await;
    assert!(answer.refusal().contains(".unknownField: field not declared in schema"), "{}", answer.refusal());
    Ok(())
}

async fn metadata(f: Framework) -> anyhow::Result<()> {
    let template = json!({
        "type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}, "spec": {"type": "object"}},
    });
    let schema = schema(&json!({"x-kubernetes-preserve-unknown-fields": true, "template": template}));
    let spec = format!(
        "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n        unknownSubMeta: unknown\n        name: subobject\n        \
         namespace: {}\n  foo: foo1\n",
        f.namespace
    );
    let refused = apply(&f, &schema, "", "  unknownMeta: unknown\n", &spec).await.refusal();
    assert!(refused.contains(".spec.template.metadata.unknownSubMeta: field not declared in schema"), "{refused}");
    assert!(refused.contains(".metadata.unknownMeta: field not declared in schema"), "{refused}");
    Ok(())
}

async fn duplicates(f: Framework) -> anyhow::Result<()> {
    let schema = schema(&json!({"x-kubernetes-preserve-unknown-fields": true}));
    let refused = apply(&f, &schema, "", "", "  unknown: uk1\n  foo: foo1\n  foo: foo2\n").await.refusal();
    assert!(refused.contains(r#"line 11: key "foo" already set in map"#), "{refused}");
    Ok(())
}
