//! Custom resources whose schemas have rules (KEP-2876), and objects that were there before their rules (KEP-4008).

use serde_json::{Value, json};

use crate::framework::{Behaviour, DEFINITIONS, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST enforce rules and transition rules",
        test!(rules),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] CustomResourceValidationRules [Privileged:ClusterAdmin] MUST fail create of a custom resource definition whose rules do not compile, refer to unknown fields or cost too much",
        test!(bad_rules),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] CRDValidationRatcheting [Privileged:ClusterAdmin] MUST NOT fail to update a resource due to errors on unchanged fields, and MUST fail on changed ones",
        test!(ratcheting),
    ),
];

fn definition(f: &Framework, word: &str, schema: &Value) -> Definition {
    let word = f.unique(word);
    Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1"], schema)
}

fn object(definition: &Definition, name: &str, spec: Value) -> Value {
    json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name}, "spec": spec})
}

fn schema(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

async fn rules(f: Framework) -> anyhow::Result<()> {
    let spec = json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.x + self.y > 0", "message": "too little"},
            {"rule": "self.z == oldSelf.z", "message": "z is fixed", "fieldPath": ".z", "reason": "FieldValueForbidden"},
        ],
        "properties": {
            "x": {"type": "integer"}, "y": {"type": "integer"}, "z": {"type": "integer"},
            "items": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "maxLength": 10}, "v": {"type": "string", "maxLength": 10}},
                    "x-kubernetes-validations": [{"rule": "!has(oldSelf.v) || self.v == oldSelf.v", "message": "v is fixed"}]}},
        },
    });
    let definition = f.define(definition(&f, "ruled", &schema(spec))).await;
    let path = definition.objects(&f.namespace);
    f.wire.post(&path, &object(&definition, "a", json!({"x": 1, "y": 0, "z": 1, "items": [{"k": "k", "v": "v"}]}))).await.expect(201);
    let refused = f.wire.post(&path, &object(&definition, "b", json!({"x": -1, "y": 0, "z": 1}))).await;
    assert!(
        refused.refusal().contains("spec: Invalid value: \"object\": too little") || refused.refusal().contains(": too little"),
        "{}",
        refused.text()
    );
    let one = format!("{path}/a");
    let refused = f.wire.patch("merge", &one, &json!({"spec": {"z": 2}})).await;
    assert!(refused.code == 422 && refused.text().contains("spec.z: Forbidden: z is fixed"), "{}", refused.text());
    let refused = f.wire.patch("merge", &one, &json!({"spec": {"items": [{"k": "k", "v": "w"}]}})).await;
    assert!(refused.code == 422 && refused.text().contains("v is fixed"), "{}", refused.text());
    f.wire.patch("merge", &one, &json!({"spec": {"x": 2, "items": [{"k": "other", "v": "w"}, {"k": "k", "v": "v"}]}})).await.expect(200);
    Ok(())
}

async fn bad_rules(f: Framework) -> anyhow::Result<()> {
    for (rule, spec, words) in [
        ("self.x ++ 1", json!({"x": {"type": "integer"}}), "compilation failed"),
        ("self.nope > 0", json!({"x": {"type": "integer"}}), "undefined field 'nope'"),
        ("self.x", json!({"x": {"type": "integer"}}), "cel expression must evaluate to a bool"),
        (
            "self.x.all(a, a.all(b, b.all(c, c == 'c')))",
            json!({"x": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}}}),
            "estimated rule cost exceeds budget",
        ),
    ] {
        let spec = json!({"type": "object", "properties": spec, "x-kubernetes-validations": [{"rule": rule}]});
        let refused = f.wire.post(DEFINITIONS, &definition(&f, "bad", &schema(spec)).object).await;
        assert!(refused.code == 422 && refused.text().contains(words), "{rule}: {}", refused.text());
    }
    Ok(())
}

async fn ratcheting(f: Framework) -> anyhow::Result<()> {
    let loose = json!({"type": "object", "properties": {
        "field": {"type": "string"}, "other": {"type": "string"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}},
    }});
    let definition = f.define(definition(&f, "ratchet", &schema(loose))).await;
    let path = definition.objects(&f.namespace);
    let spec =
        json!({"field": "wrong", "other": "fine", "map": {"a": "wrong"}, "list": [{"k": "1", "v": "wrong"}, {"k": "2", "v": "right"}]});
    f.wire.post(&path, &object(&definition, "old", spec)).await.expect(201);
    // From now on nothing may be wrong.
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let only = json!(["right"]);
    let patch = json!([
        {"op": "add", "path": format!("{properties}/field/enum"), "value": only},
        {"op": "add", "path": format!("{properties}/map/additionalProperties/enum"), "value": only},
        {"op": "add", "path": format!("{properties}/list/items/properties/v/enum"), "value": only},
        {"op": "add", "path": format!("{properties}/other/x-kubernetes-validations"), "value": [{"rule": "self == 'fine' || self == 'good'", "message": "not good"}]},
    ]);
    f.wire.patch("json", &definition.path(), &patch).await.expect(200);
    f.until("the new rules to hold", SOON, || async {
        let answer = f.wire.post(&format!("{path}?dryRun=All"), &object(&definition, "new", json!({"field": "wrong"}))).await;
        (answer.code == 422).then_some(())
    })
    .await;
    let one = format!("{path}/old");
    let patched = async |spec: Value| f.wire.patch("merge", &one, &json!({"spec": spec})).await;
    assert_eq!(patched(json!({"other": "good"})).await.code, 200, "what was wrong before may stay so");
    assert_eq!(
        patched(json!({"list": [{"k": "2", "v": "right"}, {"k": "1", "v": "wrong"}]})).await.code,
        200,
        "elements are told apart by their keys"
    );
    assert_eq!(patched(json!({"map": {"b": "right"}})).await.code, 200);
    for (spec, field) in [
        (json!({"field": "worse"}), "spec.field"),
        (json!({"map": {"a": "worse"}}), "spec.map.a"),
        (json!({"map": {"c": "wrong"}}), "spec.map.c"),
        (json!({"list": [{"k": "1", "v": "wrong"}, {"k": "2", "v": "wrong"}]}), "spec.list[1].v"),
    ] {
        let refused = patched(spec).await;
        assert!(refused.code == 422 && refused.text().contains(&format!("{field}: Unsupported value")), "{field}: {}", refused.text());
        // That rules in expressions were not looked at is told beside it, of no field.
        let causes = refused.json()["details"]["causes"].as_array().cloned().unwrap_or_default();
        let of_fields = causes.iter().filter(|c| c["field"] != "<nil>").count();
        assert_eq!(of_fields, 1, "nothing else is complained of: {}", refused.text());
    }
    assert_eq!(patched(json!({"other": "bad"})).await.code, 422);
    assert_eq!(patched(json!({"field": "right"})).await.code, 200);
    assert_eq!(patched(json!({"field": "wrong"})).await.code, 422, "once it is right it stays so");
    Ok(())
}
