//! Custom resources by the values of their own fields (KEP-4358).

use serde_json::{Value, json};

use crate::framework::{Behaviour, Definition, Framework, test, until_event};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "newer: [sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector",
    test!(listed_and_watched),
)];

async fn listed_and_watched(f: Framework) -> anyhow::Result<()> {
    let word = f.unique("shirt");
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "color": {"type": "string"}, "quantity": {"type": "integer"}, "size": {"type": "string", "enum": ["S", "M", "L", "XL"]}}}}});
    let mut wanted = Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1", "v2"], &schema);
    let fields = |names: &[&str]| names.iter().map(|n| json!({"jsonPath": format!(".spec.{n}")})).collect::<Vec<Value>>();
    wanted.object["spec"]["versions"][0]["selectableFields"] = json!(fields(&["color", "quantity"]));
    wanted.object["spec"]["versions"][1]["selectableFields"] = json!(fields(&["color", "size"]));
    let definition = f.define(wanted).await;
    let path = definition.objects(&f.namespace);
    let shirt = |name: &str, color: &str, quantity: u64, size: &str| {
        json!({
            "apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name},
            "spec": {"color": color, "quantity": quantity, "size": size},
        })
    };
    let selected =
        |selector: &str| format!("{path}?fieldSelector={}", selector.replace('=', "%3D").replace('!', "%21").replace(',', "%2C"));
    let mut blue = f.watch_from_now(&selected("spec.color=blue")).await;
    for (name, color, quantity, size) in [("s1", "blue", 2, "S"), ("s2", "blue", 3, "M"), ("s3", "green", 2, "M")] {
        f.wire.post(&path, &shirt(name, color, quantity, size)).await.expect(201);
    }
    let names = async |path: &str| {
        let found = f.list(path).await;
        found.iter().map(|o| o["metadata"]["name"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&selected("spec.color=blue")).await, ["s1", "s2"]);
    assert_eq!(names(&selected("spec.color=blue,spec.quantity=2")).await, ["s1"]);
    assert_eq!(names(&selected("spec.color!=blue")).await, ["s3"]);
    let second = path.replacen("/v1/", "/v2/", 1);
    assert_eq!(names(&format!("{second}?fieldSelector=spec.color%3Dblue%2Cspec.size%3DM")).await, ["s2"]);
    // What only another version can be selected by is refused.
    let refused = f.wire.get(&format!("{second}?fieldSelector=spec.quantity%3D2")).await;
    assert_eq!(refused.refusal(), "400 BadRequest: field label not supported: spec.quantity");

    for name in ["s1", "s2"] {
        until_event(&mut blue, "ADDED", |o| o["metadata"]["name"] == name).await;
    }
    // One that changes its colour leaves the selection, one that becomes blue enters it.
    f.wire.patch("merge", &format!("{path}/s1"), &json!({"spec": {"color": "red"}})).await.expect(200);
    until_event(&mut blue, "DELETED", |o| o["metadata"]["name"] == "s1").await;
    f.wire.patch("merge", &format!("{path}/s3"), &json!({"spec": {"color": "blue"}})).await.expect(200);
    until_event(&mut blue, "ADDED", |o| o["metadata"]["name"] == "s3").await;
    f.wire.patch("merge", &format!("{path}/s2"), &json!({"spec": {"quantity": 9}})).await.expect(200);
    until_event(&mut blue, "MODIFIED", |o| o["metadata"]["name"] == "s2").await;
    f.delete_collection(&selected("spec.color=blue")).await;
    until_event(&mut blue, "DELETED", |o| o["metadata"]["name"] == "s3").await;
    assert_eq!(names(&path).await, ["s1"]);
    let said = f.kubectl().ok(&["get", definition.plural(), "--field-selector", "spec.color=red", "-o", "name"]).await?;
    assert!(said.trim_end().ends_with("/s1") && said.lines().count() == 1, "{said}");
    Ok(())
}
